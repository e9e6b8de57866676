//! `koder dns policy …`: which rules answer a name and type.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use herald_wire::api::steering::{City, Policy, Rule, Tagged, When, WhenAllDown, WhenIsolated};
use serde_json::{Value, json};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, input};
use crate::failure::Failure;
use crate::names;
use crate::{table, yaml};

/// What to do about policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List policies
    List(ListPoliciesArgs),
    /// Show a policy, rule by rule
    Show(PolicyArgs),
    /// Let rules answer a name and type
    Set(SetArgs),
    /// Delete a policy
    Delete(DeleteArgs),
}

/// Flags of `koder dns policy list`.
#[derive(Args, Debug)]
pub struct ListPoliciesArgs {
    /// Name or id of the zone
    pub zone: String,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Zone, name and type.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Owner name: @, relative to the zone, or fully qualified
    pub name: String,
    /// Type of the answers, such as A
    #[arg(value_name = "TYPE")]
    pub rtype: String,
}

/// Flags of `koder dns policy set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("rules").required(true).args(["file", "pools"]))]
#[command(after_help = "\
The file has the rules, as `koder dns steering export` has them:
  rules:
    - {when: {countries: [DE, AT]}, pools: [eu, us]}
    - {pools: [us]}
--if-match takes the policy's ETag.

Examples:
  koder dns policy set example.com www A --pool eu
  koder dns policy set example.com www A rules.yaml --wait")]
pub struct SetArgs {
    /// Which.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// A YAML or JSON file with the rules; "-" is stdin
    pub file: Option<PathBuf>,
    /// One rule for everybody: this pool answers, or if it can't the next one
    #[arg(long = "pool", value_name = "POOL")]
    pub pools: Vec<String>,
    /// What is answered when too few endpoints are up in all pools: serve_all (the default), serve_last or nodata
    #[arg(long, value_name = "WHAT", requires = "pools", value_parser = ["serve_all", "serve_last", "nodata"])]
    pub when_all_down: Option<String>,
    /// What a PoP goes by that hears nothing from the control plane: hold (its last word, the default) or local (the PoP's own probes)
    #[arg(long, value_name = "WHAT", requires = "pools", value_parser = ["hold", "local"])]
    pub when_isolated: Option<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns policy delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &PolicyCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        PolicyCommand::List(args) => {
            let zone = names::zone_for_path(&args.zone);
            let listing = Listing::fetch(&args.list, |page| client.policies(&zone, &page))?;
            session.listed(&listing, |policies| table_of(policies.iter().map(|policy| &policy.item)))
        }
        PolicyCommand::Show(args) => {
            let answer = client.policy(&names::zone_for_path(&args.zone), &args.name, &args.rtype)?;
            session.show(&answer, show)
        }
        PolicyCommand::Set(args) => {
            let PolicyArgs { zone, name, rtype } = &args.policy;
            let body: Value = match &args.file {
                Some(file) => yaml::read(&input::text(input::read(file)?, file)?, file)?,
                None => {
                    let mut body = json!({ "rules": [{ "pools": args.pools }] });
                    if let Some(word) = &args.when_all_down {
                        body["when_all_down"] = json!(word);
                    }
                    if let Some(word) = &args.when_isolated {
                        body["when_isolated"] = json!(word);
                    }
                    body
                }
            };
            let options = args.write.options_for(&args.reason);
            let answer = client.put_policy(&names::zone_for_path(zone), name, rtype, &body, &options)?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        PolicyCommand::Delete(args) => {
            let PolicyArgs { zone, name, rtype } = &args.policy;
            let options = args.write.options_for(&args.reason);
            let answer = client.delete_policy(&names::zone_for_path(zone), name, rtype, &options)?;
            let text = format!("{} the policy {name} {rtype}\n", args.write.tense("deleted", "would delete"));
            session.written(&args.write, &answer, &text)
        }
    }
}

/// Policies, a line for each rule.
pub(super) fn table_of<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> String {
    table::columns(
        ["NAME", "TYPE", "RULE", "WHO", "POOLS"],
        policies.into_iter().flat_map(|policy| {
            policy.rules.iter().enumerate().map(|(place, rule)| {
                let [number, who, pools] = cells(place, rule);
                [policy.name.clone(), policy.rtype.clone(), number, who, pools]
            })
        }),
    )
}

fn cells(place: usize, rule: &Rule) -> [String; 3] {
    let nearest = if rule.nearest { " (nearest)" } else { "" };
    let who = match &rule.name {
        Some(name) => format!("{name}: {}", who(&rule.when)),
        None => who(&rule.when),
    };
    [(place + 1).to_string(), who, format!("{}{nearest}", rule.pools.join(", "))]
}

/// Whom a rule is for, in short.
fn who(when: &When) -> String {
    if when.is_any() {
        return "everybody".into();
    }
    let city = |city: &City| match city {
        City::GeoNames(number) => number.to_string(),
        City::Named(city) => format!("{} ({})", city.name, city.country),
    };
    let asns: Vec<String> = when.asns.iter().map(|asn| format!("AS{asn}")).collect();
    let cities: Vec<String> = when.cities.iter().map(city).collect();
    let kinds = [
        ("continent", &when.continents),
        ("country", &when.countries),
        ("subdivision", &when.subdivisions),
        ("city", &cities),
        ("", &asns),
        ("from", &when.prefixes),
        ("PoP", &when.pops),
        ("view", &when.views),
    ];
    let asked = kinds.into_iter().filter(|(_, values)| !values.is_empty());
    let texts: Vec<String> =
        asked.map(|(kind, values)| format!("{kind} {}", values.join(", ")).trim().to_owned()).collect();
    texts.join("; ")
}

fn show(policy: &Tagged<Policy>) -> String {
    let Tagged { etag, item: Policy { name, rtype, rules, when_all_down, when_isolated } } = policy;
    let mut text = table::pairs([
        ("name", Some(name.clone())),
        ("type", Some(rtype.clone())),
        (
            "when all down",
            match when_all_down {
                WhenAllDown::ServeAll => None,
                WhenAllDown::ServeLast => Some("serve those up last".to_owned()),
                WhenAllDown::NoData => Some("no records".to_owned()),
            },
        ),
        (
            "when isolated",
            (*when_isolated == WhenIsolated::Local).then(|| "the PoP's own probes decide".to_owned()),
        ),
        ("etag", Some(etag.clone())),
    ]);
    let rows = rules.iter().enumerate().map(|(place, rule)| cells(place, rule));
    text.push('\n');
    text.push_str(&table::columns(["RULE", "WHO", "POOLS"], rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_in_short() {
        let policy: Policy = serde_json::from_value(json!({ "name": "www", "type": "A", "rules": [
            { "name": "near", "when": { "countries": ["DE", "AT"], "asns": [64496],
              "cities": [2950159, { "name": "Paris", "country": "FR" }] }, "pools": ["eu", "us"], "nearest": true },
            { "pools": ["us"] },
        ] }))
        .unwrap();
        let lines: Vec<Vec<String>> = table_of([&policy])
            .lines()
            .map(|line| {
                line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect()
            })
            .collect();
        assert_eq!(lines[0], ["NAME", "TYPE", "RULE", "WHO", "POOLS"]);
        let near = "near: country DE, AT; city 2950159, Paris (FR); AS64496";
        assert_eq!(lines[1], ["www", "A", "1", near, "eu, us (nearest)"]);
        assert_eq!(lines[2], ["www", "A", "2", "everybody", "us"]);
    }
}
