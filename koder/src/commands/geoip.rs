//! `koder dns geoip …`: the databases that tell where clients are, for operators.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use herald_wire::api::{Geoip, GeoipDatabase, GeoipKind, GeoipRolloutState, PopGeoip};

use super::{MessageArgs, Session, WriteArgs, yes_no};
use crate::client::FileUpload;
use crate::failure::Failure;
use crate::table;
use crate::times::format_time;
use crate::upload::Upload;

/// What to do about GeoIP databases.
#[derive(Debug, Subcommand)]
pub enum GeoipCommand {
    /// Show the databases, how far they have got, and what an operator should know
    Show,
    /// Put a database in the place of the one of its kind
    Put(PutArgs),
    /// Have no database of a kind: rules that need it fall through
    Delete(DeleteArgs),
}

/// Kinds of databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Places: GeoIP2 City or GeoLite2 City
    City,
    /// Autonomous systems: GeoIP2 ISP or GeoLite2 ASN
    Asn,
}

/// Flags of `koder dns geoip put`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns geoip put GeoLite2-City.mmdb
  koder dns geoip put GeoLite2-ASN.mmdb.gz --kind asn")]
pub struct PutArgs {
    /// The database (mmdb), plain or gzip'd; - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What it tells; found in the file's name unless given
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns geoip delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which
    #[arg(value_enum)]
    pub kind: Kind,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &GeoipCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        GeoipCommand::Show => {
            let answer = client.geoip()?;
            session.show(&answer, show)
        }
        GeoipCommand::Put(args) => {
            let Some(kind) = args.kind.or_else(|| kind_of(&args.file)) else {
                return Err(Failure::FileContent {
                    path: args.file.clone(),
                    reason: "its name doesn't say of which kind it is: say --kind city or --kind asn".into(),
                });
            };
            let upload = Upload::open(&args.file)?;
            let encoding = upload.encoding();
            let mut content = upload.into_reader();
            let file =
                FileUpload { content: &mut content, content_type: "application/octet-stream", encoding };
            let answer = client.put_geoip(wire(kind), file, &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        GeoipCommand::Delete(args) => {
            let answer = client.delete_geoip(wire(args.kind), &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
    }
}

/// MaxMind's files are named for what they are.
fn kind_of(file: &std::path::Path) -> Option<Kind> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    match (name.contains("city"), name.contains("asn") || name.contains("isp")) {
        (true, false) => Some(Kind::City),
        (false, true) => Some(Kind::Asn),
        _ => None,
    }
}

fn wire(kind: Kind) -> GeoipKind {
    match kind {
        Kind::City => GeoipKind::City,
        Kind::Asn => GeoipKind::Asn,
    }
}

fn show(geoip: &Geoip) -> String {
    let rollout = &geoip.rollout;
    let pop = rollout.pop.as_deref();
    let state = match rollout.state {
        GeoipRolloutState::None => "there is no table".to_owned(),
        GeoipRolloutState::FirstPop => match pop {
            Some(pop) => format!("{pop} gets it first"),
            None => "the next PoP that is connected gets it first".to_owned(),
        },
        GeoipRolloutState::All => "all PoPs get it".to_owned(),
        GeoipRolloutState::Stopped => format!(
            "stopped at {}: {}",
            pop.unwrap_or("a PoP"),
            rollout.problem.as_deref().unwrap_or("it could not use it")
        ),
    };
    let mut text = table::pairs([
        ("city", Some(geoip.city.as_ref().map_or("none".into(), database))),
        ("asn", Some(geoip.asn.as_ref().map_or("none".into(), database))),
        ("table", geoip.sha256.as_ref().map(|sha256| format!("{sha256}, {} bytes", geoip.bytes))),
        ("roll-out", Some(state)),
        ("zones with geo rules", Some(geoip.zones_with_geo_rules.to_string())),
    ]);
    if !geoip.pops.is_empty() {
        let rows = geoip.pops.iter().map(|at| {
            let PopGeoip { city, asn, problem, .. } = &at.geoip;
            let of = |of: &Option<GeoipDatabase>| of.as_ref().map(database).unwrap_or_default();
            [at.pop.clone(), yes_no(at.in_sync), of(city), of(asn), problem.clone().unwrap_or_default()]
        });
        text.push('\n');
        text.push_str(&table::columns(["POP", "IN SYNC", "CITY", "ASN", "PROBLEM"], rows));
    }
    for notice in &geoip.notices {
        text.push_str(&format!("\nnotice: {notice}\n"));
    }
    text
}

pub(super) fn database(database: &GeoipDatabase) -> String {
    format!("{} of {}", database.kind, format_time(database.built_at_ms))
}

#[cfg(test)]
mod tests {
    use herald_wire::api::{GeoipPop, GeoipRollout};

    use super::*;

    #[test]
    fn in_words() {
        let city = GeoipDatabase { kind: "GeoLite2-City".into(), built_at_ms: 1_767_225_600_000 };
        let geoip =
            PopGeoip { city: Some(city.clone()), problem: Some("no room".into()), ..PopGeoip::default() };
        let geoip = Geoip {
            city: Some(city),
            sha256: Some("abcd".into()),
            bytes: 7,
            rollout: GeoipRollout {
                state: GeoipRolloutState::Stopped,
                pop: Some("ams1".into()),
                problem: Some("no room".into()),
            },
            pops: vec![GeoipPop { pop: "ams1".into(), in_sync: false, geoip }],
            zones_with_geo_rules: 51,
            notices: vec!["worth its price".into()],
            ..Geoip::default()
        };
        assert_eq!(
            show(&geoip),
            "city                  GeoLite2-City of 2026-01-01T00:00:00Z\n\
             asn                   none\n\
             table                 abcd, 7 bytes\n\
             roll-out              stopped at ams1: no room\n\
             zones with geo rules  51\n\
             \n\
             POP   IN SYNC  CITY                                   ASN  PROBLEM\n\
             ams1  no       GeoLite2-City of 2026-01-01T00:00:00Z       no room\n\
             \n\
             notice: worth its price\n"
        );
    }

    #[test]
    fn a_file_says_by_its_name_what_it_is() {
        assert_eq!(kind_of("/tmp/GeoLite2-City.mmdb.gz".as_ref()), Some(Kind::City));
        assert_eq!(kind_of("GeoIP2-ISP.mmdb".as_ref()), Some(Kind::Asn));
        assert_eq!((kind_of("-".as_ref()), kind_of("db.mmdb".as_ref())), (None, None));
    }
}
