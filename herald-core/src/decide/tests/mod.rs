//! Tests of the rules: tables by subject, and random histories against what must always hold.

mod accounts;
mod alias;
mod brakes;
mod channels;
mod firewall;
mod history;
mod monitors;
mod private;
mod query_log;
mod records;
mod steering;
mod zones;

use std::collections::{BTreeMap, HashMap};

use super::{Decision, Subject, decide};
use crate::account::{Principal, Scope};
use crate::authorise::authorise;
use crate::change::{Change, ChunkAddress, Chunks, Evidence, content_chunks};
use crate::check::CheckedContent;
use crate::command::{Action, Command, Context, NsSetInput, Prepared, ZoneRef};
use crate::content::Content;
use crate::rdata::{Lexer, parse_rdata_relative};
use crate::rejection::{Rejection, RejectionKind};
use crate::state::{At, State};
use crate::steering::Prefix;
use crate::zone::{SoaFields, Zone, ZoneStatus};
use crate::zonefile::parse_zone_file;
use crate::{Generation, Name, NsSetId, Rtype, TenantId, TokenId, ZoneId};

/// When the tests begin, in ms since the epoch: 2027-01-15.
const START_MS: u64 = 1_800_000_000_000;

/// A platform in memory: an operator, a set of name servers, a log.
struct World {
    state: State,
    time_ms: u64,
    /// Counts commands: the chance of each is made of it.
    commands: u64,
    log: Vec<(At, Context, Vec<Change>)>,
    operator: Principal,
    chunks: ChunkMap,
}

/// Staged chunks.
#[derive(Clone, Default)]
struct ChunkMap(HashMap<ChunkAddress, Vec<u8>>);

impl Chunks for ChunkMap {
    fn chunk(&self, address: &ChunkAddress) -> Option<Vec<u8>> {
        self.0.get(address).cloned()
    }
}

impl ChunkMap {
    fn put(&mut self, chunk: Vec<u8>) -> ChunkAddress {
        use sha2::Digest as _;
        let address = sha2::Sha256::digest(&chunk).into();
        self.0.insert(address, chunk);
        address
    }
}

impl World {
    fn new() -> World {
        let mut world = World {
            state: State::default(),
            time_ms: START_MS,
            commands: 0,
            log: Vec::new(),
            operator: Principal::System,
            chunks: ChunkMap::default(),
        };
        world.run(Principal::System, Action::BeginEpoch).unwrap();
        let Some(Subject::Token(token)) =
            world.run(Principal::System, Action::Bootstrap { secret_hash: [1; 32] }).unwrap().subject
        else {
            panic!("no token");
        };
        world.operator = Principal::Operator { token };
        world.ns_set("first", &["ns1.herald.example", "ns2.herald.example"]);
        world
    }

    /// Authorises, decides, applies and logs.
    fn run(&mut self, principal: Principal, action: Action) -> Result<Decision, Rejection> {
        self.run_with(principal, action, false)
    }

    /// The same, on the caller's word that much of a zone is to go.
    fn run_confirmed(&mut self, principal: Principal, action: Action) -> Result<Decision, Rejection> {
        self.run_with(principal, action, true)
    }

