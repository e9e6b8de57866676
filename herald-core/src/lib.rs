//! Koder Herald's domain: names, RRsets, zones, tenants, commands, changes, state. Pure: no I/O, no clock.

pub mod account;
pub mod alias;
pub mod authorise;
pub mod brakes;
pub mod change;
pub mod channel;
pub mod check;
mod choice;
pub mod command;
pub mod content;
pub mod decide;
pub mod firewall;
pub mod geoip;
pub mod health;
pub mod history;
pub mod id;
pub mod idempotency;
pub mod limits;
pub mod log;
pub mod monitor;
pub mod name;
pub mod query_log;
pub mod rdata;
pub mod rejection;
pub mod rrset;
pub mod special;
pub mod state;
pub mod steering;
pub mod zone;
pub mod zonefile;

pub use domain::base::iana::Rtype;
pub use id::{ChannelId, Generation, NsSetId, PopId, TenantId, TokenId, ZoneId, cbor_u128};
pub use monitor::MonitorId;
pub use name::Name;
pub use rrset::{Rdatas, RrKey, Rrset};
pub use state::State;

/// A 128-bit content digest (XXH3). It finds drift and accidents; it is no defence against forgery.
pub fn digest128(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}
