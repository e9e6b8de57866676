//! An open loop of changes, watched from outside: the schedule doesn't wait for answers, so that standing in line
//! counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{self, Pace};
use crate::observe::{Expected, Seen, Watched, observe};

/// PoPs of ours, or secondaries of the peer.
pub const POPS: usize = 3;

const CONNECTIONS: usize = 32;

/// A change that isn't seen by then counts as never seen.
pub const GIVE_UP: Duration = Duration::from_secs(60);

/// One run of the open loop.
pub struct Run {
    /// Changes are numbered from here.
    pub first_change: u64,
    /// How many.
    pub count: u64,
    /// How many are due each second.
    pub per_s: u32,
    /// How far the last server is.
    pub far: Duration,
}

impl Run {
    /// Sends the changes and watches for them. `arrival` tells by which A record a change is known.
    ///
    /// # Errors
    /// If a change is refused or the network fails.
    pub fn measure(
        &self,
        api: SocketAddr,
        servers: &[SocketAddr],
        mut arrival: impl FnMut(u64) -> (String, Ipv4Addr),
        mut request: impl FnMut(u64, usize, &mut Vec<u8>) -> bool,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Vec<Seen>> {
        let last = servers.len() - 1;
        let watched: Vec<Watched> = servers
            .iter()
            .enumerate()
            .map(|(i, &server)| Watched {
                server,
                no_sooner: if i == last { self.far } else { Duration::ZERO },
            })
            .collect();
        let every = Duration::from_secs(1) / self.per_s;
        let start = Instant::now() + Duration::from_millis(100);
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            let observer = scope.spawn({
                let watched = &watched;
                move || observe(watched, &receiver, GIVE_UP)
            });
            let sent = load::run(
                api,
                CONNECTIONS,
                Pace::Open { start, every, count: self.count },
                self.first_change,
                &mut |change, step, out| {
                    if step == 0 {
                        let (name, value) = arrival(change);
                        let index = u32::try_from(change - self.first_change).expect("a run is short");
                        // The observer may have failed; its error is told below.
                        let _ = sender.send(Expected { since: start + every * index, name, value });
                    }
                    request(change, step, out)
                },
                stop,
            );
            drop(sender);
            let seen = observer.join().expect("the observer doesn't panic");
            sent.and(seen)
        })
    }
}

/// When changes were seen, of one side.
#[derive(Debug, Default)]
pub struct Figures {
    /// Microseconds until the last PoP had it; those never seen there stand for an hour.
    pub last_us: Vec<u32>,
    /// Microseconds until the near PoPs had it, if one is far.
    pub near_us: Vec<u32>,
    /// How many were given up.
    pub unseen: usize,
}

impl Figures {
    /// Takes in what was seen of a run.
    pub fn add(&mut self, seen: Vec<Seen>) {
        let micros = |at: Option<&Duration>| {
            at.map_or(u32::MAX, |at| u32::try_from(at.as_micros()).unwrap_or(u32::MAX))
        };
        for change in seen {
            self.last_us.push(micros(change.get(POPS - 1)));
            self.near_us.push(micros(change.get(POPS - 2)));
            self.unseen += usize::from(change.len() < POPS);
        }
    }

    /// Sorts the times, as percentiles need it.
    pub fn sort(&mut self) {
        self.last_us.sort_unstable();
        self.near_us.sort_unstable();
    }
}
