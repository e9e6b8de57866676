//! Rules and policy zones as files: what PoPs fetch and knotd reads.
//!
//! Each begins with a magic, in which the version is. That a file is whole is known by its hash, which goes with it.

use herald_core::firewall::Rule;
use herald_core::steering::Prefix;
use herald_core::{Name, Rtype, TenantId};
use minicbor::{Decode, Encode};

use super::policy::{FIRST_LOCAL, LocalRrset, PolicyRules};
use super::{CompileError, Policies, Rules};
use crate::part::octets::Reader;
use crate::part::pool::push_rdata;

const RULES_MAGIC: &[u8; 16] = b"herald-firewall1";
const POLICIES_MAGIC: &[u8; 16] = b"herald-policies1";

/// Longest file of rules, in bytes.
pub const RULES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest file of policy zones, in bytes.
pub const POLICIES_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Why octets are no such file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// They begin otherwise, or were written by another version.
    #[error("it is no file of the firewall that this version reads")]
    Magic,
    /// They aren't what such a file looks like.
    #[error("it can't be read: {0}")]
    Malformed(String),
    /// It can't be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

fn malformed(what: &str) -> FileError {
    FileError::Malformed(what.into())
}

/// All rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RulesFile {
    /// The fleet's.
    #[n(0)]
    pub fleet: Vec<Rule>,
    /// Those of tenants that have some.
    #[n(1)]
    pub tenants: Vec<TenantRules>,
}

/// A tenant's rules.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TenantRules {
    /// Whose.
    #[n(0)]
    pub tenant: TenantId,
    /// The zones that they are for.
    #[n(1)]
    pub zones: Vec<Name>,
    /// These.
    #[n(2)]
    pub rules: Vec<Rule>,
}

impl RulesFile {
    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let mut out = RULES_MAGIC.to_vec();
        minicbor::encode(self, &mut out).expect("writing to a Vec can't fail");
        out
    }

    /// What a file holds.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(bytes: &[u8]) -> Result<RulesFile, FileError> {
        let rest = bytes.strip_prefix(RULES_MAGIC).ok_or(FileError::Magic)?;
        minicbor::decode(rest).map_err(|error| FileError::Malformed(error.to_string()))
    }
}

impl Rules {
    /// The rules in a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(bytes: &[u8]) -> Result<Rules, FileError> {
        Ok(Rules::compile(&RulesFile::read(bytes)?)?)
    }
}

/// All policy zones, in order: names, and what [`super::read_rpz`] makes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoliciesFile {
    /// See above.
    pub zones: Vec<(String, Vec<u8>)>,
}

impl PoliciesFile {
    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let mut out = POLICIES_MAGIC.to_vec();
        put_count(&mut out, self.zones.len());
        for (name, body) in &self.zones {
            put_count(&mut out, name.len());
            out.extend_from_slice(name.as_bytes());
            put_count(&mut out, body.len());
            out.extend_from_slice(body);
        }
        out
    }
}

impl Policies {
    /// The policy zones in a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(bytes: &[u8]) -> Result<Policies, FileError> {
        let mut rest = Rest(Reader(bytes.strip_prefix(POLICIES_MAGIC).ok_or(FileError::Magic)?));
        let count = rest.count()?;
        let mut zones = Vec::new();
        for _ in 0..count {
            let bytes = rest.count()?;
            let name = std::str::from_utf8(rest.take(bytes)?).map_err(|_| malformed("a name isn't text"))?;
            let bytes = rest.count()?;
            zones.push((name.to_owned(), read_body(rest.take(bytes)?)?));
        }
        if rest.0.0.is_empty() {
            Ok(Policies { zones })
        } else {
            Err(malformed("there is more than policy zones"))
        }
    }
}

/// A record of local data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalRecord {
    pub(super) rtype: u16,
    pub(super) ttl_s: u32,
    pub(super) is_prefixed: bool,
    pub(super) rdata: Vec<u8>,
}

/// A policy zone's rules as they are written: local data, clients, names; numbers are little endian.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyBody {
    local: Vec<u8>,
    local_count: u32,
    clients: Vec<u8>,
    clients_count: u32,
    names: Vec<u8>,
    names_count: u32,
}

impl PolicyBody {
    pub(super) fn put_local(&mut self, records: &[LocalRecord]) {
        put_count(&mut self.local, records.len());
        for record in records {
            self.local.extend_from_slice(&record.rtype.to_le_bytes());
            self.local.extend_from_slice(&record.ttl_s.to_le_bytes());
            self.local.push(record.is_prefixed.into());
            put_count(&mut self.local, record.rdata.len());
            self.local.extend_from_slice(&record.rdata);
        }
        self.local_count += 1;
    }

