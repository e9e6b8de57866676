//! The control plane daemon.
