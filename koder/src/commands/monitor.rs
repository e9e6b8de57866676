//! `koder dns monitor …`: what is asked of endpoints again and again, and the verdicts on them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use herald_wire::api::monitors::{
    Monitor, MonitorEvent, MonitorEventKind, MonitorInput, MonitorState, MonitorTest, MonitorVerdict,
    ProbeRules,
};
use serde_json::{Map, Value, json};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, input, yes_no};
use crate::client::WriteOptions;
use crate::failure::Failure;
use crate::times::{format_time, parse_duration};
use crate::{table, yaml};

/// What to do about monitors.
#[derive(Debug, Subcommand)]
pub enum MonitorCommand {
    /// List monitors
    List(ListMonitorsArgs),
    /// Show a monitor, its verdict, and what each PoP sees
    Show(MonitorArgs),
    /// Make a monitor
    Create(Box<CreateArgs>),
    /// Change a monitor: what isn't given stays
    Update(Box<UpdateArgs>),
    /// Delete a monitor that nothing names
    Delete(DeleteArgs),
    /// Have the chosen PoPs probe a monitor now
    Test(MonitorArgs),
    /// What happened to a monitor: changes, and verdicts with their causes
    History(HistoryArgs),
    /// Show which special-purpose addresses may be monitored, and which never (operators)
    Rules,
    /// Set them: what isn't given is none (operators)
    SetRules(SetRulesArgs),
}

/// Flags of `koder dns monitor list`.
#[derive(Args, Debug)]
pub struct ListMonitorsArgs {
    /// Only those that are up, down, unknown or off
    #[arg(long)]
    pub state: Option<String>,
    /// Only those of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Only those with this in their names
    #[arg(long)]
    pub name: Option<String>,
    /// Only this tenant's (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// A monitor.
#[derive(Args, Debug)]
pub struct MonitorArgs {
    /// Its id, or for tenants its name
    pub monitor: String,
}

/// What is asked.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// An HTTP or HTTPS request.
    #[arg(
        long,
        value_name = "URL",
        group = "check",
        help = "An HTTP or HTTPS request, such as https://www.example.com/health"
    )]
    pub url: Option<String>,
    /// A TCP connection.
    #[arg(
        long,
        value_name = "HOST:PORT",
        group = "check",
        help = "A TCP connection, such as db.example.com:5432 or [2001:db8::1]:25"
    )]
    pub tcp: Option<String>,
    /// A TLS handshake
    #[arg(long, value_name = "HOST:PORT", group = "check")]
    pub tls: Option<String>,
    /// A query that this name server is to answer, with --query NAME and --type TYPE
    #[arg(long, value_name = "HOST[:PORT]", group = "check")]
    pub dns: Option<String>,
    /// An ICMP echo
    #[arg(long, value_name = "HOST", group = "check")]
    pub icmp: Option<String>,
    /// The endpoint calls in
    #[arg(long, group = "check")]
    pub heartbeat: bool,
    /// The verdicts on other monitors, by their ids, of which --at-least N have to be up
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',', group = "check")]
    pub of: Vec<u32>,
    /// A monitor as `koder dns --json monitor show` has it: name, check, pace, enabled (YAML or JSON; "-" is stdin)
    #[arg(long, value_name = "FILE", group = "check")]
    pub file: Option<PathBuf>,
    /// HTTP: the Host header
    #[arg(long)]
    pub host: Option<String>,
    /// HTTP: GET or HEAD
    #[arg(long)]
    pub method: Option<String>,
    /// HTTP: statuses that are fine, such as 200 or 200-399
    #[arg(long, value_name = "FROM[-TO]")]
    pub status: Option<String>,
    /// HTTP: what the first 64 KiB of the body must hold; DNS: RDATA that must be among the answers
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// HTTP: how many redirects are followed
    #[arg(long, value_name = "N")]
    pub redirects: Option<u8>,
    /// TLS: the server name indicated and looked for in the certificate
    #[arg(long)]
    pub sni: Option<String>,
    /// TLS: any certificate will do
    #[arg(long)]
    pub accept_any: bool,
    /// TLS: for so many days at least the certificate must be valid yet
    #[arg(long, value_name = "DAYS")]
    pub days_left: Option<u16>,
    /// DNS: the name asked for
    #[arg(long, value_name = "NAME")]
    pub query: Option<String>,
    /// DNS: the type asked for
    #[arg(long = "type", value_name = "TYPE")]
    pub rtype: Option<String>,
    /// Calculated: so many have to be up
    #[arg(long, value_name = "N")]
    pub at_least: Option<u16>,
    /// Calculated: it is the other way round
    #[arg(long)]
    pub inverted: bool,
}

