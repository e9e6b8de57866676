//! Whether somebody may do what they want: judged before `decide`, and by type, since `decide` takes nothing
//! but what was authorised here.
//!
//! A zone outside of what a credential can see is *not found*, never *forbidden*: nobody learns that it exists.

use crate::account::{Principal, Scope, Token, Verb};
use crate::channel::Channel;
use crate::command::{Action, Command, Context, ZoneEdit, ZoneRef};
use crate::firewall::Owner;
use crate::monitor::Monitor;
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::{Shared, State};
use crate::zone::Zone;
use crate::{ChannelId, MonitorId, Name, TenantId, TokenId};

/// A command that may be decided. There is no other way to one than [`authorise`].
#[derive(Clone, Debug)]
pub struct Authorised {
    command: Command,
}

impl Authorised {
    /// Its circumstances.
    pub fn context(&self) -> &Context {
        &self.command.context
    }

    /// What is wanted.
    pub fn action(&self) -> &Action {
        &self.command.action
    }

    /// The tenant behind it, if one.
    pub fn tenant(&self) -> Option<TenantId> {
        match self.command.context.principal {
            Principal::Tenant { tenant, .. } => Some(tenant),
            _ => None,
        }
    }
}

/// Judges whether the principal may do this in this state.
///
/// # Errors
/// [`RejectionKind::Unauthenticated`] if its token isn't valid, [`RejectionKind::NotFound`] for what it can't see,
/// [`RejectionKind::Forbidden`] for what it can see and may not do.
pub fn authorise(state: &State, command: Command) -> Result<Authorised, Rejection> {
    let access = Access::of(state, &command.context)?;
    match &command.action {
        Action::BeginEpoch
        | Action::Bootstrap { .. }
        | Action::HoldPop { .. }
        | Action::SetVerdicts { .. }
        | Action::SetOwnAddresses { .. }
        | Action::SetResolved { .. }
        | Action::RestoreCopy { .. } => access.need_system()?,
        Action::CreateTenant { .. }
        | Action::UpdateTenant { .. }
        | Action::DeleteTenant { .. }
        | Action::CreateNsSet(_)
        | Action::UpdateNsSet { .. }
        | Action::DeleteNsSet { .. }
        | Action::CreatePop { .. }
        | Action::UpdatePop { .. }
        | Action::ReleasePops { .. }
        | Action::SetBrakes(_)
        | Action::SetGeoip { .. }
        | Action::SetProbeRules(_)
        | Action::PutPolicyZone { .. }
        | Action::DeletePolicyZone { .. }
        | Action::DeletePop { .. } => access.need_operator()?,
        Action::SetFirewallRules { owner, .. }
        | Action::PutFirewallRule { owner, .. }
        | Action::DeleteFirewallRule { owner, .. } => access.need_firewall(*owner)?,
        Action::CreateToken { tenant, scope, expires_at_ms, .. } => {
            access.need_verb(Verb::Admin)?;
            if let Some(own) = access.tenant
                && *tenant != Some(own)
            {
                return Err(Rejection::not_found("tenant"));
            }
            if !access.scope.contains(scope) {
                return Err(Rejection::forbidden("a token can't allow more than the one that makes it"));
            }
            if access.expires_at_ms.is_some_and(|end| expires_at_ms.is_none_or(|new_end| new_end > end)) {
                return Err(Rejection::forbidden("a token can't last longer than the one that makes it"));
            }
        }
        Action::RevokeToken { token } => {
            access.need_verb(Verb::Admin)?;
            access.visible_token(state, *token)?;
        }
        Action::CreateZone { name, tenant, .. } => need_new_zones(&access, *tenant, [name])?,
        Action::CreateZones { tenant, zones } => {
            need_new_zones(&access, *tenant, zones.iter().map(|zone| &zone.name))?;
        }
        Action::UpdateZone { zone, .. } | Action::ReplaceZone { zone, .. } => {
            access.zone_for(state, zone, Verb::Create)?;
            access.need_whole_zones()?;
        }
        Action::SetQueryLog { zone, .. } | Action::EndQueryLog { zone } => {
            access.query_log_of(state, zone)?;
        }
        Action::DeleteZone { zone, .. } => {
            access.zone_for(state, zone, Verb::Delete)?;
            access.need_whole_zones()?;
        }
        Action::EditZones { zones } => {
            for (place, edit) in zones.iter().enumerate() {
                access.authorise_edit(state, place, edit)?;
            }
        }
        Action::ActivateZone { zone, .. } => {
            access.need_trusted()?;
            access.zone_for(state, zone, Verb::Create)?;
        }
        Action::CreateMonitor { tenant, .. } | Action::CreateChannel { tenant, .. } => {
            access.need_monitors(Verb::Monitor)?;
            if let (Some(own), Some(other)) = (access.tenant, tenant)
                && own != *other
            {
                return Err(Rejection::not_found("tenant"));
            }
        }
        Action::UpdateMonitor { monitor, .. } | Action::DeleteMonitor { monitor, .. } => {
            access.visible_monitor(state, *monitor)?;
            access.need_monitors(Verb::Monitor)?;
        }
        Action::UpdateChannel { channel, .. }
        | Action::ConfirmChannel { channel, .. }
        | Action::DeleteChannel { channel, .. } => {
            access.visible_channel(state, *channel)?;
            access.need_monitors(Verb::Monitor)?;
        }
        Action::AdmitZone { .. } => {
            access.need_verb(Verb::Create)?;
            access.need_whole_zones()?;
            if access.tenant.is_none() {
                return Err(Rejection::forbidden("operators let a zone in by its id"));
            }
        }
    }
    Ok(Authorised { command })
}

