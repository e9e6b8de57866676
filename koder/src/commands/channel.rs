//! `koder dns channel …`: where to hear of verdicts.

use clap::{Args, Subcommand};
use herald_wire::api::channels::{
    Channel, ChannelDeliveries, ChannelEmail, ChannelInput, ChannelReceiver, ChannelTest, ChannelWebhook,
};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, yes_no};
use crate::client::WriteOptions;
use crate::failure::Failure;
use crate::table;
use crate::times::format_time;

/// What to do about notification channels.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// List channels
    List(ListChannelsArgs),
    /// Show a channel, and how deliveries go
    Show(ChannelArgs),
    /// Make a channel; the secret of a webhook is shown once
    Create(CreateArgs),
    /// Change a channel: what isn't given stays
    Update(UpdateArgs),
    /// Delete a channel
    Delete(DeleteArgs),
    /// Send a test message, now and once, or the code again to an e-mail address that isn't confirmed
    Test(ChannelArgs),
    /// Confirm an e-mail address with the code that was sent there
    Confirm(ConfirmArgs),
}

/// Flags of `koder dns channel list`.
#[derive(Args, Debug)]
pub struct ListChannelsArgs {
    /// Only this tenant's (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// A channel.
#[derive(Args, Debug)]
pub struct ChannelArgs {
    /// Its id, or for tenants its name
    pub channel: String,
}

/// Where messages go.
#[derive(Args, Clone, Debug, Default)]
pub struct ReceiverArgs {
    /// A webhook: an HTTP POST to this URL, signed
    #[arg(long, value_name = "URL", group = "receiver")]
    pub webhook: Option<String>,
    /// E-mail to this address
    #[arg(long, value_name = "ADDRESS", group = "receiver")]
    pub email: Option<String>,
}

/// Flags of `koder dns channel create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns channel create ops --webhook https://hooks.example.com/koder
  koder dns channel create mail --email ops@example.com --monitors 1,2")]
pub struct CreateArgs {
    /// Its name
    pub name: String,
    /// Whose it is to be (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// Where messages go.
    #[command(flatten)]
    pub receiver: ReceiverArgs,
    /// The monitors that it hears of, by their ids; all of them unless given
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',')]
    pub monitors: Vec<u32>,
    /// It begins switched off
    #[arg(long)]
    pub off: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns channel update`.
#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// Which.
    #[command(flatten)]
    pub channel: ChannelArgs,
    /// Another name
    #[arg(long)]
    pub name: Option<String>,
    /// Where messages go.
    #[command(flatten)]
    pub receiver: ReceiverArgs,
    /// The monitors that it hears of, by their ids
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',', conflicts_with = "all_monitors")]
    pub monitors: Vec<u32>,
    /// It hears of all monitors
    #[arg(long)]
    pub all_monitors: bool,
    /// Switch it on
    #[arg(long, conflicts_with = "off")]
    pub on: bool,
    /// Switch it off: what happens meanwhile is never told
    #[arg(long)]
    pub off: bool,
    /// Sign a webhook with another secret from now on
    #[arg(long)]
    pub new_secret: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns channel confirm`.
