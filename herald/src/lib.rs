//! The control plane daemon.
//!
//! A change goes one way: `edge` (authenticate, parse) → [`engine`] (decide, append, apply, answer) →
//! [`publisher`] (what every PoP must now serve) → sessions, from which receipts come back.

pub mod access_log;
pub mod aliases;
pub mod audit;
pub mod backup;
pub mod clock;
pub mod config;
pub mod delegation;
pub mod edge;
pub mod engine;
pub mod firewall;
pub mod geoip;
pub mod health;
pub mod history;
pub mod notify;
pub mod own;
pub mod publisher;
pub mod query_log;
pub mod restore;
pub mod serve;
pub mod spacing;
pub mod stats;
