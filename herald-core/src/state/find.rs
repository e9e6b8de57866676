//! Zones by what they have: a page at a time, in canonical order, in bounded time.
//!
//! What can be looked up is: names and whole trees of them, a label, a set of name servers, being pending, and what
//! a token's scope lets see. Where several are asked for, their lists are walked side by side, each leaping to where another
//! is. A part of a name can only be looked for in each name, and an operator's question about a label of any tenant in
//! each zone; there a page ends after so much work, perhaps with nothing on it, and says where to go on.

use imbl::shared_ptr::DefaultSharedPtr;
use memchr::memmem;

use super::facets::{Facet, FacetNames, SharedFacet};
use super::{Shared, State};
use crate::account::ZonePattern;
use crate::authorise::Access;
use crate::zone::{Zone, ZoneStatus};
use crate::{Name, NsSetId, TenantId, ZoneId};

/// Which zones.
#[derive(Debug)]
pub struct ZoneQuery<'a> {
    /// Only what this may see.
    pub access: &'a Access,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this name.
    pub name: Option<Name>,
    /// Of this name, or below it.
    pub below: Option<Name>,
    /// With something in their names.
    pub part: Option<NamePart>,
    /// Served, or not; private ones are.
    pub status: Option<ZoneStatus>,
    /// There for insiders alone, or not.
    pub private: Option<bool>,
    /// With this set of name servers.
    pub ns_set: Option<NsSetId>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
}

/// Where in the list something stands.
pub type Place = (Name, ZoneId);

/// A page of zones.
#[derive(Debug)]
pub struct FoundZones<'a> {
    /// In canonical order of their names.
    pub zones: Vec<&'a Shared<Zone>>,
    /// After which place to go on; there may be nothing more.
    pub next: Option<Place>,
}

/// So much work is done for a page, in units of a name that is looked at (some 100 ns).
const WORK_MAX: u32 = 20_000;

/// To find a place in a list of names.
const SEEK_WORK: u32 = 8;

/// To look at a zone.
const ZONE_WORK: u32 = 8;

/// To make U-labels of a name.
const UNICODE_WORK: u32 = 32;

/// So many steps are tried before a place is looked for.
const STEPS: u32 = 8;

impl State {
    /// At most `limit` zones after a place.
    pub fn find_zones(&self, query: &ZoneQuery<'_>, after: Option<&Place>, limit: usize) -> FoundZones<'_> {
        self.find_zones_within(WORK_MAX, query, after, limit)
    }

    /// The same with less or more work.
    pub(crate) fn find_zones_within(
        &self,
        work_max: u32,
        query: &ZoneQuery<'_>,
        after: Option<&Place>,
        limit: usize,
    ) -> FoundZones<'_> {
        let (mut zones, mut work) = (Vec::new(), Work { left: work_max });
        // Each page gets further than the one before, however little work may be done.
        let (mut has_begun, mut has_looked) = (false, false);
        let Some(mut lists) = self.lists(query) else { return FoundZones { zones, next: None } };
        for span in self.spans(query) {
            let from = match after {
                Some((name, _)) if span.holds(name) => name,
                Some((name, _)) if name > span.first() => continue,
                _ => span.first(),
            };
            if has_begun && work.is_over() {
                return FoundZones { zones, next: Some(before(from)) };
            }
            has_begun = true;
            lists.iter_mut().for_each(|list| list.open(from, &mut work));
            loop {
                let name = match meet(&mut lists, &mut work) {
                    Meeting::At(name) if span.holds(name) => name,
                    Meeting::At(_) | Meeting::Never => break,
                    Meeting::NotBefore(name) => return FoundZones { zones, next: Some(before(name)) },
                };
                if has_looked && work.is_over() {
                    return FoundZones { zones, next: Some(before(name)) };
                }
                has_looked = true;
                let is_named = query.part.as_ref().is_none_or(|part| part.is_in(name, &mut work));
                for zone in self.bearing(name, query.tenant).filter(|_| is_named) {
                    if after.is_some_and(|after| (&zone.name, zone.id) <= (&after.0, after.1)) {
                        continue;
                    }
                    if zones.len() == limit {
                        let next = zones.last().map(|last: &&Shared<Zone>| (last.name.clone(), last.id));
                        return FoundZones { zones, next };
                    }
                    work.take(ZONE_WORK);
                    if query.takes(zone) {
                        zones.push(zone);
                    }
                }
                lists[0].pass(name, &mut work);
            }
        }
        FoundZones { zones, next: None }
    }

