//! `koder dns pop …`: points of presence, for operators.

use clap::{Args, Subcommand};
use herald_wire::api::{HeldWhy, Pop, PopCreate, PopGeoip, PopModule, PopPatch, Release};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, yes_no};
use crate::failure::Failure;
use crate::table;
use crate::times::format_time;

/// What to do about PoPs.
#[derive(Debug, Subcommand)]
pub enum PopCommand {
    /// List the PoPs
    List(ListArgs),
    /// Show a PoP
    Show {
        /// Name or id of the PoP
        pop: String,
    },
    /// Make a PoP; its credential is shown once
    Create(CreateArgs),
    /// Enable, disable, drain or undrain a PoP, or move it to another region
    Set(SetArgs),
    /// Let go what the emptiness brake holds back from a PoP, or from all
    Release(ReleaseArgs),
    /// Delete a PoP
    Delete(DeleteArgs),
}

/// Flags of `koder dns pop create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns pop create ams1 --region eu-west
  koder dns --json pop create ams1 | jq -r .item.secret > credential")]
pub struct CreateArgs {
    /// Name of the PoP
    pub name: String,
    /// Where it is: PoPs of one region get the same answers where these differ by region
    #[arg(long)]
    pub region: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pop set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("settings").multiple(true).required(true))]
#[command(after_help = "\
Examples:
  koder dns pop set ams1 --drain -m 'new switch'
  koder dns pop set ams1 --undrain
  koder dns pop set ams1 --region eu-west")]
