//! Whole content of a zone, from a zone file or a list of RRsets: what takes long, and is done off the runtime's
//! threads.

use herald_core::account::NsSet;
use herald_core::check::CheckedContent;
use herald_core::content::Content;
use herald_core::rdata::rdata_names;
use herald_core::steering::is_steering_type;
use herald_core::zonefile::{ZoneFile, ZoneFileError, ZoneFileErrors};
use herald_core::{Name, RrKey, Rrset, Rtype};
use herald_wire::api::{RrsetInput, Warning};

use crate::edge::names::{Faults, parse_rrsets};
use crate::edge::problem::{ApiError, Code, ITEMS_MAX, content_error, item};

/// Content with the apex NS that a set of name servers gives.
pub(in crate::edge) fn with_apex_ns(zone: &Name, mut content: Content, set: &NsSet) -> Content {
    let rdatas = set.nameservers.iter().map(Name::as_wire).collect();
    content.put(RrKey::new(zone.clone(), Rtype::NS), Rrset { ttl: set.soa.ttl, rdatas });
    content
}

/// Content with the steering that a zone has: zone files are of records alone.
pub(in crate::edge) fn with_steering_of(zone: &Content, mut content: Content) -> Content {
    if zone.steering().is_some() {
        let steering = zone.iter().filter(|(key, _)| is_steering_type(key.rtype));
        content.extend(steering.map(|(key, rrset)| (key.clone(), rrset.clone())));
    }
    content
}

/// A zone file that was read.
pub(in crate::edge) struct File {
    /// All RRsets but the SOA and the apex NS.
    pub content: Content,
    /// Apex name servers in the file.
    pub nameservers: Vec<Name>,
    /// The SOA's serial.
    pub serial: Option<u32>,
    /// What was read in another way than it was written.
    pub warnings: Vec<Warning>,
}

impl File {
    /// What a zone file was read as.
    ///
    /// # Errors
    /// Invalid, with an item for each error and where it is, as `line:column`.
    pub(in crate::edge) fn of(read: Result<ZoneFile, ZoneFileErrors>, zone: &Name) -> Result<File, ApiError> {
        let ZoneFile { soa, mut rrsets, warnings } = read.map_err(|errors| {
            let place = |e: &ZoneFileError| format!("{}:{}", e.line, e.column);
            let items = errors.first.iter().map(|e| item(place(e), e.message.clone())).collect();
            ApiError::new(Code::Invalid, "").with_some_items(items, errors.count)
        })?;
        if rrsets.steering().is_some() {
            let steering = rrsets.iter().filter(|(key, _)| is_steering_type(key.rtype));
            let items = steering.take(ITEMS_MAX).map(|(key, _)| {
                let detail =
                    format!("{key} holds steering, which no zone file has: use /zones/{{zone}}/steering");
                item(String::new(), detail)
            });
            return Err(ApiError::new(Code::Invalid, "").with_items(items.collect()));
        }
        let ns_key = RrKey::new(zone.clone(), Rtype::NS);
        let ns = rrsets.get(&ns_key).cloned();
        rrsets.delete(&ns_key);
        let nameservers =
            ns.iter().flat_map(|ns| &ns.rdatas).flat_map(|rdata| rdata_names(Rtype::NS, rdata)).collect();
        let warning = |warning: &dyn std::fmt::Display| Warning {
            code: "zone_file".into(),
            name: None,
            detail: warning.to_string(),
        };
        Ok(File {
            content: rrsets,
            nameservers,
            serial: soa.map(|(_, soa)| soa.serial),
            warnings: warnings.iter().map(|one| warning(one)).collect(),
        })
    }

    /// Apex name servers in the file that are not of the set.
    pub(in crate::edge) fn foreign_nameservers(&self, set: &NsSet) -> Vec<String> {
        let foreign = self.nameservers.iter().filter(|name| !set.nameservers.contains(name));
        foreign.map(Name::to_string).collect()
    }
}

/// Content, checked as a whole.
///
/// # Errors
/// Invalid, with an item for each error.
pub(in crate::edge) fn checked(zone: &Name, content: Content) -> Result<CheckedContent, ApiError> {
    CheckedContent::new(zone.clone(), content).map_err(|findings| content_error(findings, |_| String::new()))
}

/// The first RRsets of a zone, checked as a whole.
///
/// # Errors
/// Invalid, with an item for each error.
pub(in crate::edge) fn checked_rrsets(
    zone: &Name,
    rrsets: &[RrsetInput],
    set: &NsSet,
) -> Result<CheckedContent, ApiError> {
    let mut faults = Faults::default();
    let parsed = parse_rrsets(rrsets, zone, &mut faults);
    faults.check()?;
    let place = |wanted: &dyn Fn(&RrKey) -> bool| parsed.iter().position(|(key, _)| wanted(key));
    let content = with_apex_ns(zone, parsed.iter().cloned().collect(), set);
    CheckedContent::new(zone.clone(), content).map_err(|findings| {
        content_error(findings, |finding| {
            place(&|key| key.owner == finding.owner && Some(key.rtype) == finding.rtype)
                .or_else(|| place(&|key| key.owner == finding.owner))
                .map_or_else(String::new, |place| format!("/rrsets/{place}"))
        })
    })
}
