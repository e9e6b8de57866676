//! Asking knotd itself, by DNS over UDP, which serial of a zone it serves.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use herald_core::Name;

const RTYPE_SOA: u16 = 6;
const HEADER_BYTES: usize = 12;

/// Octets of a SOA's RDATA from its serial on.
const SOA_TAIL_BYTES: usize = 20;

/// What an answer to a SOA query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoaAnswer {
    /// The name that was asked for.
    pub zone: Name,
    /// The response code: 0 no error, 2 SERVFAIL, 5 REFUSED.
    pub rcode: u8,
    /// The zone's serial, if the answer is authoritative and has one.
    pub serial: Option<u32>,
}

/// A query for the SOA of a zone.
pub fn soa_query(id: u16, zone: &Name) -> Vec<u8> {
    let mut query = Vec::with_capacity(HEADER_BYTES + zone.as_wire().len() + 4);
    query.extend_from_slice(&id.to_be_bytes());
    // One question, and no flag but one that is nobody's (Z, RFC 1035 §4.1.1): the module doesn't count what has it and comes from here.
    query.extend_from_slice(&[0, 0x40, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.extend_from_slice(zone.as_wire());
    query.extend_from_slice(&[0, RTYPE_SOA as u8, 0, 1]);
    query
}

/// Reads the answer to [`soa_query`]; none if it's no such answer.
pub fn read_soa_answer(message: &[u8]) -> Option<SoaAnswer> {
    let header = message.get(..HEADER_BYTES)?;
    let (is_response, is_authoritative) = (header[2] & 0x80 != 0, header[2] & 0x04 != 0);
    if !is_response || header[4..6] != [0, 1] {
        return None;
    }
    let question = &message[HEADER_BYTES..];
    let name_bytes = skip_name(question)?;
    let zone = Name::from_wire(&question[..name_bytes]).ok()?;
    let mut rest = question.get(name_bytes + 4..)?;
    let mut serial = None;
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        let fixed = rest.get(skip_name(rest)?..)?;
        let rdata_bytes = usize::from(u16::from_be_bytes([*fixed.get(8)?, *fixed.get(9)?]));
        let rdata = fixed.get(10..10 + rdata_bytes)?;
        if is_authoritative && fixed[..2] == RTYPE_SOA.to_be_bytes() {
            let tail = rdata.get(rdata_bytes.checked_sub(SOA_TAIL_BYTES)?..)?;
            serial = Some(u32::from_be_bytes([tail[0], tail[1], tail[2], tail[3]]));
        }
        rest = &fixed[10 + rdata_bytes..];
    }
    Some(SoaAnswer { zone, rcode: header[3] & 0x0f, serial })
}

/// Length of the name at the start, which may end in a compression pointer.
fn skip_name(bytes: &[u8]) -> Option<usize> {
    let mut offset = 0;
    loop {
        match bytes.get(offset)? {
            0 => return Some(offset + 1),
            length @ 1..=63 => offset += 1 + usize::from(*length),
            _ => return Some(offset + 2),
        }
    }
}

/// A UDP socket that talks to knotd at `address`.
pub fn socket_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.connect(address)?;
    Ok(socket)
}