    fn bearing<'a>(
        &'a self,
        name: &Name,
        tenant: Option<TenantId>,
    ) -> impl Iterator<Item = &'a Shared<Zone>> + use<'a> {
        let (mut own, all) = match tenant {
            Some(tenant) => ([self.tenant_zone(tenant, name), self.private_zone(tenant, name)], None),
            None => ([None, None], Some(self.zones_named(name))),
        };
        own.sort_by_key(|zone| zone.map(|zone| zone.id));
        own.into_iter().flatten().chain(all.into_iter().flatten())
    }

    /// The lists whose common names are those to look at; none if there can't be any.
    fn lists(&self, query: &ZoneQuery<'_>) -> Option<Vec<List<'_>>> {
        let mut lists = Vec::new();
        let mut is_of_tenant = query.tenant.is_none();
        let mut add = |facet: Facet| -> Option<()> {
            lists.push(List::new(self, Names::WithFacet(self.facets.shared(&facet)?)));
            Some(())
        };
        if let Some(tenant) = query.tenant {
            for (key, value) in &query.labels {
                add(Facet::Label(tenant, key.clone(), value.clone()))?;
                is_of_tenant = true;
            }
        }
        if query.status == Some(ZoneStatus::Pending) {
            add(Facet::Pending)?;
        }
        if let Some(set) = query.ns_set {
            add(Facet::NsSet(set))?;
        }
        match query.tenant {
            Some(tenant) if !is_of_tenant => lists.push(List::new(self, Names::OfTenant(tenant))),
            None if lists.is_empty() => lists.push(List::new(self, Names::All)),
            _ => {}
        }
        Some(lists)
    }

    /// Where names may lie: disjoint, in order.
    fn spans(&self, query: &ZoneQuery<'_>) -> Vec<Span> {
        let mut seen: Vec<Span> = match query.access.scope.zones.as_slice() {
            [] => vec![Span::Tree(Name::root())],
            patterns => patterns
                .iter()
                .filter_map(|pattern| match pattern {
                    ZonePattern::Id(id) => Some(Span::One(self.zone(*id)?.name.clone())),
                    ZonePattern::Name(name) => Some(Span::One(name.clone())),
                    ZonePattern::Below(name) => Some(Span::Tree(name.clone())),
                })
                .collect(),
        };
        // What lies in a tree follows its top.
        seen.sort_by(|a, b| (a.first(), a.is_one()).cmp(&(b.first(), b.is_one())));
        seen.dedup_by(|span, kept| kept.holds(span.first()));
        let asked = [query.name.clone().map(Span::One), query.below.clone().map(Span::Tree)];
        for asked in asked.into_iter().flatten() {
            seen = seen.into_iter().filter_map(|span| span.within(&asked)).collect();
        }
        seen
    }
}

