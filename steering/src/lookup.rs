//! Answers for insiders of views: a pure look-up over a zone's records, what the client's views have in their place, and the policies
//! met on the way. For whoever is outside knotd answers, as if none of this existed.
//!
//! At a name the views count in order of their names, and what everybody gets comes last. What a view says of a type stands for what
//! comes after it; a CNAME stands for all that comes after it, and anything else for a CNAME that does.

use std::ops::ControlFlow;

use herald_core::Rtype;
use herald_core::steering::STEERABLE;

use crate::decide::{Client, Decision, Outcome};
use crate::health::Knowledge;
use crate::part::hash::octets_hash;
use crate::part::node::EVERYBODY;
use crate::part::policy::{Rules, relative};
use crate::part::{Part, RrsetRef, policy_key};

/// Most aliases that one look-up follows: as many as Knot does.
const ALIASES_MAX: usize = 5;

/// Views that a client can be in at once; those after, by their names, don't count.
const VIEWS_MAX: usize = 64;

/// The longest name, in octets.
const NAME_BYTES: usize = 255;

/// Where in a response an RRset goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The answer.
    Answer,
    /// Who is in charge.
    Authority,
    /// Addresses of name servers.
    Additional,
}

/// Takes a response's RRsets, in order.
pub trait Reply {
    /// Takes an RRset. `owner` is in wire format. False if there is no room for it: nothing more is said of this section.
    fn put(&mut self, section: Section, owner: &[u8], rrset: RrsetRef<'_>) -> bool;
}

/// What a response is but for its RRsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its response code.
    pub rcode: Rcode,
    /// Whether the zone is authoritative for the name: it is not for what is delegated.
    pub is_authoritative: bool,
    /// Whether an RRset was left out of the answer or the authority for want of room: the response is truncated.
    pub is_truncated: bool,
    /// If the query had a client subnet and the zone uses it: the scope of the response.
    pub scope: Option<u8>,
    /// [`Decision::policy`] and [`Decision::pool`] of what was decided first; zero if nothing was. A policy that a view puts in the place
    /// of another is told as that one.
    pub decided: (u64, u64),
}

/// Response codes that a look-up has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// The name exists.
    NoError,
    /// The answer can't be given.
    ServFail,
    /// The name doesn't exist.
    NxDomain,
    /// A DNAME leads to a name that is too long (RFC 6672 §2.2).
    YxDomain,
}

/// The views that a client is in, in order.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    views: [u64; VIEWS_MAX],
    count: usize,
}

impl Inside {
    /// Whether the client is in none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn views(&self) -> &[u64] {
        self.views.get(..self.count).unwrap_or_default()
    }
}

/// What is asked of a zone.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The name, in wire format and lower case.
    pub name: &'a [u8],
    /// The type.
    pub rtype: Rtype,
    /// Who asks.
    pub client: &'a Client,
    /// The views that the client is in.
    pub inside: &'a Inside,
    /// The zone's SOA.
    pub soa: RrsetRef<'a>,
}

impl Part {
    /// The views that whoever asks is in: by the source of the query, never by what a resolver says of its client.
    pub fn inside(&self, client: &Client) -> Inside {
        let mut inside = Inside { views: [0; VIEWS_MAX], count: 0 };
        for view in self.compiled_views() {
            if let Some(place) = inside.views.get_mut(inside.count)
                && view.conditions().is_inside(client.source, client.pop)
            {
                *place = view.hash;
                inside.count += 1;
            }
        }
        inside
    }

    /// Whether the zone leaves another one, whose apex this is (in wire format and lower case), to itself: there is a delegation at the
    /// apex or above, beneath the zone's own.
    pub fn delegates(&self, apex: &[u8]) -> bool {
        let Some(mut rest) = relative(apex, self.apex()) else { return false };
        while let Some(label_bytes) = rest.first() {
            let mut at_node = self.node_at(rest).into_iter().flatten();
            if at_node.any(|one| one.view == EVERYBODY && one.rtype == Rtype::NS) {
                return true;
            }
            rest = rest.get(1 + usize::from(*label_bytes)..).unwrap_or_default();
        }
        false
    }

