//! Notification channels: where a tenant wants to hear of verdicts.
//!
//! Channels are on the log. What signs a webhook isn't: it is made of the channel's salt and a key that herald keeps beside the log. What was
//! delivered isn't either. The encoding of all here is persistent: field numbers are never used again for something else; what is added is optional.

use minicbor::{Decode, Encode};

use crate::id::ChannelId;
use crate::{MonitorId, TenantId};

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Channel {
    /// Identity.
    #[n(0)]
    pub id: ChannelId,
    /// Whose it is.
    #[n(1)]
    pub tenant: TenantId,
    /// Unique among the tenant's.
    #[n(2)]
    pub name: String,
    /// Where messages go.
    #[n(3)]
    pub receiver: Receiver,
    /// Of which monitors; none for all of the tenant's, those to come included.
    #[n(4)]
    pub monitors: Option<Vec<MonitorId>>,
    /// Whether it is on. What happens while it is off is never told.
    #[n(5)]
    pub enabled: bool,
    /// What the secret of a webhook is made of, together with herald's key.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub salt: [u8; 16],
    /// Revision of its last change.
    #[n(7)]
    pub revision: u64,
    /// When it was made, in ms since the epoch.
    #[n(8)]
    pub created_at_ms: u64,
    /// Whether the owner of its address wants to hear of anything; none where nobody has to be asked.
    #[n(9)]
    pub confirmed: Option<bool>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Receiver {
    /// An HTTP POST, signed.
    #[n(0)]
    Webhook {
        /// `http` or `https`, without user, password and fragment.
        #[n(0)]
        url: String,
    },
    /// A message by SMTP.
    #[n(1)]
    Email {
        /// The address (RFC 5321 §4.1.2), its local part without quotes.
        #[n(0)]
        address: String,
    },
}

/// What a channel is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInput {
    /// Short, unique among the tenant's.
    pub name: String,
    /// Where messages go.
    pub receiver: Receiver,
    /// Of which monitors; none for all.
    pub monitors: Option<Vec<MonitorId>>,
    /// Whether it is on.
    pub enabled: bool,
}

impl Receiver {
    /// What kind it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Receiver::Webhook { .. } => "webhook",
            Receiver::Email { .. } => "email",
        }
    }
}

impl Channel {
    /// Whether its receiver has still to be asked whether it wants to hear of anything.
    pub fn is_unconfirmed(&self) -> bool {
        self.confirmed == Some(false)
    }

    /// Whether anything is sent by it.
    pub fn is_on(&self) -> bool {
        self.enabled && !self.is_unconfirmed()
    }

    /// Whether it is to hear of this monitor of its tenant.
    pub fn hears_of(&self, monitor: MonitorId) -> bool {
        self.is_on() && self.monitors.as_ref().is_none_or(|monitors| monitors.contains(&monitor))
    }
}
