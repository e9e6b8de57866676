//! Asks a server over UDP as fast as it answers, from one thread: a fixed number of questions is always under way.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use domain::base::iana::{OptionCode, Rtype};
use domain::base::message_builder::MessageBuilder;
use domain::base::opt::UnknownOptData;
use domain::base::{Message, Name, iana::Class};
use domain::rdata::A;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Sockets that are asked from: a server that hashes flows over workers sees several.
const SOCKETS: usize = 4;

/// Questions under way by socket: their answers fit into its buffer.
const UNDER_WAY: usize = 48;

/// A question without an answer for this long is taken for lost.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Answers with NOERROR and an answer section.
    pub answers: u64,
    /// Other replies.
    pub others: u64,
    /// From the first question to the end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Answers a second.
    pub fn rate_per_s(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

/// Questions in wire format, asked in turn.
#[derive(Clone, Debug)]
pub struct Questions(Vec<Vec<u8>>);

impl Questions {
    /// A question for each name, with EDNS, and the client subnet (RFC 7871) if one is given for it.
    ///
    /// # Panics
    /// If a name isn't one.
    pub fn new(questions: impl IntoIterator<Item = (String, Rtype, Option<(IpAddr, u8)>)>) -> Self {
        Self(questions.into_iter().map(|(name, rtype, subnet)| packet(&name, rtype, subnet)).collect())
    }
}

impl Questions {
    /// The first label of the first question's name.
    pub fn first_label(&self) -> String {
        let question = self.0.first().and_then(|packet| packet.get(12..));
        let label = question.and_then(|question| question.get(1..=usize::from(*question.first()?)));
        String::from_utf8_lossy(label.unwrap_or_default()).into_owned()
    }
}

fn packet(name: &str, rtype: Rtype, subnet: Option<(IpAddr, u8)>) -> Vec<u8> {
    let name: Name<Vec<u8>> = name.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut builder = MessageBuilder::new_vec().question();
    builder.push((&name, rtype, Class::IN)).expect("a Vec has room");
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(1232);
            if let Some((address, length)) = subnet {
                let octets = match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let mut data = vec![0, if address.is_ipv4() { 1 } else { 2 }, length, 0];
                data.extend_from_slice(&octets[..usize::from(length).div_ceil(8)]);
                let option = UnknownOptData::new(OptionCode::CLIENT_SUBNET, data).expect("it is short");
                opt.push(&option)?;
            }
            Ok(())
        })
        .expect("a Vec has room");
    builder.finish()
}

/// Asks the first of the questions once and gives the addresses of the answer, sorted.
///
/// # Errors
/// If no answer comes within a second, or it isn't one.
pub fn ask(server: SocketAddr, questions: &Questions) -> io::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send(&questions.0[0])?;
    let mut reply = [0; 4096];
    let length = socket.recv(&mut reply)?;
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let message = Message::from_octets(&reply[..length]).map_err(|e| invalid(&e))?;
    let section = message.answer().map_err(|e| invalid(&e))?;
    let mut addresses = Vec::new();
    for record in section.limit_to::<A>() {
        addresses.push(record.map_err(|e| invalid(&e))?.data().addr());
    }
    addresses.sort_unstable();
    Ok(addresses)
}

/// Asks these of the questions in turn, each when the one before is answered.
///
/// # Errors
/// If one isn't answered within a few seconds.
pub fn ask_each(server: SocketAddr, questions: &Questions, which: Range<usize>) -> io::Result<()> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reply = [0; 4096];
    for question in questions.0.iter().take(which.end).skip(which.start) {
        socket.send(question)?;
        let length = socket.recv(&mut reply)?;
        if length < 12 || reply[3] & 0xf != 0 || reply[6..8] == [0, 0] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply is no answer"));
        }
    }
    Ok(())
}

/// Asks `server` for `duration`.
///
/// # Errors
/// If the network fails, or nothing at all is answered.
pub fn run(server: SocketAddr, questions: &Questions, duration: Duration) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let socket = UdpSocket::bind((server.ip(), 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        sockets.push((socket, 0_usize));
    }
    let (begin, mut outcome, mut next, mut id) = (Instant::now(), Outcome::default(), 0_usize, 0_u16);
    let mut packet = Vec::with_capacity(512);
    let mut reply = [0; 4096];
    while begin.elapsed() < duration {
        for (socket, under_way) in &mut sockets {
            while *under_way < UNDER_WAY {
                packet.clear();
                packet.extend_from_slice(&questions.0[next]);
                packet[..2].copy_from_slice(&id.to_be_bytes());
                (next, id) = ((next + 1) % questions.0.len(), id.wrapping_add(1));
                socket.send(&packet)?;
                *under_way += 1;
            }
        }
        let mut seen = false;
        for (socket, under_way) in &mut sockets {
            loop {
                match socket.recv(&mut reply) {
                    Ok(length) => {
                        seen = true;
                        *under_way = under_way.saturating_sub(1);
                        let is_answer = length > 12 && reply[3] & 0xf == 0 && reply[6..8] != [0, 0];
                        if is_answer { outcome.answers += 1 } else { outcome.others += 1 }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        if !seen && !wait_readable(&sockets)? {
            sockets.iter_mut().for_each(|(_, under_way)| *under_way = 0);
        }
    }
    outcome.elapsed = begin.elapsed();
    if outcome.answers + outcome.others == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{server} answers nothing")));
    }
    Ok(outcome)
}

fn wait_readable(sockets: &[(UdpSocket, usize)]) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> =
        sockets.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(LOST_AFTER).expect("it is short");
    Ok(poll(&mut fds, Some(&timeout))? > 0)
}