#[derive(Args, Debug)]
pub struct ConfirmArgs {
    /// Which.
    #[command(flatten)]
    pub channel: ChannelArgs,
    /// What was sent to the address
    pub code: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns channel delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which.
    #[command(flatten)]
    pub channel: ChannelArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &ChannelCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        ChannelCommand::List(args) => {
            let tenant: Vec<(&'static str, &str)> =
                args.tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
            let listing = Listing::fetch(&args.list, |page| client.channels(&tenant, &page))?;
            session.listed(&listing, table_of)
        }
        ChannelCommand::Show(args) => {
            let answer = client.channel(&args.channel)?;
            session.show(&answer, show)
        }
        ChannelCommand::Create(args) => {
            let receiver = receiver(&args.receiver).ok_or_else(|| {
                Failure::Usage("say where messages go: --webhook URL or --email ADDRESS".into())
            })?;
            let body = ChannelInput {
                name: args.name.clone(),
                tenant: args.tenant.clone(),
                receiver,
                monitors: (!args.monitors.is_empty()).then(|| args.monitors.clone()),
                enabled: !args.off,
                new_secret: false,
            };
            let answer = client.create_channel(&body, &args.write.options_for(&args.reason))?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        ChannelCommand::Update(args) => {
            let now = client.channel(&args.channel.channel)?;
            let options = args.write.options_for(&args.reason);
            // What others changed meanwhile isn't put back.
            let options = WriteOptions { if_match: options.if_match.or_else(|| now.etag.clone()), ..options };
            let answer = client.put_channel(&args.channel.channel, &changed(&now, args), &options)?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        ChannelCommand::Delete(args) => {
            let options = args.write.options_for(&args.reason);
            let answer = client.delete_channel(&args.channel.channel, &options)?;
            let tense = args.write.tense("deleted", "would delete");
            session.written(&args.write, &answer, &format!("{tense} the channel {}\n", args.channel.channel))
        }
        ChannelCommand::Confirm(args) => {
            let options = args.write.options_for(&args.reason);
            let answer = client.confirm_channel(&args.channel.channel, &args.code, &options)?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        ChannelCommand::Test(args) => {
            let answer = client.test_channel(&args.channel)?;
            session.show(&answer, tested)?;
            match &answer.error {
                Some(_) => Err(Failure::NotDelivered),
                None => Ok(()),
            }
        }
    }
}

fn receiver(args: &ReceiverArgs) -> Option<ChannelReceiver> {
    match (&args.webhook, &args.email) {
        (Some(url), _) => Some(ChannelReceiver::Webhook(ChannelWebhook { url: url.clone() })),
        (None, Some(address)) => Some(ChannelReceiver::Email(ChannelEmail { address: address.clone() })),
        (None, None) => None,
    }
}

/// The channel with what flags say of it.
fn changed(now: &Channel, args: &UpdateArgs) -> ChannelInput {
    let monitors = match (&args.monitors[..], args.all_monitors) {
        (_, true) => None,
        ([], false) => now.monitors.clone(),
        (monitors, false) => Some(monitors.to_vec()),
    };
    ChannelInput {
        name: args.name.clone().unwrap_or_else(|| now.name.clone()),
        tenant: None,
        receiver: receiver(&args.receiver).unwrap_or_else(|| now.receiver.clone()),
        monitors,
        enabled: args.on || now.enabled && !args.off,
        new_secret: args.new_secret,
    }
}

// ------------------------------------------------------------------------------------------- in words

fn table_of(channels: &[Channel]) -> String {
    table::columns(
        ["ID", "NAME", "ON", "MONITORS", "RECEIVER"],
        channels.iter().map(|channel| {
            [
                channel.id.clone(),
                channel.name.clone(),
                yes_no(channel.enabled),
                monitors(channel),
                where_to(&channel.receiver).to_owned(),
            ]
        }),
    )
}

fn where_to(receiver: &ChannelReceiver) -> &str {
    match receiver {
        ChannelReceiver::Webhook(webhook) => &webhook.url,
        ChannelReceiver::Email(email) => &email.address,
    }
}

fn monitors(channel: &Channel) -> String {
    match &channel.monitors {
        None => "all".into(),
        Some(monitors) => monitors.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn show(channel: &Channel) -> String {
    let mut text = table::pairs([
        ("channel", Some(channel.name.clone())),
        ("id", Some(channel.id.clone())),
        ("receiver", Some(where_to(&channel.receiver).to_owned())),
        ("monitors", Some(monitors(channel))),
        ("on", Some(yes_no(channel.enabled))),
        ("confirmed", channel.confirmed.map(yes_no)),
        ("etag", Some(channel.revision.to_string())),
        ("secret", channel.secret.clone()),
    ]);
    if let Some(deliveries) = &channel.deliveries {
        text.push_str(&how_it_goes(deliveries));
    }
    if channel.secret.is_some() {
        text.push_str("the secret is shown this once: messages are signed with it\n");
    }
    text
}

fn how_it_goes(deliveries: &ChannelDeliveries) -> String {
    let failed = deliveries.last_failed_at_ms.map(|at_ms| {
        let why = deliveries.last_error.as_deref().unwrap_or_default();
        format!("{}: {why}", format_time(at_ms))
    });
    table::pairs([
        ("delivered", Some(deliveries.delivered.to_string())),
        ("last", deliveries.last_delivered_at_ms.map(format_time)),
        ("pending", Some(deliveries.pending.to_string())),
        ("next attempt", deliveries.next_attempt_at_ms.map(format_time)),
        ("given up", Some(deliveries.given_up.to_string())),
        ("last failure", failed),
    ])
}

fn tested(test: &ChannelTest) -> String {
    match (&test.error, test.took_ms) {
        (Some(error), _) => format!("not delivered: {error}\n"),
        (None, took_ms) => format!("delivered within {} ms\n", took_ms.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel {
            id: "h00000000000000000000000007".into(),
            name: "ops".into(),
            tenant: "t1".into(),
            receiver: ChannelReceiver::Webhook(ChannelWebhook { url: "https://hooks.example.com/".into() }),
            monitors: Some(vec![1, 3]),
            enabled: true,
            confirmed: None,
            deliveries: None,
            revision: 9,
            created_at_ms: 0,
            secret: None,
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let args = |flags: &[&str]| {
            use clap::Parser;
            #[derive(Parser)]
            struct Typed {
                #[command(flatten)]
                args: UpdateArgs,
            }
            Typed::parse_from(["update", "ops"].iter().chain(flags)).args
        };
        let same = changed(&channel(), &args(&[]));
        assert_eq!((same.name.as_str(), &same.receiver), ("ops", &channel().receiver));
        assert_eq!((same.monitors, same.enabled, same.new_secret), (Some(vec![1, 3]), true, false));
        let other = changed(&channel(), &args(&["--all-monitors", "--off", "--name", "all", "--new-secret"]));
        assert_eq!((other.name.as_str(), other.monitors, other.enabled), ("all", None, false));
        assert!(other.new_secret);
        let off = Channel { enabled: false, ..channel() };
        assert!(!changed(&off, &args(&["--monitors", "2"])).enabled);
        assert!(changed(&off, &args(&["--on"])).enabled);
    }

    #[test]
    fn how_deliveries_go_is_told() {
        let deliveries = ChannelDeliveries {
            pending: 2,
            attempts_failed: 1,
            next_attempt_at_ms: Some(1_767_225_601_000),
            delivered: 5,
            given_up: 0,
            last_delivered_at_ms: None,
            last_failed_at_ms: Some(1_767_225_600_000),
            last_error: Some("status 503".into()),
        };
        let shown = show(&Channel { deliveries: Some(deliveries), ..channel() });
        for line in ["pending", "2026-01-01T00:00:00Z: status 503", "https://hooks.example.com/", "1 3"] {
            assert!(shown.contains(line), "{line} is not in {shown}");
        }
        assert!(!shown.contains("shown this once"));
        let made = show(&Channel { secret: Some("whsec_x".into()), ..channel() });
        assert!(made.contains("whsec_x") && made.contains("shown this once"));
        let failed = ChannelTest { delivered: false, took_ms: None, error: Some("status 500".into()) };
        assert_eq!(tested(&failed), "not delivered: status 500\n");
    }
}
