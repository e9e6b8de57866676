//! `koder dns nsset …`: sets of name servers.

use clap::{Args, Subcommand};
use herald_wire::api::{NameserverSet, NameserverSetInput, SoaTimers};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, yes_no};
use crate::client::Client;
use crate::failure::Failure;
use crate::names;
use crate::table;
use crate::times::format_time;

/// The TTL of NS and SOA unless it is said.
const TTL_DEFAULT: u32 = 3600;

/// What to do about sets of name servers.
#[derive(Debug, Subcommand)]
pub enum NssetCommand {
    /// List the sets
    List(ListArgs),
    /// Show a set
    Show {
        /// Name or id of the set
        set: String,
    },
    /// Make a set (operators)
    Create(CreateArgs),
    /// Change a set, and with it the apex NS and SOA of its zones (operators)
    Set(SetArgs),
    /// Delete a set that no zone uses (operators)
    Delete(DeleteArgs),
}

/// Flags of `koder dns nsset create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns nsset create main --nameserver ns1.example.net --nameserver ns2.example.org --rname hostmaster@example.net --default")]
pub struct CreateArgs {
    /// Name of the set
    pub name: String,
    /// A host name, in the order of the NS records
    #[arg(long = "nameserver", value_name = "HOST", required = true)]
    pub nameservers: Vec<String>,
    /// The SOA's mailbox, as a name or a mail address
    #[arg(long)]
    pub rname: String,
    /// New zones take this set
    #[arg(long)]
    pub default: bool,
    /// Times.
    #[command(flatten)]
    pub times: TimesArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns nsset set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("settings").multiple(true).required(true)
    .args(["name", "nameservers", "rname", "default", "ttl", "refresh", "retry", "expire", "minimum"]))]
#[command(after_help = "\
What isn't given stays.

Examples:
  koder dns nsset set main --nameserver ns1.example.net --nameserver ns3.example.org --dry-run
  koder dns nsset set main --minimum 60 --wait")]
