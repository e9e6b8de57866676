//! The past: `koder dns zone history|diff|rollback|restore`, `koder dns changes`.

use clap::{Args, ValueEnum};
use herald_wire::api::firewall::FirewallEvent;
use herald_wire::api::{
    AccessKind, AccessRecord, ChangeItem, ChangeKind, Rollback, RollbackReport, ZoneHistoryItem,
};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, zone};
use crate::client::{ChangeQuery, Client};
use crate::failure::Failure;
use crate::names;
use crate::table;
use crate::times::format_time;

/// Of the zones of a change a line names so many.
const ZONES_SHOWN: usize = 3;

/// Flags of `koder dns zone history`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns zone history example.com
  koder dns zone history example.com --limit 20")]
pub struct HistoryArgs {
    /// Name of the zone, or its id, also of a zone that was deleted
    pub zone: String,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Flags of `koder dns zone diff`.
#[derive(Args, Debug)]
#[command(after_help = "\
FROM and TO are revisions (4711, c4711), times (2026-11-01T12:00:00Z) or days (2026-11-01).

Examples:
  koder dns zone diff example.com 4711
  koder dns zone diff example.com 2026-11-01 2026-11-02")]
pub struct DiffArgs {
    /// Name of the zone, or its id, also of a zone that was deleted
    pub zone: String,
    /// Where it begins
    pub from: String,
    /// Where it leads [default: now]
    pub to: Option<String>,
}

/// Flags of `koder dns zone rollback`.
#[derive(Args, Debug)]
#[command(after_help = "\
Records become those of then; labels, set of name servers and SOA stay. It is a new change, with a higher serial, and can itself be
rolled back.

Examples:
  koder dns zone rollback example.com 4711 --dry-run
  koder dns zone rollback example.com 2026-11-01T12:00:00Z -m 'the move went wrong' --wait")]
pub struct RollbackArgs {
    /// Name or id of the zone
    pub zone: String,
    /// A revision (4711, c4711), a time (2026-11-01T12:00:00Z) or a day (2026-11-01)
    pub to: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
`koder dns changes` tells the ids of deleted zones.

Examples:
  koder dns zone restore z0d5k2m8q4xw7v1e9c3r6t0ab -m 'deleted by mistake'")]
pub struct RestoreArgs {
    /// Id of the deleted zone
    pub id: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns changes`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns changes --limit 20
  koder dns changes --zone example.com --since 2026-11-01
  koder dns changes --by operator --until 2026-11-01T12:00:00Z")]
pub struct ChangesArgs {
    /// Only those of this zone (name, or id, also of a zone that was deleted)
    #[arg(long)]
    pub zone: Option<String>,
    /// Only those done by this token (id), this tenant, any "operator", or the "system"
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// Not before this revision or time
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Not after this revision or time
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Flags of `koder dns access-log`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns access-log --limit 50
  koder dns access-log --kind denied")]
pub struct AccessArgs {
    /// Only records of this kind
    #[arg(long)]
    pub kind: Option<AccessKindArg>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// What a record of the access log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum AccessKindArg {
    /// Requests that were refused for who they came from
    Denied,
    /// The first use of a token in an hour
    TokenUsed,
    /// Tokens that were made
    TokenCreated,
    /// Other secrets that were shown
    SecretShown,
    /// Events that were too many to be told one by one
    Others,
    /// PoPs that logged in
    PopLogin,
    /// Those who would be PoPs and were refused
    PopDenied,
    /// Query logs of zones that were read
    QueryLogRead,
}

pub(super) fn access(session: &mut Session<'_>, args: &AccessArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let kind = args.kind.and_then(|kind| kind.to_possible_value());
    let kind = kind.as_ref().map(|kind| kind.get_name());
    let listing = Listing::fetch(&args.list, |page| client.access_log(kind, &page))?;
    session.listed(&listing, access_table)
}

fn access_table(items: &[AccessRecord]) -> String {
    let word = |kind| match kind {
        AccessKind::Denied => "denied",
        AccessKind::TokenUsed => "token used",
        AccessKind::TokenCreated => "token made",
        AccessKind::SecretShown => "secret shown",
        AccessKind::Others => "others",
        AccessKind::PopLogin => "PoP login",
        AccessKind::PopDenied => "PoP denied",
        AccessKind::QueryLogRead => "query log read",
    };
    table::columns(
        ["TIME", "WHAT", "COUNT", "BY", "TOKEN OR POP", "STATUS", "REQUEST", "FROM"],
        items.iter().map(|item| {
            [
                format_time(item.time_ms),
                word(item.kind).to_owned(),
                item.count.to_string(),
                item.principal.clone().unwrap_or_default(),
                item.token.clone().or(item.pop.clone()).unwrap_or_default(),
                item.status.map(|status| status.to_string()).unwrap_or_default(),
                format!("{} {}", item.method, item.route).trim().to_owned(),
                item.address.clone().unwrap_or_default(),
            ]
        }),
    )
}

pub(super) fn history(session: &mut Session<'_>, client: &Client, args: &HistoryArgs) -> Result<(), Failure> {
    let zone = names::zone_for_path(&args.zone);
    let listing = Listing::fetch(&args.list, |page| client.zone_history(&zone, &page))?;
    session.listed(&listing, history_table)
}

pub(super) fn diff(session: &mut Session<'_>, client: &Client, args: &DiffArgs) -> Result<(), Failure> {
    let (zone, to) = (names::zone_for_path(&args.zone), args.to.as_deref());
    if session.output.is_json() {
        let answer = client.zone_diff(&zone, &args.from, to)?;
        return session.show(&answer, |_| String::new());
    }
    let text = client.zone_diff_text(&zone, &args.from, to)?.text;
    let lines: String = text.lines().map(|line| table::printable(line) + "\n").collect();
    session.output.raw(lines.as_bytes())
}

pub(super) fn rollback(
    session: &mut Session<'_>,
    client: &Client,
    args: &RollbackArgs,
) -> Result<(), Failure> {
    let rollback = Rollback { to: args.to.clone(), message: args.reason.message.clone() };
    let zone = names::zone_for_path(&args.zone);
    let answer = client.rollback_zone(&zone, &rollback, &args.write.options())?;
    let text = answer.item.as_ref().map(|report| rolled_back(&args.write, report)).unwrap_or_default();
    session.written(&args.write, &answer, &text)
}

fn rolled_back(write: &WriteArgs, report: &RollbackReport) -> String {
    let mut text = format!(
        "{} {} to revision {}: {} RRsets added, {} changed, {} removed\n",
        write.tense("rolled back", "would roll back"),
        report.zone.name_unicode,
        report.to,
        report.rrsets_added,
        report.rrsets_changed,
        report.rrsets_removed
    );
    if report.nameservers_kept {
        text.push_str(
            "the NS at the apex are those of the zone's set of name servers, which was changed since\n",
        );
    }
    text
}

pub(super) fn restore(session: &mut Session<'_>, client: &Client, args: &RestoreArgs) -> Result<(), Failure> {
    let answer = client.restore_zone(&args.id, &args.write.options_for(&args.reason))?;
    let text = answer.item.as_ref().map(|zone| zone::created(&args.write, zone)).unwrap_or_default();
    session.written(&args.write, &answer, &text)
}

pub(super) fn changes(session: &mut Session<'_>, args: &ChangesArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let query = ChangeQuery {
        zone: args.zone.as_deref().map(names::zone_for_path),
        principal: args.by.clone(),
        since: args.since.clone(),
        until: args.until.clone(),
        ..ChangeQuery::default()
    };
    let listing = Listing::fetch(&args.list, |page| client.changes(&ChangeQuery { page, ..query.clone() }))?;
    session.listed(&listing, changes_table)
}

fn history_table(items: &[ZoneHistoryItem]) -> String {
    table::columns(
        ["REVISION", "TIME", "BY", "WHAT", "PUT", "DELETED", "MESSAGE"],
        items.iter().map(|item| {
            [
                item.revision.to_string(),
                format_time(item.accepted_at_ms),
                item.principal.clone(),
                words(&item.kinds),
                some(item.rrsets_put),
                some(item.rrsets_deleted),
                item.message.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// What was done to the firewall.
pub(super) fn firewall_table(items: &[FirewallEvent]) -> String {
    table::columns(
        ["REVISION", "TIME", "BY", "WHAT", "MESSAGE"],
        items.iter().map(|item| {
            [
                item.revision.to_string(),
                format_time(item.accepted_at_ms),
                item.principal.clone(),
                words(&item.kinds),
                item.message.clone().unwrap_or_default(),
            ]
        }),
    )
}

fn changes_table(items: &[ChangeItem]) -> String {
    table::columns(
        ["REVISION", "TIME", "BY", "WHAT", "ZONES", "MESSAGE"],
        items.iter().map(|item| {
            [
                item.revision.to_string(),
                format_time(item.accepted_at_ms),
                item.principal.clone(),
                words(&item.kinds),
                zones(item),
                item.message.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// The first zones by name, a deleted one by its id as well: there is no other way to it.
fn zones(item: &ChangeItem) -> String {
    let name = |zone: &herald_wire::api::TouchedZone| match zone.deleted {
        true => format!("{} ({})", zone.name_unicode, zone.id),
        false => zone.name_unicode.clone(),
    };
    let mut text = item.zones.iter().take(ZONES_SHOWN).map(name).collect::<Vec<_>>().join(" ");
    let shown = item.zones.len().min(ZONES_SHOWN) as u64;
    if item.zone_count > shown {
        text.push_str(&format!(" and {} more", item.zone_count - shown));
    }
    text
}

/// Nothing rather than 0, which would only draw the eye.
fn some(count: u64) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn words(kinds: &[ChangeKind]) -> String {
    let word = |kind: &ChangeKind| match kind {
        ChangeKind::EpochBegan => "control plane started",
        ChangeKind::TenantPut => "tenant set",
        ChangeKind::TenantDeleted => "tenant deleted",
        ChangeKind::TokenPut => "token made",
        ChangeKind::TokenRevoked => "token revoked",
        ChangeKind::TokenForgotten => "token forgotten",
        ChangeKind::ShrinkConfirmed => "loss confirmed",
        ChangeKind::PopReleased => "PoP released",
        ChangeKind::BrakesSet => "brakes set",
        ChangeKind::PopHeld => "zones held at PoP",
        ChangeKind::CopyRestored => "copy restored",
        ChangeKind::GeoipSet => "geoip set",
        ChangeKind::MonitorPut => "monitor put",
        ChangeKind::MonitorDeleted => "monitor deleted",
        ChangeKind::VerdictsSet => "verdicts",
        ChangeKind::ProbeRulesSet => "probe rules set",
        ChangeKind::OwnAddressesSet => "platform addresses set",
        ChangeKind::ChannelPut => "channel put",
        ChangeKind::ChannelDeleted => "channel deleted",
        ChangeKind::FirewallRulePut => "firewall rule set",
        ChangeKind::FirewallRuleDeleted => "firewall rule deleted",
        ChangeKind::PolicyZonePut => "policy zone set",
        ChangeKind::PolicyZoneDeleted => "policy zone deleted",
        ChangeKind::ZoneResolved => "alias resolved",
        ChangeKind::QueryLogSet => "query log on",
        ChangeKind::QueryLogEnded => "query log off",
        ChangeKind::NameserverSetPut => "name servers set",
        ChangeKind::NameserverSetDeleted => "name servers deleted",
        ChangeKind::PopPut => "PoP set",
        ChangeKind::PopDeleted => "PoP deleted",
        ChangeKind::ZoneCreated => "zone created",
        ChangeKind::ZoneEdited => "records",
        ChangeKind::ZoneReplaced => "all records",
        ChangeKind::ZoneLabelled => "labels",
        ChangeKind::ZoneSoaSet => "SOA",
        ChangeKind::ZoneActivated => "let in",
        ChangeKind::ZoneDisplaced => "displaced",
        ChangeKind::ZoneAdmitted => "admitted",
        ChangeKind::ZoneDeleted => "zone deleted",
    };
    kinds.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::TouchedZone;

    #[test]
    fn a_history_for_people() {
        let item = |revision, kinds, put, deleted, message: Option<&str>| ZoneHistoryItem {
            id: format!("c{revision}"),
            revision,
            accepted_at_ms: 1_767_225_600_000,
            principal: "tenant t1 k1".into(),
            message: message.map(str::to_owned),
            kinds,
            rrsets_put: put,
            rrsets_deleted: deleted,
        };
        let items = [
            item(12, vec![ChangeKind::ZoneEdited], 2, 1, Some("moved\u{7}")),
            item(3, vec![ChangeKind::ZoneCreated], 1, 0, None),
        ];
        assert_eq!(
            history_table(&items),
            "REVISION  TIME                  BY            WHAT          PUT  DELETED  MESSAGE\n\
             12        2026-01-01T00:00:00Z  tenant t1 k1  records       2    1        moved\\u{7}\n\
             3         2026-01-01T00:00:00Z  tenant t1 k1  zone created  1\n"
        );
    }

    #[test]
    fn changes_for_people() {
        let zone = |n: u8, deleted| TouchedZone {
            id: format!("z{n}"),
            name: format!("{n}.example."),
            name_unicode: format!("{n}.example."),
            deleted,
        };
        let mut item = ChangeItem {
            id: "c5".into(),
            revision: 5,
            accepted_at_ms: 1_767_225_600_000,
            principal: "system".into(),
            message: None,
            kinds: vec![ChangeKind::ZoneActivated, ChangeKind::ZoneDisplaced],
            zones: vec![zone(1, false), zone(2, true)],
            zone_count: 2,
        };
        assert_eq!(
            changes_table(std::slice::from_ref(&item)),
            "REVISION  TIME                  BY      WHAT               ZONES                       MESSAGE\n\
             5         2026-01-01T00:00:00Z  system  let in, displaced  1.example. 2.example. (z2)\n"
        );
        item.zones.extend([zone(3, false), zone(4, false)]);
        item.zone_count = 4711;
        assert_eq!(zones(&item), "1.example. 2.example. (z2) 3.example. and 4708 more");
    }
}
