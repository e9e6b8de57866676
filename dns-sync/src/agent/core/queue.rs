//! Frames that wait to be taken in.
//!
//! Deltas and removals come first, then small whole zones and the parts of large ones by turns. The frames of one
//! zone stay in order: as long as some of them wait in a class, its later ones wait behind them.
//!
//! Pings stand among the urgent frames. What comes after a question for the inventory waits until that is answered.

use std::collections::{HashMap, VecDeque};

use herald_core::ZoneId;
use herald_wire::stream::ToPop;

use crate::session::Frame;

/// A whole zone of more RRsets is large.
const SMALL_ZONE_RRSETS_MAX: u64 = 1_000;

/// What goes first, and what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Class {
    /// Deltas and removals.
    Urgent,
    /// Small whole zones.
    Small,
    /// Parts of large ones.
    Large,
}

/// A frame and where it waits.
pub(in crate::agent) struct Queued {
    pub frame: Frame,
    pub class: Class,
}

/// See the module.
#[derive(Default)]
pub(in crate::agent) struct Queue {
    urgent: VecDeque<Frame>,
    small: VecDeque<Frame>,
    large: VecDeque<Frame>,
    /// The class in which frames of a zone wait, and how many.
    waiting: HashMap<ZoneId, (Class, u32)>,
    /// The class of whole zones whose end has yet to come.
    open: HashMap<ZoneId, Class>,
    /// Whether it is a large zone's turn.
    large_next: bool,
    /// The buckets whose inventory is asked for, and the frames that came after the question.
    barrier: Option<(Vec<u16>, VecDeque<Frame>)>,
}

impl Queue {
    /// Adds a frame behind all of its zone's. Those that open a session are not for here.
    pub fn push(&mut self, frame: Frame) {
        if let Some((_, behind)) = &mut self.barrier {
            return behind.push_back(frame);
        }
        let zone = match &frame.message {
            ToPop::Compare { buckets } => {
                self.barrier = Some((buckets.clone(), VecDeque::new()));
                return;
            }
            ToPop::Ping { .. } => return self.urgent.push_back(frame),
            message => match zone_of(message) {
                Some(zone) => zone,
                None => return,
            },
        };
        let natural = match &frame.message {
            ToPop::ZoneBegin(begin) => {
                let is_small = begin.rrset_count <= SMALL_ZONE_RRSETS_MAX;
                let class = if is_small { Class::Small } else { Class::Large };
                self.open.insert(zone, class);
                class
            }
            ToPop::ZonePart { .. } => self.open.get(&zone).copied().unwrap_or(Class::Small),
            ToPop::ZoneEnd { .. } => self.open.remove(&zone).unwrap_or(Class::Small),
            _ => Class::Urgent,
        };
        let class = match self.waiting.get(&zone) {
            Some((class, _)) if *class != Class::Urgent => *class,
            _ => natural,
        };
        self.count_in(zone, class);
        self.queue(class).push_back(frame);
    }

    /// Puts frames back to where they were taken from, in the order in which they were taken. Pings are dropped: the next
    /// one is soon to come.
    pub fn put_back(&mut self, frames: Vec<Queued>) {
        for Queued { frame, class } in frames.into_iter().rev() {
            if let Some(zone) = zone_of(&frame.message) {
                self.count_in(zone, class);
                self.queue(class).push_front(frame);
            }
        }
    }

    /// The next frame; with `urgent_only`, if it is urgent.
    pub fn next(&mut self, urgent_only: bool) -> Option<Queued> {
        if !self.has_urgent()
            && !self.has_bulk()
            && let Some((buckets, _)) = &self.barrier
        {
            let message = ToPop::Compare { buckets: buckets.clone() };
            return Some(Queued { frame: Frame::new(message, 0), class: Class::Urgent });
        }
        let class = self.next_class();
        if urgent_only && class != Class::Urgent {
            return None;
        }
        let frame = self.queue(class).pop_front()?;
        if let Some(zone) = zone_of(&frame.message) {
            if class != Class::Urgent {
                // A turn is a part of a large zone, or a small zone with all of its frames.
                self.large_next = class == Class::Small && matches!(frame.message, ToPop::ZoneEnd { .. });
            }
            if let Some((_, frames)) = self.waiting.get_mut(&zone) {
                *frames -= 1;
                if *frames == 0 {
                    self.waiting.remove(&zone);
                }
            }
        }
        Some(Queued { frame, class })
    }

    /// Whether the next frame is a part of a large zone, from which nothing follows yet.
    pub fn next_is_part(&self) -> bool {
        let is_part = |frame: &Frame| matches!(frame.message, ToPop::ZonePart { .. });
        self.next_class() == Class::Large && self.large.front().is_some_and(is_part)
    }

    fn next_class(&self) -> Class {
        if !self.urgent.is_empty() {
            Class::Urgent
        } else if self.large.is_empty() || (!self.large_next && !self.small.is_empty()) {
            Class::Small
        } else {
            Class::Large
        }
    }

    /// Whether something urgent waits.
    pub fn has_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Whether frames of whole zones wait, or what has to stay behind them.
    pub fn has_bulk(&self) -> bool {
        !self.small.is_empty() || !self.large.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        !self.has_urgent() && !self.has_bulk() && self.barrier.is_none()
    }

    /// The inventory that was asked for is told, and durable: what came after the question is next.
    pub fn pass_barrier(&mut self) {
        let Some((_, behind)) = self.barrier.take() else { return };
        behind.into_iter().for_each(|frame| self.push(frame));
    }

    fn count_in(&mut self, zone: ZoneId, class: Class) {
        let (kept, frames) = self.waiting.entry(zone).or_insert((class, 0));
        *kept = class;
        *frames += 1;
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Frame> {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        }
    }
}

/// The zone that a message is about.
pub(in crate::agent) fn zone_of(message: &ToPop) -> Option<ZoneId> {
    match message {
        ToPop::Delta(delta) => Some(delta.zone),
        ToPop::ZoneBegin(begin) => Some(begin.zone),
        ToPop::ZonePart { zone, .. } | ToPop::ZoneEnd { zone } | ToPop::Remove { zone, .. } => Some(*zone),
        ToPop::Welcome(_)
        | ToPop::Reject { .. }
        | ToPop::Ping { .. }
        | ToPop::Compare { .. }
        | ToPop::GeoOffer { .. }
        | ToPop::GeoPart { .. }
        | ToPop::Probes(_)
        | ToPop::Targets(_)
        | ToPop::QueryLogs(_)
        | ToPop::Verdicts { .. } => None,
    }
}
