//! What is done at each stage of a query. Nothing here takes a lock or allocates.
//!
//! knotd has a placeholder in the place of a policy's answer, so that it finds out itself what a name server must: names, wildcards,
//! delegations, NODATA. What it found is then replaced.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use herald_core::Rtype;
use herald_core::steering::{PLACEHOLDER_TTL_S, Prefix};
use steering::firewall::{LocalRrset, Verdict};
use steering::lookup::{self, Rcode, Reply};
use steering::{Client, Knowledge, Outcome, Part, RrsetRef, Trace};

use crate::knot::{Answer, Begun, Fate, Query, Rdatas, Replaced, Section, State};
use crate::resolved::{self, Question};
use crate::slot::{Slot, Version};
use crate::{Settings, UNDECIDED, counts, firewall, health, places, private};

/// The TTL that marks what is to be replaced.
pub const MARKER_TTL_S: u32 = PLACEHOLDER_TTL_S;

/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 16;

/// Octets of RDATA that an answer may have: a message has no more.
const ANSWER_BYTES_MAX: usize = 65_536;

/// What [`steering::pop_hash`] says of this PoP.
static POP: AtomicU64 = AtomicU64::new(0);
/// Whether draws are those of [`test_draw`].
static HAS_TEST_DRAWS: AtomicBool = AtomicBool::new(false);
/// Whether one of these is a panic.
static HAS_PANICS: AtomicBool = AtomicBool::new(false);

/// The message id that a test makes a hook panic with.
const PANIC_ID: u16 = 0xdead;

/// Sets what all decisions depend on.
pub fn set_up(settings: &Settings) {
    places::set_up();
    health::set_up();
    private::set_up(&settings.pop);
    resolved::set_up();
    POP.store(steering::pop_hash(&settings.pop), Ordering::Relaxed);
    HAS_TEST_DRAWS.store(settings.known_draws || settings.panics, Ordering::Relaxed);
    HAS_PANICS.store(settings.panics, Ordering::Relaxed);
}

/// What a thread of knotd's keeps.
struct Thread {
    /// The state of its random numbers, zero before the first one.
    random: Cell<u64>,
    /// Where RDATA is put together. It is made once, and knotd's threads end with knotd.
    octets: Cell<Option<&'static RefCell<Vec<u8>>>>,
}

thread_local! {
    static THREAD: Thread = const { Thread { random: Cell::new(0), octets: Cell::new(None) } };
}

/// Whether queries have to be looked at that knotd may have no zone for.
#[inline]
pub fn is_begun_globally() -> bool {
    firewall::is_on() || private::is_any()
}

/// Before the instances of zones: the firewall has its say, and insiders of private zones are answered.
pub fn begin_global<'q>(query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    if firewall::is_on() {
        let begun = ask_firewall(query, answer);
        if begun != Begun::GoOn {
            return begun;
        }
    }
    if !private::is_any() || !query.is_question() {
        return Begun::GoOn;
    }
    let Some(slot) = private::find(query) else { return Begun::GoOn };
    let Some(version) = slot.settled(query) else { return Begun::GoOn };
    // A zone of knotd's beneath the private one answers what that delegates to it, and nothing else: anybody may have made it.
    if query.zone_name().is_some_and(|zone| version.part.delegates(zone)) {
        return Begun::GoOn;
    }
    let begun = answer_insider(version, query, answer);
    if begun != Begun::GoOn {
        counts::zone(query, slot.label());
    }
    begun
}

/// What the firewall does with a query, whatever it asks for. The agent's own pass: it would take what it doesn't get for damage.
fn ask_firewall<'q>(query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    let Some(source) = query.source() else { return Begun::GoOn };
    let asked = firewall::Question {
        source,
        name: query.name(),
        rtype: Rtype::from_int(query.rtype()),
        is_udp: query.is_udp(),
        zone: query.zone_name(),
    };
    let Some(decision) = firewall::decide(query, &asked) else { return Begun::GoOn };
    if decision.verdict == Verdict::Pass || query.is_own() {
        return Begun::GoOn;
    }
    match decision.verdict {
        Verdict::Pass => Begun::GoOn,
        Verdict::Drop => Begun::Drop,
        // Transfers, NOTIFY and UPDATE have no other answer that would mean anything.
        _ if !query.is_question() => refuse(query),
        Verdict::Refuse => refuse(query),
        Verdict::Truncate => truncate(answer),
        Verdict::NxDomain => {
            query.set_rcode(3);
            answer_nothing(query, answer)
        }
        Verdict::NoData => answer_nothing(query, answer),
        Verdict::Local(rrsets) => answer_locally(rrsets, query, answer),
    }
}

