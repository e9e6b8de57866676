//! Zone files, written.

use std::fmt;

use domain::base::iana::Rtype;

use crate::name::Name;
use crate::rdata::{Soa, format_rdata, format_rtype};
use crate::rrset::{RrKey, Rrset};

/// Writes a zone file: the SOA, then the RRsets as they come, with owners relative to the origin.
///
/// Given sorted RRsets, equal zones make equal files; [`super::parse_zone_file`] reads the same zone back. Types and
/// parameters have their names here, of which other servers may not know the newest.
pub fn write_zone_file<'r>(
    origin: &Name,
    soa: Option<(u32, &Soa)>,
    rrsets: impl IntoIterator<Item = (&'r RrKey, &'r Rrset)>,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    writeln!(out, "$ORIGIN {origin}")?;
    if let Some((ttl_s, soa)) = soa {
        writeln!(out, "$TTL {ttl_s}")?;
        writeln!(out, "@\t{ttl_s}\tIN\tSOA\t{}", format_rdata(Rtype::SOA, &soa.to_rdata()))?;
    }
    for (key, rrset) in rrsets {
        let rtype = format_rtype(key.rtype);
        for rdata in &rrset.rdatas {
            write_owner(&key.owner, origin, out)?;
            writeln!(out, "\t{}\tIN\t{rtype}\t{}", rrset.ttl, format_rdata(key.rtype, rdata))?;
        }
    }
    Ok(())
}

/// Writes a name relative to the origin.
fn write_owner(owner: &Name, origin: &Name, out: &mut impl fmt::Write) -> fmt::Result {
    if owner == origin {
        return out.write_char('@');
    }
    if !owner.is_below(origin) || origin.is_root() {
        return write!(out, "{owner}");
    }
    let relative_labels = owner.label_count() - origin.label_count();
    for (index, label) in owner.labels().take(relative_labels).enumerate() {
        if index > 0 {
            out.write_char('.')?;
        }
        crate::name::write_label(out, label)?;
    }
    Ok(())
}
