//! `koder dns firewall …`: which queries are dropped, refused or answered otherwise.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use herald_wire::api::Rollback;
use herald_wire::api::firewall::{
    Firewall, FirewallAction, FirewallRate, FirewallRule, FirewallRules, FirewallVerdict, FirewallWhen,
    PolicyZone,
};

use super::list::Listing;
use super::{MessageArgs, Session, WriteArgs, input, past, yes_no};
use crate::client::{FileUpload, PolicyZoneOptions};
use crate::failure::Failure;
use crate::table;
use crate::upload::Upload;
use crate::yaml;

/// What to do about the firewall.
#[derive(Debug, Subcommand)]
pub enum FirewallCommand {
    /// Show rules: the fleet's with policy zones and counts (operators), or a tenant's
    List(ListArgs),
    /// Make a rule, or replace the one of its name
    Add(Box<AddArgs>),
    /// Have exactly the rules of a file (YAML or JSON)
    Set(SetArgs),
    /// Delete a rule
    Remove(RemoveArgs),
    /// Show what was done to rules and policy zones, newest first
    History(HistoryArgs),
    /// Have rules, and of the fleet policy zones, again as they were
    Rollback(RollbackArgs),
    /// Say what would be done with a query, and which rule says so
    Test(TestArgs),
    /// Put a response policy zone, from a zone file (operators)
    PutRpz(PutRpzArgs),
    /// Delete a response policy zone (operators)
    RemoveRpz(RemoveRpzArgs),
}

/// Flags of `koder dns firewall list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Rules of this tenant (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// Rules alone, as they were at a revision (4711, c4711), a time (2026-11-01T12:00:00Z) or a day (2026-11-01)
    #[arg(long, value_name = "REVISION or TIME")]
    pub at: Option<String>,
    /// Write them as a document that `set` reads
    #[arg(long)]
    pub yaml: bool,
}

/// Flags of `koder dns firewall history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Of a tenant (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// How much of it.
    #[command(flatten)]
    pub list: super::ListArgs,
}

/// Flags of `koder dns firewall rollback`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns firewall rollback 4711 --dry-run
  koder dns firewall rollback 4711 --tenant acme -m 'a rule was too wide'")]
