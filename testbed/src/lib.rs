//! Starts real Knots, Heralds and PoPs for tests, `./dev run` and benchmarks.

pub mod api;
pub mod bench;
pub mod chain;
pub mod delay;
pub mod dns;
pub mod endpoint;
pub mod herald;
pub mod http;
pub mod knot;
pub mod load;
pub mod loopback;
pub mod observe;
pub mod platform;
pub mod powerdns;
pub mod process;
pub mod run;
pub mod scratch;
pub mod shim;
pub mod small_disk;
pub mod soak;
pub mod wait;

/// A realistic zone file of `example.com.`, as another provider's export.
pub const EXAMPLE_ZONE: &str = include_str!("../assets/example.zone");

/// How the example zone is steered.
pub const EXAMPLE_STEERING: &str = include_str!("../assets/steering.yaml");

/// The types that are in [`EXAMPLE_ZONE`].
pub const EXAMPLE_TYPES: &[&str] = &[
    "SOA",
    "NS",
    "A",
    "AAAA",
    "HTTPS",
    "SVCB",
    "CAA",
    "CNAME",
    "TLSA",
    "MX",
    "TXT",
    "SRV",
    "SMIMEA",
    "OPENPGPKEY",
    "NAPTR",
    "SSHFP",
    "HINFO",
    "RP",
    "LOC",
    "URI",
    "CERT",
    "TYPE65400",
    "PTR",
    "DNAME",
    "DS",
];

/// The address that stands for a number (below 2^24): what a numbered change sets.
///
/// # Panics
/// If the number is too big.
pub fn address_of(change: u64) -> String {
    let [_, a, b, c] = u32::try_from(change).expect("a run is short").to_be_bytes();
    format!("10.{a}.{b}.{c}")
}