/// How often, and what to make of what is seen.
#[derive(Args, Clone, Debug, Default)]
pub struct PaceArgs {
    /// From one probe to the next, such as 1s; a heartbeat has to come so often
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// A probe without an answer by then has failed; a heartbeat may be late by so much
    #[arg(long = "probe-timeout", value_name = "DURATION", value_parser = parse_duration)]
    pub probe_timeout: Option<Duration>,
    /// Good probes in a row, till a PoP says "up"
    #[arg(long, value_name = "N")]
    pub rise: Option<u8>,
    /// Bad probes in a row, till a PoP says "down"
    #[arg(long, value_name = "N")]
    pub fall: Option<u8>,
    /// How many PoPs probe
    #[arg(long, value_name = "N")]
    pub probers: Option<u8>,
    /// How many of them have to say the same; more than half unless given
    #[arg(long, value_name = "N")]
    pub quorum: Option<u8>,
    /// After "down", "up" has to hold for so long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub recovery: Option<Duration>,
}

/// Flags of `koder dns monitor create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns monitor create web --url https://www.example.com/health --interval 1s --probe-timeout 500ms
  koder dns monitor create db --tcp db.example.com:5432
  koder dns monitor create backup --heartbeat --interval 24h --probe-timeout 1h
  koder dns monitor create site --of 1,2,3 --at-least 2")]