impl<'a> ZoneQuery<'a> {
    /// All that is to be seen.
    pub fn all(access: &'a Access) -> ZoneQuery<'a> {
        ZoneQuery {
            access,
            tenant: access.tenant,
            name: None,
            below: None,
            part: None,
            status: None,
            private: None,
            ns_set: None,
            labels: Vec::new(),
        }
    }

    /// Whether a zone is meant whose name is.
    fn takes(&self, zone: &Zone) -> bool {
        self.access.sees(zone)
            && self.status.is_none_or(|status| match status {
                ZoneStatus::Active => zone.is_served(),
                other => other == zone.status,
            })
            && self.private.is_none_or(|private| private == zone.is_private())
            && self.ns_set.is_none_or(|set| set == zone.ns_set)
            && self.labels.iter().all(|(key, value)| zone.labels.get(key) == Some(value))
    }
}

/// What may be done yet for a page.
struct Work {
    left: u32,
}

impl Work {
    fn take(&mut self, work: u32) {
        self.left = self.left.saturating_sub(work);
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

// --------------------------------------------------------------------------------------------- spans

/// The place that the first zone of this name comes after.
fn before(name: &Name) -> Place {
    (name.clone(), ZoneId(0))
}

/// Names that follow each other in canonical order.
#[derive(Clone, Debug)]
enum Span {
    /// This one.
    One(Name),
    /// This one and all below.
    Tree(Name),
}

impl Span {
    fn first(&self) -> &Name {
        let (Span::One(name) | Span::Tree(name)) = self;
        name
    }

    fn is_one(&self) -> bool {
        matches!(self, Span::One(_))
    }

    fn holds(&self, name: &Name) -> bool {
        match self {
            Span::One(own) => own == name,
            Span::Tree(top) => name.is_at_or_below(top),
        }
    }

    /// What both have: of two spans one is within the other, or they have nothing in common.
    fn within(self, other: &Span) -> Option<Span> {
        match (&self, other) {
            (Span::One(_), _) | (_, Span::Tree(_)) if other.holds(self.first()) => Some(self),
            (Span::Tree(_), _) if self.holds(other.first()) => Some(other.clone()),
            _ => None,
        }
    }
}

// --------------------------------------------------------------------------------------------- lists

/// Names in canonical order, from somewhere on.
struct List<'a> {
    state: &'a State,
    names: Names,
    rest: Rest<'a>,
    head: Option<&'a Name>,
}

enum Names {
    All,
    OfTenant(TenantId),
    WithFacet(SharedFacet),
}

enum Rest<'a> {
    None,
    All(imbl::ordset::RangedIter<'a, (Name, ZoneId), DefaultSharedPtr>),
    OfTenant(imbl::ordmap::RangedIter<'a, (TenantId, Name, bool), ZoneId, DefaultSharedPtr>),
    WithFacet(FacetNames<'a>),
}

impl<'a> List<'a> {
    fn new(state: &'a State, names: Names) -> List<'a> {
        List { state, names, rest: Rest::None, head: None }
    }

    /// Begins with the first name that isn't before this one.
    fn open(&mut self, from: &Name, work: &mut Work) {
        work.take(SEEK_WORK);
        self.rest = match &self.names {
            Names::All => Rest::All(self.state.zones_by_name.range((from.clone(), ZoneId(0))..)),
            Names::OfTenant(tenant) => {
                Rest::OfTenant(self.state.zones_by_tenant.range((*tenant, from.clone(), false)..))
            }
            Names::WithFacet(facet) => Rest::WithFacet(self.state.facets.from(facet, from)),
        };
        self.step();
    }

    fn step(&mut self) {
        self.head = match (&mut self.rest, &self.names) {
            (Rest::All(rest), _) => rest.next().map(|(name, _)| name),
            (Rest::OfTenant(rest), Names::OfTenant(tenant)) => {
                rest.next().filter(|((holder, ..), _)| holder == tenant).map(|((_, name, _), _)| name)
            }
            (Rest::WithFacet(rest), Names::WithFacet(facet)) => {
                rest.next().filter(|(own, _)| own == facet).map(|(_, name)| name)
            }
            _ => None,
        };
    }

    /// Goes to the first name that isn't before this one.
    fn seek(&mut self, to: &Name, work: &mut Work) {
        for _ in 0..STEPS {
            if self.head.is_none_or(|head| head >= to) {
                return;
            }
            work.take(1);
            self.step();
        }
        self.open(to, work);
    }

    /// Goes past a name, which may come more than once.
    fn pass(&mut self, name: &Name, work: &mut Work) {
        while self.head == Some(name) {
            work.take(1);
            self.step();
        }
    }
}

/// Where lists meet.
enum Meeting<'a> {
    /// All of them have this name, and none before.
    At(&'a Name),
    /// One is at its end.
    Never,
    /// Before this name they have none in common, and it took too long to go on.
    NotBefore(&'a Name),
}

fn meet<'a>(lists: &mut [List<'a>], work: &mut Work) -> Meeting<'a> {
    let Some(mut name) = lists[0].head else { return Meeting::Never };
    let (mut agreeing, mut place) = (1, 0);
    while agreeing < lists.len() {
        place = (place + 1) % lists.len();
        lists[place].seek(name, work);
        match lists[place].head {
            None => return Meeting::Never,
            Some(head) if head == name => agreeing += 1,
            Some(head) if work.is_over() => return Meeting::NotBefore(head),
            Some(head) => (name, agreeing) = (head, 1),
        }
    }
    Meeting::At(name)
}

// ------------------------------------------------------------------------------------- parts of names

/// Something that names have in them, as they are written with A-labels or with U-labels.
#[derive(Debug)]
pub struct NamePart {
    text: String,
    is_prefix: bool,
    /// The longest part of the text within a label: what hasn't that can't have the text.
    longest: memmem::Finder<'static>,
}

impl NamePart {
    /// Anywhere.
    pub fn anywhere(text: &str) -> NamePart {
        let text = text.to_lowercase();
        // An escape is written otherwise than it is in a name.
        let labels = if text.contains('\\') { "" } else { &text };
        let longest = labels.split('.').max_by_key(|part| part.len()).unwrap_or_default();
        NamePart { longest: memmem::Finder::new(longest).into_owned(), text, is_prefix: false }
    }

    /// In front.
    pub fn in_front(text: &str) -> NamePart {
        NamePart { is_prefix: true, ..NamePart::anywhere(text) }
    }

    /// What they have in them, in lower case.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether they begin with it.
    pub fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    fn is_in(&self, name: &Name, work: &mut Work) -> bool {
        work.take(1);
        let is_within = |text: &str| {
            if self.is_prefix { text.starts_with(&self.text) } else { text.contains(&self.text) }
        };
        if self.longest.find(name.as_wire()).is_some() && is_within(&name.to_string()) {
            return true;
        }
        let is_international = memmem::find(name.as_wire(), b"xn--").is_some();
        is_international && {
            work.take(UNICODE_WORK);
            is_within(&name.to_unicode())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names() {
        let cases = [
            ("shop", "shop-1.example.com", true, true),
            ("SHOP-1.Ex", "shop-1.example.com", true, true),
            ("example", "shop-1.example.com", false, true),
            ("1.ex", "shop-1.example.com", false, true),
            ("1.ex", "shop-1.www.example.com", false, false),
            ("1ex", "shop-1.example.com", false, false),
            ("example.com.", "shop-1.example.com", false, true),
            // The length of a label is no part of its text.
            ("0x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x", false, false),
            ("0x", "a.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false, false),
            ("B\u{fc}cher", "b\u{fc}cher.example", true, true),
            ("xn--bc", "b\u{fc}cher.example", true, true),
            ("cher", "b\u{fc}cher.example", false, true),
            ("b\u{fc}", "bu.example", false, false),
            (".", "example", false, true),
            ("", "example", true, true),
            (r"a\.b", r"a\.b.example", true, true),
            ("a.b", r"a\.b.example", false, false),
        ];
        for (text, name, in_front, anywhere) in cases {
            let name = Name::parse(name).unwrap();
            assert_eq!(
                NamePart::in_front(text).is_in(&name, &mut Work { left: 0 }),
                in_front,
                "{text} in front of {name}"
            );
            assert_eq!(
                NamePart::anywhere(text).is_in(&name, &mut Work { left: 0 }),
                anywhere,
                "{text} in {name}"
            );
        }
    }
}
