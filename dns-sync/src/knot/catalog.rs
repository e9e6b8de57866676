//! The local catalog zones (RFC 9432): which zones knotd serves.
//!
//! There are several, and a hash of a zone's name says which one lists it: committing a change of a catalog costs
//! knotd a walk over that catalog's members. How many there are is in knotd's configuration and holds as long as that
//! knotd runs; another number takes a start on files that were written for it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use herald_core::name::NameError;
use herald_core::{Name, Rdatas, Rrset, Rtype, digest128};

use super::ctl::{Batch, Command, Connection, CtlError, Item};
use super::{text, zonefile};

/// The name below which a catalog's members are.
const ZONES_LABEL: &str = "zones";

/// What a catalog's file ends in.
const FILE_SUFFIX: &str = ".zone";

/// The catalog zones of one knotd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogs {
    names: Vec<Name>,
}

impl Catalogs {
    /// So many catalogs, at least one: `c0`, `c1` and so on below the base name.
    pub fn numbered(base: &Name, count: u16) -> Catalogs {
        let name = |number| base.child(format!("c{number}")).expect("a base name is short");
        Catalogs { names: (0..count.max(1)).map(name).collect() }
    }

    /// The catalogs of a running knotd, by the zones in its configuration, in whatever order; none if they aren't
    /// catalogs of ours. The base name alone is the one catalog
    /// that the first agents made.
    pub fn of_zones(base: &Name, mut zones: Vec<Name>) -> Option<Catalogs> {
        if zones == [base.clone()] {
            return Some(Catalogs { names: zones });
        }
        let mut numbered = Catalogs::numbered(base, u16::try_from(zones.len()).ok()?);
        zones.sort_unstable();
        let in_order = numbered.names.clone();
        numbered.names.sort_unstable();
        (numbered.names == zones).then_some(Catalogs { names: in_order })
    }

    /// The catalogs, in the order that [`Catalogs::index_of`] counts.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Which catalog lists a zone.
    pub fn index_of(&self, member: &Name) -> usize {
        // The label of the member is the whole hash; its lowest bits are as good as any.
        (digest128(member.as_wire()) % self.names.len() as u128) as usize
    }
}

/// The name of the file of a catalog, by its number.
pub fn file_name(index: usize) -> String {
    format!("c{index}{FILE_SUFFIX}")
}

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

// ---------------------------------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------------------------------

/// Writes the files of all catalogs with these members, each replacing its old one in one step, and removes those
/// of other catalogs.
///
/// Catalogs without members make knotd refuse every query: it's the caller's to know that no member is what is meant.
pub fn write_files<'a>(
    dir: &Path,
    catalogs: &Catalogs,
    serial: u32,
    members: impl IntoIterator<Item = &'a Name>,
) -> io::Result<()> {
    let mut parts: Vec<Vec<&Name>> = vec![Vec::new(); catalogs.names.len()];
    for member in members {
        parts[catalogs.index_of(member)].push(member);
    }
    for (index, members) in parts.into_iter().enumerate() {
        write_file(&dir.join(file_name(index)), &catalogs.names[index], serial, members)?;
    }
    let wanted: Vec<String> = (0..catalogs.names.len()).map(file_name).collect();
    for file in fs::read_dir(dir)? {
        let file = file?;
        if file.file_name().to_str().is_none_or(|name| wanted.iter().all(|wanted| wanted != name)) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, catalog: &Name, serial: u32, members: Vec<&Name>) -> io::Result<u64> {
    let written = zonefile::write_file(path, |out| {
        out.rrset(catalog, Rtype::SOA, &soa(serial))?;
        out.rrset(catalog, Rtype::NS, &Rrset { ttl: 0, rdatas: Rdatas::single(b"\x07invalid\0") })?;
        let version = catalog.child("version").map_err(io::Error::other)?;
        out.rrset(&version, Rtype::TXT, &Rrset { ttl: 0, rdatas: Rdatas::single(b"\x012") })?;
        for member in members {
            let owner = member_owner(catalog, member).map_err(io::Error::other)?;
            out.rrset(&owner, Rtype::PTR, &member_rrset(member))?;
        }
        Ok(())
    })?;
    Ok(written.records)
}

/// The files of catalogs in a folder; none if there is no such folder.
pub fn files_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let is_catalog = |path: &PathBuf| path.to_string_lossy().ends_with(FILE_SUFFIX);
    files.flatten().map(|file| file.path()).filter(is_catalog).collect()
}

/// The members in the file of a catalog, as [`write_files`] writes it.
///
/// # Errors
/// If it can't be read to its end, or has a line that was not written so.
pub fn members_in_file(path: &Path) -> io::Result<Vec<Name>> {
    let mut members = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let Some((_, data)) = line.split_once(" TYPE12 \\# ") else { continue };
        let member = data.split_once(' ').and_then(|(_, hex)| Name::from_wire(&from_hex(hex)?).ok());
        members.push(member.ok_or(io::ErrorKind::InvalidData)?);
    }
    Ok(members)
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    octets.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

// ---------------------------------------------------------------------------------------------------
// A running knotd
// ---------------------------------------------------------------------------------------------------

/// What a running knotd has of its catalogs.
#[derive(Debug)]
pub struct Running {
    /// The catalogs.
    pub catalogs: Catalogs,
    /// The serial of each; none if it isn't loaded.
    pub serials: Vec<Option<u32>>,
}

/// Asks a running knotd for its catalogs; none if its configuration isn't one of ours.
///
/// # Errors
/// If it doesn't answer.
pub fn running(connection: &mut Connection, base: &Name) -> Result<Option<Running>, CtlError> {
    let mut batch = Batch::new();
    batch.push(Command::ConfRead, &[(Item::Section, b"zone"), (Item::Item, b"domain")]).expect("short items");
    let mut zones = Vec::new();
    connection.run(&batch, |reply| {
        if reply.error().is_none() {
            zones.extend(Name::parse(reply.text(Item::Data)));
        }
    })?;
    let Some(catalogs) = Catalogs::of_zones(base, zones) else { return Ok(None) };
    let mut batch = Batch::new();
    for catalog in &catalogs.names {
        let items: [(Item, &[u8]); 2] = [(Item::Zone, &text::name_text(catalog)), (Item::Filter, b"s")];
        batch.push(Command::ZoneStatus, &items).expect("short items");
    }
    let mut serials = vec![None; catalogs.names.len()];
    connection.run(&batch, |reply| {
        let index = Name::parse(reply.text(Item::Zone))
            .ok()
            .and_then(|zone| catalogs.names.iter().position(|name| *name == zone));
        if let Some(serial) = index.and_then(|index| serials.get_mut(index)) {
            *serial = reply.text(Item::Data).parse().ok();
        }
    })?;
    Ok(Some(Running { catalogs, serials }))
}

/// Whether a knotd answers on its control socket and has loaded all of its catalogs.
pub fn are_loaded(socket: &Path, timeout: Duration, base: &Name) -> bool {
    let ask = || -> Result<Option<Running>, CtlError> {
        let mut connection = Connection::open(socket, timeout)?;
        let running = running(&mut connection, base)?;
        connection.close();
        Ok(running)
    };
    matches!(ask(), Ok(Some(running)) if running.serials.iter().all(Option::is_some))
}