/// It is no failure to knotd, which would ask its zone's instance nothing more: the query is counted under its zone.
fn refuse(query: &mut Query<'_>) -> Begun {
    query.set_rcode(5);
    Begun::Done
}

/// As above.
fn truncate(answer: &mut Answer<'_>) -> Begun {
    answer.set_authoritative();
    answer.set_truncated();
    Begun::Done
}

/// An empty answer, with the SOA of the zone if there is one.
fn answer_nothing<'q>(query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    answer.set_authoritative();
    query.put_negative_soa(answer);
    Begun::Done
}

/// What a policy zone has instead of the zone's own.
fn answer_locally<'q>(rrsets: &[LocalRrset], query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    let asked = Rtype::from_int(query.rtype());
    let is_for =
        |rrset: &&LocalRrset| rrset.rtype == asked || asked == Rtype::ANY || rrset.rtype == Rtype::CNAME;
    if !rrsets.iter().any(|rrset| is_for(&rrset)) {
        return answer_nothing(query, answer);
    }
    answer.set_authoritative();
    let octets = &mut *thread_octets().borrow_mut();
    for rrset in rrsets.iter().filter(is_for) {
        let rdatas = if rrset.is_prefixed {
            octets.clear();
            if !prefixed(query.name(), &rrset.rdatas, octets) {
                // A name that is too long (RFC 6672 §2.2 has the same for DNAME).
                query.set_rcode(6);
                return Begun::Done;
            }
            Rdatas(octets)
        } else {
            Rdatas(&rrset.rdatas)
        };
        if !answer.put(None, rrset.rtype.to_int(), rrset.ttl_s, rdatas, query.is_udp()) {
            if query.is_udp() {
                return truncate(answer);
            }
            query.set_rcode(2);
            return Begun::Fail;
        }
    }
    Begun::Done
}

/// The RDATA of an alias to a name followed by the one in RDATA; false if there is no such name.
fn prefixed(name: &[u8], rdata: &[u8], octets: &mut Vec<u8>) -> bool {
    let (Some(suffix), Some((_, labels))) = (Rdatas(rdata).next(), name.split_last()) else { return false };
    let bytes = labels.len() + suffix.len();
    if bytes > 255 {
        return false;
    }
    octets.extend_from_slice(&(bytes as u16).to_ne_bytes());
    octets.extend_from_slice(labels);
    octets.extend_from_slice(suffix);
    if bytes % 2 == 1 {
        octets.push(0);
    }
    true
}

/// Before knotd looks into the zone: insiders of views are answered.
pub fn begin<'q>(slot: &'q Slot, query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    let version = slot.version(query);
    if query.has_client_subnet() && !version.is_some_and(|version| version.part.settings().ecs) {
        query.drop_client_subnet(answer);
    }
    match version {
        Some(version) if version.soa.is_some() && query.is_question() => {
            answer_insider(version, query, answer)
        }
        _ => Begun::GoOn,
    }
}

/// Answers whoever is in a view of the zone from what is here; whoever isn't is left to knotd.
fn answer_insider<'q>(version: &'q Version, query: &mut Query<'q>, answer: &mut Answer<'q>) -> Begun {
    let part = &version.part;
    let (Some(soa), Some(client)) = (&version.soa, client(query)) else { return Begun::GoOn };
    let inside = part.inside(&client);
    if inside.is_empty() {
        return Begun::GoOn;
    }
    if query.has_client_subnet() && !part.settings().ecs {
        query.drop_client_subnet(answer);
    }
    let rtype = Rtype::from_int(query.rtype());
    let verdict = {
        let asked = query.name();
        let mut octets = thread_octets().borrow_mut();
        octets.clear();
        let question =
            lookup::Query { name: asked, rtype, client: &client, inside: &inside, soa: soa.as_rrset() };
        let mut reply = Insider { answer, asked };
        part.lookup(&question, &known(query), &mut octets, &mut reply)
    };
    let (policy, pool) = verdict.decided;
    if policy != 0 {
        counts::decided(query, policy, pool);
    }
    if verdict.is_authoritative {
        answer.set_authoritative();
    }
    if let Some(scope) = verdict.scope {
        query.raise_scope(scope);
    }
    query.set_rcode(match verdict.rcode {
        Rcode::NoError => 0,
        Rcode::ServFail => 2,
        Rcode::NxDomain => 3,
        Rcode::YxDomain => 6,
    });
    if verdict.is_truncated && query.is_udp() {
        answer.set_truncated();
    } else if verdict.is_truncated || verdict.rcode == Rcode::ServFail {
        query.set_rcode(2);
        return Begun::Fail;
    }
    Begun::Done
}

