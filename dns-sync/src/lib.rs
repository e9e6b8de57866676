//! koder-dns-sync, the agent of a PoP: durable replica, one driver of Knot DNS.
//!
//! - [`config`]: what the operator says in `agent.toml`.
//! - [`session`]: the connection to the control plane.
//! - [`agent`]: takes in what comes, makes it durable, has knotd answer it, confirms it.
//! - [`replica`]: what the PoP is to serve, on disk.
//! - [`materialize`]: knotd's files from the replica, before every start of it.
//! - [`knot`]: knotd's configuration, its process, and changes to what it serves.
//! - [`module`]: what the module in knotd is told.
//! - [`counts`]: counts of queries, from the module to the control plane.
//! - [`query_log`]: queries that are logged, likewise.
//! - [`health`]: which endpoints are held to be up, here and by the module; [`probe`]: how they are asked.
//! - [`alias`]: resolves targets of ALIAS records.
//! - [`status`]: how all that is.

pub mod agent;
pub mod alias;
pub mod config;
pub mod counts;
pub mod files;
pub mod health;
pub mod knot;
pub mod materialize;
pub mod module;
pub mod probe;
pub mod query_log;
pub mod replica;
pub mod session;
pub mod status;
