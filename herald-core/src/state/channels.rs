//! Notification channels: by id and by their tenants' names for them.

use imbl::OrdMap;

use super::Shared;
use crate::TenantId;
use crate::change::Change;
use crate::channel::Channel;
use crate::id::ChannelId;

/// All channels. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    by_id: OrdMap<ChannelId, Shared<Channel>>,
    by_name: OrdMap<(TenantId, String), ChannelId>,
}

impl Channels {
    /// A channel.
    pub fn get(&self, id: ChannelId) -> Option<&Shared<Channel>> {
        self.by_id.get(&id)
    }

    /// A tenant's channel by its name.
    pub fn named(&self, tenant: TenantId, name: &str) -> Option<&Shared<Channel>> {
        self.get(*self.by_name.get(&(tenant, name.to_owned()))?)
    }

    /// All by age, those after `id` if given.
    pub fn iter(&self, after: Option<ChannelId>) -> impl Iterator<Item = &Shared<Channel>> {
        super::after_key(&self.by_id, after)
    }

    /// A tenant's by name, those after `name` if given.
    pub fn of_tenant(&self, tenant: TenantId, after: Option<&str>) -> impl Iterator<Item = &Shared<Channel>> {
        super::of_tenant(&self.by_name, tenant, after).filter_map(|id| self.by_id.get(id))
    }

    /// Whether it is the very same as another one, without a look at each channel.
    pub fn is_same(&self, other: &Channels) -> bool {
        self.by_id.ptr_eq(&other.by_id)
    }

    pub(super) fn put(&mut self, channel: Channel) {
        self.remove(channel.id);
        self.by_name.insert((channel.tenant, channel.name.clone()), channel.id);
        self.by_id.insert(channel.id, Shared::new(channel));
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        if let Some(gone) = self.by_id.remove(&id) {
            self.by_name.remove(&(gone.tenant, gone.name.clone()));
        }
    }

    /// Changes whose fold they are.
    pub(super) fn to_changes(&self) -> impl Iterator<Item = Change> + '_ {
        self.by_id.values().map(|channel| Change::ChannelPut((**channel).clone()))
    }
}
