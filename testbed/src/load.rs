//! The load generator: changes by HTTP over keep-alive connections, all on one thread.
//!
//! The same generator drives both sides of a comparison. A server that closes its connections is dialled again,
//! and pays for that itself.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::http::ReplyParser;

/// Longest wait for any reply: past it the run has failed.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Writes the request of `step` (from 0) of `change` to the end of the bytes; `false` if the change has no such step.
pub type Requests<'a> = dyn FnMut(u64, usize, &mut Vec<u8>) -> bool + 'a;

/// When changes are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends its next change when its last one was answered, for this long.
    Closed(Duration),
    /// Each connection sends its next change when its last one was answered, until so many were sent.
    Count(u64),
    /// Change k is due at `start` + k × `every`, whether or not a connection is free.
    Open {
        /// When the first change is due.
        start: Instant,
        /// From one change to the next.
        every: Duration,
        /// How many.
        count: u64,
    },
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By change answered: microseconds from sending, or in an open loop from being due, to the last reply.
    pub latencies_us: Vec<u32>,
    /// From the first request to the last reply.
    pub elapsed: Duration,
}

impl Outcome {
    /// Changes a second.
    pub fn rate_per_s(&self) -> f64 {
        self.latencies_us.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends changes over `connections` connections to `server`, numbered from `first_change`. `stop` is looked at before
/// each change of an open loop, and ends it early.
///
/// # Errors
/// If a reply is not a success, or a connection fails.
pub fn run(
    server: SocketAddr,
    connections: usize,
    pace: Pace,
    first_change: u64,
    requests: &mut Requests<'_>,
    stop: &dyn Fn() -> bool,
) -> io::Result<Outcome> {
    let begin = Instant::now();
    let mut links: Vec<Link> = (0..connections).map(|_| Link::default()).collect();
    let mut outcome = Outcome::default();
    let mut sent_count = 0;
    let mut last_reply = begin;
    loop {
        // Who is free takes what is due.
        let mut next_due = None;
        for link in links.iter_mut().filter(|link| link.job.is_none()) {
            let now = Instant::now();
            let due = match pace {
                Pace::Closed(duration) => (now < begin + duration).then_some(now),
                Pace::Count(count) => (sent_count < count).then_some(now),
                Pace::Open { start, every, count } => (sent_count < count && !stop())
                    .then(|| start + every * u32::try_from(sent_count).expect("a run is short")),
            };
            match due {
                Some(due) if due <= now => {
                    let job = Job { change: first_change + sent_count, step: 0, since: due };
                    sent_count += 1;
                    link.begin(server, job, requests)?;
                }
                Some(due) => {
                    next_due = Some(due);
                    break;
                }
                None => break,
            }
        }
        let busy: Vec<usize> = (0..links.len()).filter(|&i| links[i].job.is_some()).collect();
        if busy.is_empty() && next_due.is_none() {
            outcome.elapsed = last_reply - begin;
            return Ok(outcome);
        }
        let timeout = next_due.map_or(STALLED_AFTER, |due| due.saturating_duration_since(Instant::now()));
        let ready = wait_ready(&links, &busy, timeout)?;
        if ready.is_empty() && next_due.is_none() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the server has stalled"));
        }
        for index in ready {
            if let Some(since) = links[index].go_on(server, requests)? {
                last_reply = Instant::now();
                let latency = (last_reply - since).as_micros();
                outcome.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
        }
    }
}

fn wait_ready(links: &[Link], busy: &[usize], timeout: Duration) -> io::Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = busy.iter().filter_map(|&i| links[i].poll_fd()).collect();
    let timeout = Timespec::try_from(timeout).expect("a minute at most");
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(busy.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(&i, _)| i).collect())
}

/// A connection, dialled when it is needed, and the change it is busy with.
#[derive(Default)]
struct Link {
    stream: Option<TcpStream>,
    connecting: bool,
    parser: ReplyParser,
    request: Vec<u8>,
    job: Option<Job>,
}

struct Job {
    change: u64,
    step: usize,
    since: Instant,
}

impl Link {
    fn poll_fd(&self) -> Option<PollFd<'_>> {
        let flags = if self.connecting { PollFlags::OUT } else { PollFlags::IN };
        self.stream.as_ref().map(|stream| PollFd::new(stream, flags))
    }

    fn begin(&mut self, server: SocketAddr, job: Job, requests: &mut Requests<'_>) -> io::Result<()> {
        self.request.clear();
        assert!(requests(job.change, job.step, &mut self.request), "every change has a request");
        self.job = Some(job);
        self.send(server)
    }

    /// Sends the request, or dials first.
    fn send(&mut self, server: SocketAddr) -> io::Result<()> {
        match &mut self.stream {
            // A request is far smaller than a socket's buffer.
            Some(stream) => stream.write_all(&self.request),
            None => {
                self.stream = Some(dial(server)?);
                self.connecting = true;
                Ok(())
            }
        }
    }

    /// Goes on with what was waited for; since when the change ran if it is done.
    fn go_on(&mut self, server: SocketAddr, requests: &mut Requests<'_>) -> io::Result<Option<Instant>> {
        let stream = self.stream.as_mut().expect("only connections are waited for");
        if self.connecting {
            if let Some(e) = stream.take_error()? {
                return Err(e);
            }
            self.connecting = false;
            self.send(server)?;
            return Ok(None);
        }
        let mut chunk = [0; 16 * 1024];
        let length = stream.read(&mut chunk)?;
        let Some(reply) = self.parser.feed(&chunk[..length])? else {
            return if length > 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        if !(200..300).contains(&reply.status) {
            let body = String::from_utf8_lossy(self.parser.body()).into_owned();
            return Err(io::Error::other(format!("status {}: {body}", reply.status)));
        }
        self.parser.clear();
        if reply.closes {
            self.stream = None;
        }
        let job = self.job.as_mut().expect("only busy links are read");
        job.step += 1;
        self.request.clear();
        if requests(job.change, job.step, &mut self.request) {
            self.send(server)?;
            return Ok(None);
        }
        Ok(self.job.take().map(|job| job.since))
    }
}

/// Begins to connect, without waiting for it.
fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_with(
        if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 },
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    match connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