    pub(super) fn put_client(&mut self, prefix: Prefix, value: u32) {
        minicbor::encode(prefix, &mut self.clients).expect("writing to a Vec can't fail");
        self.clients.extend_from_slice(&value.to_le_bytes());
        self.clients_count += 1;
    }

    pub(super) fn put_name(&mut self, name: &Name, value: u32) {
        self.names.extend_from_slice(name.as_wire());
        self.names.extend_from_slice(&value.to_le_bytes());
        self.names_count += 1;
    }

    pub(super) fn names_count(&self) -> u64 {
        self.names_count.into()
    }

    pub(super) fn clients_count(&self) -> u64 {
        self.clients_count.into()
    }

    /// How many rules there are.
    pub(super) fn len(&self) -> usize {
        self.names_count as usize + self.clients_count as usize
    }

    pub(super) fn write(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.local.len() + self.clients.len() + self.names.len());
        for (count, octets) in [
            (self.local_count, self.local),
            (self.clients_count, self.clients),
            (self.names_count, self.names),
        ] {
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&octets);
        }
        out
    }
}

fn read_body(body: &[u8]) -> Result<PolicyRules, FileError> {
    let mut rest = Rest(Reader(body));
    let local = (0..rest.count()?).map(|_| read_local(&mut rest)).collect::<Result<Vec<_>, _>>()?;
    let values = FIRST_LOCAL + local.len() as u32;
    let is_known =
        |value: u32| if value < values { Ok(value) } else { Err(malformed("an action isn't known")) };
    let mut clients = Vec::new();
    for _ in 0..rest.count()? {
        let mut decoder = minicbor::Decoder::new(rest.0.0);
        let prefix: Prefix = decoder.decode().map_err(|error| FileError::Malformed(error.to_string()))?;
        rest.take(decoder.position())?;
        clients.push((prefix, is_known(rest.u32()?)?));
    }
    let count = rest.count()?;
    // Two passes, so that nothing is kept beside the index.
    let names = rest.0.0;
    let mut check = Rest(Reader(names));
    for _ in 0..count {
        check.name()?;
        is_known(check.u32()?)?;
    }
    if !check.0.0.is_empty() {
        return Err(malformed("there is more than a policy zone"));
    }
    let mut rest = Rest(Reader(names));
    let names = std::iter::from_fn(|| Some((rest.name().ok()?, rest.u32().ok()?)));
    Ok(PolicyRules::new(count, names, &clients, local))
}

fn read_local(rest: &mut Rest<'_>) -> Result<Box<[LocalRrset]>, FileError> {
    let mut rrsets: Vec<(LocalRrset, Vec<u8>)> = Vec::new();
    for _ in 0..rest.count()? {
        let rtype = Rtype::from_int(u16::from_le_bytes(rest.array()?));
        let ttl_s = rest.u32()?;
        let [is_prefixed] = rest.array()?;
        let bytes = rest.count()?;
        let rdata = rest.take(bytes)?;
        if rrsets.last().is_none_or(|(last, _)| last.rtype != rtype) {
            let rrset = LocalRrset { rtype, ttl_s, rdatas: Box::default(), is_prefixed: is_prefixed != 0 };
            rrsets.push((rrset, Vec::new()));
        }
        if let Some((rrset, octets)) = rrsets.last_mut() {
            rrset.ttl_s = rrset.ttl_s.min(ttl_s);
            push_rdata(rdata, octets).map_err(|_| malformed("RDATA is too long"))?;
        }
    }
    let whole = |(rrset, octets): (LocalRrset, Vec<u8>)| LocalRrset { rdatas: octets.into(), ..rrset };
    Ok(rrsets.into_iter().map(whole).collect())
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("fewer than 2^32 of anything").to_le_bytes());
}

struct Rest<'a>(Reader<'a>);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], FileError> {
        self.0.take(bytes).ok_or_else(|| malformed("it ends in the middle"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        Ok(*self.take(N)?.first_chunk().expect("so many were taken"))
    }

    fn u32(&mut self) -> Result<u32, FileError> {
        self.array().map(u32::from_le_bytes)
    }

    /// How many of something follow, each of an octet at least.
    fn count(&mut self) -> Result<usize, FileError> {
        let count = self.u32()? as usize;
        if count <= self.0.0.len() { Ok(count) } else { Err(malformed("it ends in the middle")) }
    }

    /// A name in wire format.
    fn name(&mut self) -> Result<&'a [u8], FileError> {
        let mut at = 0;
        loop {
            match self.0.0.get(at) {
                Some(0) if at < 255 => return self.take(at + 1),
                Some(length @ 1..=63) => at += 1 + usize::from(*length),
                _ => return Err(malformed("a name isn't one")),
            }
        }
    }
}
