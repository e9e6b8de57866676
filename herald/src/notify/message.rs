//! What tenants are told: as JSON for programs and as text for people.

use data_encoding::BASE32_NOPAD;
use herald_core::ChannelId;
use herald_wire::api::channels as api;

use crate::edge::present::change_id;
use crate::history::VerdictRecord;

/// The subject of what [`confirmation`] says.
pub const CONFIRMATION_SUBJECT: &str = "Confirm a notification channel";

/// Asks the owner of an address whether they want to hear of a tenant's monitors.
pub fn confirmation(tenant: &str, channel: &str, code: &str) -> String {
    format!(
        "{tenant} asks to have notifications of monitored endpoints sent to this address, by the channel {channel}.\n\n\
         Whoever wants that confirms it with this code:\n\n    {code}\n\n    koder dns channel confirm {channel} {code}\n\n\
         If you don't know of this, do nothing: nothing is told to this address.\n"
    )
}

/// A message to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Names it, in each attempt at delivering it the same.
    pub id: String,
    /// When what it tells of happened, in ms since the epoch.
    pub at_ms: u64,
    /// What it tells of.
    pub event: Event,
}

/// What a message tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wanted to know whether messages come through.
    Test,
    /// Another verdict.
    Verdict {
        /// The monitor's id.
        monitor: u32,
        /// Its name.
        name: String,
        /// Whether it is up.
        up: bool,
        /// Why, in words.
        cause: String,
        /// Revision of the entry that says so.
        revision: u64,
    },
}

impl Message {
    /// That of a verdict, by a channel.
    pub fn of_verdict(channel: ChannelId, verdict: &VerdictRecord) -> Message {
        let VerdictRecord { revision, time_ms, monitor, up, cause } = verdict;
        let (up, cause, revision, id) = (*up, cause.clone(), *revision, monitor.id);
        Message {
            id: format!("msg_{}_{id}_{channel}", change_id(revision)),
            at_ms: *time_ms,
            event: Event::Verdict { monitor: id.0, name: monitor.name.clone(), up, cause, revision },
        }
    }

    /// A test.
    pub fn test(random: &[u8; 32], at_ms: u64) -> Message {
        let random = BASE32_NOPAD.encode(&random[..16]).to_ascii_lowercase();
        Message { id: format!("msg_test_{random}"), at_ms, event: Event::Test }
    }

    /// The body of a webhook.
    pub fn json(&self) -> Vec<u8> {
        let body = api::Notification {
            kind: match self.event {
                Event::Test => api::NotificationKind::Test,
                Event::Verdict { up: true, .. } => api::NotificationKind::Up,
                Event::Verdict { up: false, .. } => api::NotificationKind::Down,
            },
            timestamp: self.time_text(),
            data: match &self.event {
                Event::Test => None,
                Event::Verdict { monitor, name, up, cause, revision } => Some(api::NotificationVerdict {
                    monitor: api::NotificationMonitor { id: *monitor, name: name.clone() },
                    up: *up,
                    cause: cause.clone(),
                    at_ms: self.at_ms,
                    change: change_id(*revision),
                }),
            },
        };
        serde_json::to_vec(&body).expect("such a document can be written")
    }

    /// The subject of an e-mail.
    pub fn subject(&self) -> String {
        match &self.event {
            Event::Test => "Test of a notification channel".into(),
            Event::Verdict { name, up, .. } => format!("{name} is {}", if *up { "up" } else { "down" }),
        }
    }

    /// The text of an e-mail.
    pub fn text(&self) -> String {
        let time = self.time_text();
        match &self.event {
            Event::Test => {
                format!("This is a test, sent at {time}: what this channel is told of comes through.\n")
            }
            Event::Verdict { monitor, name, up, cause, revision } => format!(
                "The monitor {name} (id {monitor}) is {} since {time}.\n\nCause: {cause}\nChange: {}\n",
                if *up { "up" } else { "DOWN" },
                change_id(*revision)
            ),
        }
    }

    fn time_text(&self) -> String {
        let at_ms = i64::try_from(self.at_ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
    }
}
