//! What PoPs logged, as it comes, checked.

use std::net::IpAddr;

use herald_core::{Name, Rtype, ZoneId};
use herald_wire::api::query_log::{QueryLogBatch, QueryLogEdns, QueryLogOfZone, QueryLogQuery};
use steering::counts::{Transport, rcode_of};

use super::store::{Edns, Prefix, Query};

/// Queries in a batch, and zones.
pub const QUERIES_MAX: usize = 10_000;
pub const ZONES_MAX: usize = 1_000;

/// Characters of an instance.
const INSTANCE_CHARS_MAX: usize = 64;

/// Characters of a steered name, with each octet escaped, and of a pool's name.
const NAME_CHARS_MAX: usize = 1_020;
const POOL_CHARS_MAX: usize = 255;

/// More nobody has left out.
const LEFT_OUT_MAX: u64 = 1 << 40;

/// What a PoP logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which process sends.
    pub instance: String,
    /// Which of its batches it is.
    pub sequence: u64,
    /// Zone by zone.
    pub zones: Vec<OfZone>,
}

/// What it logged of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfZone {
    /// The zone.
    pub zone: ZoneId,
    /// When its log was switched on, in ms since the epoch, as the state has it.
    pub since_ms: u64,
    /// Queries that were left out.
    pub left_out: u64,
    /// Queries.
    pub queries: Vec<Query>,
}

impl Batch {
    /// How many queries are in it.
    pub fn queries(&self) -> u64 {
        self.zones.iter().map(|of_zone| of_zone.queries.len() as u64).sum()
    }
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBatch {
    /// Where: a JSON pointer.
    pub pointer: String,
    /// What.
    pub detail: String,
}

fn bad<T>(pointer: impl Into<String>, detail: impl Into<String>) -> Result<T, BadBatch> {
    Err(BadBatch { pointer: pointer.into(), detail: detail.into() })
}

/// Reads a batch.
///
/// # Errors
/// [`BadBatch`] names what is wrong first.
pub fn read_batch(batch: &QueryLogBatch) -> Result<Batch, BadBatch> {
    let instance = batch.instance.clone();
    let is_fine = instance.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if !(1..=INSTANCE_CHARS_MAX).contains(&instance.len()) || !is_fine {
        return bad("/instance", format!("it is 1 to {INSTANCE_CHARS_MAX} letters and digits"));
    }
    if batch.sequence == 0 || i64::try_from(batch.sequence).is_err() {
        return bad("/sequence", "batches are numbered from 1 on");
    }
    let queries: usize = batch.zones.iter().map(|of_zone| of_zone.queries.len()).sum();
    if queries > QUERIES_MAX || batch.zones.len() > ZONES_MAX {
        return bad("/zones", format!("a batch has at most {QUERIES_MAX} queries of {ZONES_MAX} zones"));
    }
    let zones = batch.zones.iter().enumerate().map(|(place, of_zone)| {
        read_zone(of_zone)
            .map_err(|bad| BadBatch { pointer: format!("/zones/{place}{}", bad.pointer), ..bad })
    });
    Ok(Batch { instance, sequence: batch.sequence, zones: zones.collect::<Result<_, _>>()? })
}

fn read_zone(of_zone: &QueryLogOfZone) -> Result<OfZone, BadBatch> {
    let Ok(zone) = of_zone.zone_id.parse::<ZoneId>() else {
        return bad("/zone_id", "it isn't the id of a zone");
    };
    if of_zone.left_out > LEFT_OUT_MAX {
        return bad("/left_out", format!("more than {LEFT_OUT_MAX} can't be"));
    }
    let queries = of_zone.queries.iter().enumerate().map(|(place, query)| {
        read_query(query)
            .map_err(|bad| BadBatch { pointer: format!("/queries/{place}{}", bad.pointer), ..bad })
    });
    let queries = queries.collect::<Result<_, _>>()?;
    Ok(OfZone { zone, since_ms: 0, left_out: of_zone.left_out, queries })
}

fn read_query(query: &QueryLogQuery) -> Result<Query, BadBatch> {
    let Ok(name) = Name::parse(&query.name) else { return bad("/name", "it isn't a name") };
    let rtype = match query.rtype.as_str() {
        "NONE" => Some(0),
        text => herald_core::rdata::parse_rtype(text).map(Rtype::to_int),
    };
    let Some(rtype) = rtype else { return bad("/type", "it isn't a type") };
    let Some(rcode) = rcode_of(&query.rcode) else { return bad("/rcode", "it isn't a response code") };
    let Some(transport) = Transport::named(&query.transport) else {
        return bad("/transport", "it isn't a transport");
    };
    let Ok(source) = query.source.parse::<IpAddr>() else { return bad("/source", "it isn't an address") };
    for (field, text, chars_max) in
        [("/policy", &query.policy, NAME_CHARS_MAX), ("/pool", &query.pool, POOL_CHARS_MAX)]
    {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.chars().count() > chars_max) {
            return bad(field, "it is empty or too long");
        }
    }
    Ok(Query {
        time_ms: query.time_ms,
        name,
        rtype,
        rcode,
        transport: transport as u8,
        source: Prefix::whole(source),
        edns: query.edns.as_ref().map(read_edns).transpose()?,
        answer_bytes: query.answer_bytes,
        is_truncated: query.truncated,
        is_dropped: query.dropped,
        policy: query.policy.clone(),
        pool: query.pool.clone(),
    })
}

fn read_edns(edns: &QueryLogEdns) -> Result<Edns, BadBatch> {
    let subnet = match &edns.client_subnet {
        None => None,
        Some(text) => {
            let read = || {
                let (address, length) = text.split_once('/')?;
                Prefix::new(address.parse().ok()?, length.parse().ok()?)
            };
            let Some(prefix) = read() else { return bad("/edns/client_subnet", "it isn't a prefix") };
            Some(prefix)
        }
    };
    Ok(Edns { udp_bytes: edns.udp_bytes, wants_dnssec: edns.dnssec_ok, subnet })
}
