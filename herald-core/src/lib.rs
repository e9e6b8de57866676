//! Koder Herald's domain: names, RRsets, zones, tenants, commands, changes, state. Pure: no I/O, no clock.

pub mod name;
pub mod rdata;
pub mod rrset;