pub struct SetArgs {
    /// Name or id of the PoP
    pub pop: String,
    /// Take its credential again
    #[arg(long, group = "settings", conflicts_with = "disable")]
    pub enable: bool,
    /// Refuse its credential
    #[arg(long, group = "settings")]
    pub disable: bool,
    /// Go on sending to it, but let nobody wait for it
    #[arg(long, group = "settings", conflicts_with = "undrain")]
    pub drain: bool,
    /// Let writes wait for it again
    #[arg(long, group = "settings")]
    pub undrain: bool,
    /// Move it to this region
    #[arg(long, group = "settings", conflicts_with = "no_region")]
    pub region: Option<String>,
    /// Have it in no region
    #[arg(long, group = "settings")]
    pub no_region: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pop release`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true))]
#[command(after_help = "\
Examples:
  koder dns pop release ams1 -m 'the customer has left'
  koder dns pop release --all --revision 4711")]
pub struct ReleaseArgs {
    /// Name or id of the PoP
    #[arg(group = "which")]
    pub pop: Option<String>,
    /// All PoPs
    #[arg(long, group = "which")]
    pub all: bool,
    /// What was held as of this revision, and not what came after; now unless it is said
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<u64>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pop delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Name or id of the PoP
    pub pop: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &PopCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        PopCommand::List(args) => {
            let listing = Listing::fetch(args, |page| client.pops(&page))?;
            session.listed(&listing, table_of)
        }
        PopCommand::Show { pop } => {
            let answer = client.pop(pop)?;
            session.show(&answer, show)
        }
        PopCommand::Create(args) => {
            let (name, region) = (args.name.clone(), args.region.clone());
            let pop = PopCreate { name, region, message: args.reason.message.clone() };
            let answer = client.create_pop(&pop, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        PopCommand::Set(args) => {
            let patch = PopPatch {
                enabled: (args.enable || args.disable).then_some(args.enable),
                drained: (args.drain || args.undrain).then_some(args.drain),
                region: args.region.clone().or(args.no_region.then(String::new)),
                message: args.reason.message.clone(),
            };
            let answer = client.patch_pop(&args.pop, &patch, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        PopCommand::Release(args) => {
            let release = Release { revision: args.revision, message: args.reason.message.clone() };
            let verb = args.write.tense("released", "would release");
            match &args.pop {
                Some(pop) => {
                    let answer = client.release_pop(pop, &release, &args.write.options())?;
                    session.written(&args.write, &answer, &format!("{verb} {pop}\n"))
                }
                None => {
                    let answer = client.release_pops(&release, &args.write.options())?;
                    session.written(&args.write, &answer, &format!("{verb} all PoPs\n"))
                }
            }
        }
        PopCommand::Delete(args) => {
            let answer = client.delete_pop(&args.pop, &args.write.options_for(&args.reason))?;
            let verb = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{verb} {}\n", args.pop))
        }
    }
}

fn table_of(pops: &[Pop]) -> String {
    table::columns(
        ["NAME", "REGION", "STATE", "CONNECTED", "IN SYNC", "PENDING", "HELD", "REFUSED", "HEARD"],
        pops.iter().map(|pop| {
            let status = pop.status.as_ref();
            [
                pop.name.clone(),
                pop.region.clone().unwrap_or_default(),
                state(pop).to_owned(),
                yes_no(pop.connected),
                pop.zones_in_sync.to_string(),
                pop.zones_pending.to_string(),
                pop.held.as_ref().map(|held| held.zones.to_string()).unwrap_or_default(),
                status.map(|status| status.refused.len().to_string()).unwrap_or_default(),
                status.map(|status| format_time(status.heard_at_ms)).unwrap_or_default(),
            ]
        }),
    )
}

fn show(pop: &Pop) -> String {
    let status = pop.status.as_ref();
    let mut text = table::pairs([
        ("pop", Some(pop.name.clone())),
        ("id", Some(pop.id.clone())),
        ("region", pop.region.clone()),
        ("state", Some(state(pop).to_owned())),
        ("connected", Some(yes_no(pop.connected))),
        ("zones in sync", Some(pop.zones_in_sync.to_string())),
        ("zones pending", Some(pop.zones_pending.to_string())),
        ("zones held", pop.held.as_ref().map(|held| held.zones.to_string())),
        ("held since", pop.held.as_ref().map(|held| format_time(held.since_ms))),
        ("held because", pop.held.as_ref().map(|held| held.reason.clone())),
        ("drift", (pop.drift.found > 0).then(|| drift(pop))),
        ("created", Some(format_time(pop.created_at_ms))),
        ("heard", status.map(|status| format_time(status.heard_at_ms))),
        ("address", status.map(|status| status.address.clone())),
        ("agent", status.map(|status| status.agent_version.clone())),
        ("knot", status.map(|status| status.knot_version.clone())),
        ("knot running", status.map(|status| yes_no(status.knot_running))),
        ("module", status.map(|status| module(status.module.as_ref()))),
        ("zones", status.map(|status| status.zones.to_string())),
        ("generation", status.map(|status| format!("{}.{}", status.epoch, status.counter))),
        ("geoip", status.and_then(|status| status.geoip.as_ref()).map(geoip)),
        ("secret", pop.secret.clone()),
    ]);
    if pop.secret.is_some() {
        text.push_str("the secret is shown this once: put it where the PoP's agent reads it\n");
    }
    if let Some(held) = &pop.held {
        let rows = held.first.iter().map(|zone| {
            let why = match zone.why {
                HeldWhy::Gone => "gone",
                HeldWhy::Shrunk => "much of it gone",
            };
            [zone.name.clone().unwrap_or_else(|| zone.zone.clone()), why.to_owned()]
        });
        text.push('\n');
        text.push_str(&table::columns(["HELD ZONE", "WHAT IS HELD BACK"], rows));
        text.push_str(&format!("if this is meant: koder dns pop release {}\n", pop.name));
    }
    let refused = status.map(|status| status.refused.as_slice()).unwrap_or_default();
    if !refused.is_empty() {
        let rows = refused.iter().map(|refusal| [refusal.zone.clone(), refusal.reason.clone()]);
        text.push('\n');
        text.push_str(&table::columns(["REFUSED ZONE", "REASON"], rows));
    }
    text
}

fn geoip(geoip: &PopGeoip) -> String {
    let databases: Vec<String> =
        [&geoip.city, &geoip.asn].into_iter().flatten().map(super::geoip::database).collect();
    let said = if databases.is_empty() { "none".to_owned() } else { databases.join(", ") };
    match &geoip.problem {
        Some(problem) => format!("{said}; {problem}"),
        None => said,
    }
}

fn drift(pop: &Pop) -> String {
    let last =
        pop.drift.last_ms.map(|last_ms| format!(", last at {}", format_time(last_ms))).unwrap_or_default();
    format!("{} zones found, {} of them mended{last}", pop.drift.found, pop.drift.mended)
}

fn module(module: Option<&PopModule>) -> String {
    match module {
        None => "none: zones with steering are refused".into(),
        Some(module) if !module.connected => "can't be told of changes".into(),
        Some(module) => {
            let PopModule { version, zones, panics, undecided, .. } = module;
            format!("{version}, {zones} zones, {undecided} answers undecided, {panics} panics")
        }
    }
}

fn state(pop: &Pop) -> &'static str {
    match (pop.enabled, pop.drained) {
        (true, false) => "enabled",
        (true, true) => "drained",
        (false, false) => "disabled",
        (false, true) => "disabled, drained",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::{GeoipDatabase, HeldZone, PopDrift, PopHeld, PopRefusal, PopStatus};

    fn pop() -> Pop {
        Pop {
            id: "p1".into(),
            name: "ams1".into(),
            enabled: true,
            drained: false,
            region: Some("eu-west".into()),
            connected: true,
            zones_pending: 1,
            zones_in_sync: 41,
            held: None,
            drift: PopDrift::default(),
            status: Some(PopStatus {
                agent_version: "0.1.0".into(),
                knot_version: "3.4.0".into(),
                knot_running: true,
                zones: 42,
                epoch: 2,
                counter: 77,
                address: "192.0.2.7".into(),
                heard_at_ms: 1_767_225_600_000,
                geoip: Some(PopGeoip {
                    city: Some(GeoipDatabase {
                        kind: "GeoLite2-City".into(),
                        built_at_ms: 1_767_225_600_000,
                    }),
                    problem: Some("no room".into()),
                    ..PopGeoip::default()
                }),
                refused: vec![PopRefusal { zone: "z9".into(), reason: "no SOA".into() }],
                module: None,
            }),
            created_at_ms: 1_767_225_600_000,
            secret: None,
        }
    }

    #[test]
    fn a_list_of_pops() {
        let new = Pop {
            name: "fra1".into(),
            drained: true,
            region: None,
            connected: false,
            status: None,
            zones_in_sync: 0,
            ..pop()
        };
        assert_eq!(
            table_of(&[pop(), new]),
            "NAME  REGION   STATE    CONNECTED  IN SYNC  PENDING  HELD  REFUSED  HEARD\n\
             ams1  eu-west  enabled  yes        41       1              1        2026-01-01T00:00:00Z\n\
             fra1           drained  no         0        1\n"
        );
    }

    #[test]
    fn what_is_held_back_and_what_had_drifted() {
        let zone = |name: Option<&str>, why| HeldZone { zone: "z7".into(), name: name.map(Into::into), why };
        let held = PopHeld {
            zones: 120,
            since_ms: 1_767_225_600_000,
            reason: "120 of its 300 zones would have been gone within an hour".into(),
            first: vec![zone(Some("a.example."), HeldWhy::Gone), zone(None, HeldWhy::Shrunk)],
        };
        let drift = PopDrift { found: 3, mended: 2, last_ms: Some(1_767_225_600_000) };
        let text = show(&Pop { held: Some(held), drift, ..pop() });
        assert!(text.contains("zones held     120\nheld since     2026-01-01T00:00:00Z\n"), "{text}");
        assert!(text.contains("3 zones found, 2 of them mended, last at 2026-01-01T00:00:00Z\n"), "{text}");
        let list = "\nHELD ZONE   WHAT IS HELD BACK\na.example.  gone\nz7          much of it gone\n\
                    if this is meant: koder dns pop release ams1\n";
        assert!(text.contains(list), "{text}");
    }

    #[test]
    fn one_pop() {
        let text = show(&pop());
        assert!(text.contains("generation     2.77\n"), "{text}");
        assert!(text.contains("geoip          GeoLite2-City of 2026-01-01T00:00:00Z; no room\n"), "{text}");
        assert!(text.ends_with("\nREFUSED ZONE  REASON\nz9            no SOA\n"), "{text}");
        let new = Pop { status: None, secret: Some("s3".into()), ..pop() };
        assert!(show(&new).contains("secret         s3\nthe secret is shown this once"), "{}", show(&new));
    }
}