/// The answer to an insider.
struct Insider<'a, 'q> {
    answer: &'a mut Answer<'q>,
    /// The name asked for, which is answered in the query's own spelling.
    asked: &'a [u8],
}

impl Reply for Insider<'_, '_> {
    fn put(&mut self, section: lookup::Section, owner: &[u8], rrset: RrsetRef<'_>) -> bool {
        self.answer.begin(match section {
            lookup::Section::Answer => Section::Answer,
            lookup::Section::Authority => Section::Authority,
            lookup::Section::Additional => Section::Additional,
        });
        let shown = (owner != self.asked).then_some(owner);
        self.answer.put(shown, rrset.rtype.to_int(), rrset.ttl, Rdatas(rrset.rdatas), false)
    }
}

/// The serial that the zone had when knotd found a placeholder for this question, if it did.
#[inline]
pub fn resolved_serial(slot: &Slot, query: &Query<'_>) -> Option<u32> {
    Question::of(slot, query).serial()
}

/// Before the name is looked up: what knotd would find a placeholder for again is answered here. An alias that is steered is put, so that
/// knotd goes on with its target.
pub fn preanswer<'q>(
    slot: &'q Slot,
    query: &mut Query<'q>,
    answer: &mut Answer<'q>,
    resolved_serial: Option<u32>,
) -> State {
    let Some(Version { part, .. }) = slot.version(query) else { return State::Begin };
    let is_resolved = resolved_serial.is_some() && resolved_serial == query.zone_serial();
    // Where there are signatures, knotd has proofs to add.
    if is_resolved && !query.wants_signatures() {
        return answer_resolved(part, query, answer);
    }
    if !part.has_cname_policies() || !follows_aliases(query.rtype()) {
        return State::Begin;
    }
    let mut name = [0; 255];
    let Some(asked) = copy_name(&mut name, query.name()) else { return State::Begin };
    let Some(client) = client(query) else { return State::Begin };
    let octets = &mut *thread_octets().borrow_mut();
    // knotd goes on where this ends, and has its own limit.
    let mut put = Put { part, client: &client, query, answer, octets };
    match put.aliases(asked, name, true) {
        Aliases::None => State::Begin,
        Aliases::To(target, bytes) => {
            let target = target.get(..bytes).unwrap_or_default();
            if put.query.follow(put.answer, target) { State::Follow } else { State::Error }
        }
        Aliases::NoRoom => State::Truncated,
        Aliases::Failed => State::Error,
    }
}

/// Answers a question that knotd has found a placeholder for before, in this very content of the zone.
fn answer_resolved<'q>(part: &'q Part, query: &mut Query<'q>, answer: &mut Answer<'q>) -> State {
    let Some(client) = client(query) else { return State::Begin };
    let octets = &mut *thread_octets().borrow_mut();
    octets.clear();
    let rtype = Rtype::from_int(query.rtype());
    let decision = part.decide(query.name(), rtype, &client, &known(query), octets, &mut ());
    // Where there is nothing, knotd has more to say.
    let Outcome::Answer { ttl, .. } = decision.outcome else { return State::Begin };
    counts::decided(query, decision.policy, decision.pool);
    if let Some(scope) = decision.scope {
        query.raise_scope(scope);
    }
    answer.set_authoritative();
    if answer.put(None, rtype.to_int(), ttl, Rdatas(octets), query.is_udp()) {
        State::Hit
    } else if query.is_udp() {
        State::Truncated
    } else {
        State::Error
    }
}