/// Asks once and waits for the answer; none if there is none in time.
pub fn ask_soa(address: SocketAddr, zone: &Name, timeout: Duration) -> io::Result<Option<SoaAnswer>> {
    let socket = socket_to(address)?;
    let deadline = Instant::now() + timeout;
    socket.send(&soa_query(0, zone))?;
    let mut buffer = [0; 1500];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(count) => {
                if let Some(answer) = read_soa_answer(&buffer[..count]).filter(|answer| answer.zone == *zone)
                {
                    return Ok(Some(answer));
                }
            }
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody listens.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

// ---------------------------------------------------------------------------------------------------
// Watching many zones
// ---------------------------------------------------------------------------------------------------

/// What the watcher is told.
#[derive(Debug)]
pub(super) enum WatchOrder {
    /// Report when this zone is served with this serial.
    Watch(Name, u32),
    /// No report for this zone any more.
    Forget(Name),
    /// No report for any zone any more.
    ForgetAll,
}

/// The first wait before asking again; it doubles up to [`ASK_AGAIN_MAX`].
const ASK_AGAIN_MIN: Duration = Duration::from_millis(1);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// How many zones are asked for at the same time. knotd loads zones about in the order in which it was told to, so the
/// others' turn comes when these are through: asking for all of them again and again would cost it more than loading them.
const ASKED_MAX: usize = 256;

/// How many queries are sent before answers are read: they have to fit into the socket's receive buffer.
const BURST_QUERIES: usize = 100;

/// How long to wait for answers while there is something to watch.
const RECEIVE_WAIT: Duration = Duration::from_millis(1);

/// Asks for the watched zones again and again and reports each one that is served with its serial, once.
/// Ends when nobody can give it orders any more.
pub(super) fn watch<E>(
    address: SocketAddr,
    orders: &Receiver<WatchOrder>,
    events: &Sender<E>,
    served: impl Fn(Name, u32) -> E,
) -> io::Result<()> {
    let socket = socket_to(address)?;
    socket.set_read_timeout(Some(RECEIVE_WAIT))?;
    let mut watches = Watches::default();
    let mut buffer = [0; 1500];
    let mut id: u16 = 0;
    loop {
        loop {
            let order = if watches.is_empty() {
                match orders.recv() {
                    Ok(order) => order,
                    Err(_) => return Ok(()),
                }
            } else {
                match orders.try_recv() {
                    Ok(order) => order,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            };
            match order {
                WatchOrder::Watch(zone, serial) => watches.add(zone, serial),
                WatchOrder::Forget(zone) => watches.remove(&zone),
                WatchOrder::ForgetAll => watches = Watches::default(),
            }
        }

        let now = Instant::now();
        let mut sent = 0;
        while sent < BURST_QUERIES
            && let Some(zone) = watches.next(now)
        {
            id = id.wrapping_add(1);
            // An error here is one of an earlier query (nobody listens): the next one will tell.
            let _ = socket.send(&soa_query(id, &zone));
            sent += 1;
        }

        let mut answers = 0;
        while answers < sent.max(1) {
            match socket.recv(&mut buffer) {
                Ok(count) => {
                    answers += 1;
                    let Some(SoaAnswer { zone, serial: Some(serial), .. }) =
                        read_soa_answer(&buffer[..count])
                    else {
                        continue;
                    };
                    if watches.serial_of(&zone) == Some(serial) {
                        watches.remove(&zone);
                        if events.send(served(zone, serial)).is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(_) => break,
            }
        }
    }
}

/// The watched zones, and whose turn it is to be asked for.
#[derive(Default)]
struct Watches {
    zones: HashMap<Name, Watch>,
    /// Numbers the watches: what stands in the queues for one that is no more doesn't count.
    last_number: u64,
    /// Those that have yet to be asked for.
    fresh: VecDeque<(u64, Name)>,
    /// When to ask again for those that are being asked for, soonest first.
    again: BinaryHeap<Reverse<(Instant, u64, Name)>>,
    /// How many of them there are.
    asked: usize,
}

struct Watch {
    number: u64,
    serial: u32,
    /// How long to wait for the next answer; none if it has yet to be asked for.
    ask_again: Option<Duration>,
}

impl Watches {
    fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    fn serial_of(&self, zone: &Name) -> Option<u32> {
        Some(self.zones.get(zone)?.serial)
    }

    fn add(&mut self, zone: Name, serial: u32) {
        self.remove(&zone);
        self.last_number += 1;
        let number = self.last_number;
        self.fresh.push_back((number, zone.clone()));
        self.zones.insert(zone, Watch { number, serial, ask_again: None });
    }

    fn remove(&mut self, zone: &Name) {
        let Some(watch) = self.zones.remove(zone) else { return };
        self.asked -= usize::from(watch.ask_again.is_some());
        if self.zones.is_empty() {
            self.fresh.clear();
            self.again.clear();
        }
    }

    /// The zone to be asked for now, if it is any's turn.
    fn next(&mut self, now: Instant) -> Option<Name> {
        while self.again.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, number, zone))) = self.again.pop() else { break };
            if self.ask(number, &zone, now) {
                return Some(zone);
            }
        }
        while self.asked < ASKED_MAX {
            let (number, zone) = self.fresh.pop_front()?;
            if self.ask(number, &zone, now) {
                return Some(zone);
            }
        }
        None
    }

    /// Whether the watch of this number still is; then notes when it is its turn again.
    fn ask(&mut self, number: u64, zone: &Name, now: Instant) -> bool {
        let Some(watch) = self.zones.get_mut(zone).filter(|watch| watch.number == number) else {
            return false;
        };
        self.asked += usize::from(watch.ask_again.is_none());
        let wait = watch.ask_again.unwrap_or(ASK_AGAIN_MIN);
        watch.ask_again = Some((wait * 2).min(ASK_AGAIN_MAX));
        self.again.push(Reverse((now + wait, number, zone.clone())));
        true
    }
}

