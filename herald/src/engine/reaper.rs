//! Large content that nobody needs any more is taken apart on a thread of its own: to free a million records takes a tenth
//! of a second, and whoever happens to be the last to hold them shall not be held up by it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use herald_core::change::Change;
use herald_core::state::State;
use herald_core::zone::Zone;

/// What has fewer records is freed wherever that may be.
const RECORDS_MIN: u64 = 10_000;

/// How often it is looked who still holds what.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread, once there was something for it.
#[derive(Default)]
pub(super) struct Reaper(Option<Sender<Arc<Zone>>>);

impl Reaper {
    /// Keeps the large zones of `old` that these changes replace until nobody else holds them.
    pub(super) fn keep<'a>(&mut self, old: &State, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            let (Change::ZoneReplaced { zone, .. } | Change::ZoneDeleted { zone }) = change else { continue };
            if let Some(zone) = old.zone(*zone).filter(|zone| zone.content.record_count() >= RECORDS_MIN) {
                self.take(zone.arc());
            }
        }
    }

    fn take(&mut self, zone: Arc<Zone>) {
        let sender = self.0.get_or_insert_with(|| {
            let (sender, zones) = channel();
            let reap = move || {
                let mut held: Vec<Arc<Zone>> = Vec::new();
                loop {
                    match zones.recv_timeout(if held.is_empty() { Duration::MAX } else { LOOK_EVERY }) {
                        Ok(zone) => held.push(zone),
                        Err(RecvTimeoutError::Timeout) => held.retain(|zone| Arc::strong_count(zone) > 1),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            if let Err(e) = std::thread::Builder::new().name("herald-reaper".into()).spawn(reap) {
                tracing::warn!("a thread can't be started: {e}");
            }
            sender
        });
        // Without the thread it is freed right here.
        _ = sender.send(zone);
    }
}