    fn run_with(
        &mut self,
        principal: Principal,
        action: Action,
        confirmed: bool,
    ) -> Result<Decision, Rejection> {
        self.commands += 1;
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.commands.to_be_bytes());
        let context = Context {
            principal,
            time_ms: self.time_ms,
            entropy,
            message: None,
            idempotency_key: None,
            confirmed,
        };
        let command = authorise(&self.state, Command { context: context.clone(), action })?;
        let decision = decide(&self.state, &command)?;
        if let Some(first) = decision.changes.first() {
            let epoch = match first {
                Change::EpochBegan { epoch } => *epoch,
                _ => self.state.epoch(),
            };
            let generation = Generation { epoch, counter: self.state.revision() + 1 };
            let at = At { generation, time_ms: self.time_ms };
            decision.changes.iter().for_each(|change| self.state.apply(at, change));
            self.log.push((at, context, decision.changes.clone()));
        }
        Ok(decision)
    }

    fn operate(&mut self, action: Action) -> Decision {
        self.run(self.operator, action).unwrap()
    }

    /// A tenant, by a token that may do all of its.
    fn tenant(&mut self, name: &str) -> Principal {
        let Some(Subject::Tenant(tenant)) = self.operate(Action::CreateTenant { name: name.into() }).subject
        else {
            panic!("no tenant");
        };
        self.token(Some(tenant), Scope::default())
    }

    /// Clients of this tenant's own come from there.
    fn grant(&mut self, tenant: TenantId, prefixes: &[&str]) -> Result<Decision, Rejection> {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        self.run(self.operator, grant(tenant, prefixes))
    }

    fn token(&mut self, tenant: Option<TenantId>, scope: Scope) -> Principal {
        let action = create_token(tenant, scope);
        let Some(Subject::Token(token)) = self.operate(action).subject else { panic!("no token") };
        match tenant {
            Some(tenant) => Principal::Tenant { tenant, token },
            None => Principal::Operator { token },
        }
    }

    fn ns_set(&mut self, set: &str, nameservers: &[&str]) -> NsSetId {
        match self.operate(Action::CreateNsSet(ns_set_input(set, nameservers))).subject {
            Some(Subject::NsSet(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, principal: Principal, zone: &str) -> Result<ZoneId, Rejection> {
        self.create_with(principal, zone, None)
    }

    fn create_with(
        &mut self,
        principal: Principal,
        zone: &str,
        content: Option<Prepared>,
    ) -> Result<ZoneId, Rejection> {
        match self.run(principal, create_zone(zone, None, content))?.subject {
            Some(Subject::Zone(id)) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    /// A zone of this tenant whose content is that of a zone file, beside the apex NS.
    fn import(&mut self, principal: Principal, zone: &str, records: &str) -> ZoneId {
        let text = format!("$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n{records}\n");
        let content = content_of(zone, &text);
        self.create_with(principal, zone, Some(prepared(zone, content))).unwrap()
    }

    fn zone(&self, id: ZoneId) -> &Zone {
        self.state.zone(id).expect("the zone is there")
    }

    fn status(&self, id: ZoneId) -> ZoneStatus {
        self.zone(id).status
    }

    fn activate(&mut self, zone: ZoneId, by: Evidence) -> Result<Decision, Rejection> {
        self.run(Principal::System, Action::ActivateZone { zone: ZoneRef::Id(zone), by })
    }

    fn admit(&mut self, holder: Principal, pending: ZoneId) -> Result<Decision, Rejection> {
        let zone = self.zone(pending);
        let action = Action::AdmitZone { name: zone.name.clone(), code: zone.challenge.clone() };
        self.run(holder, action)
    }

    fn delete(&mut self, principal: Principal, zone: ZoneId) -> Result<Decision, Rejection> {
        self.run(principal, Action::DeleteZone { zone: ZoneRef::Id(zone), if_match: None })
    }

    /// Stages content as the engine does.
    fn stage(&mut self, content: &Content) -> Vec<ChunkAddress> {
        content_chunks(content).map(|chunk| self.chunks.put(chunk)).collect()
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn by_name(text: &str) -> ZoneRef {
    ZoneRef::Name(name(text))
}

fn tenant_of(principal: Principal) -> TenantId {
    match principal {
        Principal::Tenant { tenant, .. } => tenant,
        other => panic!("{other} is no tenant"),
    }
}

fn token_of(principal: Principal) -> TokenId {
    match principal {
        Principal::Tenant { token, .. } | Principal::Operator { token } => token,
        Principal::System => panic!("the system has no token"),
    }
}

fn create_token(tenant: Option<TenantId>, scope: Scope) -> Action {
    Action::CreateToken {
        tenant,
        description: "test".into(),
        scope,
        expires_at_ms: None,
        secret_hash: [2; 32],
    }
}

fn create_zone(zone: &str, tenant: Option<TenantId>, content: Option<Prepared>) -> Action {
    Action::CreateZone {
        name: name(zone),
        tenant,
        ns_set: None,
        labels: BTreeMap::new(),
        content,
        insiders: None,
    }
}

fn grant(tenant: TenantId, prefixes: Vec<Prefix>) -> Action {
    let source_prefixes = Some(prefixes);
    Action::UpdateTenant { tenant, name: None, enabled: None, limits: Vec::new(), source_prefixes }
}

fn ns_set_input(set: &str, nameservers: &[&str]) -> NsSetInput {
    let soa = SoaFields {
        mname: Name::root(),
        rname: name("hostmaster.herald.example"),
        refresh_s: 3600,
        retry_s: 600,
        expire_s: 1_209_600,
        minimum_s: 300,
        ttl: 3600,
    };
    let nameservers = nameservers.iter().map(|host| name(host)).collect();
    NsSetInput { name: set.into(), nameservers, soa, is_default: false }
}

fn content_of(zone: &str, text: &str) -> Content {
    let file = parse_zone_file(text.as_bytes(), &name(zone), None).unwrap();
    file.rrsets
}

/// RDATA as a zone file of this origin has it.
fn rdata(rtype: Rtype, text: &str, origin: &Name) -> Vec<u8> {
    let mut tokens = Vec::new();
    assert!(
        Lexer::new(text.as_bytes(), 1, true).next_entry(&mut tokens).is_ok_and(|entry| entry.is_some()),
        "{text}"
    );
    parse_rdata_relative(rtype, &tokens, origin).unwrap()
}

fn prepared(zone: &str, content: Content) -> Prepared {
    let content = CheckedContent::new(name(zone), content).unwrap();
    Prepared { content, staged: None, serial_floor: None }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Rejection>) -> RejectionKind {
    result.unwrap_err().kind
}
