//! `koder dns pool …`: pools of endpoints.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use herald_wire::api::steering::{
    Answer as PoolAnswer, Endpoint, EndpointState, Named, Pool, SteeringChange, SteeringOp, SteeringPatch,
};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, input};
use crate::client::Client;
use crate::failure::Failure;
use crate::names;
use crate::{table, yaml};

/// What to do about pools.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List pools
    List(ListPoolsArgs),
    /// Show a pool and its endpoints
    Show(PoolArgs),
    /// Make a pool what a file says
    Set(SetArgs),
    /// Delete a pool that no policy leads to
    Delete(DeleteArgs),
    /// Give an endpoint another weight
    Weight(WeightArgs),
    /// Let an endpoint answer only where its pool has nothing else
    Drain(StateArgs),
    /// Let an endpoint answer
    Enable(StateArgs),
    /// Let an endpoint answer no more
    Disable(StateArgs),
}

/// Flags of `koder dns pool list`.
#[derive(Args, Debug)]
pub struct ListPoolsArgs {
    /// Name or id of the zone
    pub zone: String,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Zone and pool.
#[derive(Args, Debug)]
pub struct PoolArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Name of the pool
    pub pool: String,
}

/// Flags of `koder dns pool set`.
#[derive(Args, Debug)]
#[command(after_help = "\
The file is a pool as `koder dns steering export` has it:
  ttl: 60
  answer: one            # or all, or {up_to: 2}
  endpoints:
    - {name: fra1, weight: 10, records: {A: [192.0.2.1]}, location: {latitude: 50.1, longitude: 8.7}}
    - {name: fra2, weight: 10, records: {A: [192.0.2.2]}, monitor: 7}   # id of a monitor: left out while that is down
--if-match takes the pool's ETag.

Examples:
  koder dns pool set example.com eu eu.yaml --wait
  koder dns pool set example.com eu - < eu.json")]
pub struct SetArgs {
    /// Which.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// A YAML or JSON file; "-" is stdin
    pub file: PathBuf,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pool delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pool weight`.
#[derive(Args, Debug)]
#[command(after_help = "\
--if-match takes the zone's ETag.

Examples:
  koder dns pool weight example.com eu fra1 20 --wait")]
pub struct WeightArgs {
    /// Which.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// Name of the endpoint
    pub endpoint: String,
    /// Its share of the draws, at most 1000000; 0 for none
    pub weight: u32,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns pool drain`, `enable` and `disable`.
#[derive(Args, Debug)]
#[command(after_help = "--if-match takes the zone's ETag.")]
pub struct StateArgs {
    /// Which.
    #[command(flatten)]
    pub pool: PoolArgs,
    /// Name of the endpoint
    pub endpoint: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &PoolCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        PoolCommand::List(args) => {
            let zone = names::zone_for_path(&args.zone);
            let listing = Listing::fetch(&args.list, |page| client.pools(&zone, &page))?;
            session
                .listed(&listing, |pools| table_of(pools.iter().map(|pool| (pool.name.as_str(), &pool.item))))
        }
        PoolCommand::Show(args) => {
            let answer = client.pool(&names::zone_for_path(&args.zone), &args.pool)?;
            session.show(&answer, show)
        }
        PoolCommand::Set(args) => {
            let text = input::text(input::read(&args.file)?, &args.file)?;
            let (pool, body) = (&args.pool, yaml::read(&text, &args.file)?);
            let options = args.write.options_for(&args.reason);
            let answer = client.put_pool(&names::zone_for_path(&pool.zone), &pool.pool, &body, &options)?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        PoolCommand::Delete(args) => {
            let (pool, options) = (&args.pool, args.write.options_for(&args.reason));
            let answer = client.delete_pool(&names::zone_for_path(&pool.zone), &pool.pool, &options)?;
            let text = format!("{} the pool {}\n", args.write.tense("deleted", "would delete"), pool.pool);
            session.written(&args.write, &answer, &text)
        }
        PoolCommand::Weight(args) => {
            let change = SteeringChange { weight: Some(args.weight), ..SteeringChange::default() };
            let said = format!("the weight {}", args.weight);
            set_endpoint(session, &client, &Target::of_weight(args), change, &said)
        }
        PoolCommand::Drain(args) => set_state(session, &client, args, EndpointState::Drained, "drained"),
        PoolCommand::Enable(args) => set_state(session, &client, args, EndpointState::Enabled, "enabled"),
        PoolCommand::Disable(args) => set_state(session, &client, args, EndpointState::Disabled, "disabled"),
    }
}

/// Which endpoint, and how to write.
struct Target<'a> {
    pool: &'a PoolArgs,
    name: &'a str,
    write: &'a WriteArgs,
    reason: &'a MessageArgs,
}