/// After a section is complete: what is marked in it, from `first` on, is replaced.
pub fn replace<'q>(
    slot: Option<&'q Slot>,
    query: &mut Query<'q>,
    answer: &mut Answer<'q>,
    section: Section,
    first: usize,
    state: State,
) -> State {
    let version = slot.and_then(|slot| slot.version(query));
    let (Some(Version { part, .. }), Some(client)) = (version, client(query)) else {
        UNDECIDED.fetch_add(1, Ordering::Relaxed);
        return State::Error;
    };
    let known = known(query);
    // The question's own answer, with no alias before it.
    let is_direct = section == Section::Answer && state == State::Hit && answer.is_single();
    let octets = &mut *thread_octets().borrow_mut();
    let mut scope = None;
    let mut rtype_found = None;
    let mut alias = None;
    let replaced = answer.replace_marked(section, MARKER_TTL_S, first, octets, |marked, octets| {
        let rtype = Rtype::from_int(marked.rtype);
        rtype_found = Some(marked.rtype);
        let decision = part.decide(marked.owner, rtype, &client, &known, octets, &mut ());
        if section == Section::Answer && decision.policy != 0 {
            counts::decided(query, decision.policy, decision.pool);
        }
        scope = scope.max(decision.scope);
        match decision.outcome {
            Outcome::Answer { ttl, count, .. } => {
                if rtype == Rtype::CNAME
                    && let Some(target) = Rdatas(octets).next()
                {
                    alias = Target::new(target);
                }
                Fate::Rrset { ttl, count }
            }
            Outcome::NoData => Fate::Nothing,
            Outcome::NotSteered | Outcome::NoRoom => {
                UNDECIDED.fetch_add(1, Ordering::Relaxed);
                Fate::Unknown
            }
        }
    });
    if let Some(scope) = scope {
        query.raise_scope(scope);
    }
    if is_direct
        && rtype_found == Some(query.rtype())
        && let Some(slot) = slot
    {
        Question::of(slot, query).remember(query);
    }
    match replaced {
        Replaced::All if section == Section::Answer && follows_aliases(query.rtype()) => match alias {
            Some(Target { octets: name, bytes }) => {
                Put { part, client: &client, query, answer, octets }.target(bytes, name)
            }
            None => state,
        },
        Replaced::All => state,
        // What is additional is left out without a word.
        Replaced::LastIsNothing if section == Section::Additional => state,
        Replaced::LastIsNothing => State::NoData,
        Replaced::Truncated => State::Truncated,
        Replaced::Failed => State::Error,
    }
}

/// What an alias that was put leads to.
struct Target {
    octets: [u8; 255],
    bytes: usize,
}

impl Target {
    #[cold]
    fn new(name: &[u8]) -> Option<Target> {
        let mut octets = [0; 255];
        copy_name(&mut octets, name).map(|bytes| Target { octets, bytes })
    }
}

/// What is put into an answer on from a name.
struct Put<'a, 'q> {
    part: &'q Part,
    client: &'a Client,
    query: &'a mut Query<'q>,
    answer: &'a mut Answer<'q>,
    octets: &'a mut Vec<u8>,
}

/// What became of the aliases at a name.
#[allow(clippy::large_enum_variant, reason = "it is on the stack for a moment, and queries don't allocate")]
enum Aliases {
    /// There are none.
    None,
    /// They lead to this name, of so many octets.
    To([u8; 255], usize),
    NoRoom,
    Failed,
}

impl Put<'_, '_> {
    /// Puts the aliases that are steered, from this name on. Names whose policy is at a wildcard are left to knotd, which knows whether
    /// the wildcard is for them.
    fn aliases(&mut self, bytes: usize, name: [u8; 255], is_asked: bool) -> Aliases {
        let (mut name, mut bytes, mut is_asked) = (name, bytes, is_asked);
        for put in 0..ALIASES_MAX {
            let owner = name.get(..bytes).unwrap_or_default();
            let Some(decision) = self.decide_exact(owner, Rtype::CNAME) else {
                return if put == 0 { Aliases::None } else { Aliases::To(name, bytes) };
            };
            match decision {
                Outcome::Answer { ttl, .. } => {
                    let rdatas = Rdatas(self.octets);
                    let shown = (!is_asked).then_some(owner);
                    if !self.answer.put(shown, Rtype::CNAME.to_int(), ttl, rdatas, true) {
                        return Aliases::NoRoom;
                    }
                }
                Outcome::NoRoom => return Aliases::Failed,
                // knotd finds the placeholder, and then there is nothing in its place.
                Outcome::NoData | Outcome::NotSteered => {
                    return if put == 0 { Aliases::None } else { Aliases::To(name, bytes) };
                }
            }
            is_asked = false;
            let Some(target) = Rdatas(self.octets).next() else { return Aliases::Failed };
            let mut next = [0; 255];
            let Some(next_bytes) = copy_name(&mut next, target) else { return Aliases::Failed };
            (name, bytes) = (next, next_bytes);
        }
        Aliases::To(name, bytes)
    }