/// Waits for a message until a moment; none when the time is up.
pub(super) fn receive_until<T>(
    receiver: &Receiver<T>,
    deadline: Option<Instant>,
) -> Result<Option<T>, RecvTimeoutError> {
    let Some(deadline) = deadline else {
        return receiver.recv().map(Some).map_err(|_| RecvTimeoutError::Disconnected);
    };
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(message) => Ok(Some(message)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::parse(&format!("zone{number}.example.")).unwrap()
    }

    fn all_due(watches: &mut Watches, now: Instant) -> Vec<Name> {
        std::iter::from_fn(|| watches.next(now)).collect()
    }

    #[test]
    fn a_bounded_number_of_zones_is_asked_for_and_others_follow_in_order() {
        let names: Vec<Name> = (0..2 * ASKED_MAX).map(name).collect();
        let mut watches = Watches::default();
        names.iter().for_each(|name| watches.add(name.clone(), 7));
        let start = Instant::now();
        assert_eq!(all_due(&mut watches, start), names[..ASKED_MAX]);

        // One is through, one is given up that is asked for, and one that isn't yet.
        watches.remove(&names[3]);
        watches.remove(&names[5]);
        watches.remove(&names[ASKED_MAX]);
        assert_eq!(all_due(&mut watches, start), names[ASKED_MAX + 1..ASKED_MAX + 3]);

        // These go on being asked for, later and later, and no others until some are through.
        let (mut now, mut asked) = (start, 0);
        while asked < 12 * ASKED_MAX {
            now += Duration::from_millis(1);
            let due = all_due(&mut watches, now);
            assert!(due.iter().all(|name| !names[ASKED_MAX + 3..].contains(name)));
            asked += due.len();
        }
        assert!(now - start > 4 * ASK_AGAIN_MAX, "{:?}", now - start);

        let left = names.iter().filter(|name| watches.serial_of(name) == Some(7)).count();
        assert_eq!(left, names.len() - 3);
        for (number, name) in names.iter().enumerate() {
            watches.remove(name);
            if number == ASKED_MAX {
                assert_eq!(all_due(&mut watches, now), names[ASKED_MAX + 3..]);
            }
        }
        assert!(watches.is_empty() && watches.asked == 0);
    }

    #[test]
    fn a_watch_anew_replaces_the_old_one() {
        let mut watches = Watches::default();
        let now = Instant::now();
        watches.add(name(1), 1);
        assert_eq!(all_due(&mut watches, now), [name(1)]);
        watches.add(name(1), 2);
        assert_eq!(watches.serial_of(&name(1)), Some(2));
        // At once, and its old turn is no turn.
        assert_eq!(all_due(&mut watches, now), [name(1)]);
        assert_eq!(all_due(&mut watches, now + ASK_AGAIN_MIN), [name(1)]);
        assert_eq!(watches.asked, 1);
    }
}
