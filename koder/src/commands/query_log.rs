//! `koder dns query-log …`: queries of a zone one by one, for some time.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use herald_wire::api::query_log::{QueryLog, QueryLogAddresses, QueryLogPut, QueryLogRecord};

use super::{MessageArgs, Session, WriteArgs};
use crate::client::{Client, QueryLogQuery};
use crate::failure::Failure;
use crate::{names, table, times};

/// How often it is looked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// What PoPs send late comes between what is there already: so far back it is looked for more, in ms.
const LATE_MS: u64 = 20_000;

/// Records that are remembered as shown.
const SHOWN_MAX: usize = 100_000;

/// Records of a page that is followed.
const PAGE_RECORDS: u32 = 1_000;

/// What to do with a zone's query log.
#[derive(Debug, Subcommand)]
pub enum QueryLogCommand {
    /// Log queries for some time, an hour at most
    On(OnArgs),
    /// Log queries no more; what was logged stays for a day
    Off(OffArgs),
    /// Show whether queries are logged, and how many there are
    Show(ShowArgs),
    /// Show the last queries that were logged, and with --follow those that come
    Tail(TailArgs),
}

/// Flags of `koder dns query-log on`.
#[derive(Args, Debug)]
#[command(after_help = "\
There are addresses of clients in the log: it takes a token that may change the zone's settings (the verb `create`). Of each second at most
100 queries a PoP are kept; the others are counted as left out.

Examples:
  koder dns query-log on example.com
  koder dns query-log on example.com --for 10m --one-in 100 -m 'who still asks for the old name?'")]