pub struct CreateArgs {
    /// Its name; with --file the file may have it
    pub name: Option<String>,
    /// Whose it is to be (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// It begins switched off
    #[arg(long)]
    pub off: bool,
    /// What is asked.
    #[command(flatten)]
    pub check: CheckArgs,
    /// How often.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns monitor update`.
#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// Which.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Another name
    #[arg(long)]
    pub name: Option<String>,
    /// Switch it on
    #[arg(long, conflicts_with = "off")]
    pub on: bool,
    /// Switch it off: what names it counts as up
    #[arg(long)]
    pub off: bool,
    /// Give a heartbeat another address to call
    #[arg(long)]
    pub new_secret: bool,
    /// What is asked.
    #[command(flatten)]
    pub check: CheckArgs,
    /// How often.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns monitor delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns monitor history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Which.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Flags of `koder dns monitor set-rules`.
#[derive(Args, Debug)]
pub struct SetRulesArgs {
    /// A prefix of special-purpose addresses that may be monitored
    #[arg(long = "allow", value_name = "PREFIX")]
    pub allowed: Vec<String>,
    /// A prefix that may not be monitored, whatever else is said: the platform's own
    #[arg(long = "refuse", value_name = "PREFIX")]
    pub refused: Vec<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &MonitorCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        MonitorCommand::List(args) => {
            let filter: Vec<(&'static str, &str)> = [
                ("state", &args.state),
                ("kind", &args.kind),
                ("name", &args.name),
                ("tenant", &args.tenant),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_deref()?)))
            .collect();
            let listing = Listing::fetch(&args.list, |page| client.monitors(&filter, &page))?;
            session.listed(&listing, table_of)
        }
        MonitorCommand::Show(args) => {
            let answer = client.monitor(&args.monitor)?;
            session.show(&answer, show)
        }
        MonitorCommand::Create(args) => {
            let mut body = match &args.check.file {
                Some(file) => document(file)?,
                None => Map::new(),
            };
            change(&mut body, args.name.as_deref(), &args.check, &args.pace)?;
            if args.off {
                body.insert("enabled".into(), false.into());
            }
            if let Some(tenant) = &args.tenant {
                body.insert("tenant".into(), tenant.as_str().into());
            }
            if !body.contains_key("name") {
                return Err(Failure::Usage("give the monitor a name".into()));
            }
            if !body.contains_key("check") {
                return Err(Failure::Usage(
                    "say what is asked: --url, --tcp, --heartbeat …, or --file".into(),
                ));
            }
            let answer = client.create_monitor(&body.into(), &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        MonitorCommand::Update(args) => {
            let now = client.monitor(&args.monitor.monitor)?;
            let mut body = match &args.check.file {
                Some(file) => document(file)?,
                None => document_of(&now),
            };
            change(&mut body, args.name.as_deref(), &args.check, &args.pace)?;
            if args.on || args.off {
                body.insert("enabled".into(), args.on.into());
            }
            if args.new_secret {
                body.insert("new_secret".into(), true.into());
            }
            let options = args.write.options_for(&args.reason);
            // What others changed meanwhile isn't put back.
            let options = WriteOptions { if_match: options.if_match.or_else(|| now.etag.clone()), ..options };
            let answer = client.put_monitor(&args.monitor.monitor, &body.into(), &options)?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        MonitorCommand::Delete(args) => {
            let options = args.write.options_for(&args.reason);
            let answer = client.delete_monitor(&args.monitor.monitor, &options)?;
            let tense = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{tense} the monitor {}\n", args.monitor.monitor))
        }
        MonitorCommand::Test(args) => {
            let answer = client.test_monitor(&args.monitor)?;
            session.show(&answer, tested)
        }
        MonitorCommand::History(args) => {
            let listing =
                Listing::fetch(&args.list, |page| client.monitor_history(&args.monitor.monitor, &page))?;
            session.listed(&listing, history_of)
        }
        MonitorCommand::Rules => {
            let answer = client.probe_rules()?;
            session.show(&answer, rules)
        }
        MonitorCommand::SetRules(args) => {
            let body =
                ProbeRules { allowed: args.allowed.clone(), refused: args.refused.clone(), own: Vec::new() };
            let answer = client.put_probe_rules(&body, &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(rules).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
    }
}

// ------------------------------------------------------------------------------------------ documents

/// Fields of what is shown that can be put.
const FIELDS: [&str; 5] = ["name", "check", "pace", "enabled", "tenant"];

/// A monitor as a file has it; what it has of a monitor that was shown beside that is passed over.
fn document(file: &std::path::Path) -> Result<Map<String, Value>, Failure> {
    let text = input::text(input::read(file)?, file)?;
    match yaml::read(&text, file)? {
        Value::Object(mut fields) => {
            if fields.contains_key("revision") {
                fields.retain(|field, _| FIELDS.contains(&field.as_str()) && field != "tenant");
            }
            Ok(fields)
        }
        _ => Err(Failure::FileContent {
            path: file.to_owned(),
            reason: "a monitor has `name`, `check` and perhaps `pace` and `enabled`".into(),
        }),
    }
}

fn document_of(monitor: &Monitor) -> Map<String, Value> {
    let Monitor { name, check, pace, enabled, .. } = monitor;
    let input = MonitorInput {
        name: name.clone(),
        tenant: None,
        check: check.clone(),
        pace: *pace,
        enabled: *enabled,
        new_secret: false,
    };
    match serde_json::to_value(input) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Puts what flags say into a document.
fn change(
    body: &mut Map<String, Value>,
    name: Option<&str>,
    check: &CheckArgs,
    pace: &PaceArgs,
) -> Result<(), Failure> {
    if let Some(name) = name {
        body.insert("name".into(), name.into());
    }
    if let Some(new) = check_of(check)? {
        body.insert("check".into(), new.into());
    }
    if let Some(Value::Object(check_now)) = body.get_mut("check") {
        details(check_now, check)?;
    }
    let mut changes = Map::new();
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            changes.insert(field.into(), value);
        }
    };
    set("interval_ms", pace.interval.map(|span| millis(span).into()));
    set("timeout_ms", pace.probe_timeout.map(|span| millis(span).into()));
    set("recovery_ms", pace.recovery.map(|span| millis(span).into()));
    for (field, count) in
        [("rise", pace.rise), ("fall", pace.fall), ("probers", pace.probers), ("quorum", pace.quorum)]
    {
        set(field, count.map(Into::into));
    }
    if !changes.is_empty() {
        match body.get_mut("pace") {
            Some(Value::Object(now)) => now.extend(changes),
            _ => _ = body.insert("pace".into(), changes.into()),
        }
    }
    Ok(())
}

/// The check that flags begin anew, if they do.
fn check_of(args: &CheckArgs) -> Result<Option<Map<String, Value>>, Failure> {
    let check = if let Some(url) = &args.url {
        let wrong = || Failure::Usage(format!("`{url}` is no URL such as https://www.example.com/health"));
        let (kind, rest) = url.split_once("://").ok_or_else(wrong)?;
        if kind != "http" && kind != "https" {
            return Err(wrong());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (target, port) = host_and_port(authority);
        if target.is_empty() {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        json!({ "kind": kind, "target": target, "path": path, "port": port })
    } else if let Some(at) = &args.tcp {
        let (target, port) = host_and_port(at);
        json!({ "kind": "tcp", "target": target, "port": port.ok_or_else(|| no_port(at))? })
    } else if let Some(at) = &args.tls {
        let (target, port) = host_and_port(at);
        json!({ "kind": "tls", "target": target, "port": port })
    } else if let Some(at) = &args.dns {
        let (target, port) = host_and_port(at);
        let name = args.query.as_ref();
        let name = name.ok_or_else(|| Failure::Usage("say what is asked for: --query NAME".into()))?;
        json!({ "kind": "dns", "target": target, "port": port, "name": name })
    } else if let Some(target) = &args.icmp {
        json!({ "kind": "icmp", "target": target })
    } else if args.heartbeat {
        json!({ "kind": "heartbeat" })
    } else if !args.of.is_empty() {
        json!({ "kind": "calculated", "of": args.of, "at_least": args.at_least.unwrap_or(1) })
    } else {
        return Ok(None);
    };
    let Value::Object(mut fields) = check else { return Ok(None) };
    fields.retain(|_, value| !value.is_null());
    Ok(Some(fields))
}

fn no_port(text: &str) -> Failure {
    Failure::Usage(format!("`{text}` has no port: write HOST:PORT"))
}

/// `host:port`, `[2001:db8::1]:port`, or either without a port.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        _ => (text, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (inner, port)
}

/// What flags say of a check beside its kind and target.
fn details(check: &mut Map<String, Value>, args: &CheckArgs) -> Result<(), Failure> {
    let is_dns = check.get("kind").is_some_and(|kind| kind == "dns");
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            check.insert(field.into(), value);
        }
    };
    set("host", args.host.clone().map(Into::into));
    set("method", args.method.as_ref().map(|method| method.to_ascii_uppercase().into()));
    set("redirects", args.redirects.map(Into::into));
    let contains = if is_dns { "contains" } else { "body_contains" };
    set(contains, args.contains.clone().map(Into::into));
    set("name", args.query.clone().map(Into::into));
    set("type", args.rtype.as_ref().map(|rtype| rtype.to_ascii_uppercase().into()));
    set("at_least", args.at_least.map(Into::into));
    set("inverted", args.inverted.then(|| true.into()));
    if let Some(status) = &args.status {
        let (first, last) = status.split_once('-').unwrap_or((status, status));
        let number = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| Failure::Usage(format!("`{status}` is no status such as 200 or 200-399")))
        };
        set("status_min", Some(number(first)?.into()));
        set("status_max", Some(number(last)?.into()));
    }
    let mut tls = Map::new();
    if let Some(sni) = &args.sni {
        tls.insert("sni".into(), sni.as_str().into());
    }
    if args.accept_any {
        tls.insert("accept_any".into(), true.into());
    }
    if let Some(days) = args.days_left {
        tls.insert("days_left_min".into(), days.into());
    }
    if !tls.is_empty() {
        match check.get_mut("tls") {
            Some(Value::Object(now)) => now.extend(tls),
            _ => _ = check.insert("tls".into(), tls.into()),
        }
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------- in words

fn table_of(monitors: &[Monitor]) -> String {
    table::columns(
        ["ID", "NAME", "STATE", "SINCE", "CHECK", "CAUSE"],
        monitors.iter().map(|monitor| {
            let verdict = monitor.verdict.as_ref();
            [
                monitor.id.to_string(),
                monitor.name.clone(),
                state(monitor.state).to_owned(),
                verdict.map(|verdict| format_time(verdict.since_ms)).unwrap_or_default(),
                check_in_short(monitor),
                verdict.map(|verdict| verdict.cause.clone()).unwrap_or_default(),
            ]
        }),
    )
}

fn state(state: MonitorState) -> &'static str {
    match state {
        MonitorState::Up => "up",
        MonitorState::Down => "down",
        MonitorState::Unknown => "unknown",
        MonitorState::Off => "off",
    }
}

