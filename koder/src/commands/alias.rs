//! `koder dns alias …`: what ALIAS records resolve to, and from where.

use clap::{Args, Subcommand};
use herald_wire::api::aliases::{Alias, AliasAnswer, AliasRegionState, AliasState};

use super::list::Listing;
use super::{ListArgs, Session};
use crate::failure::Failure;
use crate::{names, table, times};

/// What to ask about ALIAS records. They are made and changed as any other record: `koder dns record set`.
#[derive(Debug, Subcommand)]
pub enum AliasCommand {
    /// List a zone's ALIAS records, with what is served in their place
    List(AliasListArgs),
    /// Show one, and what each PoP that resolves it has found
    Show(AliasShowArgs),
}

/// Flags of `koder dns alias list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns record set example.com @ ALIAS lb.example.net.
  koder dns alias list example.com")]
pub struct AliasListArgs {
    /// The zone (name or id)
    pub zone: String,
    /// Which page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `koder dns alias show`.
#[derive(Args, Debug)]
pub struct AliasShowArgs {
    /// The zone (name or id)
    pub zone: String,
    /// The name that has the ALIAS: fully qualified, relative to the zone, or `@`
    pub name: String,
}

pub(super) fn run(session: &mut Session<'_>, command: &AliasCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        AliasCommand::List(args) => {
            let zone = names::zone_for_path(&args.zone);
            let listing = Listing::fetch(&args.list, |page| client.aliases(&zone, None, &page))?;
            session.listed(&listing, rows)
        }
        AliasCommand::Show(args) => {
            let zone = names::zone_for_path(&args.zone);
            let answer = client.aliases(&zone, Some(&args.name), &Default::default())?;
            session.show(&answer, |page| match page.items.as_slice() {
                [] => format!("{} has no ALIAS\n", args.name),
                items => items.iter().map(details).collect(),
            })
        }
    }
}

fn rows(aliases: &[Alias]) -> String {
    table::columns(
        ["NAME", "TARGET", "STATE", "TTL", "SERVED"],
        aliases.iter().map(|alias| {
            let records = alias.served.iter().flat_map(|answer| &answer.records);
            let ttl = alias.served.iter().map(|answer| answer.ttl).min();
            [
                alias.name.clone(),
                alias.target.clone(),
                state(alias.state).to_owned(),
                ttl.map(|ttl| ttl.to_string()).unwrap_or_default(),
                records.cloned().collect::<Vec<_>>().join(" "),
            ]
        }),
    )
}

/// All about one; of an explanation it is a part.
pub(super) fn details(alias: &Alias) -> String {
    let served: Vec<String> = alias.served.iter().map(answer).collect();
    let has_own = alias.regions.iter().any(|region| region.state != AliasRegionState::Everywhere);
    let places = match (alias.differs_by_place, alias.pops.len()) {
        _ if has_own => Some("regions have answers of their own"),
        (true, _) if !alias.regions.is_empty() => {
            Some("PoPs found different addresses, but the best placed of each region the same")
        }
        (true, _) => {
            Some("PoPs found different addresses: those of the first that has any are served, everywhere")
        }
        (false, 2..) => Some("all PoPs found the same"),
        (false, _) => None,
    };
    let mut text = table::pairs([
        ("ALIAS", Some(alias.name.clone())),
        ("target", Some(alias.target.clone())),
        ("state", Some(state(alias.state).into())),
        ("cause", alias.cause.clone()),
        ("served", (!served.is_empty()).then(|| served.join("; "))),
        ("TTL at most", Some(alias.ttl.to_string())),
        ("places", places.map(str::to_owned)),
    ]);
    if !alias.regions.is_empty() {
        text.push('\n');
        text.push_str(&table::columns(
            ["REGION", "STATE", "SERVED", "POPS", "RESOLVED BY"],
            alias.regions.iter().map(|region| {
                let state = match region.state {
                    AliasRegionState::Everywhere => "as everywhere",
                    AliasRegionState::Own => "its own",
                    AliasRegionState::LastGood => "its last good answer",
                };
                let served: Vec<String> = region.served.iter().map(answer).collect();
                [
                    region.region.clone(),
                    state.to_owned(),
                    served.join("; "),
                    region.pops.join(" "),
                    region.resolved_by.join(" "),
                ]
            }),
        ));
    }
    if alias.pops.is_empty() {
        return text;
    }
    text.push('\n');
    text.push_str(&table::columns(
        ["POP", "REGION", "CONNECTED", "SINCE", "FOUND"],
        alias.pops.iter().map(|pop| {
            let found = pop.answers.iter().map(answer);
            let causes = pop.causes.iter().map(|cause| format!("{}: {}", cause.rtype, cause.cause));
            [
                pop.pop.clone(),
                pop.region.clone().unwrap_or_default(),
                super::yes_no(pop.connected),
                pop.since_ms.map(times::format_time).unwrap_or_default(),
                found.chain(causes).collect::<Vec<_>>().join("; "),
            ]
        }),
    ));
    text
}

fn answer(answer: &AliasAnswer) -> String {
    format!("{} {} (TTL {})", answer.rtype, answer.records.join(" "), answer.ttl)
}

fn state(state: AliasState) -> &'static str {
    match state {
        AliasState::Resolved => "resolved",
        AliasState::LastGood => "last good answer",
        AliasState::Unresolved => "unresolved",
        AliasState::Circle => "leads in a circle",
        AliasState::NotServed => "zone not served",
    }
}

#[cfg(test)]
mod tests {
    use herald_wire::api::aliases::{AliasCause, AliasPop, AliasRegion};

    use super::*;

    #[test]
    fn in_words() {
        let of = |rtype: &str, ttl, record: &str| AliasAnswer {
            rtype: rtype.into(),
            ttl,
            records: vec![record.into()],
        };
        let pop = |pop: &str, answers: Vec<AliasAnswer>, cause: &str| AliasPop {
            pop: pop.into(),
            region: None,
            connected: true,
            since_ms: Some(0),
            answers,
            causes: vec![AliasCause { rtype: "AAAA".into(), cause: cause.into() }],
        };
        let alias = Alias {
            name: "example.com.".into(),
            target: "lb.example.net.".into(),
            ttl: 300,
            state: AliasState::LastGood,
            cause: Some("why".into()),
            served: vec![of("A", 56, "192.0.2.1"), of("AAAA", 20, "2001:db8::1")],
            differs_by_place: true,
            pops: vec![
                pop("fra1", vec![of("A", 56, "192.0.2.1")], "NXDOMAIN"),
                pop("iad1", Vec::new(), "no answer"),
            ],
            regions: vec![AliasRegion {
                region: "us".into(),
                state: AliasRegionState::LastGood,
                served: vec![of("A", 30, "192.0.2.9")],
                pops: vec!["iad1".into(), "iad2".into()],
                resolved_by: vec!["iad1".into()],
            }],
        };
        let listed = rows(std::slice::from_ref(&alias));
        assert!(listed.contains("last good answer  20   192.0.2.1 2001:db8::1"), "{listed}");
        let shown = details(&alias);
        for part in [
            "us      its last good answer  A 192.0.2.9 (TTL 30)  iad1 iad2  iad1",
            "answers of their own",
            "A 192.0.2.1 (TTL 56); AAAA: NXDOMAIN",
            "iad1",
            "AAAA: no answer",
            "why",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