pub struct OnArgs {
    /// The zone (name or id)
    pub zone: String,
    /// For how long: an hour at most [default: 1h]
    #[arg(long = "for", value_name = "DURATION", value_parser = times::parse_duration)]
    pub duration: Option<Duration>,
    /// Log one query in so many, by chance: 1 to 10000 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub one_in: Option<u32>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns query-log off`.
#[derive(Args, Debug)]
pub struct OffArgs {
    /// The zone (name or id)
    pub zone: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Arguments of `koder dns query-log show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The zone (name or id)
    pub zone: String,
}

/// Flags of `koder dns query-log tail`.
#[derive(Args, Debug)]
#[command(after_help = "\
The oldest come first. With --json there is a record a line. A record comes some seconds after its query.

Examples:
  koder dns query-log tail example.com --follow
  koder dns query-log tail example.com --rcode NXDOMAIN --since 10m --limit 1000
  koder dns query-log tail example.com --name www --type AAAA --json")]
pub struct TailArgs {
    /// The zone (name or id)
    pub zone: String,
    /// Only queries for this name: fully qualified, relative to the zone, or `@`
    #[arg(long)]
    pub name: Option<String>,
    /// Only queries of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub rtype: Option<String>,
    /// Only queries with this response code
    #[arg(long)]
    pub rcode: Option<String>,
    /// Only queries at this PoP
    #[arg(long)]
    pub pop: Option<String>,
    /// Since when: so long ago
    #[arg(long, value_name = "DURATION", value_parser = times::parse_duration)]
    pub since: Option<Duration>,
    /// So many at most, before those that come
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Go on with those that come, until it is interrupted
    #[arg(short, long)]
    pub follow: bool,
}

pub(super) fn run(session: &mut Session<'_>, command: &QueryLogCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        QueryLogCommand::On(args) => {
            let zone = names::zone_for_path(&args.zone);
            let put = QueryLogPut { for_s: args.duration.map(|time| time.as_secs()), one_in: args.one_in };
            let answer = client.put_query_log(&zone, &put, &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(|log| switched_on(&args.write, log)).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        QueryLogCommand::Off(args) => {
            let zone = names::zone_for_path(&args.zone);
            let answer = client.delete_query_log(&zone, &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(|log| switched_off(&args.write, log)).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        QueryLogCommand::Show(args) => {
            let answer = client.query_log(&names::zone_for_path(&args.zone))?;
            session.show(&answer, details)
        }
        QueryLogCommand::Tail(args) => tail(session, &client, args),
    }
}

fn switched_on(write: &WriteArgs, log: &QueryLog) -> String {
    let queries = match log.one_in {
        Some(one_in) if one_in > 1 => format!("one query in {one_in}"),
        _ => "queries".into(),
    };
    let until = log.until_ms.map(times::format_time).unwrap_or_default();
    format!("{} {queries} of {} until {until}\n", write.tense("logs", "would log"), log.name)
}

fn switched_off(write: &WriteArgs, log: &QueryLog) -> String {
    let (name, records) = (&log.name, log.records);
    format!(
        "{} queries of {name} no more; {records} records are kept for a day\n",
        write.tense("logs", "would log")
    )
}

fn details(log: &QueryLog) -> String {
    let addresses = match log.addresses {
        QueryLogAddresses::Whole => "whole",
        QueryLogAddresses::Prefixes => "the first 24 bits (IPv4), 48 bits (IPv6)",
    };
    table::pairs([
        ("zone", Some(log.name.clone())),
        ("on", Some(super::yes_no(log.on))),
        ("since", log.since_ms.map(times::format_time)),
        ("until", log.until_ms.map(times::format_time)),
        ("one in", log.one_in.map(|one_in| one_in.to_string())),
        ("records", Some(log.records.to_string())),
        ("left out", Some(log.left_out.to_string())),
        ("addresses", Some(addresses.into())),
    ])
}

fn tail(session: &mut Session<'_>, client: &Client, args: &TailArgs) -> Result<(), Failure> {
    let zone = names::zone_for_path(&args.zone);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago_ms = |ago: Duration| u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or_default();
    let query = |since_ms, limit| QueryLogQuery {
        since_ms,
        name: args.name.clone(),
        rtype: args.rtype.clone(),
        rcode: args.rcode.clone(),
        pop: args.pop.clone(),
        page: crate::client::PageQuery { cursor: None, limit: Some(limit) },
    };
    let mut page = client.query_log_records(&zone, &query(args.since.map(ago_ms), args.limit))?.value;
    let mut shown = Shown::default();
    let mut records = page.items;
    records.reverse();
    let mut newest_ms =
        records.iter().map(|record| record.time_ms).max().unwrap_or_else(|| ago_ms(Duration::ZERO));
    let first = records.clone();
    shown.new_ones(records);
    show_records(session, &first)?;
    // What is older than what was shown first stays unshown.
    let begin_ms = first.first().map_or(newest_ms, |record| record.time_ms);
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(FOLLOW_INTERVAL);
        let since_ms = newest_ms.saturating_sub(LATE_MS).max(begin_ms);
        let mut records = Vec::new();
        let mut query = query(Some(since_ms), PAGE_RECORDS);
        loop {
            page = client.query_log_records(&zone, &query)?.value;
            records.append(&mut page.items);
            let Some(cursor) = page.next_cursor.take() else { break };
            query.page.cursor = Some(cursor);
        }
        records.reverse();
        newest_ms = records.iter().map(|record| record.time_ms).max().unwrap_or(newest_ms).max(newest_ms);
        show_records(session, &shown.new_ones(records))?;
    }
}

/// Which records were shown.
#[derive(Default)]
struct Shown {
    ids: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Shown {
    /// Those that weren't shown before.
    fn new_ones(&mut self, records: Vec<QueryLogRecord>) -> Vec<QueryLogRecord> {
        let new: Vec<QueryLogRecord> =
            records.into_iter().filter(|record| self.ids.insert(record.id.clone())).collect();
        self.order.extend(new.iter().map(|record| record.id.clone()));
        while self.order.len() > SHOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        new
    }
}

fn show_records(session: &mut Session<'_>, records: &[QueryLogRecord]) -> Result<(), Failure> {
    let mut text = String::new();
    for record in records {
        match session.output.is_json() {
            true => text.push_str(&serde_json::to_string(record).unwrap_or_default()),
            false => text.push_str(&line(record)),
        }
        text.push('\n');
    }
    session.output.raw(text.as_bytes())?;
    let _ = session.output.stdout().flush();
    Ok(())
}

/// `time pop source transport name type rcode octets …`
fn line(record: &QueryLogRecord) -> String {
    let time = times::format_time_ms(record.time_ms);
    let QueryLogRecord { pop, source, transport, name, rtype, answer_bytes, .. } = record;
    let rcode = if record.dropped { "dropped" } else { &record.rcode };
    let mut line = format!("{time} {pop} {source} {transport} {name} {rtype} {rcode} {answer_bytes}");
    if record.truncated {
        line.push_str(" truncated");
    }
    if let Some(edns) = &record.edns {
        line.push_str(&format!(" edns={}", edns.udp_bytes));
        if edns.dnssec_ok {
            line.push_str(" do");
        }
        if let Some(subnet) = &edns.client_subnet {
            line.push_str(&format!(" ecs={subnet}"));
        }
    }
    if let Some(policy) = &record.policy {
        line.push_str(&format!(" policy={policy} pool={}", record.pool.as_deref().unwrap_or("-")));
    }
    table::printable(&line)
}

#[cfg(test)]
mod tests {
    use herald_wire::api::query_log::QueryLogEdns;

    use super::*;

    fn record(id: &str) -> QueryLogRecord {
        QueryLogRecord {
            id: id.into(),
            pop: "fra1".into(),
            time_ms: 1_767_225_600_042,
            name: "www.example.com.".into(),
            rtype: "A".into(),
            rcode: "NOERROR".into(),
            transport: "udp".into(),
            source: "192.0.2.1".into(),
            answer_bytes: 60,
            ..QueryLogRecord::default()
        }
    }

    #[test]
    fn a_line_has_all_of_a_query() {
        assert_eq!(
            line(&record("1")),
            "2026-01-01T00:00:00.042Z fra1 192.0.2.1 udp www.example.com. A NOERROR 60"
        );
        let client_subnet = Some("198.51.100.0/24".into());
        let edns = Some(QueryLogEdns { udp_bytes: 1232, dnssec_ok: true, client_subnet });
        let policy = Some("www.example.com.".into());
        let all = QueryLogRecord { edns, policy, truncated: true, dropped: true, ..record("1") };
        assert!(line(&all).ends_with(
            "A dropped 60 truncated edns=1232 do ecs=198.51.100.0/24 policy=www.example.com. pool=-"
        ));
        // What clients ask for doesn't get at the terminal.
        let evil = QueryLogRecord { name: "\u{1b}[2J.example.com.".into(), ..record("1") };
        assert!(!line(&evil).contains('\u{1b}'));
    }

    #[test]
    fn each_record_is_shown_once() {
        let mut shown = Shown::default();
        assert_eq!(shown.new_ones(vec![record("1"), record("2")]).len(), 2);
        let new = shown.new_ones(vec![record("1"), record("3"), record("2")]);
        assert_eq!(new.iter().map(|record| &record.id[..]).collect::<Vec<_>>(), ["3"]);
        for n in 0..SHOWN_MAX {
            shown.new_ones(vec![record(&format!("x{n}"))]);
        }
        assert!(shown.ids.len() <= SHOWN_MAX && shown.ids.len() == shown.order.len());
    }

    #[test]
    fn in_words() {
        let log =
            QueryLog { name: "example.com.".into(), one_in: Some(10), records: 7, ..QueryLog::default() };
        let write = WriteArgs::default();
        assert!(switched_on(&write, &log).starts_with("logs one query in 10 of example.com. until"));
        assert!(switched_off(&write, &log).contains("7 records"));
        let text = details(&log);
        assert!(text.contains("whole") && text.contains("left out"), "{text}");
    }
}