impl<'a> Target<'a> {
    fn of_weight(args: &'a WeightArgs) -> Target<'a> {
        Target { pool: &args.pool, name: &args.endpoint, write: &args.write, reason: &args.reason }
    }

    fn of_state(args: &'a StateArgs) -> Target<'a> {
        Target { pool: &args.pool, name: &args.endpoint, write: &args.write, reason: &args.reason }
    }
}

fn set_state(
    session: &mut Session<'_>,
    client: &Client,
    args: &StateArgs,
    state: EndpointState,
    word: &str,
) -> Result<(), Failure> {
    let change = SteeringChange { state: Some(state), ..SteeringChange::default() };
    set_endpoint(session, client, &Target::of_state(args), change, &format!("the state {word}"))
}

fn set_endpoint(
    session: &mut Session<'_>,
    client: &Client,
    endpoint: &Target<'_>,
    change: SteeringChange,
    said: &str,
) -> Result<(), Failure> {
    let Target { pool, name, write, reason } = endpoint;
    let change = SteeringChange {
        op: SteeringOp::SetEndpoint,
        name: Some(pool.pool.clone()),
        endpoint: Some((*name).to_owned()),
        ..change
    };
    let patch =
        SteeringPatch { changes: vec![change], message: reason.message.clone(), ..SteeringPatch::default() };
    let answer = client.patch_steering(&names::zone_for_path(&pool.zone), &patch, &write.options())?;
    let text = format!("{name} of the pool {} {} {said}\n", pool.pool, write.tense("has", "would have"));
    session.written(write, &answer, &text)
}

/// Pools, a line each.
pub(super) fn table_of<'a>(pools: impl Iterator<Item = (&'a str, &'a Pool)>) -> String {
    table::columns(
        ["POOL", "TTL", "ANSWER", "STICKY", "ENDPOINTS"],
        pools.map(|(name, pool)| {
            let endpoints: Vec<String> = pool.endpoints.iter().map(in_short).collect();
            [name.to_owned(), pool.ttl.to_string(), answers(pool), sticky(pool), endpoints.join(" ")]
        }),
    )
}

fn in_short(endpoint: &Endpoint) -> String {
    let state = match endpoint.state {
        EndpointState::Enabled => "",
        EndpointState::Drained => " (drained)",
        EndpointState::Disabled => " (disabled)",
    };
    format!("{}:{}{state}", endpoint.name, endpoint.weight.unwrap_or(1))
}

fn answers(pool: &Pool) -> String {
    match pool.answer {
        Some(PoolAnswer::All) | None => "all".into(),
        Some(PoolAnswer::One) => "one".into(),
        Some(PoolAnswer::UpTo(count)) => format!("up to {count}"),
    }
}

fn sticky(pool: &Pool) -> String {
    let lengths = |sticky: herald_wire::api::steering::Sticky| {
        format!("/{} /{}", sticky.ipv4_prefix, sticky.ipv6_prefix)
    };
    pool.sticky.map_or_else(|| "no".into(), lengths)
}

fn show(pool: &Named<Pool>) -> String {
    let Named { name, etag, item: pool } = pool;
    let mut text = table::pairs([
        ("pool", Some(name.clone())),
        ("ttl", Some(pool.ttl.to_string())),
        ("answer", Some(answers(pool))),
        ("sticky", Some(sticky(pool))),
        ("min healthy", Some(pool.min_healthy.to_string())),
        ("etag", Some(etag.clone())),
    ]);
    text.push('\n');
    text.push_str(&table::columns(
        ["ENDPOINT", "WEIGHT", "STATE", "LOCATION", "BIAS", "MONITOR", "RECORDS"],
        pool.endpoints.iter().map(|endpoint| {
            let records = endpoint.records.iter();
            let records: Vec<String> = records
                .flat_map(|(rtype, all)| all.iter().map(move |one| format!("{rtype} {one}")))
                .collect();
            [
                endpoint.name.clone(),
                endpoint.weight.unwrap_or(1).to_string(),
                match endpoint.state {
                    EndpointState::Enabled => "enabled".into(),
                    EndpointState::Drained => "drained".into(),
                    EndpointState::Disabled => "disabled".into(),
                },
                endpoint.location.map_or_else(String::new, |at| format!("{} {}", at.latitude, at.longitude)),
                endpoint.bias.to_string(),
                endpoint.monitor.map_or_else(String::new, |monitor| monitor.to_string()),
                records.join(", "),
            ]
        }),
    ));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_in_a_table() {
        let pool: Named<Pool> = serde_json::from_value(json!({
            "name": "eu", "etag": "e", "ttl": 30, "answer": "one", "endpoints": [
                { "name": "fra1", "weight": 10, "records": { "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"] } },
                { "name": "ams1", "state": "drained", "records": { "A": ["192.0.2.2"] } },
            ],
        }))
        .unwrap();
        assert_eq!(
            table_of([("eu", &pool.item)].into_iter()),
            "POOL  TTL  ANSWER  STICKY  ENDPOINTS\n\
             eu    30   one     no      fra1:10 ams1:1 (drained)\n"
        );
        assert!(show(&pool).contains("A 192.0.2.1, AAAA 2001:db8::1\n"), "{}", show(&pool));
    }
}
