//! Asking knotd itself, by DNS over UDP, which serial of a zone it serves.

use std::collections::{BinaryHeap, HashMap};
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
    // No flags; one question.
    query.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
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

/// How many queries are sent before answers are read: they have to fit into the socket's receive buffer.
const BURST_QUERIES: usize = 100;

/// How long to wait for answers while there is something to watch.
const RECEIVE_WAIT: Duration = Duration::from_millis(1);

struct Watch {
    serial: u32,
    ask_at: Instant,
    ask_again: Duration,
}

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
    let mut watches: HashMap<Name, Watch> = HashMap::new();
    // When to ask next, soonest first. An entry counts only if the watch has the same time.
    let mut queue: BinaryHeap<std::cmp::Reverse<(Instant, Name)>> = BinaryHeap::new();
    let mut buffer = [0; 1500];
    let mut id: u16 = 0;
    loop {
        loop {
            let order = if watches.is_empty() {
                queue.clear();
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
                WatchOrder::Watch(zone, serial) => {
                    let ask_at = Instant::now();
                    queue.push(std::cmp::Reverse((ask_at, zone.clone())));
                    watches.insert(zone, Watch { serial, ask_at, ask_again: ASK_AGAIN_MIN });
                }
                WatchOrder::Forget(zone) => {
                    watches.remove(&zone);
                }
                WatchOrder::ForgetAll => watches.clear(),
            }
        }

        let now = Instant::now();
        let mut sent = 0;
        while sent < BURST_QUERIES {
            match queue.peek() {
                Some(std::cmp::Reverse((ask_at, _))) if *ask_at <= now => {}
                _ => break,
            }
            let Some(std::cmp::Reverse((ask_at, zone))) = queue.pop() else { break };
            let Some(watch) = watches.get_mut(&zone).filter(|watch| watch.ask_at == ask_at) else { continue };
            id = id.wrapping_add(1);
            // An error here is one of an earlier query (nobody listens): the next one will tell.
            let _ = socket.send(&soa_query(id, &zone));
            sent += 1;
            watch.ask_at = now + watch.ask_again;
            watch.ask_again = (watch.ask_again * 2).min(ASK_AGAIN_MAX);
            queue.push(std::cmp::Reverse((watch.ask_at, zone)));
        }

        let mut answers = 0;
        while answers < sent.max(1) {
            match socket.recv(&mut buffer) {
                Ok(count) => {
                    answers += 1;
                    let Some(answer) = read_soa_answer(&buffer[..count]) else { continue };
                    let expected = watches.get(&answer.zone).map(|watch| watch.serial);
                    if answer.serial.is_some() && answer.serial == expected {
                        watches.remove(&answer.zone);
                        if events.send(served(answer.zone, expected.unwrap_or_default())).is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(_) => break,
            }
        }
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
