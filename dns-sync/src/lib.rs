//! koder-dns-sync, the agent of a PoP: durable replica, one driver of Knot DNS.

pub mod knot;