    /// Answers an insider, from a part that has the zone's records. Answers of policies are written to `out` first, as [`Part::decide`] does.
    pub fn lookup(
        &self,
        query: &Query<'_>,
        known: &Knowledge<'_>,
        out: &mut Vec<u8>,
        reply: &mut impl Reply,
    ) -> Verdict {
        let ecs = query.client.ecs.filter(|_| self.settings().ecs);
        let mut lookup = Lookup {
            part: self,
            query,
            known,
            out,
            reply,
            aliases: 0,
            dnames: [None; ALIASES_MAX],
            verdict: Verdict {
                rcode: Rcode::NoError,
                is_authoritative: true,
                is_truncated: false,
                scope: ecs.map(|_| 0),
                decided: (0, 0),
            },
        };
        lookup.run();
        lookup.verdict
    }
}

/// A look-up under way.
struct Lookup<'a, R> {
    part: &'a Part,
    query: &'a Query<'a>,
    known: &'a Knowledge<'a>,
    out: &'a mut Vec<u8>,
    reply: &'a mut R,
    /// How many aliases were followed.
    aliases: usize,
    /// Hashes of the names that DNAMEs are at which were followed, by the number of the alias: each is told of once.
    dnames: [Option<u64>; ALIASES_MAX],
    verdict: Verdict,
}

