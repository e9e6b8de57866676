//! `koder dns record …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use herald_core::Name;
use herald_wire::api::{Rrset, RrsetBatch, RrsetChange, RrsetOp, RrsetPut};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, input};
use crate::client::{Client, ClientError, RrsetQuery};
use crate::failure::Failure;
use crate::names;
use crate::plan;
use crate::table;

/// The TTL of a new RRset unless it is said.
const TTL_DEFAULT: u32 = 300;

/// What to do about records.
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// List records
    List(ListRecordsArgs),
    /// Make an RRset exactly this
    Set(SetArgs),
    /// Add records to an RRset, which is made if need be
    Add(AddArgs),
    /// Delete an RRset, or some of its records
    Delete(DeleteArgs),
    /// Apply a batch of changes, whole or not at all
    Apply(ApplyArgs),
}

/// Flags of `koder dns record list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns record list example.com
  koder dns record list example.com www
  koder dns record list example.com @ --type MX
  koder dns record list example.com --at 2026-11-01")]
pub struct ListRecordsArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Only this owner name: @, relative to the zone, or fully qualified
    pub name: Option<String>,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    pub rtype: Option<String>,
    /// As they were at this revision or time (4711, 2026-11-01, 2026-11-01T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Flags of `koder dns record set`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each DATA is one record, in quotes if it has blanks. --if-match takes the RRset's ETag.

Examples:
  koder dns record set example.com www A 192.0.2.1 192.0.2.2
  koder dns record set example.com @ MX '10 mail.example.com.' --ttl 3600
  koder dns record set example.com '*' CNAME www.example.com. --wait
  koder dns record set example.com @ TXT '\"v=spf1 -all\"' --dry-run")]
