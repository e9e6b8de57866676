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
    /// Rename, enable or disable a tenant
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
#[command(after_help = "Examples:\n  koder dns tenant set acme --disable -m 'unpaid'")]
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
                message: args.reason.message.clone(),
            };
            let answer = client.patch_tenant(&args.tenant, &patch, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        TenantCommand::Delete(args) => {
            let answer = client.delete_tenant(&args.tenant, &args.write.options())?;
            let verb = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{verb} {}\n", args.tenant))
        }
    }
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

fn show(tenant: &Tenant) -> String {
    table::pairs([
        ("tenant", Some(tenant.name.clone())),
        ("id", Some(tenant.id.clone())),
        ("enabled", Some(yes_no(tenant.enabled))),
        ("zones", Some(tenant.zone_count.to_string())),
        ("created", Some(format_time(tenant.created_at_ms))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let tenant =
            Tenant { id: "t1".into(), name: "acme".into(), enabled: false, zone_count: 3, created_at_ms: 0 };
        assert_eq!(
            table_of(std::slice::from_ref(&tenant)),
            "NAME  ENABLED  ZONES  CREATED\nacme  no       3      1970-01-01T00:00:00Z\n"
        );
        assert_eq!(
            show(&tenant),
            "tenant   acme\nid       t1\nenabled  no\nzones    3\ncreated  1970-01-01T00:00:00Z\n"
        );
    }
}