/// What a client gets at a name for a type.
#[derive(Clone, Copy)]
enum Effective<'a> {
    Rrset(RrsetRef<'a>),
    Policy(Rules<'a>),
    Nothing,
}

/// Whether a look-up goes on, and at which target of an alias.
type Next = ControlFlow<(), WireName>;

/// A name in wire format, on the stack.
struct WireName {
    octets: [u8; NAME_BYTES],
    len: usize,
}

impl WireName {
    /// The octets one after the other; none if these are too many.
    fn of(parts: [&[u8]; 2]) -> Option<WireName> {
        let mut name = WireName { octets: [0; NAME_BYTES], len: 0 };
        for part in parts {
            name.octets.get_mut(name.len..name.len + part.len())?.copy_from_slice(part);
            name.len += part.len();
        }
        name.octets.get_mut(..name.len)?.make_ascii_lowercase();
        Some(name)
    }

    fn as_wire(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

impl<'a, R: Reply> Lookup<'a, R> {
    fn run(&mut self) {
        let mut target: WireName;
        let mut name = self.query.name;
        // Names that were looked up, by their hashes: where aliases lead back to one there is an end.
        let mut visited = [0; ALIASES_MAX + 1];
        for aliases in 0..=ALIASES_MAX {
            self.aliases = aliases;
            let Some(relative) = relative(name, self.part.apex()) else {
                // An alias leads out of the zone: whoever asks goes on from there.
                return;
            };
            let ControlFlow::Continue(next) = self.step(name, relative) else { return };
            visited[aliases] = octets_hash(0, name);
            target = next;
            name = target.as_wire();
            if visited.get(..=aliases).unwrap_or_default().contains(&octets_hash(0, name)) {
                return;
            }
        }
    }

    /// Looks one name up; `name` is `relative` to the apex.
    fn step(&mut self, name: &[u8], relative: &[u8]) -> Next {
        let mut starts = [0_u8; 128];
        let mut count = 0;
        let mut start = 0;
        while let (Some(label_bytes), Some(place)) = (relative.get(start), starts.get_mut(count)) {
            *place = start as u8;
            start += 1 + usize::from(*label_bytes);
            count += 1;
        }
        if self.part.has_cuts()
            && let Some(next) = self.leave(name, relative, starts.get(..count).unwrap_or_default())
        {
            return next;
        }
        // What is asked for is mostly there.
        if self.query.rtype != Rtype::ANY {
            match self.put_type(Section::Answer, name, relative, self.query.rtype) {
                Put::Done => return ControlFlow::Break(()),
                Put::NoData => return self.deny(Rcode::NoError),
                Put::Nothing => {}
            }
        }
        if self.is_visible(relative) {
            return self.answer(name, relative);
        }
        if self.has_visible_below(relative) {
            return self.deny(Rcode::NoError);
        }
        // The closest encloser, and the wildcard below it (RFC 4592 §3.3.1).
        for start in
            starts.iter().take(count).skip(1).map(|start| usize::from(*start)).chain([relative.len()])
        {
            let encloser = relative.get(start..).unwrap_or_default();
            let exists = encloser.is_empty() || self.is_visible(encloser) || self.has_visible_below(encloser);
            if !exists {
                continue;
            }
            let Some(wildcard) = WireName::of([b"\x01*", encloser]) else { break };
            if self.is_visible(wildcard.as_wire()) {
                return self.answer(name, wildcard.as_wire());
            }
            let is_between = self.has_visible_below(wildcard.as_wire());
            return self.deny(if is_between { Rcode::NoError } else { Rcode::NxDomain });
        }
        self.deny(Rcode::NxDomain)
    }

    /// From the apex downwards: leaves the zone or the name at a delegation or a DNAME above it or, for a delegation, at it; `starts` is where its labels begin.
    fn leave(&mut self, name: &[u8], relative: &[u8], starts: &[u8]) -> Option<Next> {
        if !starts.is_empty()
            && let Some(next) = self.redirect(name, relative, b"")
        {
            return Some(next);
        }
        for (place, start) in starts.iter().enumerate().rev() {
            let ancestor = relative.get(usize::from(*start)..).unwrap_or_default();
            let is_here = place == 0;
            if let Effective::Rrset(servers) = self.effective(ancestor, Rtype::NS)
                && !(is_here && self.query.rtype == Rtype::DS)
            {
                self.refer(name.get(usize::from(*start)..).unwrap_or_default(), ancestor, servers);
                return Some(ControlFlow::Break(()));
            }
            if !is_here && let Some(next) = self.redirect(name, relative, ancestor) {
                return Some(next);
            }
        }
        None
    }

    /// Follows a DNAME at an ancestor, if there is one (RFC 6672).
    fn redirect(&mut self, name: &[u8], relative: &[u8], ancestor: &[u8]) -> Option<Next> {
        let Effective::Rrset(dname) = self.effective(ancestor, Rtype::DNAME) else { return None };
        let target = dname.iter().next()?;
        if self.aliases == ALIASES_MAX {
            return Some(ControlFlow::Break(()));
        }
        let prefix_bytes = relative.len() - ancestor.len();
        let owner = name.get(prefix_bytes..)?;
        let hash = octets_hash(0, owner);
        let is_told = self.dnames.contains(&Some(hash));
        if let Some(place) = self.dnames.get_mut(self.aliases) {
            *place = Some(hash);
        }
        if !is_told && !self.put(Section::Answer, owner, dname) {
            return Some(ControlFlow::Break(()));
        }
        let Some(target) = WireName::of([name.get(..prefix_bytes)?, target]) else {
            self.verdict.rcode = Rcode::YxDomain;
            return Some(ControlFlow::Break(()));
        };
        let mut alias = [0; NAME_BYTES + 3];
        let rdatas = pack_name(target.as_wire(), &mut alias);
        let cname = RrsetRef { rtype: Rtype::CNAME, ttl: dname.ttl, count: 1, rdatas };
        let is_put = self.put(Section::Answer, name, cname);
        let is_asked = matches!(self.query.rtype, Rtype::CNAME | Rtype::ANY);
        Some(if is_put && !is_asked { ControlFlow::Continue(target) } else { ControlFlow::Break(()) })
    }

    /// Answers `name` with what is at the node: at the name itself, or at the wildcard that it is made from.
    fn answer(&mut self, name: &[u8], node: &[u8]) -> Next {
        let asked = self.query.rtype;
        if asked == Rtype::ANY {
            return self.answer_any(name, node);
        }
        match self.put_type(Section::Answer, name, node, asked) {
            Put::Done => return ControlFlow::Break(()),
            Put::NoData => return self.deny(Rcode::NoError),
            Put::Nothing => {}
        }
        let start = self.out.len();
        let target = match self.effective(node, Rtype::CNAME) {
            Effective::Nothing => return self.deny(Rcode::NoError),
            _ if self.aliases == ALIASES_MAX => return ControlFlow::Break(()),
            Effective::Rrset(cname) => {
                if !self.put(Section::Answer, name, cname) {
                    return ControlFlow::Break(());
                }
                cname.iter().next().and_then(|target| WireName::of([target, &[]]))
            }
            Effective::Policy(_) => match self.put_type(Section::Answer, name, node, Rtype::CNAME) {
                Put::Done => {
                    let rdatas = self.out.get(start..).unwrap_or_default();
                    let cname = RrsetRef { rtype: Rtype::CNAME, ttl: 0, count: 1, rdatas };
                    cname.iter().next().and_then(|target| WireName::of([target, &[]]))
                }
                Put::NoData | Put::Nothing => return self.deny(Rcode::NoError),
            },
        };
        match target {
            Some(target) if !self.verdict.is_truncated && self.verdict.rcode == Rcode::NoError => {
                ControlFlow::Continue(target)
            }
            _ => ControlFlow::Break(()),
        }
    }

    /// One RRset is an answer to ANY (RFC 8482 §4.1).
    fn answer_any(&mut self, name: &[u8], node: &[u8]) -> Next {
        if node.is_empty() {
            self.put(Section::Answer, name, self.query.soa);
            return ControlFlow::Break(());
        }
        let mut types = [0_u16; 64];
        let mut count = 0;
        let at_node = self.part.node_at(node).into_iter().flatten().map(|one| one.rtype);
        for rtype in at_node.chain(STEERABLE) {
            if let Some(place) = types.get_mut(count)
                && rtype != Rtype::ANY
            {
                *place = rtype.to_int();
                count += 1;
            }
        }
        let types = types.get_mut(..count).unwrap_or_default();
        types.sort_unstable();
        for rtype in types.iter().map(|rtype| Rtype::from_int(*rtype)) {
            if let Put::Done = self.put_type(Section::Answer, name, node, rtype) {
                return ControlFlow::Break(());
            }
        }
        self.deny(Rcode::NoError)
    }

    /// Puts what the client gets at a node for a type.
    fn put_type(&mut self, section: Section, name: &[u8], node: &[u8], rtype: Rtype) -> Put {
        let rrset = match self.effective(node, rtype) {
            Effective::Nothing => return Put::Nothing,
            Effective::Rrset(rrset) => {
                self.put(section, name, rrset);
                return Put::Done;
            }
            Effective::Policy(rules) => {
                let start = self.out.len();
                let decision =
                    self.part.decide_by(rules, rtype, self.query.client, self.known, self.out, &mut ());
                self.widen(decision);
                if self.verdict.decided.0 == 0
                    && let Some(relative) = relative(name, self.part.apex())
                {
                    self.verdict.decided = (policy_key(relative, rtype).hash(), decision.pool);
                }
                match decision.outcome {
                    Outcome::Answer { ttl, rtype, count } => Some((start, ttl, rtype, count)),
                    Outcome::NotSteered | Outcome::NoData => return Put::NoData,
                    Outcome::NoRoom => {
                        self.verdict.rcode = Rcode::ServFail;
                        None
                    }
                }
            }
        };
        if let Some((start, ttl, rtype, count)) = rrset {
            let rdatas = self.out.get(start..).unwrap_or_default();
            let is_put = self.reply.put(section, name, RrsetRef { rtype, ttl, count, rdatas });
            self.verdict.is_truncated |= !is_put && section != Section::Additional;
        }
        Put::Done
    }

    /// A response is right where all decisions in it are.
    fn widen(&mut self, decision: Decision) {
        if let (Some(scope), Some(decided)) = (self.verdict.scope.as_mut(), decision.scope) {
            *scope = (*scope).max(decided);
        }
    }

    fn put(&mut self, section: Section, owner: &[u8], rrset: RrsetRef<'_>) -> bool {
        let is_put = self.reply.put(section, owner, rrset);
        self.verdict.is_truncated |= !is_put && section != Section::Additional;
        is_put
    }

    /// There is nothing, and the SOA says for how long that holds (RFC 2308 §3).
    fn deny(&mut self, rcode: Rcode) -> Next {
        self.verdict.rcode = rcode;
        let soa = self.query.soa;
        let least =
            soa.iter().next().and_then(|rdata| rdata.last_chunk()).map(|octets| u32::from_be_bytes(*octets));
        let soa = RrsetRef { ttl: soa.ttl.min(least.unwrap_or(soa.ttl)), ..soa };
        let apex = self.part.apex();
        self.put(Section::Authority, apex.as_wire(), soa);
        ControlFlow::Break(())
    }

    /// Tells of the name servers that a name is delegated to.
    fn refer(&mut self, cut: &[u8], node: &[u8], servers: RrsetRef<'_>) {
        // With an alias in front it is, for that (RFC 1035 §4.1.1).
        self.verdict.is_authoritative = self.aliases > 0;
        if !self.put(Section::Authority, cut, servers) {
            return;
        }
        if let Effective::Rrset(ds) = self.effective(node, Rtype::DS) {
            self.put(Section::Authority, cut, ds);
        }
        for server in servers.iter() {
            let Some(server) = WireName::of([server, &[]]) else { continue };
            let Some(glue) = relative(server.as_wire(), self.part.apex()) else { continue };
            for rtype in [Rtype::A, Rtype::AAAA] {
                self.put_type(Section::Additional, server.as_wire(), glue, rtype);
            }
        }
    }

    /// Whether anything is held at a name, whoever may see it.
    fn is_known(&self, relative: &[u8]) -> bool {
        self.part.names.as_ref().is_none_or(|names| names.contains(relative))
    }

    /// What the client gets at a name for a type.
    fn effective(&self, node: &[u8], rtype: Rtype) -> Effective<'a> {
        let part = self.part;
        if node.is_empty() && rtype == Rtype::SOA {
            return Effective::Rrset(self.query.soa);
        }
        let rrsets = part.node_at(node);
        let layer = |view: u64| rrsets.into_iter().flatten().filter(move |one| one.view == view);
        for view in self.query.inside.views() {
            let mut is_settled = false;
            for one in layer(*view) {
                if one.rtype == rtype {
                    return one.rrset.map_or(Effective::Nothing, Effective::Rrset);
                }
                is_settled |= match (one.rtype, one.rrset) {
                    (Rtype::ANY, None) => true,
                    (_, None) => false,
                    (other, Some(_)) => rtype == Rtype::CNAME || other == Rtype::CNAME,
                };
            }
            if is_settled {
                return Effective::Nothing;
            }
        }
        if let Some(one) = layer(EVERYBODY).find(|one| one.rtype == rtype) {
            return one.rrset.map_or(Effective::Nothing, Effective::Rrset);
        }
        let policy = part.table.get(&policy_key(node, rtype));
        policy.map_or(Effective::Nothing, |body| Effective::Policy(Rules::read(body)))
    }

    /// Whether the client sees anything at a name.
    fn is_visible(&self, node: &[u8]) -> bool {
        // The SOA is at the apex.
        if node.is_empty() {
            return true;
        }
        if !self.is_known(node) {
            return false;
        }
        let part = self.part;
        let mut at_node = part.node_at(node).into_iter().flatten().map(|one| one.rtype);
        let is_there = |rtype: Rtype| !matches!(self.effective(node, rtype), Effective::Nothing);
        at_node.any(is_there) || STEERABLE.into_iter().any(is_there)
    }

    fn has_visible_below(&self, relative: &[u8]) -> bool {
        let names = self.part.names.as_ref();
        names.is_some_and(|names| names.any_below(relative, |name| self.is_visible(name)))
    }
}

/// What became of a type at a node.
enum Put {
    /// It was put, or there was no room for it.
    Done,
    /// A policy is there and has no answer for the client.
    NoData,
    /// There is nothing of the type.
    Nothing,
}

/// A name as RDATA.
fn pack_name<'b>(name: &[u8], octets: &'b mut [u8; NAME_BYTES + 3]) -> &'b [u8] {
    let end = 2 + name.len();
    octets[..2].copy_from_slice(&(name.len() as u16).to_ne_bytes());
    if let Some(place) = octets.get_mut(2..end) {
        place.copy_from_slice(name);
    }
    octets.get(..end + name.len() % 2).unwrap_or_default()
}