/// Asks for the right to make zones of these names, for this tenant if one is named.
fn need_new_zones<'a>(
    access: &Access,
    tenant: Option<TenantId>,
    names: impl IntoIterator<Item = &'a Name>,
) -> Result<(), Rejection> {
    access.need_verb(Verb::Create)?;
    access.need_whole_zones()?;
    if let (Some(own), Some(other)) = (access.tenant, tenant)
        && own != other
    {
        return Err(Rejection::not_found("tenant"));
    }
    match names.into_iter().find(|name| !access.scope.allows_zone(None, name)) {
        Some(name) => Err(Rejection::forbidden(format!("this token's scope has no zone {name}"))),
        None => Ok(()),
    }
}

/// What a principal can see and do in a state.
#[derive(Clone, Debug)]
pub struct Access {
    /// The tenant, unless it is an operator or the system.
    pub tenant: Option<TenantId>,
    /// Limits of its token.
    pub scope: Scope,
    /// When its token ends, in ms since the epoch.
    expires_at_ms: Option<u64>,
    is_system: bool,
}

impl Access {
    /// Looks the principal's token up.
    ///
    /// # Errors
    /// [`RejectionKind::Unauthenticated`] if the token is not there, expired or revoked, or its tenant disabled.
    pub fn of(state: &State, context: &Context) -> Result<Access, Rejection> {
        let refused =
            || Rejection::new(RejectionKind::Unauthenticated, "the token is unknown, expired or revoked");
        let (tenant, token) = match context.principal {
            Principal::System => {
                return Ok(Access {
                    tenant: None,
                    scope: Scope::default(),
                    expires_at_ms: None,
                    is_system: true,
                });
            }
            Principal::Operator { token } => (None, token),
            Principal::Tenant { tenant, token } => (Some(tenant), token),
        };
        let token = state.token(token).filter(|t| t.is_valid_at(context.time_ms)).ok_or_else(refused)?;
        let enabled = tenant.is_none_or(|id| state.tenant(id).is_some_and(|tenant| tenant.enabled));
        if token.tenant != tenant || !enabled {
            return Err(refused());
        }
        Ok(Access {
            tenant,
            scope: token.scope.clone(),
            expires_at_ms: token.expires_at_ms,
            is_system: false,
        })
    }

    /// Whether it is an operator's, or the system's.
    pub fn is_operator(&self) -> bool {
        self.tenant.is_none()
    }

    /// Whether the zone is to be seen.
    pub fn sees(&self, zone: &Zone) -> bool {
        self.tenant.is_none_or(|tenant| tenant == zone.tenant)
            && self.scope.allows_zone(Some(zone.id), &zone.name)
    }