pub struct SetArgs {
    /// Name or id of the set
    pub set: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// A host name; those given replace all
    #[arg(long = "nameserver", value_name = "HOST")]
    pub nameservers: Vec<String>,
    /// The SOA's mailbox, as a name or a mail address
    #[arg(long)]
    pub rname: Option<String>,
    /// New zones take this set
    #[arg(long)]
    pub default: bool,
    /// Times.
    #[command(flatten)]
    pub times: TimesArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Times of NS and SOA, in seconds.
#[derive(Args, Clone, Debug, Default)]
pub struct TimesArgs {
    /// TTL of NS and SOA
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// REFRESH of the SOA
    #[arg(long, value_name = "SECONDS")]
    pub refresh: Option<u32>,
    /// RETRY of the SOA
    #[arg(long, value_name = "SECONDS")]
    pub retry: Option<u32>,
    /// EXPIRE of the SOA
    #[arg(long, value_name = "SECONDS")]
    pub expire: Option<u32>,
    /// MINIMUM of the SOA: the negative TTL
    #[arg(long, value_name = "SECONDS")]
    pub minimum: Option<u32>,
}

/// Flags of `koder dns nsset delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Name or id of the set
    pub set: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &NssetCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        NssetCommand::List(args) => {
            let listing = Listing::fetch(args, |page| client.nameserver_sets(&page))?;
            session.listed(&listing, table_of)
        }
        NssetCommand::Show { set } => {
            let answer = client.nameserver_set(set)?;
            session.show(&answer, show)
        }
        NssetCommand::Create(args) => {
            let set = NameserverSetInput {
                name: args.name.clone(),
                nameservers: args.nameservers.clone(),
                rname: args.rname.clone(),
                ttl: args.times.ttl.unwrap_or(TTL_DEFAULT),
                soa: args.times.over(SoaTimers::default()),
                default: args.default,
                message: args.reason.message.clone(),
            };
            let answer = client.create_nameserver_set(&set, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        NssetCommand::Set(args) => set(session, &client, args),
        NssetCommand::Delete(args) => {
            let answer = client.delete_nameserver_set(&args.set, &args.write.options_for(&args.reason))?;
            let verb = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{verb} {}\n", args.set))
        }
    }
}

fn set(session: &mut Session<'_>, client: &Client, args: &SetArgs) -> Result<(), Failure> {
    let before = client.nameserver_set(&args.set)?;
    let mut options = args.write.options();
    // The set is replaced as a whole, so that what somebody else sets meanwhile would be lost.
    options.if_match = options.if_match.or_else(|| before.etag.clone());
    let answer = client.put_nameserver_set(&args.set, &changed(&before, args), &options)?;
    let text = answer.item.as_ref().map(show).unwrap_or_default();
    session.written(&args.write, &answer, &text)
}

fn changed(before: &NameserverSet, args: &SetArgs) -> NameserverSetInput {
    let given = (!args.nameservers.is_empty()).then_some(&args.nameservers);
    NameserverSetInput {
        name: args.name.as_ref().unwrap_or(&before.name).clone(),
        nameservers: given.unwrap_or(&before.nameservers).clone(),
        rname: args.rname.as_ref().unwrap_or(&before.rname).clone(),
        ttl: args.times.ttl.unwrap_or(before.ttl),
        soa: args.times.over(before.soa),
        default: args.default || before.default,
        message: args.reason.message.clone(),
    }
}

impl TimesArgs {
    fn over(&self, before: SoaTimers) -> SoaTimers {
        SoaTimers {
            refresh: self.refresh.unwrap_or(before.refresh),
            retry: self.retry.unwrap_or(before.retry),
            expire: self.expire.unwrap_or(before.expire),
            minimum: self.minimum.unwrap_or(before.minimum),
        }
    }
}

fn table_of(sets: &[NameserverSet]) -> String {
    table::columns(
        ["NAME", "DEFAULT", "NAMESERVERS"],
        sets.iter().map(|set| [set.name.clone(), yes_no(set.default), hosts(set)]),
    )
}

fn show(set: &NameserverSet) -> String {
    table::pairs([
        ("set", Some(set.name.clone())),
        ("id", Some(set.id.clone())),
        ("nameservers", Some(hosts(set))),
        ("rname", Some(names::for_people(&set.rname))),
        ("default", Some(yes_no(set.default))),
        ("ttl", Some(set.ttl.to_string())),
        ("refresh", Some(set.soa.refresh.to_string())),
        ("retry", Some(set.soa.retry.to_string())),
        ("expire", Some(set.soa.expire.to_string())),
        ("minimum", Some(set.soa.minimum.to_string())),
        ("created", Some(format_time(set.created_at_ms))),
    ])
}

fn hosts(set: &NameserverSet) -> String {
    set.nameservers.iter().map(|host| names::for_people(host)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> NameserverSet {
        NameserverSet {
            id: "n1".into(),
            name: "main".into(),
            nameservers: vec!["ns1.example.net.".into(), "xn--bcher-kva.example.".into()],
            rname: "dns.example.net.".into(),
            ttl: 3600,
            soa: SoaTimers::default(),
            default: true,
            created_at_ms: 0,
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let args = SetArgs {
            set: "main".into(),
            name: None,
            nameservers: Vec::new(),
            rname: None,
            default: false,
            times: TimesArgs { minimum: Some(60), ..TimesArgs::default() },
            write: WriteArgs::default(),
            reason: MessageArgs::default(),
        };
        let input = changed(&example(), &args);
        assert_eq!(input.soa, SoaTimers { minimum: 60, ..SoaTimers::default() });
        assert_eq!((input.nameservers, input.default), (example().nameservers, true));
        let args = SetArgs { nameservers: vec!["ns9.example.net".into()], ..args };
        assert_eq!(changed(&example(), &args).nameservers, ["ns9.example.net"]);
    }

    #[test]
    fn tables() {
        assert_eq!(
            table_of(&[example()]),
            "NAME  DEFAULT  NAMESERVERS\nmain  yes      ns1.example.net. bücher.example.\n"
        );
        assert!(show(&example()).contains("minimum      300\n"), "{}", show(&example()));
    }
}
