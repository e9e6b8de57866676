//! Control's part with the module: what is for it is told it before knotd is, and knotd is told when it is ready.

use std::time::Instant;

use herald_core::Name;
use herald_core::firewall::FirewallPart;
use steering::link::ToModule;

use super::control::{Control, Mode};
use super::zone::Phase;
use super::{NO_MODULE, Report, TaskError};
use crate::module::desk::Prepare;
use crate::module::link::LinkEvent;
use crate::module::zone::WholeZone;

impl Control {
    pub(super) fn take_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { connection, zones, version, geo, counts, firewall, .. } => {
                self.module_lost();
                self.desk.up(connection, zones.iter().copied());
                if self.geo.as_ref().map_or(&[][..], |file| &file.hash) != geo {
                    self.tell_geo();
                }
                self.has_firewall = firewall.is_some();
                for part in FirewallPart::ALL {
                    let had = firewall.as_ref().map(|firewall| firewall.part(part));
                    let wanted = self.firewall.get(&part).map_or(&[][..], |file| &file.hash);
                    if had != Some(wanted) {
                        self.tell_firewall(part);
                    }
                }
                let _ = self.reports.send(Report::ModuleUp { zones, version, geo, counts, firewall });
                let waiting = self.zones.iter_mut().filter(|(_, zone)| zone.waits_for_module);
                let waiting: Vec<Name> = waiting
                    .map(|(name, zone)| {
                        zone.waits_for_module = false;
                        name.clone()
                    })
                    .collect();
                waiting.iter().for_each(|name| self.advance(name));
                self.advance_all_private();
            }
            LinkEvent::Said { connection, message } => {
                if !self.desk.is_connection(connection) {
                    return;
                }
                if let Some(answer) = self.desk.answered(message.clone()) {
                    match self.private.contains_key(&answer.zone) {
                        true => self.private_answered(answer.zone, answer.result),
                        false => self.module_answered(&answer.name, answer.result),
                    }
                } else {
                    let _ = self.reports.send(Report::ModuleSaid(message));
                }
            }
            LinkEvent::Down { connection, reason } => {
                if connection.is_none_or(|connection| self.desk.is_connection(connection)) {
                    self.module_lost();
                }
                let _ = self.reports.send(Report::ModuleDown { reason });
            }
        }
    }

    /// The module is told which table of places to use; as long as it isn't there, it is told when it comes.
    pub(super) fn tell_geo(&mut self) {
        let message = self.geo.as_ref().map_or(ToModule::NoGeo, |file| file.message(None));
        self.desk.say(&message);
    }

    /// The module is told which file of the firewall to use, if it is one that has a firewall.
    pub(super) fn tell_firewall(&mut self, part: FirewallPart) {
        if !self.has_firewall {
            return;
        }
        let none = || ToModule::Firewall { part, path: String::new(), hash: Vec::new() };
        let message = self.firewall.get(&part).map_or_else(none, |file| file.message(Some(part)));
        self.desk.say(&message);
    }

    /// What the module was being told, or was ready for, is told again once it is there.
    fn module_lost(&mut self) {
        if !self.desk.is_up() {
            return;
        }
        self.desk.down();
        self.private_lost();
        let mut lost = Vec::new();
        for (name, zone) in &mut self.zones {
            match zone.phase {
                Phase::Preparing { serial } | Phase::Prepared { serial } => {
                    zone.phase = Phase::Served { serial };
                    zone.delta_queued = false;
                    zone.hold_taken();
                }
                Phase::Awaiting { member, .. } => {
                    zone.phase = if member { Phase::Broken } else { Phase::Absent };
                    zone.waits_for_module = true;
                    zone.hold_current();
                }
                _ => continue,
            }
            lost.push(name.clone());
        }
        // They may stand in queues still.
        self.deltas.retain(|name| !lost.contains(name));
        self.resting.retain(|(_, name)| !lost.contains(name));
        lost.iter().for_each(|name| self.advance(name));
    }

    /// Tells the module of all changes that wait, in one go.
    pub(super) fn run_prepares(&mut self) {
        while let Some(name) = self.prepares.pop_front() {
            self.prepare_change(&name);
        }
        self.write_to_module();
    }

    fn prepare_change(&mut self, name: &Name) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        let Phase::Served { serial } = zone.phase else { return };
        zone.delta_queued = false;
        let Some(held) = zone.delta.take() else { return };
        let Some(change) = held.steering.clone() else {
            zone.delta = Some(held);
            return self.advance(name);
        };
        if self.link.is_none() {
            zone.phase = Phase::Broken;
            return self.fail_content(name, held.tags, &TaskError::Steering(NO_MODULE.into()));
        }
        if !self.desk.is_up() {
            zone.delta = Some(held);
            zone.waits_for_module = true;
            return;
        }
        // The file that knotd has loaded last was newer: what follows leads there.
        if self.desk.in_use(change.zone).is_some_and(|in_use| in_use > change.generation) {
            zone.delta = Some(held);
            return;
        }
        let rrsets = held.for_module(change.with_records);
        match self.desk.prepare_change(name, &change, held.whole.serial, &held.soa, rrsets) {
            Prepare::Told => {
                zone.phase = Phase::Preparing { serial };
                zone.taken = Some(held);
            }
            Prepare::Known => {
                zone.phase = Phase::Preparing { serial };
                zone.taken = Some(held);
                self.module_answered(name, Ok(()));
            }
            Prepare::WholeNeeded => {
                zone.phase = Phase::Broken;
                self.fail_content(name, held.tags, &TaskError::NotServed);
            }
        }
    }

    /// A zone's file is there: what is in it for the module is told before knotd loads it.
    pub(super) fn prepare_content(&mut self, name: &Name, member: bool, records: u64, whole: &WholeZone) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        if self.link.is_none() && whole.steering_rrsets > 0 {
            return self.content_refused(name, member, NO_MODULE.into());
        }
        if self.link.is_none() {
            return self.content_ready(name, member, records);
        }
        if !self.desk.is_up() {
            if whole.steering_rrsets == 0 {
                // If the module had some of it, that is found when it is there.
                return self.content_ready(name, member, records);
            }
            zone.phase = if member { Phase::Broken } else { Phase::Absent };
            zone.waits_for_module = true;
            zone.hold_current();
            return;
        }
        match self.desk.prepare_whole(name, whole) {
            Prepare::Told => {
                zone.phase = Phase::Awaiting { member, records };
                zone.prepared_whole = Some(whole.zone);
            }
            Prepare::Known | Prepare::WholeNeeded => self.content_ready(name, member, records),
        }
    }

    fn module_answered(&mut self, name: &Name, result: Result<(), String>) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        match (zone.phase, result) {
            (Phase::Preparing { serial }, Ok(())) => {
                zone.phase = Phase::Prepared { serial };
                zone.delta_queued = true;
                match zone.rests_until.filter(|until| *until > Instant::now()) {
                    Some(until) => self.resting.push_back((until, name.clone())),
                    None => self.deltas.push_back(name.clone()),
                }
            }
            (Phase::Preparing { .. }, Err(reason)) => {
                zone.phase = Phase::Broken;
                let tags = zone.taken.take().map(|taken| taken.tags).unwrap_or_default();
                self.fail_content(name, tags, &TaskError::Steering(reason));
            }
            (Phase::Awaiting { member, records }, Ok(())) => self.content_ready(name, member, records),
            (Phase::Awaiting { member, .. }, Err(reason)) => self.content_refused(name, member, reason),
            _ => {}
        }
    }

    fn content_refused(&mut self, name: &Name, member: bool, reason: String) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        let tags = zone.take_current();
        zone.prepared_whole = None;
        zone.phase = if member { Phase::Broken } else { Phase::Absent };
        if !member {
            self.release_file_name(name);
        }
        self.fail_content(name, tags, &TaskError::Steering(reason));
    }

    /// Has written what the module is to be told.
    pub(super) fn write_to_module(&mut self) {
        if let (Some((connection, bytes)), Some(link)) = (self.desk.take_out(), &self.link) {
            link.write(connection, bytes);
        }
    }

    /// knotd has just been started, or found: so its module is to be found, too.
    pub(super) fn look_for_module(&mut self) {
        if self.mode == Mode::Running
            && let Some(link) = &self.link
        {
            link.try_now();
        }
    }
}