    /// Puts what is steered at the target of an alias that took a placeholder's place: knotd can't be asked to go on from there, and
    /// resolvers ask on where the answer ends.
    fn target(&mut self, bytes: usize, name: [u8; 255]) -> State {
        let (name, bytes) = match self.aliases(bytes, name, false) {
            Aliases::None => (name, bytes),
            Aliases::To(name, bytes) => (name, bytes),
            Aliases::NoRoom => return State::Truncated,
            Aliases::Failed => return State::Error,
        };
        let owner = name.get(..bytes).unwrap_or_default();
        let rtype = Rtype::from_int(self.query.rtype());
        match self.decide_exact(owner, rtype) {
            None | Some(Outcome::NotSteered) => State::Hit,
            Some(Outcome::NoData) => State::NoData,
            Some(Outcome::NoRoom) => State::Error,
            Some(Outcome::Answer { ttl, .. }) => {
                let rdatas = Rdatas(self.octets);
                let is_put = self.answer.put(Some(owner), rtype.to_int(), ttl, rdatas, true);
                if is_put { State::Hit } else { State::Truncated }
            }
        }
    }

    /// What is decided at a name, if there is a policy for it and not for a wildcard.
    fn decide_exact(&mut self, owner: &[u8], rtype: Rtype) -> Option<Outcome> {
        self.octets.clear();
        let mut place = PolicyPlace::default();
        let known = known(self.query);
        let decision = self.part.decide(owner, rtype, self.client, &known, self.octets, &mut place);
        if !place.is_exact {
            return None;
        }
        counts::decided(self.query, decision.policy, decision.pool);
        if let Some(scope) = decision.scope {
            self.query.raise_scope(scope);
        }
        Some(decision.outcome)
    }
}

/// Finds out whether a policy is at the name itself.
#[derive(Default)]
struct PolicyPlace {
    is_exact: bool,
}

impl Trace for PolicyPlace {
    fn policy(&mut self, labels_less: Option<usize>) {
        self.is_exact = labels_less.is_none();
    }
}

/// Whether questions of this type are answered with what an alias points to.
fn follows_aliases(rtype: u16) -> bool {
    !matches!(Rtype::from_int(rtype), Rtype::CNAME | Rtype::ANY | Rtype::RRSIG | Rtype::NSEC)
}

/// What is known at the moment.
#[inline]
fn known<'q>(query: &Query<'q>) -> Knowledge<'q> {
    Knowledge { geo: places::table(query), health: health::health(query) }
}

/// Who asks.
#[inline]
fn client(query: &Query<'_>) -> Option<Client> {
    let ecs = query.client_subnet().and_then(|subnet| Prefix::new(subnet.address, subnet.length));
    let draw = if HAS_TEST_DRAWS.load(Ordering::Relaxed) { test_draw(query.message_id()) } else { random() };
    Some(Client { source: query.source()?, ecs, pop: POP.load(Ordering::Relaxed), draw })
}

/// The draw for a message with this id, where tests have to know it (SplitMix64).
#[cold]
fn test_draw(message_id: u16) -> u64 {
    assert!(message_id != PANIC_ID || !HAS_PANICS.load(Ordering::Relaxed), "a test wants a panic");
    mixed(u64::from(message_id).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random number of this thread's own (SplitMix64). Nobody is hurt by who can guess it.
#[inline]
pub fn random() -> u64 {
    THREAD.with(|thread| {
        let state = match thread.random.get() {
            0 => seed(),
            state => state,
        };
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        thread.random.set(state);
        mixed(state)
    })
}

#[cold]
fn seed() -> u64 {
    // Without the kernel's, threads still differ by where they are.
    getrandom::u64().unwrap_or_else(|_| std::ptr::from_ref(&THREAD) as u64)
}

/// The thread's octets, which have room for any answer.
#[inline]
fn thread_octets() -> &'static RefCell<Vec<u8>> {
    THREAD.with(|thread| thread.octets.get().unwrap_or_else(|| make_octets(thread)))
}

#[cold]
fn make_octets(thread: &Thread) -> &'static RefCell<Vec<u8>> {
    let made = Box::leak(Box::new(RefCell::new(Vec::with_capacity(ANSWER_BYTES_MAX))));
    thread.octets.set(Some(made));
    made
}

/// Copies a name in wire format, in small letters, and says how many octets it has.
fn copy_name(to: &mut [u8; 255], name: &[u8]) -> Option<usize> {
    let to = to.get_mut(..name.len())?;
    to.copy_from_slice(name);
    // No length of a label is a letter.
    to.make_ascii_lowercase();
    Some(name.len())
}