    /// Finds a zone among those to be seen.
    ///
    /// # Errors
    /// [`RejectionKind::NotFound`]; [`RejectionKind::Conflict`] if several bear the name (for operators).
    pub fn visible_zone<'a>(&self, state: &'a State, zone: &ZoneRef) -> Result<&'a Shared<Zone>, Rejection> {
        let not_found = || Rejection::not_found(format_args!("zone {zone}"));
        let found = match (zone, self.tenant) {
            (ZoneRef::Id(id), _) => state.zone(*id).ok_or_else(not_found)?,
            (ZoneRef::Name(name), Some(tenant)) => state.tenant_zone(tenant, name).ok_or_else(not_found)?,
            (ZoneRef::Private(name), Some(tenant)) => {
                state.private_zone(tenant, name).ok_or_else(not_found)?
            }
            (ZoneRef::Name(name) | ZoneRef::Private(name), None) => {
                let is_private = matches!(zone, ZoneRef::Private(_));
                let mut named = state.zones_named(name).filter(|zone| zone.is_private() == is_private);
                let first = named.next().ok_or_else(not_found)?;
                if named.next().is_some() {
                    return Err(Rejection::conflict(format!(
                        "several zones bear the name {name}: use the id"
                    )));
                }
                first
            }
        };
        if self.sees(found) { Ok(found) } else { Err(not_found()) }
    }

    /// Finds a zone to be seen, and asks for a verb on it.
    ///
    /// # Errors
    /// As [`Access::visible_zone`], and [`RejectionKind::Forbidden`].
    pub fn zone_for<'a>(
        &self,
        state: &'a State,
        zone: &ZoneRef,
        verb: Verb,
    ) -> Result<&'a Shared<Zone>, Rejection> {
        let zone = self.visible_zone(state, zone)?;
        self.need_verb(verb)?;
        Ok(zone)
    }

    /// Finds a zone to be seen, and asks for the right to have its queries logged, and to read the log: there are addresses of clients in
    /// it, so that it takes the right to change the zone's settings.
    ///
    /// # Errors
    /// As [`Access::zone_for`].
    pub fn query_log_of<'a>(&self, state: &'a State, zone: &ZoneRef) -> Result<&'a Shared<Zone>, Rejection> {
        let zone = self.zone_for(state, zone, Verb::Create)?;
        self.need_whole_zones()?;
        Ok(zone)
    }

    /// Asks for a verb.
    ///
    /// # Errors
    /// [`RejectionKind::Forbidden`].
    pub fn need_verb(&self, verb: Verb) -> Result<(), Rejection> {
        if self.scope.allows_verb(verb) {
            return Ok(());
        }
        let verb = format!("{verb:?}").to_lowercase();
        Err(Rejection::forbidden(format!("this token's scope lacks the verb `{verb}`")))
    }

    /// Asks for an operator with the verb `admin`.
    ///
    /// # Errors
    /// [`RejectionKind::Forbidden`].
    pub fn need_operator(&self) -> Result<(), Rejection> {
        self.need_verb(Verb::Admin)?;
        self.need_trusted()
    }

    /// Asks for the right to change an owner's rules of the firewall: the fleet's are its operators', a tenant's are its own and the
    /// operators'.
    ///
    /// # Errors
    /// [`RejectionKind::Forbidden`], or [`RejectionKind::NotFound`] for another tenant's.
    pub fn need_firewall(&self, owner: Owner) -> Result<(), Rejection> {
        match (owner, self.tenant) {
            (Owner::Fleet, _) => self.need_operator(),
            (Owner::Tenant(tenant), Some(own)) if tenant != own => Err(Rejection::not_found("tenant")),
            (Owner::Tenant(_), _) => {
                self.need_verb(Verb::Admin)?;
                self.need_whole_zones()?;
                if self.scope.zones.is_empty() {
                    return Ok(());
                }
                Err(Rejection::forbidden(
                    "this token's scope is limited to some zones, and rules are for all of them",
                ))
            }
        }
    }

    /// Finds a token among those to be seen.
    ///
    /// # Errors
    /// [`RejectionKind::NotFound`].
    pub fn visible_token<'a>(&self, state: &'a State, id: TokenId) -> Result<&'a Shared<Token>, Rejection> {
        state
            .token(id)
            .filter(|token| self.tenant.is_none() || token.tenant == self.tenant)
            .ok_or_else(|| Rejection::not_found(format_args!("token {id}")))
    }

    /// Asks for the right to see monitors ([`Verb::Read`]), or to change them ([`Verb::Monitor`]). They are of no zone: a token that is
    /// limited to some zones, names or types has it only if it names the verb `monitor`.
    ///
    /// # Errors
    /// [`RejectionKind::Forbidden`].
    pub fn need_monitors(&self, verb: Verb) -> Result<(), Rejection> {
        if self.scope.verbs.contains(&Verb::Monitor) {
            return Ok(());
        }
        if !self.scope.zones.is_empty() || self.scope.limits_rrsets() {
            return Err(Rejection::forbidden(
                "this token's scope is limited to some zones, names or types: monitors need the verb `monitor`",
            ));
        }
        self.need_verb(verb)
    }

    /// Finds a monitor among those to be seen.
    ///
    /// # Errors
    /// [`RejectionKind::NotFound`].
    pub fn visible_monitor<'a>(
        &self,
        state: &'a State,
        id: MonitorId,
    ) -> Result<&'a Shared<Monitor>, Rejection> {
        state
            .monitors()
            .get(id)
            .filter(|monitor| self.tenant.is_none_or(|own| own == monitor.tenant))
            .ok_or_else(|| Rejection::not_found(format_args!("monitor {id}")))
    }

    /// Finds a notification channel among those to be seen. Who may see and change monitors may see and change channels.
    ///
    /// # Errors
    /// [`RejectionKind::NotFound`].
    pub fn visible_channel<'a>(
        &self,
        state: &'a State,
        id: ChannelId,
    ) -> Result<&'a Shared<Channel>, Rejection> {
        state
            .channels()
            .get(id)
            .filter(|channel| self.tenant.is_none_or(|own| own == channel.tenant))
            .ok_or_else(|| Rejection::not_found(format_args!("channel {id}")))
    }

    fn need_trusted(&self) -> Result<(), Rejection> {
        if self.is_operator() { Ok(()) } else { Err(Rejection::forbidden("only operators may do this")) }
    }

    fn need_system(&self) -> Result<(), Rejection> {
        if self.is_system { Ok(()) } else { Err(Rejection::forbidden("only the platform itself does this")) }
    }

    /// A token that is limited to some names or types can't stand for a zone as a whole.
    fn need_whole_zones(&self) -> Result<(), Rejection> {
        if self.scope.limits_rrsets() {
            return Err(Rejection::forbidden(
                "this token's scope is limited to some names or types of a zone",
            ));
        }
        Ok(())
    }

    fn authorise_edit(&self, state: &State, place: usize, edit: &ZoneEdit) -> Result<(), Rejection> {
        let at = |mut rejection: Rejection| {
            if rejection.items.is_empty() {
                let detail = rejection.detail.clone();
                rejection.items.push(RejectedItem { zone: Some(place), detail, ..RejectedItem::default() });
            }
            rejection
        };
        self.zone_for(state, &edit.zone, Verb::Write).map_err(at)?;
        let outside: Vec<RejectedItem> = edit
            .edits
            .iter()
            .enumerate()
            .filter(|(_, edit)| !self.scope.allows_rrset(&edit.key))
            .map(|(n, edit)| RejectedItem {
                zone: Some(place),
                edit: Some(n),
                detail: format!("this token's scope doesn't have {}", edit.key),
                owner: Some(edit.key.owner.clone()),
                rtype: Some(edit.key.rtype),
                field: None,
            })
            .collect();
        match outside.first() {
            None => Ok(()),
            Some(first) => Err(Rejection::forbidden(first.detail.clone()).with_items(outside)),
        }
    }
}

/// Whether names are registered right below this one (by the public suffix list, or as it has a single label), so that
/// no tenant may hold it.
pub fn is_public_suffix(name: &Name) -> bool {
    if name.label_count() <= 1 {
        return true;
    }
    [name.to_string(), name.to_unicode()].iter().any(|text| {
        let text = text.trim_end_matches('.');
        psl::suffix(text.as_bytes())
            .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == text.as_bytes())
    })
}
