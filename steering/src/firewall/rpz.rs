//! Response policy zones (draft-vixie-dnsop-dns-rpz): zone files read as rules.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use herald_core::firewall::POLICY_RULES_MAX;
use herald_core::steering::Prefix;
use herald_core::zonefile::{ZoneFileError, ZoneFileErrors, ZoneFileReader, ZoneFileRecord};
use herald_core::{Name, Rtype};

use super::file::{LocalRecord, PolicyBody};
use super::policy::FIRST_LOCAL;

/// The TTL of records that say none, in seconds. That of actions means nothing.
const DEFAULT_TTL_S: u32 = 300;

/// A policy zone, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rpz {
    /// Its rules, in the form that PoPs use.
    pub body: Vec<u8>,
    /// Rules by name.
    pub names: u64,
    /// Rules by the client's address.
    pub clients: u64,
    /// Triggers that mean nothing to an authoritative server, left out, by their kind.
    pub not_applying: BTreeMap<&'static str, u64>,
    /// The serial of its SOA.
    pub serial: Option<u32>,
}

/// What a record's owner says that it is about.
enum Trigger {
    Name(Name),
    Client(Prefix),
    NotApplying(&'static str),
}

/// Reads a policy zone. `origin` is its own name: that of its SOA, if the file has one.
///
/// # Errors
/// All that is wrong with it, with lines.
pub fn read_rpz(text: &[u8], origin: &Name) -> Result<Rpz, ZoneFileErrors> {
    let mut reader = ZoneFileReader::new(origin, Some(DEFAULT_TTL_S)).with_records_max(2 * POLICY_RULES_MAX);
    reader.read(text);
    let (soa, records) = reader.finish_records()?;
    let mut reading = Reading {
        origin,
        rpz: Rpz::default(),
        body: PolicyBody::default(),
        local: HashMap::new(),
        errors: ZoneFileErrors::default(),
    };
    reading.rpz.serial = soa.map(|soa| soa.serial);
    let mut records = records.peekable();
    while let Some(first) = records.next() {
        let mut all = vec![first];
        while let Some(more) = records.next_if(|record| record.key.owner == all[0].key.owner) {
            all.push(more);
        }
        // What the zone itself needs to be one.
        if all[0].key.owner != *origin {
            reading.owner(&all);
        }
    }
    let Reading { mut rpz, body, errors, .. } = reading;
    if errors.count > 0 {
        return Err(errors);
    }
    (rpz.names, rpz.clients) = (body.names_count(), body.clients_count());
    rpz.body = body.write();
    Ok(rpz)
}

struct Reading<'a> {
    origin: &'a Name,
    rpz: Rpz,
    body: PolicyBody,
    /// Local data that is there already, with its value: many rules have the same.
    local: HashMap<Vec<LocalRecord>, u32>,
    errors: ZoneFileErrors,
}

impl Reading<'_> {
    /// All records of an owner.
    fn owner(&mut self, records: &[ZoneFileRecord]) {
        let first = &records[0];
        let trigger = match trigger(&first.key.owner, self.origin) {
            Ok(Trigger::NotApplying(kind)) => {
                *self.rpz.not_applying.entry(kind).or_default() += 1;
                return;
            }
            Ok(trigger) => trigger,
            Err(why) => return self.fault(first.line, why),
        };
        let value = match self.value(&trigger, records) {
            Ok(value) => value,
            Err((line, why)) => return self.fault(line, why),
        };
        if self.body.len() >= POLICY_RULES_MAX {
            return self.fault(first.line, format!("a policy zone has at most {POLICY_RULES_MAX} rules"));
        }
        match trigger {
            Trigger::Name(name) => self.body.put_name(&name, value),
            Trigger::Client(prefix) => self.body.put_client(prefix, value),
            Trigger::NotApplying(_) => {}
        }
    }

    fn value(&mut self, trigger: &Trigger, records: &[ZoneFileRecord]) -> Result<u32, (usize, String)> {
        if let [record] = records
            && record.key.rtype == Rtype::CNAME
            && let Some(target) = record.rdata.iter().next().and_then(|rdata| Name::from_wire(rdata).ok())
            && let Some(value) = action(trigger, &target).map_err(|why| (record.line, why))?
        {
            return Ok(value);
        }
        let mut local: Vec<LocalRecord> = Vec::new();
        for record in records {
            let rtype = record.key.rtype;
            if rtype == Rtype::CNAME && records.len() > 1 {
                return Err((record.line, format!("{}: a CNAME stands alone", record.key.owner)));
            }
            if matches!(rtype, Rtype::DNAME | Rtype::NS) {
                return Err((record.line, format!("{}: a rule can't answer with {rtype}", record.key.owner)));
            }
            let rdata = record.rdata.iter().next().unwrap_or_default();
            // `CNAME *.example.`: to the name asked for below that one.
            let prefixed = (rtype == Rtype::CNAME).then(|| rdata.strip_prefix(b"\x01*")).flatten();
            local.push(LocalRecord {
                rtype: rtype.to_int(),
                ttl_s: record.ttl_s,
                is_prefixed: prefixed.is_some(),
                rdata: prefixed.unwrap_or(rdata).to_vec(),
            });
        }
        let next = FIRST_LOCAL + self.local.len() as u32;
        let body = &mut self.body;
        Ok(*self.local.entry(local).or_insert_with_key(|records| {
            body.put_local(records);
            next
        }))
    }

    fn fault(&mut self, line: usize, message: String) {
        self.errors.add(ZoneFileError { line, column: 1, message });
    }
}

