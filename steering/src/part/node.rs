//! The records at a name, flat: everybody's, and those that views have there.
//!
//! ```text
//! for each RRset: hash of the view (u64, 0 for everybody's), type (u16), how it is (1 octet), zero,
//!                 TTL (u32), number of RDATAs (u16), octets of them (u32), then these as knotd's RRsets have them
//! ```

use herald_core::steering::{Item, ItemError, OVERLAY};
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype};

use super::octets::{Reader, TooLarge, narrow};
use super::policy::view_hash;
use super::pool::push_rdata;
use super::table::Key;
use super::{CompileError, Kind, Part};

/// The RRset is there.
const PRESENT: u8 = 0;
/// A view hides it.
const HIDDEN: u8 = 1;

/// RRsets that are everybody's.
pub(crate) const EVERYBODY: u64 = 0;

/// An RRset, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RrsetRef<'a> {
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL, in seconds.
    pub ttl: u32,
    /// The number of its RDATAs.
    pub count: u16,
    /// These, as knotd's RRsets have them: for each its length (u16, native), its octets, and a zero if they are odd in number.
    pub rdatas: &'a [u8],
}

impl<'a> RrsetRef<'a> {
    /// The RDATAs' octets, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Reader(self.rdatas);
        std::iter::from_fn(move || {
            let [low, high] = *rest.take(2)?.first_chunk()?;
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let rdata = rest.take(length)?;
            rest.take(length % 2)?;
            Some(rdata)
        })
    }
}

/// RDATAs as knotd's RRsets have them, and their number; none if these are more than an RRset can have.
pub fn rrset_octets(rdatas: &Rdatas) -> Option<(Vec<u8>, u16)> {
    let mut octets = Vec::new();
    for rdata in rdatas {
        push_rdata(rdata, &mut octets).ok()?;
    }
    Some((octets, u16::try_from(rdatas.len()).ok()?))
}

/// An RRset at a name, of everybody or of a view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeRrset<'a> {
    pub(crate) view: u64,
    pub(crate) rtype: Rtype,
    /// None if the view hides it: with type ANY the whole name.
    pub(crate) rrset: Option<RrsetRef<'a>>,
}

/// The RRsets at a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a>(Reader<'a>);

impl<'a> Iterator for Node<'a> {
    type Item = NodeRrset<'a>;

    fn next(&mut self) -> Option<NodeRrset<'a>> {
        let reader = &mut self.0;
        let view = reader.u64()?;
        let rtype = Rtype::from_int(reader.u16()?);
        let state = reader.u16()?.to_le_bytes()[0];
        let (ttl, count, bytes) = (reader.u32()?, reader.u16()?, reader.u32()?);
        let rdatas = reader.take(bytes as usize)?;
        let rrset = (state == PRESENT).then_some(RrsetRef { rtype, ttl, count, rdatas });
        Some(NodeRrset { view, rtype, rrset })
    }
}

impl Part {
    /// The RRsets at a name relative to the apex.
    pub(crate) fn node_at(&self, name: &[u8]) -> Option<Node<'_>> {
        self.table.get(&Key { kind: Kind::Node, rtype: 0, name }).map(|body| Node(Reader(body)))
    }
}

/// How many delegations and DNAMEs a node has, of everybody or of views. Name servers at the apex are no delegation.
pub(crate) fn cuts(body: &[u8], is_apex: bool) -> usize {
    let is_cut = |one: &NodeRrset<'_>| match one.rtype {
        Rtype::DNAME => one.rrset.is_some(),
        Rtype::NS => one.rrset.is_some() && !is_apex,
        _ => false,
    };
    Node(Reader(body)).filter(is_cut).count()
}

/// Why a node can't be written.
pub(crate) enum NodeError {
    Item(ItemError),
    TooLarge(Rtype),
}

impl From<ItemError> for NodeError {
    fn from(error: ItemError) -> NodeError {
        NodeError::Item(error)
    }
}

impl NodeError {
    pub(crate) fn at(self, owner: &Name) -> CompileError {
        match self {
            NodeError::Item(error) => CompileError::Item { key: RrKey::new(owner.clone(), OVERLAY), error },
            NodeError::TooLarge(rtype) => CompileError::TooLarge(RrKey::new(owner.clone(), rtype)),
        }
    }
}

/// The node after changes, of which the last one to a type counts; none if nothing is left.
pub(crate) fn changed(old: &[u8], changes: &[(Rtype, Option<Rrset>)]) -> Result<Option<Vec<u8>>, NodeError> {
    let changed_type = |one: &NodeRrset<'_>| if one.view == EVERYBODY { one.rtype } else { OVERLAY };
    let mut rrsets: Vec<((u64, u16), Vec<u8>)> = Vec::new();
    for one in Node(Reader(old)) {
        if !changes.iter().any(|(rtype, _)| *rtype == changed_type(&one)) {
            let octets = encode(one.view, one.rtype, one.rrset);
            rrsets.push((
                (one.view, one.rtype.to_int()),
                octets.map_err(|TooLarge| NodeError::TooLarge(one.rtype))?,
            ));
        }
    }
    for (place, (rtype, rrset)) in changes.iter().enumerate() {
        let is_last = !changes.iter().skip(place + 1).any(|(later, _)| later == rtype);
        let Some(rrset) = rrset.as_ref().filter(|_| is_last) else { continue };
        let mut add = |view: u64, rtype: Rtype, rrset: Option<&Rrset>| {
            let too_large = || NodeError::TooLarge(rtype);
            let octets = match rrset {
                Some(rrset) => Some((rrset.ttl, rrset_octets(&rrset.rdatas).ok_or_else(too_large)?)),
                None => None,
            };
            let of = octets.as_ref().map(|(ttl, (rdatas, count))| RrsetRef {
                rtype,
                ttl: *ttl,
                count: *count,
                rdatas,
            });
            let octets = encode(view, rtype, of).map_err(|TooLarge| too_large())?;
            rrsets.push(((view, rtype.to_int()), octets));
            Ok::<_, NodeError>(())
        };
        if *rtype != OVERLAY {
            add(EVERYBODY, *rtype, Some(rrset))?;
            continue;
        }
        let Item::Overlays(overlays) = Item::read(OVERLAY, &rrset.rdatas)? else { continue };
        for overlay in overlays {
            add(view_hash(&overlay.view), overlay.rtype, overlay.rrset.as_ref())?;
        }
    }
    rrsets.sort();
    rrsets.dedup_by_key(|(key, _)| *key);
    let octets: Vec<u8> = rrsets.into_iter().flat_map(|(_, octets)| octets).collect();
    Ok((!octets.is_empty()).then_some(octets))
}

fn encode(view: u64, rtype: Rtype, rrset: Option<RrsetRef<'_>>) -> Result<Vec<u8>, TooLarge> {
    let state = if rrset.is_some() { PRESENT } else { HIDDEN };
    let rrset = rrset.unwrap_or(RrsetRef { rtype, ttl: 0, count: 0, rdatas: &[] });
    let mut out = Vec::with_capacity(22 + rrset.rdatas.len());
    out.extend_from_slice(&view.to_le_bytes());
    out.extend_from_slice(&rtype.to_int().to_le_bytes());
    out.extend_from_slice(&[state, 0]);
    out.extend_from_slice(&rrset.ttl.to_le_bytes());
    out.extend_from_slice(&rrset.count.to_le_bytes());
    out.extend_from_slice(&narrow::<u32>(rrset.rdatas.len())?.to_le_bytes());
    out.extend_from_slice(rrset.rdatas);
    Ok(out)
}
