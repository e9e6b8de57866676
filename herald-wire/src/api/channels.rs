//! Notification channels as tenants read and write them, and what is sent by them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /channels` and `PUT /channels/{channel}`: what a channel is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelInput {
    /// Short, unique among the tenant's: letters, digits, `-`, at most 63.
    pub name: String,
    /// Whose it is to be, by id or name: for operators, and only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Where messages go. The kind stays.
    pub receiver: ChannelReceiver,
    /// Ids of the monitors that it hears of, at most 1000; all of the tenant's unless given, those to come included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitors: Option<Vec<u32>>,
    /// Whether it is on. What happens while it is off is never told.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether a webhook is signed with another secret from now on. One that is made gets one anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_secret: bool,
}

fn yes() -> bool {
    true
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChannelReceiver {
    /// An HTTP POST, signed as the Standard Webhooks specification says.
    Webhook(ChannelWebhook),
    /// A message by the operator's mail relay.
    Email(ChannelEmail),
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelWebhook {
    /// `https` or `http`. Redirects aren't followed, and special-purpose addresses aren't connected to.
    pub url: String,
}

/// Where e-mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelEmail {
    /// The address.
    pub address: String,
}

/// A notification channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// Its id.
    pub id: String,
    /// Unique among the tenant's.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Where messages go.
    pub receiver: ChannelReceiver,
    /// Ids of the monitors that it hears of; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitors: Option<Vec<u32>>,
    /// Whether it is on.
    pub enabled: bool,
    /// Of an e-mail address: whether its owner has confirmed it. Nothing is told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// How deliveries go: where one channel is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<ChannelDeliveries>,
    /// Revision of its last change: its ETag.
    pub revision: u64,
    /// When it was made.
    pub created_at_ms: u64,
    /// What a webhook is signed with: in the answer that makes it, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How deliveries by a channel go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelDeliveries {
    /// Messages that wait, at most 1000.
    pub pending: u64,
    /// Attempts in a row that failed.
    pub attempts_failed: u64,
    /// When the next attempt is due, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at_ms: Option<u64>,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that were given up: after a day of attempts, or as too many waited.
    pub given_up: u64,
    /// When one was last delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered_at_ms: Option<u64>,
    /// When an attempt last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_at_ms: Option<u64>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Body of `POST /channels/{channel}/confirm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfirmation {
    /// What was sent to the address. Spaces, hyphens and case don't matter.
    pub code: String,
}

/// How a test of a channel went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelTest {
    /// Whether the receiver took the message.
    pub delivered: bool,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The body of a webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Notification {
    /// What it tells of.
    #[serde(rename = "type")]
    pub kind: NotificationKind,
    /// When that was (RFC 3339).
    pub timestamp: String,
    /// Of a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<NotificationVerdict>,
}

/// What a notification tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum NotificationKind {
    /// A monitor is up.
    #[serde(rename = "monitor.up")]
    Up,
    /// A monitor is down.
    #[serde(rename = "monitor.down")]
    Down,
    /// A test of the channel.
    #[serde(rename = "channel.test")]
    Test,
}

/// A verdict that is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotificationVerdict {
    /// On which monitor.
    pub monitor: NotificationMonitor,
    /// Whether it is up.
    pub up: bool,
    /// Why, in words.
    pub cause: String,
    /// When the verdict came.
    pub at_ms: u64,
    /// The change that says so.
    pub change: String,
}

/// A monitor that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotificationMonitor {
    /// Its id.
    pub id: u32,
    /// Its name then.
    pub name: String,
}
