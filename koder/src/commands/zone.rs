//! `koder dns zone …`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use herald_core::Name;
use herald_wire::api::steering::View;
use herald_wire::api::{
    Admission, DelegationState, Zone, ZoneCheck, ZoneCreate, ZonePatch, ZoneProof, ZoneStatus,
};

use super::import::{self, ExportArgs, ImportArgs};
use super::list::Listing;
use super::past::{self, DiffArgs, HistoryArgs, RestoreArgs, RollbackArgs};
use super::{ListArgs, MessageArgs, Session, WriteArgs, input, yes_no};
use crate::client::{Client, WriteOptions, ZoneQuery};
use crate::failure::Failure;
use crate::names;
use crate::table;
use crate::times::format_time;

/// What to do about zones.
#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// Make a zone
    Create(CreateArgs),
    /// List zones
    List(ListZonesArgs),
    /// Show a zone, without its records
    Show(ZoneArgs),
    /// Change a zone's labels or its set of name servers
    Set(SetArgs),
    /// Delete a zone and all of its records
    Delete(DeleteArgs),
    /// Bring zone files in; zones are made if they aren't there
    Import(Box<ImportArgs>),
    /// Write a zone as a zone file
    Export(ExportArgs),
    /// What was done to a zone: when, by whom, why
    History(HistoryArgs),
    /// What leads from one revision or time of a zone to another
    Diff(DiffArgs),
    /// Give a zone the records again that it had
    Rollback(RollbackArgs),
    /// Make a deleted zone again as it last was
    Restore(RestoreArgs),
    /// How the delegation stands in the parent
    Check(ZoneArgs),
    /// Look for the proof of a pending zone, and let it in
    Verify(LetInArgs),
    /// Let a pending zone in (operators)
    Admit(LetInArgs),
    /// As the holder of a name, let another tenant's pending zone in
    Admission(AdmissionArgs),
}

/// A zone and nothing else.
#[derive(Args, Debug)]
pub struct ZoneArgs {
    /// Name or id of the zone
    pub zone: String,
}

/// Flags of `koder dns zone create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns zone create example.com
  koder dns zone create example.com --label team=web --nameserver-set vanity -m 'new customer'
  koder dns zone create 0/25.2.0.192.in-addr.arpa
  koder dns zone create corp.example.com --private --inside 10.1.0.0/16 --inside 2001:db8:1::/48

