//! Types that cross a wire, each versioned: [`api`], the JSON of the HTTP API under `/api/v1`, and
//! [`stream`], the frames of the session between the control plane and a PoP.
//!
//! Servers and clients are built on the same types, so they can't drift apart.

pub mod api;
pub mod stream;
