//! Notification channels: who may have which.

use super::*;
use crate::channel::{Channel, ChannelInput, Receiver};
use crate::command::MonitorInput;
use crate::limits::Limit;
use crate::monitor::{Check, Pace, ProbeRules};
use crate::{ChannelId, MonitorId};

fn webhook(name: &str, url: &str) -> ChannelInput {
    let receiver = Receiver::Webhook { url: url.into() };
    ChannelInput { name: name.into(), receiver, monitors: None, enabled: true }
}

fn email(address: &str) -> ChannelInput {
    let receiver = Receiver::Email { address: address.into() };
    ChannelInput { name: "mail".into(), receiver, monitors: None, enabled: true }
}

impl World {
    fn channel(&mut self, principal: Principal, input: ChannelInput) -> Result<ChannelId, Rejection> {
        match self.run(principal, Action::CreateChannel { tenant: None, input })?.subject {
            Some(Subject::Channel(id)) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn put_channel(
        &mut self,
        principal: Principal,
        channel: ChannelId,
        input: ChannelInput,
        new_secret: bool,
    ) -> Result<Decision, Rejection> {
        self.run(principal, Action::UpdateChannel { channel, if_match: None, input, new_secret })
    }

    fn shown_channel(&self, channel: ChannelId) -> Channel {
        Channel::clone(self.state.channels().get(channel).expect("it is there"))
    }

    pub(super) fn some_monitor(&mut self, principal: Principal, name: &str) -> MonitorId {
        let pace = Pace {
            interval_ms: 10_000,
            timeout_ms: 2_000,
            rise: 2,
            fall: 2,
            probers: 3,
            quorum: None,
            recovery_ms: 0,
        };
        let check = Check::Icmp { target: "www.example.com".into() };
        let input = MonitorInput { name: name.into(), check, pace, enabled: true };
        match self.run(principal, Action::CreateMonitor { tenant: None, input }).unwrap().subject {
            Some(Subject::Monitor(id)) => id,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_address_is_confirmed_before_it_hears_of_anything() {
    let mut world = World::new();
    let (acme, evil) = (world.tenant("acme"), world.tenant("evil"));
    let monitor = world.some_monitor(acme, "web");
    let id = world.channel(acme, email("ops@example.com")).unwrap();
    let confirm = |address: &str| Action::ConfirmChannel { channel: id, address: address.into() };
    assert!(!world.shown_channel(id).hears_of(monitor));
    // A code that was sent to another address than the channel has by now is worth nothing.
    let other = world.run(acme, confirm("other@example.com")).unwrap_err();
    assert_eq!(other.kind, RejectionKind::Conflict);
    assert_eq!(world.run(evil, confirm("ops@example.com")).unwrap_err().kind, RejectionKind::NotFound);
    world.run(acme, confirm("ops@example.com")).unwrap();
    assert!(world.shown_channel(id).hears_of(monitor));
    // Said again it changes nothing.
    assert!(world.run(acme, confirm("ops@example.com")).unwrap().changes.is_empty());

    // What is changed otherwise stays confirmed, another address is not.
    let off = ChannelInput { enabled: false, ..email("ops@example.com") };
    world.put_channel(acme, id, off, true).unwrap();
    assert_eq!(world.shown_channel(id).confirmed, Some(true));
    world.put_channel(acme, id, email("new@example.com"), false).unwrap();
    assert!(world.shown_channel(id).is_unconfirmed());
    // A webhook asks nobody.
    let hook = ChannelInput { name: "hook".into(), ..webhook("hook", "https://hooks.example.com/") };
    let hook = world.channel(acme, hook).unwrap();
    assert!(world.shown_channel(hook).hears_of(monitor));
    assert_eq!(
        world
            .run(acme, Action::ConfirmChannel { channel: hook, address: "ops@example.com".into() })
            .unwrap_err()
            .kind,
        RejectionKind::Conflict
    );
}

#[test]
fn a_life_of_a_channel() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let id = world.channel(acme, webhook("ops", "https://hooks.example.com/a?b=c")).unwrap();
    let made = world.shown_channel(id);
    assert_eq!(made.revision, world.state.revision());
    assert!(made.hears_of(MonitorId(7)));
    let again = world.channel(acme, webhook("ops", "https://hooks.example.com/"));
    assert_eq!(kind(again), RejectionKind::Conflict);

    // A new secret comes when it is asked for, and else never.
    world.put_channel(acme, id, webhook("ops", "https://hooks.example.com/d"), false).unwrap();
    assert_eq!(world.shown_channel(id).salt, made.salt);
    world.put_channel(acme, id, webhook("ops", "https://hooks.example.com/d"), true).unwrap();
    assert_ne!(world.shown_channel(id).salt, made.salt);
    let same = world.put_channel(acme, id, webhook("ops", "https://hooks.example.com/d"), false);
    assert!(same.unwrap().changes.is_empty());
    let other = ChannelInput { name: "ops".into(), ..email("ops@example.com") };
    assert_eq!(kind(world.put_channel(acme, id, other, false)), RejectionKind::Invalid);

    // What it names is the tenant's, or was.
    let monitor = world.some_monitor(acme, "web");
    let of = |monitors: Vec<MonitorId>| ChannelInput {
        monitors: Some(monitors),
        ..webhook("ops", "https://hooks.example.com/d")
    };
    world.put_channel(acme, id, of(vec![monitor]), false).unwrap();
    assert!(world.shown_channel(id).hears_of(monitor) && !world.shown_channel(id).hears_of(MonitorId(9)));
    for wrong in [vec![monitor, monitor], vec![MonitorId(9)], vec![]] {
        assert_eq!(kind(world.put_channel(acme, id, of(wrong), false)), RejectionKind::Invalid);
    }
    world.run(acme, Action::DeleteMonitor { monitor, if_match: None }).unwrap();
    world.put_channel(acme, id, ChannelInput { enabled: false, ..of(vec![monitor]) }, false).unwrap();
    assert!(!world.shown_channel(id).hears_of(monitor), "it is off");

    let stale = Action::DeleteChannel { channel: id, if_match: Some(made.revision) };
    assert_eq!(kind(world.run(acme, stale)), RejectionKind::Precondition);
    world.run(acme, Action::DeleteChannel { channel: id, if_match: None }).unwrap();
    assert!(world.state.channels().get(id).is_none());
    assert!(world.state.channels().of_tenant(tenant_of(acme), None).next().is_none());
}

#[test]
fn channels_are_their_tenants() {
    let mut world = World::new();
    let (acme, evil) = (world.tenant("acme"), world.tenant("evil"));
    let id = world.channel(acme, email("ops@example.com")).unwrap();
    let put = world.put_channel(evil, id, email("evil@example.com"), false);
    assert_eq!(kind(put), RejectionKind::NotFound);
    let delete = world.run(evil, Action::DeleteChannel { channel: id, if_match: None });
    assert_eq!(kind(delete), RejectionKind::NotFound);
    let monitor = world.some_monitor(acme, "web");
    let listening = ChannelInput { monitors: Some(vec![monitor]), ..email("evil@example.com") };
    assert_eq!(kind(world.channel(evil, listening)), RejectionKind::Invalid);
    let for_other = Action::CreateChannel { tenant: Some(tenant_of(acme)), input: email("x@example.com") };
    assert_eq!(kind(world.run(evil, for_other)), RejectionKind::NotFound);
    world.operate(Action::UpdateTenant {
        tenant: tenant_of(evil),
        name: None,
        enabled: None,
        limits: vec![(Limit::Channels, Some(1))],
        source_prefixes: None,
    });
    world.channel(evil, email("evil@example.com")).unwrap();
    let more = world.channel(evil, webhook("more", "https://hooks.example.com/"));
    assert_eq!(kind(more), RejectionKind::Quota);
    world.operate(Action::DeleteTenant { tenant: tenant_of(evil) });
    assert_eq!(world.state.channels().iter(None).count(), 1);
}

#[test]
fn receivers_that_are_none() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    for url in [
        "ftp://hooks.example.com/",
        "https:/hooks.example.com/",
        "https://",
        "https://user:secret@hooks.example.com/",
        "https://hooks.example.com/#a",
        "https://hooks.example.com/a b",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:x/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://[::1]:8443/",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "https://10.0.0.1\\@hooks.example.com/",
        "https://0x7f000001/",
        "https://2130706433/",
    ] {
        assert_eq!(kind(world.channel(acme, webhook("ops", url))), RejectionKind::Invalid, "{url}");
    }
    for address in [
        "",
        "ops",
        "@example.com",
        "ops@",
        "ops@localhost",
        "a b@example.com",
        "a@b@example.com",
        ".a@example.com",
        "a..b@example.com",
        "ops@example.com\r\nBcc: all@example.com",
        "\"a\"@example.com",
        &format!("{}@example.com", "a".repeat(65)),
    ] {
        assert_eq!(kind(world.channel(acme, email(address))), RejectionKind::Invalid, "{address}");
    }
    for name in ["", "Ops", "a_b", &ChannelId(5).to_string()] {
        let named = webhook(name, "https://hooks.example.com/");
        assert_eq!(kind(world.channel(acme, named)), RejectionKind::Invalid, "{name}");
    }
    world.channel(acme, webhook("a", "https://8.8.8.8:8443/x?y=z")).unwrap();
    world.channel(acme, webhook("b", "http://[2606:4700::1111]/")).unwrap();
    world.channel(acme, email("ops+dns@mail.example.com")).unwrap();
    world.operate(Action::SetProbeRules(ProbeRules {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        refused: vec!["8.8.8.0/24".parse().unwrap()],
    }));
    world.channel(acme, webhook("c", "http://127.0.0.1:9/")).unwrap();
    assert_eq!(kind(world.channel(acme, webhook("d", "https://8.8.8.8/"))), RejectionKind::Invalid);
}