pub struct RollbackArgs {
    /// A revision (4711, c4711), a time (2026-11-01T12:00:00Z) or a day (2026-11-01)
    pub to: String,
    /// A tenant's rules (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns firewall add`.
#[derive(Args, Debug)]
#[command(after_help = "\
A rule is for a query if all that is said holds, and of a list one value. The first rule, by order and then by name, decides.

Examples:
  koder dns firewall add flood drop --source 198.51.100.0/24 --source 2001:db8:bad::/48
  koder dns firewall add no-any truncate --type ANY --order 20
  koder dns firewall add fast drop --over 200 --burst 1000 --order 30 --tenant acme")]
pub struct AddArgs {
    /// Its name
    pub name: String,
    /// pass, drop, refuse, truncate, nxdomain or count
    #[arg(value_parser = action)]
    pub action: FirewallAction,
    /// Rules are gone through by ascending order
    #[arg(long, default_value_t = 0)]
    pub order: u32,
    /// A network that the query comes from; can be repeated, as all lists
    #[arg(long, value_name = "PREFIX")]
    pub source: Vec<String>,
    /// A country of the source (ISO 3166-1 alpha-2)
    #[arg(long, value_name = "CODE")]
    pub country: Vec<String>,
    /// An autonomous system of the source
    #[arg(long, value_name = "NUMBER")]
    pub asn: Vec<u32>,
    /// A name asked for; `*.example.com` is all names below it
    #[arg(long = "query-name", value_name = "NAME")]
    pub names: Vec<String>,
    /// A type asked for
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only queries beyond so many a second from one network (24 bits of IPv4, 56 of IPv6)
    #[arg(long, value_name = "PER_S")]
    pub over: Option<u32>,
    /// How many of these may come at once
    #[arg(long, requires = "over")]
    pub burst: Option<u32>,
    /// Why there is this rule
    #[arg(long)]
    pub note: Option<String>,
    /// A tenant's rule (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns firewall set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The file; - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A tenant's rules (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns firewall remove`.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// Its name
    pub name: String,
    /// A tenant's rule (id or name), instead of the fleet's
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns firewall test`.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// The name that is asked for, fully qualified
    pub name: String,
    /// The type that is asked for
    #[arg(value_name = "TYPE", default_value = "A")]
    pub rtype: String,
    /// The address that the query comes from
    #[arg(long, value_name = "ADDRESS")]
    pub client: String,
    /// Whether it comes by TCP
    #[arg(long)]
    pub tcp: bool,
}

/// Flags of `koder dns firewall put-rpz`.
#[derive(Args, Debug)]
pub struct PutRpzArgs {
    /// Its name
    pub name: String,
    /// The zone file, plain or compressed; - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Policy zones are asked by ascending order
    #[arg(long)]
    pub order: Option<u32>,
    /// The zone's own domain name, if it isn't its name here
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns firewall remove-rpz`.
#[derive(Args, Debug)]
pub struct RemoveRpzArgs {
    /// Its name
    pub name: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &FirewallCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        FirewallCommand::List(args) => {
            if args.tenant.is_none() && args.at.is_none() && !args.yaml {
                return session.show(&client.firewall()?, show);
            }
            let answer = client.firewall_rules(args.tenant.as_deref(), args.at.as_deref())?;
            let text = listed(&answer.value.rules, args.yaml)?;
            session.show(&answer, |_| text)
        }
        FirewallCommand::History(args) => {
            let tenant = args.tenant.as_deref();
            let listing = Listing::fetch(&args.list, |page| client.firewall_history(tenant, &page))?;
            session.listed(&listing, past::firewall_table)
        }
        FirewallCommand::Rollback(args) => {
            let rollback = Rollback { to: args.to.clone(), message: args.reason.message.clone() };
            let answer =
                client.rollback_firewall(args.tenant.as_deref(), &rollback, &args.write.options())?;
            let text = answer.item.as_ref().map(|all| rules(&all.rules)).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        FirewallCommand::Add(args) => {
            let rule = rule(args);
            let options = args.write.options_for(&args.reason);
            let answer = client.put_firewall_rule(args.tenant.as_deref(), &rule, &options)?;
            let text = answer.item.as_ref().map(|rule| rules(std::slice::from_ref(rule))).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        FirewallCommand::Set(args) => {
            let text = input::text(input::read(&args.file)?, &args.file)?;
            let document = yaml::read(&text, &args.file)?;
            let options = args.write.options_for(&args.reason);
            let answer = client.set_firewall_rules(args.tenant.as_deref(), &document, &options)?;
            let text = answer.item.as_ref().map(|all| rules(&all.rules)).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        FirewallCommand::Remove(args) => {
            let options = args.write.options_for(&args.reason);
            let answer = client.delete_firewall_rule(args.tenant.as_deref(), &args.name, &options)?;
            session.written(&args.write, &answer, "")
        }
        FirewallCommand::Test(args) => {
            let answer = client.test_firewall(&args.name, &args.rtype, &args.client, args.tcp)?;
            session.show(&answer, verdict)
        }
        FirewallCommand::PutRpz(args) => {
            let upload = Upload::open(&args.file)?;
            let encoding = upload.encoding();
            let mut content = upload.into_reader();
            let file = FileUpload { content: &mut content, content_type: "text/dns", encoding };
            let zone = PolicyZoneOptions { order: args.order, origin: args.origin.clone() };
            let options = args.write.options_for(&args.reason);
            let answer = client.put_policy_zone(&args.name, &zone, file, &options)?;
            let text = answer.item.as_ref().map(|zone| zones(std::slice::from_ref(zone))).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        FirewallCommand::RemoveRpz(args) => {
            let answer = client.delete_policy_zone(&args.name, &args.write.options_for(&args.reason))?;
            session.written(&args.write, &answer, "")
        }
    }
}

fn action(text: &str) -> Result<FirewallAction, String> {
    serde_json::from_value(serde_json::Value::String(text.to_lowercase()))
        .map_err(|_| "expected pass, drop, refuse, truncate, nxdomain or count".to_owned())
}

fn rule(args: &AddArgs) -> FirewallRule {
    FirewallRule {
        name: args.name.clone(),
        order: args.order,
        when: FirewallWhen {
            sources: args.source.clone(),
            countries: args.country.clone(),
            asns: args.asn.clone(),
            names: args.names.clone(),
            types: args.types.clone(),
            over: args.over.map(|per_s| FirewallRate {
                per_s,
                burst: args.burst,
                v4_length: None,
                v6_length: None,
            }),
        },
        action: args.action,
        note: args.note.clone(),
    }
}

fn listed(all: &[FirewallRule], as_yaml: bool) -> Result<String, Failure> {
    if as_yaml { yaml::write(&FirewallRules { rules: all.to_vec() }) } else { Ok(rules(all)) }
}

fn rules(all: &[FirewallRule]) -> String {
    let rows = all.iter().map(|rule| {
        let action = serde_json::to_value(rule.action).ok();
        let action = action.as_ref().and_then(|action| action.as_str()).unwrap_or_default().to_owned();
        [
            rule.order.to_string(),
            rule.name.clone(),
            action,
            when(&rule.when),
            rule.note.clone().unwrap_or_default(),
        ]
    });
    table::columns(["ORDER", "NAME", "ACTION", "WHEN", "NOTE"], rows)
}

/// What of a list is shown: some of it, and how many there are.
fn some<T: ToString>(what: &str, list: &[T]) -> Option<String> {
    const SHOWN: usize = 3;
    let shown: Vec<String> = list.iter().take(SHOWN).map(T::to_string).collect();
    match list.len() {
        0 => None,
        n if n > SHOWN => Some(format!("{what} {}, … ({n})", shown.join(", "))),
        _ => Some(format!("{what} {}", shown.join(", "))),
    }
}

fn when(when: &FirewallWhen) -> String {
    let parts = [
        some("from", &when.sources),
        some("country", &when.countries),
        some("AS", &when.asns),
        some("name", &when.names),
        some("type", &when.types),
        when.over.map(|rate| format!("over {} a second", rate.per_s)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "always".into() } else { parts.join("; ") }
}

fn zones(all: &[PolicyZone]) -> String {
    let rows = all.iter().map(|zone| {
        let serial = zone.serial.map(|serial| serial.to_string()).unwrap_or_default();
        [
            zone.order.to_string(),
            zone.name.clone(),
            zone.names.to_string(),
            zone.clients.to_string(),
            zone.not_applying.to_string(),
            serial,
        ]
    });
    table::columns(["ORDER", "POLICY ZONE", "NAMES", "CLIENTS", "LEFT OUT", "SERIAL"], rows)
}

fn show(firewall: &Firewall) -> String {
    let mut text = rules(&firewall.rules);
    if !firewall.policy_zones.is_empty() {
        text.push('\n');
        text.push_str(&zones(&firewall.policy_zones));
    }
    let pops = firewall.files.iter().filter(|file| file.sha256.is_some()).flat_map(|file| {
        file.pops.iter().map(|pop| {
            let problem = pop.problem.clone().unwrap_or_default();
            [file.part.clone(), pop.pop.clone(), yes_no(pop.in_sync), problem]
        })
    });
    let pops: Vec<_> = pops.collect();
    if !pops.is_empty() {
        text.push('\n');
        text.push_str(&table::columns(["PART", "POP", "IN SYNC", "PROBLEM"], pops));
    }
    if !firewall.counts.is_empty() {
        let rows = firewall.counts.iter().map(|count| {
            let action = count.action.clone().unwrap_or_default();
            [count.pop.clone(), count.owner.clone(), count.name.clone(), action, count.queries.to_string()]
        });
        text.push('\n');
        text.push_str(&table::columns(["POP", "OWNER", "NAME", "ACTION", "QUERIES"], rows));
    }
    text
}

fn verdict(verdict: &FirewallVerdict) -> String {
    let mut text = format!("{}: {}\n", verdict.verdict, verdict.reason);
    if let Some(fast) = &verdict.when_fast {
        text.push_str(&format!("beyond the rate: {fast}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let rule = FirewallRule {
            name: "no-any".into(),
            order: 10,
            when: FirewallWhen {
                sources: (1..=4).map(|n| format!("192.0.2.{n}/32")).collect(),
                types: vec!["ANY".into()],
                over: Some(FirewallRate { per_s: 5, burst: None, v4_length: None, v6_length: None }),
                ..FirewallWhen::default()
            },
            action: action("Truncate").unwrap(),
            note: None,
        };
        let shown = rules(&[rule]);
        let wanted = "from 192.0.2.1/32, 192.0.2.2/32, 192.0.2.3/32, … (4); type ANY; over 5 a second";
        assert!(shown.contains("truncate") && shown.contains(wanted), "{shown}");
        assert_eq!(when(&FirewallWhen::default()), "always");
        assert!(action("reject").is_err());
    }
}