/// Its kind and where it goes.
fn check_in_short(monitor: &Monitor) -> String {
    let Ok(check) = serde_json::to_value(&monitor.check) else { return String::new() };
    let field = |name: &str| match &check[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let (kind, target, port) = (field("kind"), field("target"), field("port"));
    let host = if target.contains(':') { format!("[{target}]") } else { target };
    match kind.as_str() {
        "http" | "https" => format!("{kind}://{host}:{port}{}", field("path")),
        "calculated" => format!("calculated {} of {}", field("at_least"), field("of")),
        "dns" => format!("dns {host}:{port} {} {}", field("name"), field("type")),
        _ if port.is_empty() => format!("{kind} {host}").trim_end().to_owned(),
        _ => format!("{kind} {host}:{port}"),
    }
}

fn show(monitor: &Monitor) -> String {
    let pace = &monitor.pace;
    let ms = |ms: u32| format!("{ms} ms");
    let quorum = pace.quorum.map_or_else(|| "more than half".into(), |quorum| quorum.to_string());
    let verdict =
        |verdict: &MonitorVerdict| format!("{} since {}", verdict.cause, format_time(verdict.since_ms));
    let mut text = table::pairs([
        ("monitor", Some(monitor.name.clone())),
        ("id", Some(monitor.id.to_string())),
        ("state", Some(state(monitor.state).to_owned())),
        ("because", monitor.verdict.as_ref().map(verdict)),
        ("check", Some(check_in_short(monitor))),
        ("interval", Some(ms(pace.interval_ms))),
        ("time-out", pace.timeout_ms.map(ms)),
        ("rise, fall", Some(format!("{}, {}", pace.rise, pace.fall))),
        ("probers", Some(format!("{}, of which {quorum} decide", pace.probers))),
        ("recovery", Some(ms(pace.recovery_ms))),
        ("last heartbeat", monitor.last_heartbeat_ms.map(format_time)),
        (
            "call in at",
            monitor.heartbeat_path.as_ref().map(|path| format!("{}{path}", herald_wire::api::PREFIX)),
        ),
        ("etag", Some(monitor.revision.to_string())),
    ]);
    if !monitor.pops.is_empty() {
        text.push('\n');
        text.push_str(&table::columns(
            ["POP", "CONNECTED", "SEES", "SINCE", "TOOK", "CAUSE"],
            monitor.pops.iter().map(|pop| {
                [
                    pop.pop.clone(),
                    yes_no(pop.connected),
                    pop.up.map_or("", |up| if up { "up" } else { "down" }).to_owned(),
                    pop.since_ms.map(format_time).unwrap_or_default(),
                    pop.took_us.map(|took_us| format!("{took_us} µs")).unwrap_or_default(),
                    pop.cause.clone().unwrap_or_default(),
                ]
            }),
        ));
    }
    text
}

fn tested(test: &MonitorTest) -> String {
    table::columns(
        ["POP", "WENT", "TOOK", "CAUSE"],
        test.pops.iter().map(|pop| {
            let went = match pop.good {
                Some(true) => "well",
                Some(false) => "badly",
                None => "unknown",
            };
            let took = pop.took_us.map(|took_us| format!("{took_us} µs")).unwrap_or_default();
            [pop.pop.clone(), went.to_owned(), took, pop.cause.clone()]
        }),
    )
}

fn history_of(events: &[MonitorEvent]) -> String {
    table::columns(
        ["WHEN", "CHANGE", "WHAT", "WHO", "WHY"],
        events.iter().map(|event| {
            let what = match event.event {
                MonitorEventKind::Put => "put",
                MonitorEventKind::Up => "up",
                MonitorEventKind::Down => "down",
                MonitorEventKind::Deleted => "deleted",
            };
            let why = event.cause.clone().or_else(|| event.message.clone()).unwrap_or_default();
            [format_time(event.at_ms), event.change.clone(), what.to_owned(), event.principal.clone(), why]
        }),
    )
}

fn rules(rules: &ProbeRules) -> String {
    let texts = |prefixes: &[String]| if prefixes.is_empty() { "none".into() } else { prefixes.join(" ") };
    let own = rules.own.iter().map(|host| {
        let whose = host.pop.as_deref().map_or("herald".into(), |pop| format!("PoP {pop}"));
        format!("{whose}: {}", host.addresses.join(" "))
    });
    table::pairs([
        ("allowed", Some(texts(&rules.allowed))),
        ("refused", Some(texts(&rules.refused))),
        (
            "the platform's own, refused",
            Some(own.collect::<Vec<_>>().join("; ")).filter(|own| !own.is_empty()),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(args: &CheckArgs) -> Value {
        let mut body = Map::new();
        change(&mut body, Some("m"), args, &PaceArgs::default()).unwrap();
        // It is one that the API takes.
        let input: MonitorInput = serde_json::from_value(body.clone().into()).unwrap();
        assert_eq!(input.name, "m");
        body["check"].clone()
    }

    #[test]
    fn flags_are_a_check() {
        let of = |change: fn(&mut CheckArgs)| {
            let mut args = CheckArgs::default();
            change(&mut args);
            made(&args)
        };
        assert_eq!(
            of(|args| {
                args.url = Some("https://www.example.com:8443/health?x=1".into());
                (args.status, args.days_left) = (Some("200-204".into()), Some(14));
            }),
            json!({ "kind": "https", "target": "www.example.com", "port": 8443, "path": "/health?x=1",
                    "status_min": 200, "status_max": 204, "tls": { "days_left_min": 14 } })
        );
        assert_eq!(
            of(|args| args.url = Some("http://[2001:db8::1]".into())),
            json!({ "kind": "http", "target": "2001:db8::1", "path": "/" })
        );
        assert_eq!(
            of(|args| args.tcp = Some("db.example.com:5432".into())),
            json!({ "kind": "tcp", "target": "db.example.com", "port": 5432 })
        );
        assert_eq!(
            of(|args| {
                args.dns = Some("2001:db8::53".into());
                (args.query, args.rtype) = (Some("example.com".into()), Some("aaaa".into()));
                args.contains = Some("2001:db8::1".into());
            }),
            json!({ "kind": "dns", "target": "2001:db8::53", "name": "example.com", "type": "AAAA", "contains": "2001:db8::1" })
        );
        assert_eq!(of(|args| args.heartbeat = true), json!({ "kind": "heartbeat" }));
        assert_eq!(
            of(|args| {
                args.of = vec![1, 2];
                (args.at_least, args.inverted) = (Some(2), true);
            }),
            json!({ "kind": "calculated", "of": [1, 2], "at_least": 2, "inverted": true })
        );
        let wrong = CheckArgs { tcp: Some("db.example.com".into()), ..CheckArgs::default() };
        assert!(change(&mut Map::new(), None, &wrong, &PaceArgs::default()).is_err());
        let wrong = CheckArgs { url: Some("ftp://a.example.com".into()), ..CheckArgs::default() };
        assert!(change(&mut Map::new(), None, &wrong, &PaceArgs::default()).is_err());
    }

    #[test]
    fn what_is_not_given_stays() {
        let monitor: Monitor = serde_json::from_value(json!({
            "id": 7, "name": "web", "tenant": "t", "enabled": true, "state": "down", "revision": 9, "created_at_ms": 0,
            "check": { "kind": "https", "target": "www.example.com", "path": "/", "port": 443 },
            "pace": { "interval_ms": 1000, "timeout_ms": 500, "quorum": 1 },
            "verdict": { "up": false, "since_ms": 1_767_225_600_000_u64, "cause": "fra1: timed out", "change": "c9" },
        }))
        .unwrap();
        let mut body = document_of(&monitor);
        let check = CheckArgs { contains: Some("ok".into()), ..CheckArgs::default() };
        let pace = PaceArgs { fall: Some(3), ..PaceArgs::default() };
        change(&mut body, None, &check, &pace).unwrap();
        assert_eq!(body["check"]["body_contains"], "ok");
        assert_eq!((&body["pace"]["fall"], &body["pace"]["quorum"]), (&json!(3), &json!(1)));
        assert_eq!(body["name"], "web");
        assert_eq!(
            table_of(std::slice::from_ref(&monitor)),
            "ID  NAME  STATE  SINCE                 CHECK                         CAUSE\n\
             7   web   down   2026-01-01T00:00:00Z  https://www.example.com:443/  fra1: timed out\n"
        );
        assert!(show(&monitor).contains("fra1: timed out since 2026-01-01T00:00:00Z"), "{}", show(&monitor));
    }
}
