//! `koder dns tenant …`, for operators.

use clap::{Args, Subcommand};
use herald_wire::api::{Tenant, TenantCreate, TenantPatch};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, yes_no};
use crate::failure::Failure;
use crate::table;
use crate::times::format_time;

/// What to do about tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// List the tenants
    List(ListArgs),
    /// Show a tenant
    Show {
        /// Name or id of the tenant
        tenant: String,
    },
    /// Make a tenant
    Create(CreateArgs),
    /// Rename a tenant, enable or disable it, set its limits and where its clients are
    Set(SetArgs),
    /// Delete a tenant that holds no zones
    Delete(DeleteArgs),
}

/// Flags of `koder dns tenant create`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  koder dns tenant create acme -m 'contract 4711'")]
pub struct CreateArgs {
    /// Name of the tenant: letters, digits and -
    pub name: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns tenant set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("settings").multiple(true).required(true))]
#[command(after_help = "Examples:\n  koder dns tenant set acme --disable -m 'unpaid'\n  \
    koder dns tenant set acme --limit zones=500 --limit writes_per_s=default\n  \
    koder dns tenant set acme --source-prefix 10.1.0.0/16 --source-prefix 2001:db8:1::/48")]
pub struct SetArgs {
    /// Name or id of the tenant
    pub tenant: String,
    /// New name
    #[arg(long, group = "settings")]
    pub name: Option<String>,
    /// Take its tokens again
    #[arg(long, group = "settings", conflicts_with = "disable")]
    pub enable: bool,
    /// Refuse its tokens; its zones go on being served
    #[arg(long, group = "settings")]
    pub disable: bool,
    /// A limit by its name, a number or `default`; may be repeated. `tenant show` lists them
    #[arg(long = "limit", value_name = "NAME=VALUE", group = "settings", value_parser = parse_limit)]
    pub limits: Vec<(String, Option<u64>)>,
    /// Where queries of its own clients come from, who can be inside of its private zones; may be repeated, and replaces all there were
    #[arg(long = "source-prefix", value_name = "PREFIX", group = "settings")]
    pub source_prefixes: Vec<String>,
    /// It has no clients of its own
    #[arg(long, group = "settings", conflicts_with = "source_prefixes")]
    pub no_source_prefixes: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns tenant delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Name or id of the tenant
    pub tenant: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &TenantCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        TenantCommand::List(args) => {
            let listing = Listing::fetch(args, |page| client.tenants(&page))?;
            session.listed(&listing, table_of)
        }
        TenantCommand::Show { tenant } => {
            let answer = client.tenant(tenant)?;
            session.show(&answer, show)
        }
        TenantCommand::Create(args) => {
            let tenant = TenantCreate { name: args.name.clone(), message: args.reason.message.clone() };
            let answer = client.create_tenant(&tenant, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        TenantCommand::Set(args) => {
            let patch = TenantPatch {
                name: args.name.clone(),
                enabled: (args.enable || args.disable).then_some(args.enable),
                limits: args.limits.iter().cloned().collect(),
                source_prefixes: (args.no_source_prefixes || !args.source_prefixes.is_empty())
                    .then(|| args.source_prefixes.clone()),
                message: args.reason.message.clone(),
            };
            let answer = client.patch_tenant(&args.tenant, &patch, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        TenantCommand::Delete(args) => {
            let answer = client.delete_tenant(&args.tenant, &args.write.options_for(&args.reason))?;
            let verb = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{verb} {}\n", args.tenant))
        }
    }
}

/// `zones=500`, or `zones=default`.
fn parse_limit(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as zones=500")?;
    let value = match value {
        "default" => None,
        number => Some(number.parse().map_err(|_| format!("`{number}` is neither a number nor `default`"))?),
    };
    Ok((name.to_owned(), value))
}

fn table_of(tenants: &[Tenant]) -> String {
    table::columns(
        ["NAME", "ENABLED", "ZONES", "CREATED"],
        tenants.iter().map(|tenant| {
            [
                tenant.name.clone(),
                yes_no(tenant.enabled),
                tenant.zone_count.to_string(),
                format_time(tenant.created_at_ms),
            ]
        }),
    )
}

/// A tenant, with its limits; `3 of 100` where it is known how much it has.
pub(super) fn show(tenant: &Tenant) -> String {
    let used = |name: &str| match name {
        "zones" => Some(tenant.usage.zones),
        "records" => Some(tenant.usage.records),
        "tokens" => Some(tenant.usage.tokens),
        "monitors" => Some(tenant.usage.monitors),
        _ => None,
    };
    let limits = tenant.limits.iter().map(|(name, limit)| {
        let limit = used(name).map_or_else(|| limit.to_string(), |used| format!("{used} of {limit}"));
        (name.as_str(), Some(limit))
    });
    let about = table::pairs([
        ("tenant", Some(tenant.name.clone())),
        ("id", Some(tenant.id.clone())),
        ("enabled", Some(yes_no(tenant.enabled))),
        ("zones", Some(tenant.zone_count.to_string())),
        ("source prefixes", (!tenant.source_prefixes.is_empty()).then(|| tenant.source_prefixes.join(", "))),
        ("created", Some(format_time(tenant.created_at_ms))),
    ]);
    if tenant.limits.is_empty() { about } else { format!("{about}\nlimits\n{}", table::pairs(limits)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::TenantUsage;
    use std::collections::BTreeMap;

    #[test]
    fn tables() {
        let mut tenant = Tenant {
            id: "t1".into(),
            name: "acme".into(),
            enabled: false,
            zone_count: 3,
            limits: BTreeMap::new(),
            usage: TenantUsage { zones: 3, ..TenantUsage::default() },
            source_prefixes: Vec::new(),
            created_at_ms: 0,
        };
        assert_eq!(
            table_of(std::slice::from_ref(&tenant)),
            "NAME  ENABLED  ZONES  CREATED\nacme  no       3      1970-01-01T00:00:00Z\n"
        );
        assert_eq!(
            show(&tenant),
            "tenant   acme\nid       t1\nenabled  no\nzones    3\ncreated  1970-01-01T00:00:00Z\n"
        );
        tenant.limits = BTreeMap::from([("zones".into(), 100), ("body_bytes".into(), 4096)]);
        assert!(
            show(&tenant).ends_with("Z\n\nlimits\nbody_bytes  4096\nzones       3 of 100\n"),
            "{}",
            show(&tenant)
        );
    }

    #[test]
    fn limits_are_names_and_numbers() {
        assert_eq!(parse_limit("zones=5"), Ok(("zones".into(), Some(5))));
        assert_eq!(parse_limit("zones=default"), Ok(("zones".into(), None)));
        assert!(parse_limit("zones").is_err() && parse_limit("zones=-1").is_err());
    }
}
