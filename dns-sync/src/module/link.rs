//! The connection to the module: a thread that keeps it up and writes, and one for each connection that reads.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herald_core::{Generation, ZoneId};
use steering::link::{FirewallHashes, FrameError, PROTOCOL, ToAgent, ToModule, decode_frame, encode_frame};

/// The first wait after no connection came about, or one broke; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long the module may leave what was written unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is asked how it is.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take after a start of knotd until there is something to connect to: nobody is told before.
const STARTING: Duration = Duration::from_secs(5);

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// What comes of the connection.
#[derive(Debug)]
pub enum LinkEvent {
    /// It stands.
    Up {
        /// Its number: what is sent is for it.
        connection: u64,
        /// What the module has in use.
        zones: Vec<(ZoneId, Generation)>,
        /// Version of the module.
        version: String,
        /// SHA-256 of the table of places that it has, empty if it has none.
        geo: Vec<u8>,
        /// Whether it counts queries.
        counts: bool,
        /// Whether it knows of verdicts.
        knows_verdicts: bool,
        /// Whether it logs queries.
        logs_queries: bool,
        /// What it has of the firewall; none if it is too old to have one.
        firewall: Option<FirewallHashes>,
    },
    /// The module said something.
    Said {
        /// In this connection.
        connection: u64,
        /// This.
        message: ToAgent,
    },
    /// It is gone.
    Down {
        /// Which one; none if it never stood.
        connection: Option<u64>,
        /// Why.
        reason: String,
    },
}

enum Order {
    Write { connection: u64, bytes: Vec<u8> },
    Try,
    Broken { connection: u64, reason: String },
    End,
}

/// A handle on the threads. They end with it.
pub struct Link {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts connecting to the socket; `tell` is called in threads of the link.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn start(socket: PathBuf, tell: impl Fn(LinkEvent) + Send + Clone + 'static) -> io::Result<Link> {
        let (orders, inbox) = mpsc::channel();
        let keeper = Keeper {
            socket,
            inbox,
            orders: orders.clone(),
            tell,
            connection: 0,
            stream: None,
            wait: WAIT_MIN,
            quiet_until: Instant::now() + STARTING,
            reason: String::new(),
        };
        let thread = thread::Builder::new().name("module-link".into()).spawn(move || keeper.run())?;
        Ok(Link { orders, thread: Some(thread) })
    }

    /// Writes frames, if this is still the connection.
    pub fn write(&self, connection: u64, bytes: Vec<u8>) {
        // It fails only if the thread has panicked.
        let _ = self.orders.send(Order::Write { connection, bytes });
    }

    /// knotd has just been started: the module listens, or soon will.
    pub fn try_now(&self) {
        let _ = self.orders.send(Order::Try);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper<T> {
    socket: PathBuf,
    inbox: Receiver<Order>,
    orders: Sender<Order>,
    tell: T,
    /// The number of the last connection.
    connection: u64,
    stream: Option<UnixStream>,
    wait: Duration,
    /// That there is no connection is no news before.
    quiet_until: Instant,
    /// Why there was no connection last, so that it is told once.
    reason: String,
}

impl<T: Fn(LinkEvent) + Send + Clone + 'static> Keeper<T> {
    fn run(mut self) {
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                match self.stream {
                    Some(_) => {
                        let mut ask = Vec::new();
                        encode_frame(&ToModule::Ask, &mut ask);
                        self.write(self.connection, &ask);
                    }
                    None => self.connect(),
                }
                due = now + if self.stream.is_some() { ASK_INTERVAL } else { self.wait };
            }
            match self.inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Order::Write { connection, bytes }) => self.write(connection, &bytes),
                Ok(Order::Try) if self.stream.is_none() => {
                    self.wait = WAIT_MIN;
                    due = Instant::now();
                    self.quiet_until = due + STARTING;
                }
                Ok(Order::Try) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Broken { connection, reason }) => {
                    if connection == self.connection && self.stream.is_some() {
                        self.hang_up(reason);
                        due = Instant::now() + self.wait;
                    }
                }
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(stream) = &self.stream {
            // So that its reader ends, too.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn connect(&mut self) {
        self.wait = (self.wait * 2).min(WAIT_MAX);
        match open(&self.socket).and_then(|stream| Ok((stream.try_clone()?, stream))) {
            Ok((reading, stream)) => {
                self.connection += 1;
                let (connection, tell, orders) = (self.connection, self.tell.clone(), self.orders.clone());
                let spawned = thread::Builder::new().name("module-reader".into()).spawn(move || {
                    let reason = read(reading, connection, &tell).unwrap_or_else(|error| error);
                    let _ = orders.send(Order::Broken { connection, reason });
                });
                match spawned {
                    Ok(_) => {
                        self.stream = Some(stream);
                        self.wait = WAIT_MIN;
                        self.reason.clear();
                    }
                    Err(error) => self.failed(error.to_string()),
                }
            }
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn failed(&mut self, reason: String) {
        if self.reason != reason && Instant::now() >= self.quiet_until {
            self.reason.clone_from(&reason);
            (self.tell)(LinkEvent::Down { connection: None, reason });
        }
    }

    fn write(&mut self, connection: u64, bytes: &[u8]) {
        if connection != self.connection {
            return;
        }
        if let Some(stream) = &mut self.stream
            && let Err(error) = stream.write_all(bytes)
        {
            self.hang_up(format!("the module could not be told: {error}"));
        }
    }

    fn hang_up(&mut self, reason: String) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.quiet_until = Instant::now() + STARTING;
        (self.tell)(LinkEvent::Down { connection: Some(self.connection), reason });
    }
}

fn open(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Reads until the connection ends; says why it did.
fn read(mut stream: UnixStream, connection: u64, tell: &impl Fn(LinkEvent)) -> Result<String, String> {
    let unreadable = |error: FrameError| format!("what the module says can't be read: {error}");
    let mut bytes: Vec<u8> = Vec::new();
    let mut chunk = vec![0; READ_BYTES];
    let mut zones = Vec::new();
    let mut is_up = false;
    loop {
        let mut taken = 0;
        while let Some((count, message)) = decode_frame::<ToAgent>(&bytes[taken..]).map_err(unreadable)? {
            taken += count;
            match message {
                ToAgent::Hello { protocol, version, .. } if protocol != PROTOCOL => {
                    return Err(format!("the module {version} speaks protocol {protocol}, not {PROTOCOL}"));
                }
                ToAgent::Hello {
                    version,
                    zones: more,
                    last,
                    geo,
                    counts,
                    knows_verdicts,
                    logs_queries,
                    firewall,
                    ..
                } if !is_up => {
                    zones.extend(more);
                    if last {
                        is_up = true;
                        let zones = std::mem::take(&mut zones);
                        let counts = counts.unwrap_or(false);
                        tell(LinkEvent::Up {
                            connection,
                            zones,
                            version,
                            geo,
                            counts,
                            knows_verdicts,
                            logs_queries,
                            firewall,
                        });
                    }
                }
                message if is_up => tell(LinkEvent::Said { connection, message }),
                _ => return Err("the module says something before it says hello".into()),
            }
        }
        bytes.drain(..taken);
        match stream.read(&mut chunk) {
            Ok(0) => return Ok("the module has closed the connection".into()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("the module can't be heard: {error}")),
        }
    }
}