/// The value of an action that an alias stands for; none if it is one to be answered with.
fn action(trigger: &Trigger, target: &Name) -> Result<Option<u32>, String> {
    if target.is_root() {
        return Ok(Some(0));
    }
    let mut labels = target.labels();
    let (Some(first), None) = (labels.next(), labels.next()) else {
        // As passing was written once: an alias to the name itself.
        return Ok(match trigger {
            Trigger::Name(name) if name == target => Some(2),
            _ => None,
        });
    };
    match first {
        b"*" => Ok(Some(1)),
        b"rpz-passthru" => Ok(Some(2)),
        b"rpz-drop" => Ok(Some(3)),
        b"rpz-tcp-only" => Ok(Some(4)),
        other if other.starts_with(b"rpz-") => Err(format!(
            "`{target}` is no action: there are `.` (NXDOMAIN), `*.` (NODATA), `rpz-passthru.`, `rpz-drop.` and `rpz-tcp-only.`"
        )),
        _ => Ok(None),
    }
}

/// What an owner in the policy zone stands for.
fn trigger(owner: &Name, origin: &Name) -> Result<Trigger, String> {
    let (own, outer) = (owner.label_count(), origin.label_count());
    let labels: Vec<&[u8]> = owner.labels().take(own - outer).collect();
    let Some((last, before)) = labels.split_last() else { return Err("the zone's apex is no rule".into()) };
    match *last {
        b"rpz-client-ip" => client(before).map(Trigger::Client).map_err(|why| format!("{owner}: {why}")),
        b"rpz-ip" => Ok(Trigger::NotApplying("rpz-ip")),
        b"rpz-nsdname" => Ok(Trigger::NotApplying("rpz-nsdname")),
        b"rpz-nsip" => Ok(Trigger::NotApplying("rpz-nsip")),
        other if other.starts_with(b"rpz-") => Err(format!(
            "{owner}: `{}` is no kind of trigger: there are rpz-client-ip, rpz-ip, rpz-nsdname and rpz-nsip",
            other.escape_ascii()
        )),
        _ => {
            let mut wire = Vec::with_capacity(owner.as_wire().len());
            for label in &labels {
                wire.push(label.len() as u8);
                wire.extend_from_slice(label);
            }
            wire.push(0);
            if labels.iter().skip(1).any(|label| *label == b"*") {
                return Err(format!("{owner}: an asterisk is possible as the first label alone"));
            }
            Name::from_wire(&wire).map(Trigger::Name).map_err(|error| format!("{owner}: {error}"))
        }
    }
}

/// A network as its labels say it: its length, and then its address from the end (draft-vixie-dnsop-dns-rpz §4.1.1).
fn client(labels: &[&[u8]]) -> Result<Prefix, &'static str> {
    const EXPECTED: &str = "expected a length and an address from its end, as 24.0.2.0.192 for 192.0.2.0/24 or \
                            32.zz.db8.2001 for 2001:db8::/32";
    let texts: Option<Vec<&str>> = labels.iter().map(|label| std::str::from_utf8(label).ok()).collect();
    let texts = texts.ok_or(EXPECTED)?;
    let Some((length, rest)) = texts.split_first() else { return Err(EXPECTED) };
    let length: u8 = length.parse().map_err(|_| EXPECTED)?;
    let address = if rest.len() == 4 && !rest.contains(&"zz") {
        let octets: Vec<u8> =
            rest.iter().rev().map(|part| part.parse()).collect::<Result<_, _>>().map_err(|_| EXPECTED)?;
        let octets: [u8; 4] = octets.try_into().map_err(|_| EXPECTED)?;
        Ipv4Addr::from(octets).into()
    } else {
        let zeros = 8usize.checked_sub(rest.iter().filter(|part| **part != "zz").count()).ok_or(EXPECTED)?;
        let gaps = rest.iter().filter(|part| **part == "zz").count();
        if gaps > 1 || (gaps == 0) != (zeros == 0) {
            return Err(EXPECTED);
        }
        let mut words = Vec::with_capacity(8);
        for part in rest.iter().rev() {
            if *part == "zz" {
                words.extend(std::iter::repeat_n(0, zeros));
            } else {
                words.push(u16::from_str_radix(part, 16).map_err(|_| EXPECTED)?);
            }
        }
        let words: [u16; 8] = words.try_into().map_err(|_| EXPECTED)?;
        Ipv6Addr::from(words).into()
    };
    let prefix = Prefix::new(address, length).ok_or("the length is more than an address has bits")?;
    if prefix.address() == address {
        Ok(prefix)
    } else {
        Err("the address has bits after the length that aren't zero")
    }
}
