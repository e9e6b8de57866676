//! What can be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::commands::{
    alias, brakes, change, channel, context, explain, firewall, geoip, login, monitor, nsset, past, policy,
    pool, pop, query_log, record, stats, steering, tenant, token, view, zone,
};
use crate::settings::ConnectionArgs;

/// The command line client of Koder
#[derive(Debug, Parser)]
#[command(name = "koder", version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What it is about.
    #[command(subcommand)]
    pub topic: Topic,
}

/// What it is about.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Zones, records, and what they are served by
    #[command(after_help = AFTER_HELP)]
    Dns(Box<DnsArgs>),
    /// Print a script that completes command lines
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `koder dns …`.
#[derive(Args, Debug)]
pub struct DnsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DnsCommand,
}

/// What to do about DNS.
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Store a server and a token for it, once the server takes the token
    Login(login::LoginArgs),
    /// Stored servers and tokens
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Whom the token stands for and what it may do
    Whoami,
    /// Zones
    #[command(subcommand)]
    Zone(zone::ZoneCommand),
    /// Records
    #[command(subcommand)]
    Record(record::RecordCommand),
    /// What ALIAS records resolve to, and from where
    #[command(subcommand)]
    Alias(alias::AliasCommand),
    /// All steering of a zone: who gets which answer
    #[command(subcommand)]
    Steering(steering::SteeringCommand),
    /// Pools of endpoints
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Which rules answer a name and type
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Views: what insiders get
    #[command(subcommand)]
    View(view::ViewCommand),
    /// Monitors: what is asked of endpoints again and again, and the verdicts on them
    #[command(subcommand)]
    Monitor(monitor::MonitorCommand),
    /// Notification channels: where to hear of verdicts
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Which answer a client gets, and why
    Explain(explain::ExplainArgs),
    /// How many queries came, and of what kind
    Stats(stats::StatsArgs),
    /// A zone's queries one by one, or a sample of them, for an hour at most
    #[command(subcommand)]
    QueryLog(query_log::QueryLogCommand),
    /// Receipts of changes
    #[command(subcommand)]
    Change(change::ChangeCommand),
    /// Who changed what, when and why
    Changes(past::ChangesArgs),
    /// Denials, uses of tokens, secrets shown (operators)
    AccessLog(past::AccessArgs),
    /// Points of presence (operators)
    #[command(subcommand)]
    Pop(pop::PopCommand),
    /// The emptiness brake: how much may go before somebody is asked (operators)
    #[command(subcommand)]
    Brakes(brakes::BrakesCommand),
    /// The firewall: which queries are dropped, refused or answered otherwise
    #[command(subcommand)]
    Firewall(firewall::FirewallCommand),
    /// GeoIP databases, which tell where clients are (operators)
    #[command(subcommand)]
    Geoip(geoip::GeoipCommand),
    /// Tenants (operators)
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Sets of name servers
    #[command(subcommand)]
    Nsset(nsset::NssetCommand),
}

/// Whose confirmation to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitScope {
    /// All PoPs that are enabled and not drained
    All,
    /// A majority of them
    Quorum,
}

const AFTER_HELP: &str = "\
Environment:
  KODER_SERVER   address of the server, instead of the context's
  KODER_TOKEN    token, instead of the context's
  KODER_CONTEXT  name of the context, instead of the current one
  KODER_CONFIG   config file, instead of ~/.config/koder/config.toml

Exit status:
  0  done
  1  another failure
  2  the command line makes no sense, or no server is known
  3  not found
  4  refused: no valid token, or one that may not
  5  conflict, or a precondition that did not hold
  6  invalid input
  7  accepted, but not in sync before the deadline
  8  the server can't be reached, or is unavailable

Examples:
  koder dns login --server https://herald.example
  koder dns zone create example.com
  koder dns record set example.com www A 192.0.2.1 --wait
  koder dns zone export example.com > example.com.zone";

