//! The local catalog zone (RFC 9432): which zones knotd serves.

use std::io;
use std::path::Path;

use herald_core::name::NameError;
use herald_core::{Name, Rdatas, Rrset, Rtype, digest128};

use super::zonefile;

/// The name below which a catalog's members are.
const ZONES_LABEL: &str = "zones";

/// The owner of the member's PTR record: a hash of the member's *name*.
///
/// So a zone that is deleted and created again under the same name is the same member, and only its content
/// changes; knotd never sees a member that changed its label, which it would empty and load from its file anew.
pub fn member_owner(catalog: &Name, member: &Name) -> Result<Name, NameError> {
    let label = format!("{:032x}", digest128(member.as_wire()));
    catalog.child(ZONES_LABEL)?.child(label)
}

/// The catalog's SOA record. Its serial is of interest to this machine only.
pub fn soa(serial: u32) -> Rrset {
    // `invalid.` twice, serial, refresh, retry, expire, minimum.
    let mut rdata = b"\x07invalid\0\x07invalid\0".to_vec();
    for number in [serial, 3600, 600, i32::MAX as u32, 0] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    Rrset { ttl: 0, rdatas: Rdatas::single(&rdata) }
}

/// The PTR record of a member.
pub fn member_rrset(member: &Name) -> Rrset {
    Rrset { ttl: 0, rdatas: Rdatas::single(member.as_wire()) }
}

/// Writes the file of the catalog with these members, replacing the old one in one step.
///
/// An empty catalog makes knotd refuse every query: it's the caller's to know that no member is what is meant.
pub fn write_file<'a>(
    path: &Path,
    catalog: &Name,
    serial: u32,
    members: impl IntoIterator<Item = &'a Name>,
) -> io::Result<u64> {
    zonefile::write_file(path, |out| {
        out.rrset(catalog, Rtype::SOA, &soa(serial))?;
        out.rrset(catalog, Rtype::NS, &Rrset { ttl: 0, rdatas: Rdatas::single(b"\x07invalid\0") })?;
        let version = catalog.child("version").map_err(io::Error::other)?;
        out.rrset(&version, Rtype::TXT, &Rrset { ttl: 0, rdatas: Rdatas::single(b"\x012") })?;
        for member in members {
            let owner = member_owner(catalog, member).map_err(io::Error::other)?;
            out.rrset(&owner, Rtype::PTR, &member_rrset(member))?;
        }
        Ok(())
    })
}
