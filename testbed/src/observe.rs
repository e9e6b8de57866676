//! Sees changes arrive at servers: asks them, over UDP, until the new answer is there.
//!
//! One thread asks only for what is outstanding, and asks one server after another: a change has arrived
//! everywhere when the last one has it, whichever that is. So hardly any time is taken from the servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use domain::base::Message;
use domain::rdata::A;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dns::question;

/// From one question about a change to the next, at the least.
const ASK_EVERY: Duration = Duration::from_micros(200);

/// Added to that for every change that is asked about: bounds the questions a second.
const ASK_EVERY_PER_CHANGE: Duration = Duration::from_micros(60);

/// A question without an answer is asked again.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// A server to be watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// Where it answers.
    pub server: SocketAddr,
    /// A change can't be there sooner after it was due: no question before.
    pub no_sooner: Duration,
}

/// A change to be seen.
#[derive(Debug)]
pub struct Expected {
    /// Since when its time runs.
    pub since: Instant,
    /// The owner of an A record.
    pub name: String,
    /// Its new value.
    pub value: Ipv4Addr,
}

/// When a change was seen, from its beginning, by how many of the servers (in their order) had it by then;
/// shorter than the servers are many if it was given up.
pub type Seen = Vec<Duration>;

/// Takes in changes until the channel closes and all are seen or older than `give_up`. The results are in no
/// particular order.
///
/// # Errors
/// If the network fails.
pub fn observe(
    servers: &[Watched],
    changes: &Receiver<Expected>,
    give_up: Duration,
) -> io::Result<Vec<Seen>> {
    let sockets = servers.iter().map(|watched| open(watched.server)).collect::<io::Result<Vec<_>>>()?;
    let mut outstanding: Vec<Outstanding> = Vec::new();
    let mut results = Vec::new();
    let mut next_id = 0_u16;
    let mut closed = false;
    while !(closed && outstanding.is_empty()) {
        closed |= take_in(changes, &mut outstanding);
        let mut now = Instant::now();
        outstanding.retain_mut(|change| {
            let lost = now > change.expected.since + give_up;
            if lost {
                results.push(std::mem::take(&mut change.seen));
            }
            !lost
        });
        let asked_about = outstanding.iter().filter(|change| change.may_be_there_at(servers) <= now).count();
        let ask_every =
            ASK_EVERY.max(ASK_EVERY_PER_CHANGE * u32::try_from(asked_about).expect("few are outstanding"));
        let mut wake = now + Duration::from_millis(1);
        for change in &mut outstanding {
            if change.ask_at.max(change.may_be_there_at(servers)) <= now {
                next_id = next_id.wrapping_add(1);
                change.id = next_id;
                change.question[..2].copy_from_slice(&next_id.to_be_bytes());
                sockets[change.seen.len()].send(&change.question)?;
                change.ask_at = now + LOST_AFTER;
            }
            wake = wake.min(change.ask_at.max(change.may_be_there_at(servers)));
        }
        now = Instant::now();
        wait_readable(&sockets, wake.saturating_duration_since(now))?;
        for (server, socket) in sockets.iter().enumerate() {
            receive(socket, server, ask_every, &mut outstanding)?;
        }
        outstanding.retain_mut(|change| {
            let arrived = change.seen.len() == servers.len();
            if arrived {
                results.push(std::mem::take(&mut change.seen));
            }
            !arrived
        });
    }
    Ok(results)
}

/// How many questions [`look`] has under way: their answers fit into a socket's buffer.
const LOOKED_AT_ONCE: usize = 100;

/// How often [`look`] asks before it gives up on a server.
const LOOKS: usize = 20;

/// Asks a server for these A records (owner, value) and says which of them, by their places, it answers otherwise. What gets no
/// answer is asked again.
///
/// # Errors
/// If the network fails, or the server goes silent.
pub fn look(server: SocketAddr, expected: &[(String, Ipv4Addr)]) -> io::Result<Vec<usize>> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(LOST_AFTER))?;
    let mut wrong = Vec::new();
    let mut reply = [0; 1232];
    for (round, part) in expected.chunks(LOOKED_AT_ONCE).enumerate() {
        // No two parts share an id, so that a late answer is none to the next part.
        let id_of = |place: usize| ((round * LOOKED_AT_ONCE + place) & 0xffff) as u16;
        let mut open: Vec<usize> = (0..part.len()).collect();
        for _ in 0..LOOKS {
            for &place in &open {
                socket.send(&question(id_of(place), &part[place].0, "A"))?;
            }
            while !open.is_empty() {
                let length = match socket.recv(&mut reply) {
                    Ok(length) => length,
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                        break;
                    }
                    Err(e) => return Err(e),
                };
                let Ok(message) = Message::from_slice(&reply[..length]) else { continue };
                let id = message.header().id();
                let Some(at) = open.iter().position(|&place| id_of(place) == id) else { continue };
                let place = open.swap_remove(at);
                if address(message) != Some(part[place].1) {
                    wrong.push(round * LOOKED_AT_ONCE + place);
                }
            }
        }
        if !open.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{server} has gone silent")));
        }
    }
    Ok(wrong)
}

struct Outstanding {
    expected: Expected,
    question: Vec<u8>,
    /// The last question's.
    id: u16,
    ask_at: Instant,
    seen: Seen,
}

impl Outstanding {
    fn new(expected: Expected) -> Self {
        let question = question(0, &expected.name, "A");
        let ask_at = expected.since;
        Self { expected, question, id: 0, ask_at, seen: Seen::new() }
    }

    fn may_be_there_at(&self, servers: &[Watched]) -> Instant {
        self.expected.since + servers[self.seen.len()].no_sooner
    }
}

/// Takes new changes in, waiting for one if there are none; whether the channel is closed.
fn take_in(changes: &Receiver<Expected>, outstanding: &mut Vec<Outstanding>) -> bool {
    if outstanding.is_empty() {
        match changes.recv() {
            Ok(expected) => outstanding.push(Outstanding::new(expected)),
            Err(_) => return true,
        }
    }
    loop {
        match changes.try_recv() {
            Ok(expected) => outstanding.push(Outstanding::new(expected)),
            Err(e) => return e == TryRecvError::Disconnected,
        }
    }
}

fn receive(
    socket: &UdpSocket,
    server: usize,
    ask_every: Duration,
    outstanding: &mut [Outstanding],
) -> io::Result<()> {
    let mut reply = [0; 1232];
    loop {
        let length = match socket.recv(&mut reply) {
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let now = Instant::now();
        let Ok(message) = Message::from_slice(&reply[..length]) else { continue };
        let id = message.header().id();
        let asked = outstanding.iter_mut().find(|change| change.id == id && change.seen.len() == server);
        let Some(change) = asked else { continue };
        if address(message) == Some(change.expected.value) {
            change.seen.push(now - change.expected.since);
            change.ask_at = now;
        } else {
            change.ask_at = now + ask_every;
        }
    }
}

/// The address that a reply holds.
fn address(message: &Message<[u8]>) -> Option<Ipv4Addr> {
    let mut answers = message.answer().ok()?.limit_to::<A>();
    Some(answers.next()?.ok()?.data().addr())
}

fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn wait_readable(sockets: &[UdpSocket], timeout: Duration) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(timeout).expect("milliseconds");
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