pub struct SetArgs {
    /// Which RRset.
    #[command(flatten)]
    pub rrset: RrsetArgs,
    /// Records, in presentation format
    #[arg(required = true)]
    pub data: Vec<String>,
    /// TTL in seconds [default: the one it has, or 300]
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns record add`.
#[derive(Args, Debug)]
#[command(after_help = "\
--if-match takes the zone's ETag.

Examples:
  koder dns record add example.com www A 192.0.2.3
  koder dns record add example.com _acme-challenge TXT '\"token\"' --ttl 60 --wait")]
pub struct AddArgs {
    /// Which RRset.
    #[command(flatten)]
    pub rrset: RrsetArgs,
    /// Records, in presentation format
    #[arg(required = true)]
    pub data: Vec<String>,
    /// TTL in seconds, for the whole RRset [default: the one it has, or 300]
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns record delete`.
#[derive(Args, Debug)]
#[command(after_help = "\
--if-match takes the zone's ETag.

Examples:
  koder dns record delete example.com www A
  koder dns record delete example.com www A 192.0.2.2")]
pub struct DeleteArgs {
    /// Which RRset.
    #[command(flatten)]
    pub rrset: RrsetArgs,
    /// Only these records, instead of the whole RRset
    pub data: Vec<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns record apply`.
#[derive(Args, Debug)]
#[command(after_help = "\
The file is a batch as the API takes it; op is put, add, remove or delete:
  {\"changes\": [{\"op\": \"put\", \"name\": \"www\", \"type\": \"A\", \"ttl\": 300, \"records\": [\"192.0.2.1\"]}]}
--if-match takes the zone's ETag.

Examples:
  koder dns record apply example.com changes.json --dry-run
  generate | koder dns record apply example.com - --wait")]
pub struct ApplyArgs {
    /// Name or id of the zone
    pub zone: String,
    /// A JSON file; "-" is stdin
    pub file: PathBuf,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Zone, name and type.
#[derive(Args, Debug)]
pub struct RrsetArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Owner name: @, relative to the zone, or fully qualified
    pub name: String,
    /// Type, such as A, or TYPEnnn
    #[arg(value_name = "TYPE")]
    pub rtype: String,
}

pub(super) fn run(session: &mut Session<'_>, command: &RecordCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        RecordCommand::List(args) => list(session, &client, args),
        RecordCommand::Set(args) => set(session, &client, args),
        RecordCommand::Add(args) => add(session, &client, args),
        RecordCommand::Delete(args) => delete(session, &client, args),
        RecordCommand::Apply(args) => apply(session, &client, args),
    }
}

/// An RRset by its full name.
struct RrsetKey {
    zone: String,
    name: String,
    rtype: String,
}

impl RrsetKey {
    fn of(client: &Client, args: &RrsetArgs) -> Result<RrsetKey, Failure> {
        Ok(RrsetKey {
            zone: names::zone_for_path(&args.zone),
            name: qualify(&args.name, &apex(client, &args.zone)?)?,
            rtype: args.rtype.to_ascii_uppercase(),
        })
    }

    /// The RRset as it is, if it is there.
    fn fetch(&self, client: &Client) -> Result<Option<Rrset>, ClientError> {
        match client.rrset(&self.zone, &self.name, &self.rtype) {
            Ok(answer) => Ok(Some(answer.value)),
            Err(ClientError::Problem { problem, .. }) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for the sake of its TTL: what to do if the token may not read.
    fn fetch_for_ttl(&self, session: &mut Session<'_>, client: &Client) -> Result<Option<Rrset>, Failure> {
        let found = self.fetch(client);
        if found.as_ref().is_err_and(|error| error.status() == Some(403)) {
            session.output.note("the TTL to keep can't be looked up with this token: give --ttl");
        }
        Ok(found?)
    }

    fn batch(&self, op: RrsetOp, ttl: Option<u32>, data: &[String], reason: &MessageArgs) -> RrsetBatch {
        let (name, rtype) = (self.name.clone(), self.rtype.clone());
        let changes = vec![RrsetChange { op, name, rtype, ttl, records: data.to_vec() }];
        RrsetBatch { changes, message: reason.message.clone() }
    }
}

/// The zone's name: the argument, or what the server says if that may be an id.
fn apex(client: &Client, zone: &str) -> Result<Name, Failure> {
    let name = match zone.contains('.') || !zone.is_ascii() {
        true => zone.strip_prefix(names::PRIVATE).unwrap_or(zone).to_owned(),
        false => client.zone(zone)?.value.name,
    };
    Name::parse(&name).map_err(|source| Failure::Name { text: name, source })
}

fn qualify(name: &str, apex: &Name) -> Result<String, Failure> {
    match names::qualify(name, apex) {
        Ok(name) => Ok(name.to_string()),
        Err(source) => Err(Failure::Name { text: name.to_owned(), source }),
    }
}

fn list(session: &mut Session<'_>, client: &Client, args: &ListRecordsArgs) -> Result<(), Failure> {
    let name = match &args.name {
        Some(name) => Some(qualify(name, &apex(client, &args.zone)?)?),
        None => None,
    };
    let query = RrsetQuery {
        name,
        rtype: args.rtype.as_ref().map(|rtype| rtype.to_ascii_uppercase()),
        at: args.at.clone(),
        ..RrsetQuery::default()
    };
    let zone = names::zone_for_path(&args.zone);
    let listing =
        Listing::fetch(&args.list, |page| client.rrsets(&zone, &RrsetQuery { page, ..query.clone() }))?;
    session.listed(&listing, table_of)
}

fn set(session: &mut Session<'_>, client: &Client, args: &SetArgs) -> Result<(), Failure> {
    let key = RrsetKey::of(client, &args.rrset)?;
    let before = match (args.ttl, args.write.dry_run) {
        (None, _) => key.fetch_for_ttl(session, client)?,
        (Some(_), true) => key.fetch(client)?,
        (Some(_), false) => None,
    };
    let put = RrsetPut {
        ttl: args.ttl.or(before.as_ref().map(|before| before.ttl)).unwrap_or(TTL_DEFAULT),
        records: args.data.clone(),
        message: args.reason.message.clone(),
    };
    let answer = client.put_rrset(&key.zone, &key.name, &key.rtype, &put, &args.write.options())?;
    let after = answer.item.as_ref();
    let text = if args.write.dry_run {
        plan::between(before.as_ref(), after)
    } else {
        after.map(|rrset| table_of(std::slice::from_ref(rrset))).unwrap_or_default()
    };
    session.written(&args.write, &answer, &text)
}

fn add(session: &mut Session<'_>, client: &Client, args: &AddArgs) -> Result<(), Failure> {
    let key = RrsetKey::of(client, &args.rrset)?;
    let ttl = match args.ttl {
        None if key.fetch_for_ttl(session, client)?.is_none() => Some(TTL_DEFAULT),
        given => given,
    };
    let batch = key.batch(RrsetOp::Add, ttl, &args.data, &args.reason);
    change(session, client, &key.zone, &batch, &args.write)
}

fn delete(session: &mut Session<'_>, client: &Client, args: &DeleteArgs) -> Result<(), Failure> {
    let key = RrsetKey::of(client, &args.rrset)?;
    let op = if args.data.is_empty() { RrsetOp::Delete } else { RrsetOp::Remove };
    let batch = key.batch(op, None, &args.data, &args.reason);
    if args.write.dry_run && args.data.is_empty() {
        // What would go is shown record by record; a token that may not read gets the short form.
        if let Ok(before @ Some(_)) = key.fetch(client) {
            let answer = client.patch_rrsets(&key.zone, &batch, &args.write.options())?;
            return session.written(&args.write, &answer, &plan::between(before.as_ref(), None));
        }
    }
    change(session, client, &key.zone, &batch, &args.write)
}

fn apply(session: &mut Session<'_>, client: &Client, args: &ApplyArgs) -> Result<(), Failure> {
    let content = input::read(&args.file)?;
    let mut batch: RrsetBatch = serde_json::from_slice(&content)
        .map_err(|error| Failure::FileContent { path: args.file.clone(), reason: error.to_string() })?;
    let apex = apex(client, &args.zone)?;
    for change in &mut batch.changes {
        change.name = qualify(&change.name, &apex)?;
    }
    if args.reason.message.is_some() {
        batch.message = args.reason.message.clone();
    }
    change(session, client, &names::zone_for_path(&args.zone), &batch, &args.write)
}

/// Sends a batch and shows its items, which is what was or would be done.
fn change(
    session: &mut Session<'_>,
    client: &Client,
    zone: &str,
    batch: &RrsetBatch,
    write: &WriteArgs,
) -> Result<(), Failure> {
    let answer = client.patch_rrsets(zone, batch, &write.options())?;
    let text: String = batch.changes.iter().map(plan::of_change).collect();
    session.written(write, &answer, &text)
}

fn table_of(rrsets: &[Rrset]) -> String {
    table::columns(
        ["NAME", "TTL", "TYPE", "DATA"],
        rrsets.iter().flat_map(|rrset| {
            rrset.records.iter().map(|record| {
                [rrset.name_unicode.clone(), rrset.ttl.to_string(), rrset.rtype.clone(), record.clone()]
            })
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_has_a_line_of_its_own() {
        let rrset = |name: &str, rtype: &str, records: &[&str]| Rrset {
            name: name.into(),
            name_unicode: name.into(),
            rtype: rtype.into(),
            ttl: 300,
            records: records.iter().map(|record| (*record).to_owned()).collect(),
            etag: "e".into(),
        };
        let rrsets = [
            rrset("example.com.", "MX", &["10 a.example.com.", "20 b.example.com."]),
            rrset("www.example.com.", "A", &["192.0.2.1"]),
        ];
        assert_eq!(
            table_of(&rrsets),
            "NAME              TTL  TYPE  DATA\n\
             example.com.      300  MX    10 a.example.com.\n\
             example.com.      300  MX    20 b.example.com.\n\
             www.example.com.  300  A     192.0.2.1\n"
        );
    }

    #[test]
    fn a_batch_of_one() {
        let key = RrsetKey { zone: "z".into(), name: "www.example.com.".into(), rtype: "A".into() };
        let reason = MessageArgs { message: Some("why".into()) };
        let batch = key.batch(RrsetOp::Remove, None, &["192.0.2.1".into()], &reason);
        assert_eq!(
            serde_json::to_string(&batch).unwrap(),
            r#"{"changes":[{"op":"remove","name":"www.example.com.","type":"A","records":["192.0.2.1"]}],"message":"why"}"#
        );
    }
}
