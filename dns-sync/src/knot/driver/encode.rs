//! Commands of the control protocol for whole RRsets.

use herald_core::{Name, Rrset, Rtype};

use crate::knot::ctl::{Batch, Command, Item, ItemTooLong};
use crate::knot::text;

/// The longest RDATA that fits into an item as `\# length hex`.
pub(super) const SET_RDATA_BYTES_MAX: usize = 32_760;

/// Adds a command whose items are known to be short.
pub(super) fn push_short(batch: &mut Batch, command: Command, items: &[(Item, &[u8])]) {
    let pushed: Result<(), ItemTooLong> = batch.push(command, items);
    pushed.expect("names and numbers are short, and RDATA was checked");
}

pub(super) fn push_zone(batch: &mut Batch, command: Command, zone: &Name, tag: usize) {
    let tag = tag.to_string();
    push_short(batch, command, &[(Item::Zone, &text::name_text(zone)), (Item::Id, tag.as_bytes())]);
}

pub(super) fn push_unset(batch: &mut Batch, zone: &[u8], owner: &Name, rtype: Rtype, tag: usize) {
    let mut rtype_text = Vec::with_capacity(9);
    text::push_type(&mut rtype_text, rtype.to_int());
    let (owner, tag) = (text::name_text(owner), tag.to_string());
    let items: [(Item, &[u8]); 4] =
        [(Item::Zone, zone), (Item::Id, tag.as_bytes()), (Item::Owner, &owner), (Item::Type, &rtype_text)];
    push_short(batch, Command::ZoneUnset, &items);
}

pub(super) fn push_set(
    batch: &mut Batch,
    zone: &[u8],
    owner: &Name,
    rtype: Rtype,
    rrset: &Rrset,
    tag: usize,
) {
    let mut rtype_text = Vec::with_capacity(9);
    text::push_type(&mut rtype_text, rtype.to_int());
    let (owner, tag, ttl) = (text::name_text(owner), tag.to_string(), rrset.ttl.to_string());
    let mut data = Vec::new();
    for rdata in rrset.rdatas.iter() {
        data.clear();
        text::push_rdata(&mut data, rdata);
        let items: [(Item, &[u8]); 6] = [
            (Item::Zone, zone),
            (Item::Id, tag.as_bytes()),
            (Item::Owner, &owner),
            (Item::Ttl, ttl.as_bytes()),
            (Item::Type, &rtype_text),
            (Item::Data, &data),
        ];
        push_short(batch, Command::ZoneSet, &items);
    }
}