A private zone exists for those alone who are inside; everybody else gets what they would get without it. It may bear the
name of another zone: `private:corp.example.com` names it then and in all commands.")]
pub struct CreateArgs {
    /// Name of the zone
    pub name: String,
    /// The tenant that will hold it (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// Set of name servers, instead of the default one
    #[arg(long, value_name = "SET")]
    pub nameserver_set: Option<String>,
    /// A label; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::parse_pair)]
    pub labels: Vec<(String, String)>,
    /// First content: a zone file, "-" is stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Make it private, for good: for those who are inside
    #[arg(long, requires = "inside")]
    pub private: bool,
    /// Who is inside a private zone: a source prefix of the tenant, or some of one; may be given more than once
    #[arg(long, value_name = "PREFIX", requires = "private")]
    pub inside: Vec<String>,
    /// Only whose query comes to this PoP is inside; may be given more than once
    #[arg(long = "inside-pop", value_name = "POP", requires = "private")]
    pub inside_pops: Vec<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns zone list
  koder dns zone list shop --label team=web
  koder dns zone list --below 2.0.192.in-addr.arpa
  koder dns --json zone list --status pending --limit 100")]
pub struct ListZonesArgs {
    /// Only those with this in their name
    pub name: Option<String>,
    /// Only those whose names begin with this
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    pub prefix: Option<String>,
    /// Only that of this name
    #[arg(long, value_name = "NAME")]
    pub exact: Option<String>,
    /// Only that of this name and those below it
    #[arg(long, value_name = "NAME")]
    pub below: Option<String>,
    /// Only this tenant's (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only those in this state
    #[arg(long)]
    pub status: Option<StatusArg>,
    /// Only private ones
    #[arg(long, conflicts_with = "public")]
    pub private: bool,
    /// Only those that aren't private
    #[arg(long)]
    pub public: bool,
    /// Only those with this set of name servers
    #[arg(long, value_name = "SET")]
    pub nameserver_set: Option<String>,
    /// Only those with this label; more than one must all be there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::parse_pair)]
    pub labels: Vec<(String, String)>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Whether a zone is served.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StatusArg {
    /// Served
    Active,
    /// Not served until the right to the name is proven
    Pending,
}

/// Flags of `koder dns zone set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("settings").multiple(true).required(true))]
#[command(after_help = "\
Examples:
  koder dns zone set example.com --label team=web --remove-label old
  koder dns zone set example.com --nameserver-set vanity --wait")]
pub struct SetArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Set a label; the others stay
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::parse_pair, group = "settings")]
    pub labels: Vec<(String, String)>,
    /// Remove a label
    #[arg(long = "remove-label", value_name = "KEY", group = "settings")]
    pub removed_labels: Vec<String>,
    /// Remove all labels but those given
    #[arg(long, group = "settings")]
    pub clear_labels: bool,
    /// Move the apex NS and SOA to another set of name servers
    #[arg(long, value_name = "SET", group = "settings")]
    pub nameserver_set: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone delete`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns zone delete example.com
  koder dns zone delete example.com --yes --if-match 4711")]
pub struct DeleteArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone verify` and `admit`.
#[derive(Args, Debug)]
pub struct LetInArgs {
    /// Name or id of the zone
    pub zone: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone admission`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  koder dns zone admission shop.example.com --code 7XK2-9QPM")]
pub struct AdmissionArgs {
    /// Name of the pending zone
    pub name: String,
    /// The code that its tenant was shown
    #[arg(long)]
    pub code: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &ZoneCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        ZoneCommand::Create(args) => create(session, &client, args),
        ZoneCommand::List(args) => list(session, &client, args),
        ZoneCommand::Show(args) => {
            let answer = client.zone(&names::zone_for_path(&args.zone))?;
            session.show(&answer, show)
        }
        ZoneCommand::Set(args) => set(session, &client, args),
        ZoneCommand::Delete(args) => delete(session, &client, args),
        ZoneCommand::Import(args) => import::run(session, &client, args),
        ZoneCommand::Export(args) => import::export(session, &client, args),
        ZoneCommand::History(args) => past::history(session, &client, args),
        ZoneCommand::Diff(args) => past::diff(session, &client, args),
        ZoneCommand::Rollback(args) => past::rollback(session, &client, args),
        ZoneCommand::Restore(args) => past::restore(session, &client, args),
        ZoneCommand::Check(args) => {
            let answer = client.check_zone(&names::zone_for_path(&args.zone))?;
            session.show(&answer, check)
        }
        ZoneCommand::Verify(args) => {
            let answer = client
                .verify_zone(&names::zone_for_path(&args.zone), &args.write.options_for(&args.reason))?;
            session.written(&args.write, &answer, &let_in(args.write.dry_run, &args.zone))
        }
        ZoneCommand::Admit(args) => {
            let answer = client
                .admit_zone(&names::zone_for_path(&args.zone), &args.write.options_for(&args.reason))?;
            session.written(&args.write, &answer, &let_in(args.write.dry_run, &args.zone))
        }
        ZoneCommand::Admission(args) => {
            let admission = Admission {
                name: zone_name(&args.name)?.to_string(),
                admission_code: args.code.clone(),
                message: args.reason.message.clone(),
            };
            let answer = client.create_admission(&admission, &args.write.options())?;
            session.written(&args.write, &answer, &let_in(args.write.dry_run, &args.name))
        }
    }
}

pub(super) fn zone_name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|source| Failure::Name { text: text.to_owned(), source })
}

fn create(session: &mut Session<'_>, client: &Client, args: &CreateArgs) -> Result<(), Failure> {
    let zone_file = match &args.file {
        Some(path) => Some(input::text(input::read(path)?, path)?),
        None => None,
    };
    let zone = ZoneCreate {
        name: zone_name(&args.name)?.to_string(),
        tenant: args.tenant.clone(),
        nameserver_set: args.nameserver_set.clone(),
        labels: args.labels.iter().cloned().collect(),
        rrsets: Vec::new(),
        zone_file,
        private: args.private,
        insiders: args
            .private
            .then(|| View { prefixes: args.inside.clone(), pops: args.inside_pops.clone() }),
        message: args.reason.message.clone(),
    };
    let answer = client.create_zone(&zone, &args.write.options())?;
    let text = answer.item.as_ref().map(|zone| created(&args.write, zone)).unwrap_or_default();
    session.written(&args.write, &answer, &text)
}

pub(super) fn created(write: &WriteArgs, zone: &Zone) -> String {
    let verb = write.tense("created", "would create");
    let mut text = format!(
        "{verb} {} ({}, {} RRsets, {} records)\n",
        zone.name_unicode,
        status_word(zone),
        zone.rrset_count,
        zone.record_count
    );
    text.extend(zone.proof.as_ref().map(|proof| ways_in(&zone.name, proof)));
    text
}

fn list(session: &mut Session<'_>, client: &Client, args: &ListZonesArgs) -> Result<(), Failure> {
    let domain_name = |text: &Option<String>| text.as_deref().map(zone_name).transpose();
    let query = ZoneQuery {
        name: args.name.clone(),
        name_prefix: args.prefix.clone(),
        name_exact: domain_name(&args.exact)?.map(|name| name.to_string()),
        below: domain_name(&args.below)?.map(|name| name.to_string()),
        nameserver_set: args.nameserver_set.clone(),
        tenant: args.tenant.clone(),
        status: args.status.map(|status| match status {
            StatusArg::Active => ZoneStatus::Active,
            StatusArg::Pending => ZoneStatus::Pending,
        }),
        private: (args.private || args.public).then_some(args.private),
        labels: args.labels.clone(),
        ..ZoneQuery::default()
    };
    let listing = Listing::fetch(&args.list, |page| client.zones(&ZoneQuery { page, ..query.clone() }))?;
    session.listed(&listing, table_of)
}

fn set(session: &mut Session<'_>, client: &Client, args: &SetArgs) -> Result<(), Failure> {
    let path = names::zone_for_path(&args.zone);
    let mut options = args.write.options();
    let mut patch = ZonePatch {
        labels: None,
        nameserver_set: args.nameserver_set.clone(),
        message: args.reason.message.clone(),
    };
    if args.clear_labels {
        patch.labels = Some(args.labels.iter().cloned().collect());
    } else if !args.labels.is_empty() || !args.removed_labels.is_empty() {
        // Labels are replaced as a whole, so that what somebody else sets meanwhile would be lost.
        let before = client.zone(&path)?;
        patch.labels = Some(relabelled(&before.labels, &args.labels, &args.removed_labels));
        options.if_match = options.if_match.or_else(|| before.etag.clone());
    }
    let answer = client.patch_zone(&path, &patch, &options)?;
    let text = answer.item.as_ref().map(show).unwrap_or_default();
    session.written(&args.write, &answer, &text)
}

fn relabelled(
    before: &BTreeMap<String, String>,
    set: &[(String, String)],
    removed: &[String],
) -> BTreeMap<String, String> {
    let mut labels = before.clone();
    labels.retain(|key, _| !removed.contains(key));
    labels.extend(set.iter().cloned());
    labels
}

fn delete(session: &mut Session<'_>, client: &Client, args: &DeleteArgs) -> Result<(), Failure> {
    if !args.yes && !args.write.dry_run {
        input::confirm(&format!("Delete the zone {} and all of its records?", args.zone))?;
    }
    // Who deletes a zone was asked, or said yes beforehand.
    let options =
        WriteOptions { confirmed: !args.write.dry_run || args.yes, ..args.write.options_for(&args.reason) };
    let answer = client.delete_zone(&names::zone_for_path(&args.zone), &options)?;
    let verb = args.write.tense("deleted", "would delete");
    session.written(&args.write, &answer, &format!("{verb} {}\n", args.zone))
}

fn table_of(zones: &[Zone]) -> String {
    table::columns(
        ["NAME", "STATUS", "SERIAL", "RRSETS", "RECORDS", "LABELS"],
        zones.iter().map(|zone| {
            [
                zone.name_unicode.clone(),
                status_word(zone).to_owned(),
                zone.serial.to_string(),
                zone.rrset_count.to_string(),
                zone.record_count.to_string(),
                labels_text(&zone.labels),
            ]
        }),
    )
}

fn show(zone: &Zone) -> String {
    let mut text = table::pairs([
        ("zone", Some(zone.name_unicode.clone())),
        ("name", (zone.name != zone.name_unicode).then(|| zone.name.clone())),
        ("id", Some(zone.id.clone())),
        ("tenant", Some(zone.tenant.clone())),
        ("status", Some(status_word(zone).to_owned())),
        ("serial", Some(zone.serial.to_string())),
        ("etag", Some(zone.revision.to_string())),
        ("rrsets", Some(zone.rrset_count.to_string())),
        ("records", Some(zone.record_count.to_string())),
        ("nameserver set", Some(zone.nameserver_set.clone())),
        ("labels", Some(labels_text(&zone.labels))),
        ("created", Some(format_time(zone.created_at_ms))),
        ("changed", Some(format_time(zone.changed_at_ms))),
    ]);
    text.extend(zone.proof.as_ref().map(|proof| ways_in(&zone.name, proof)));
    text
}

fn ways_in(zone: &str, proof: &ZoneProof) -> String {
    let text = format!(
        "\nThe zone is kept but not served until the right to its name is proven. One of these is enough:\
         \n1. Publish   {} TXT \"{}\"\
         \n   and run   koder dns zone verify {zone}\
         \n2. Delegate {zone} in its parent to {}\
         \n   and run   koder dns zone verify {zone}\
         \n3. Ask the holder of the name to run\
         \n             koder dns zone admission {zone} --code {}\n",
        proof.txt_name,
        proof.txt_value,
        proof.delegate_to.join(" "),
        proof.admission_code
    );
    text.lines().map(|line| table::printable(line) + "\n").collect()
}

fn check(check: &ZoneCheck) -> String {
    let of_names = |names: &[String]| {
        Some(names.iter().map(|name| names::for_people(name)).collect::<Vec<_>>().join(" "))
    };
    let delegation = match check.delegation {
        DelegationState::Delegated => "delegated",
        DelegationState::Partial => "delegated in part",
        DelegationState::Elsewhere => "delegated elsewhere",
        DelegationState::NotDelegated => "not delegated",
        DelegationState::Unknown => "unknown: the parent could not be asked",
    };
    let mut text = table::pairs([
        ("delegation", Some(delegation.to_owned())),
        ("parent", check.parent.as_deref().map(names::for_people)),
        ("nameservers", of_names(&check.nameservers)),
        ("in the parent", of_names(&check.parent_nameservers)),
        ("missing in the parent", of_names(&check.missing_in_parent)),
        ("only in the parent", of_names(&check.extra_in_parent)),
        ("DS in the parent", Some(yes_no(check.ds_in_parent))),
    ]);
    if !check.findings.is_empty() {
        text.push('\n');
        text.extend(check.findings.iter().map(|finding| format!("- {}\n", table::printable(finding))));
    }
    text
}

fn let_in(is_dry_run: bool, zone: &str) -> String {
    if is_dry_run { format!("{zone} would be let in\n") } else { format!("{zone} is let in\n") }
}

fn status_word(zone: &Zone) -> &'static str {
    match zone.status {
        ZoneStatus::Active if zone.private => "private",
        ZoneStatus::Active => "active",
        ZoneStatus::Pending => "pending",
    }
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, unicode: &str) -> Zone {
        Zone {
            id: "z1".into(),
            name: name.into(),
            name_unicode: unicode.into(),
            tenant: "t1".into(),
            status: ZoneStatus::Active,
            private: false,
            serial: 2_026_010_100,
            revision: 42,
            rrset_count: 3,
            record_count: 5,
            steering_count: 0,
            labels: BTreeMap::from([("env".into(), "prod".into()), ("team".into(), "web".into())]),
            nameserver_set: "main".into(),
            created_at_ms: 1_767_225_600_000,
            changed_at_ms: 1_767_225_601_000,
            proof: None,
        }
    }

    #[test]
    fn a_list_of_zones() {
        let mut short = zone("example.com.", "example.com.");
        short.labels.clear();
        assert_eq!(
            table_of(&[short, zone("xn--bcher-kva.example.", "bücher.example.")]),
            "NAME             STATUS  SERIAL      RRSETS  RECORDS  LABELS\n\
             example.com.     active  2026010100  3       5\n\
             bücher.example.  active  2026010100  3       5        env=prod team=web\n"
        );
    }

    #[test]
    fn one_zone() {
        assert_eq!(
            show(&zone("xn--bcher-kva.example.", "bücher.example.")),
            "zone            bücher.example.\n\
             name            xn--bcher-kva.example.\n\
             id              z1\n\
             tenant          t1\n\
             status          active\n\
             serial          2026010100\n\
             etag            42\n\
             rrsets          3\n\
             records         5\n\
             nameserver set  main\n\
             labels          env=prod team=web\n\
             created         2026-01-01T00:00:00Z\n\
             changed         2026-01-01T00:00:01Z\n"
        );
    }

    #[test]
    fn a_pending_zone_says_how_to_get_in() {
        let mut zone = zone("example.com.", "example.com.");
        zone.status = ZoneStatus::Pending;
        zone.proof = Some(ZoneProof {
            txt_name: "_koder.example.com.".into(),
            txt_value: "v1".into(),
            delegate_to: vec!["ns1.example.net.".into(), "ns2.example.net.".into()],
            admission_code: "c0de".into(),
        });
        assert_eq!(
            created(&WriteArgs::default(), &zone),
            "created example.com. (pending, 3 RRsets, 5 records)\n\
             \n\
             The zone is kept but not served until the right to its name is proven. One of these is enough:\n\
             1. Publish   _koder.example.com. TXT \"v1\"\n\
             \x20  and run   koder dns zone verify example.com.\n\
             2. Delegate example.com. in its parent to ns1.example.net. ns2.example.net.\n\
             \x20  and run   koder dns zone verify example.com.\n\
             3. Ask the holder of the name to run\n\
             \x20            koder dns zone admission example.com. --code c0de\n"
        );
    }

    #[test]
    fn a_check_says_what_differs() {
        let text = check(&ZoneCheck {
            delegation: DelegationState::Partial,
            parent: Some("com.".into()),
            parent_nameservers: vec!["ns1.example.net.".into(), "old.example.net.".into()],
            nameservers: vec!["ns1.example.net.".into()],
            missing_in_parent: Vec::new(),
            extra_in_parent: vec!["old.example.net.".into()],
            ds_in_parent: false,
            findings: vec!["remove old.example.net. at the registrar".into()],
        });
        assert_eq!(
            text,
            "delegation          delegated in part\n\
             parent              com.\n\
             nameservers         ns1.example.net.\n\
             in the parent       ns1.example.net. old.example.net.\n\
             only in the parent  old.example.net.\n\
             DS in the parent    no\n\
             \n\
             - remove old.example.net. at the registrar\n"
        );
    }

    #[test]
    fn labels_are_changed_one_by_one() {
        let before = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let labels = relabelled(&before, &[("c".into(), "3".into())], &["a".into()]);
        assert_eq!(labels_text(&labels), "b=2 c=3");
    }
}