const COMPLETIONS_HELP: &str = "\
Examples:
  koder completions bash > ~/.local/share/bash-completion/completions/koder
  koder completions zsh > \"${fpath[1]}/_koder\"
  koder completions fish > ~/.config/fish/completions/koder.fish";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "koder --json dns whoami",
            "koder dns whoami --json --context prod --cacert /ca.pem",
            "koder dns login --server https://herald.example --token-file -",
            "koder dns login --server https://herald.example --context prod",
            "koder dns context list",
            "koder dns context use prod",
            "koder dns context show",
            "koder dns context show prod",
            "koder dns context delete prod",
            "koder dns zone create example.com --nameserver-set main --label team=web --tenant t --file z.zone",
            "koder dns zone list exa --tenant t --status pending --label team=web --limit 10 --cursor c",
            "koder dns zone show example.com",
            "koder dns zone set example.com --label team=web --remove-label old --nameserver-set main -m why",
            "koder dns zone set example.com --clear-labels --if-match 42",
            "koder dns zone delete example.com --yes --dry-run",
            "koder dns zone import example.com.zone --merge --wait=quorum --timeout 10s",
            "koder dns zone import - --zone example.com",
            "koder dns zone export example.com -o example.com.zone",
            "koder dns zone export example.com --at 2026-11-01T12:00:00Z",
            "koder dns zone history example.com --limit 5",
            "koder dns zone diff example.com 4711",
            "koder dns zone diff example.com 4711 4712 --json",
            "koder dns zone rollback example.com 4711 --dry-run -m why",
            "koder dns zone restore z1 --wait -m why",
            "koder dns zone delete example.com -m why",
            "koder dns zone import example.com.zone -m why",
            "koder dns changes --zone example.com --by operator --since 2026-11-01 --until 4711",
            "koder dns access-log --kind denied --limit 5",
            "koder dns zone check example.com",
            "koder dns zone verify example.com --wait",
            "koder dns zone admit example.com",
            "koder dns zone admission example.com --code abc -m why",
            "koder dns record list example.com",
            "koder dns record list example.com www --type A",
            "koder dns record list example.com --at 4711",
            "koder dns record set example.com @ A --ttl 60 192.0.2.1 192.0.2.2 --wait=all",
            "koder dns record add example.com www A 192.0.2.1 --dry-run",
            "koder dns record delete example.com www A",
            "koder dns record delete example.com www A 192.0.2.1 -m why",
            "koder dns record apply example.com -",
            "koder dns record set example.com @ ALIAS lb.example.net.",
            "koder dns alias list example.com --limit 5",
            "koder dns alias show example.com @",
            "koder dns steering show example.com --at 4711",
            "koder dns steering export example.com --format json",
            "koder dns steering import example.com - --dry-run -m why",
            "koder dns steering lint example.com --limit 5",
            "koder dns pool list example.com",
            "koder dns pool show example.com eu",
            "koder dns pool set example.com eu eu.yaml --wait",
            "koder dns pool delete example.com eu -m why",
            "koder dns pool weight example.com eu fra1 20 --wait",
            "koder dns pool drain example.com eu fra1",
            "koder dns pool enable example.com eu fra1",
            "koder dns pool disable example.com eu fra1 --dry-run",
            "koder dns policy list example.com",
            "koder dns policy show example.com www A",
            "koder dns policy set example.com www A --pool eu --pool us",
            "koder dns policy set example.com www A rules.yaml",
            "koder dns policy delete example.com www A",
            "koder dns view list example.com",
            "koder dns view show example.com office",
            "koder dns view set example.com office --prefix 192.0.2.0/24 --pop fra1",
            "koder dns view delete example.com office",
            "koder dns view put example.com office intranet A 10.0.0.1 --ttl 60",
            "koder dns view hide example.com office www ANY",
            "koder dns view remove example.com office www ANY",
            "koder dns explain www.example.com --client 192.0.2.1",
            "koder dns explain www.example.com AAAA --client 192.0.2.1 --ecs 198.51.100.0/24 --pop p --at 1 --draw 7",
            "koder dns stats",
            "koder dns stats example.com --since 30d --step 1d --by country --pop fra1 --json",
            "koder dns query-log on example.com",
            "koder dns query-log on example.com --for 10m --one-in 100 -m why --dry-run",
            "koder dns query-log off example.com -m why",
            "koder dns query-log show example.com --json",
            "koder dns query-log tail example.com",
            "koder dns query-log tail example.com --name www --type A --rcode NXDOMAIN --pop fra1 --since 5m --limit 5 -f",
            "koder dns change show c1",
            "koder dns change wait c1 --quorum --timeout 5m",
            "koder dns pop list",
            "koder dns pop show ams",
            "koder dns pop create ams -m why",
            "koder dns pop set ams --enable --undrain",
            "koder dns pop set ams --disable --drain",
            "koder dns pop create ams --region eu-west",
            "koder dns pop set ams --region eu-west --drain",
            "koder dns pop set ams --no-region",
            "koder dns pop delete ams",
            "koder dns tenant list",
            "koder dns tenant show acme",
            "koder dns tenant create acme",
            "koder dns tenant set acme --name acme2 --disable",
            "koder dns tenant delete acme",
            "koder dns token list --limit 5",
            "koder dns token show t1",
            "koder dns token create ci --zone example.com --name _acme-challenge.* --type TXT --verb write --expires 90d",
            "koder dns token create ops --tenant acme",
            "koder dns token revoke t1",
            "koder dns nsset list",
            "koder dns nsset show main",
            "koder dns nsset create main --nameserver ns1.example.net --nameserver ns2.example.net --rname dns@example.net --default",
            "koder dns nsset set main --ttl 3600 --refresh 7200 --retry 600 --expire 1209600 --minimum 60",
            "koder dns nsset delete main",
            "koder completions bash",
            "koder completions fish",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "koder dns zone create",
            "koder dns zone delete example.com --wait --dry-run",
            "koder dns zone import --full a",
            "koder dns zone set example.com",
            "koder dns zone list --label team",
            "koder dns zone list --limit 0",
            "koder dns zone list --limit 1001",
            "koder dns policy set example.com www A",
            "koder dns policy set example.com www A file --pool eu",
            "koder dns view set example.com office",
            "koder dns pool weight example.com eu fra1 -1",
            "koder dns explain www.example.com A",
            "koder dns record set example.com www A",
            "koder dns record add example.com www A",
            "koder dns record set example.com www A 192.0.2.1 --ttl -1",
            "koder dns record set example.com www A 192.0.2.1 --timeout 5s",
            "koder dns record set example.com www A 192.0.2.1 --wait --timeout 2m",
            "koder dns record set example.com www A 192.0.2.1 --wait=some",
            "koder dns query-log on",
            "koder dns query-log on example.com --one-in 0",
            "koder dns query-log tail example.com --limit 1001",
            "koder dns pop set ams",
            "koder dns pop set ams --enable --disable",
            "koder dns pop set ams --drain --undrain",
            "koder dns tenant set acme",
            "koder dns token create ci --verb fly",
            "koder dns token create ci --expires never",
            "koder dns token create ci --token secret",
            "koder dns login --token secret",
            "koder dns nsset create main --rname dns@example.net",
            "koder dns nsset set main",
            "koder completions cobol",
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.use_stderr() && error.exit_code() == 2, "{line}: {:?}", error.kind());
        }
    }

    #[test]
    fn each_argument_is_a_record_and_flags_may_follow() {
        let line =
            ["koder", "dns", "record", "set", "example.com", "@", "MX", "10 a.example.", "20 b.example."];
        let cli = Cli::try_parse_from(line.into_iter().chain(["--wait", "--ttl", "60"]));
        let Topic::Dns(dns) = cli.unwrap().topic else { panic!("another topic") };
        let DnsCommand::Record(record::RecordCommand::Set(args)) = dns.command else {
            panic!("another command");
        };
        assert_eq!(args.data, ["10 a.example.", "20 b.example."]);
        assert_eq!(args.ttl, Some(60));
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        assert_eq!(parse("koder --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
        let help = parse("koder dns record set --help").unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        assert!(help.to_string().contains("Examples:"), "{help}");
        assert!(parse("koder --help").unwrap_err().to_string().contains("Exit status:"));
    }

    #[test]
    fn the_manual_names_every_command() {
        let manual = include_str!("../../docs/cli.md");
        let dns = Cli::command().find_subcommand("dns").expect("there is dns").clone();
        for topic in dns.get_subcommands() {
            let name = topic.get_name();
            assert!(manual.contains(&format!("koder dns {name}")), "{name} is not in docs/cli.md");
            for command in topic.get_subcommands() {
                let name = format!("koder dns {name} {}", command.get_name());
                assert!(manual.contains(&name), "{name} is not in docs/cli.md");
            }
        }
    }
}
