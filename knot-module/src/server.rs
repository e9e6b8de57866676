//! The thread that listens to the agent, and the snapshot that knotd starts with.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use steering::link::{FrameError, SNAPSHOT_MAGIC, ToAgent, ToModule, decode_frame, encode_frame};

use crate::store::{Store, Telling};
use crate::{counts, knot, queries};

/// Octets that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Octets of answers that may wait for an agent that reads none of them.
const UNREAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections at a time. The agent has one; another is there while it notices that the first one broke.
const CONNECTIONS_MAX: usize = 8;

/// How often it is looked whether there are counts or queries to be told.
const TELL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Octets that may wait to be written before more counts or queries are told.
const UNWRITTEN_COUNTS_BYTES: usize = 1024 * 1024;

/// A thread that listens.
#[derive(Debug)]
pub struct Server {
    /// Whoever closes it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at a socket, for whoever runs as the same user.
    ///
    /// # Errors
    /// If that isn't possible.
    pub fn start(socket: &Path, store: &'static Mutex<Store>) -> io::Result<Server> {
        let listener = listen(socket)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let run = move || Loop { listener, stopped, store, connections: Vec::new() }.run();
        let thread = knot::spawn_without_signals("herald", run)?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The socket is made beside its place and moved there, over what another knotd may have left: nobody sees it with other permissions.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let mut beside = socket.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs::rename(&beside, socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Loop {
    listener: UnixListener,
    stopped: OwnedFd,
    store: &'static Mutex<Store>,
    connections: Vec<Connection>,
}

struct Connection {
    stream: UnixStream,
    read: Vec<u8>,
    /// Answers that aren't written yet.
    unwritten: Vec<u8>,
    telling: Telling,
    /// The place of the next batch of counts to be told, if it is told any.
    next_counts: Option<u64>,
    /// Its number, if it has queries logged.
    logs: Option<u64>,
    is_open: bool,
}

impl Loop {
    fn run(mut self) {
        while let Ok(true) = self.wait() {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok((stream, _)) = self.listener.accept() {
                self.connections.truncate(CONNECTIONS_MAX - 1);
                self.connections.insert(0, Connection::new(stream, &store));
            }
            for connection in &mut self.connections {
                connection.receive(&mut store);
            }
            // Answers say that it is so, so they are sent when it is.
            store.publish();
            for connection in &mut self.connections {
                connection.tell_counts();
                connection.tell_queries();
                connection.send();
            }
            self.connections.retain(|connection| connection.is_open);
            store.free_retired();
        }
    }

    /// Waits until there is something to do; false if the thread is to end.
    fn wait(&self) -> Result<bool, Errno> {
        let mut waited = vec![
            PollFd::from_borrowed_fd(self.stopped.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        waited.extend(self.connections.iter().map(|connection| {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, !connection.unwritten.is_empty());
            PollFd::from_borrowed_fd(connection.stream.as_fd(), events)
        }));
        let is_told = |connection: &Connection| connection.next_counts.is_some() || connection.logs.is_some();
        let timeout = self.connections.iter().any(is_told).then_some(&TELL_INTERVAL);
        loop {
            match poll(&mut waited, timeout) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(waited.first().is_some_and(|stopped| stopped.revents().is_empty())),
            }
        }
    }
}

impl Connection {
    fn new(stream: UnixStream, store: &Store) -> Connection {
        let mut connection = Connection {
            is_open: stream.set_nonblocking(true).is_ok(),
            stream,
            read: Vec::new(),
            unwritten: Vec::new(),
            telling: Telling::default(),
            next_counts: None,
            logs: None,
        };
        for hello in store.hello() {
            encode_frame(&hello, &mut connection.unwritten);
        }
        connection
    }

    /// Reads what there is and takes all whole messages. Whoever says what can't be read is left.
    fn receive(&mut self, store: &mut Store) {
        let mut ended = false;
        while self.is_open && !ended {
            ended = match read_some(&mut self.stream, &mut self.read) {
                Ok(bytes) => bytes == 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => false,
                Err(_) => true,
            };
            let taken = take_frames(&mut self.read, |message| {
                if let ToModule::LogQueries { zones } = message {
                    queries::set(*self.logs.get_or_insert_with(queries::owner), zones, store);
                } else if let ToModule::CountsKept { instance, sequence } = message {
                    counts::kept(instance, sequence);
                    let is_first = self.next_counts.is_none();
                    if is_first {
                        counts::subscribe();
                    }
                    if is_first || instance == 0 {
                        self.next_counts = Some(0);
                    }
                } else if let Some(answer) = store.take(message, &mut self.telling) {
                    encode_frame(&answer, &mut self.unwritten);
                }
            });
            if let Err(error) = &taken {
                eprintln!("herald: the connection with the agent is closed: {error}");
            }
            self.is_open = taken.is_ok() && !ended && self.unwritten.len() <= UNREAD_BYTES_MAX;
        }
    }

    /// Tells of counts that it wasn't told of, as far as it reads.
    fn tell_counts(&mut self) {
        let Some(next) = self.next_counts.filter(|_| self.unwritten.len() < UNWRITTEN_COUNTS_BYTES) else {
            return;
        };
        let unwritten = &mut self.unwritten;
        self.next_counts = Some(counts::outbox().tell(next, |message| encode_frame(message, unwritten)));
    }

    /// Tells of queries that were logged, as far as it reads.
    fn tell_queries(&mut self) {
        let Some(owner) = self.logs.filter(|_| self.unwritten.len() < UNWRITTEN_COUNTS_BYTES) else { return };
        for message in queries::take_told(owner) {
            encode_frame(&message, &mut self.unwritten);
        }
    }

    fn send(&mut self) {
        while self.is_open && !self.unwritten.is_empty() {
            match self.stream.write(&self.unwritten) {
                Ok(0) => self.is_open = false,
                Ok(bytes) => drop(self.unwritten.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_open = false,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.next_counts.is_some() {
            counts::unsubscribe();
        }
        if let Some(owner) = self.logs {
            queries::end(owner);
        }
    }
}

/// Appends what one read gives.
fn read_some(from: &mut impl Read, to: &mut Vec<u8>) -> io::Result<usize> {
    let had = to.len();
    to.resize(had + READ_BYTES, 0);
    let read = from.read(to.get_mut(had..).unwrap_or_default());
    to.truncate(had + *read.as_ref().unwrap_or(&0));
    read
}

/// Takes the whole frames off the beginning.
fn take_frames(octets: &mut Vec<u8>, mut take: impl FnMut(ToModule)) -> Result<(), FrameError> {
    let mut taken = 0;
    while let Some((bytes, message)) = decode_frame(octets.get(taken..).unwrap_or_default())? {
        take(message);
        taken += bytes;
    }
    octets.drain(..taken);
    Ok(())
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It isn't one, or of another version.
    #[error("it is no snapshot of this version")]
    Magic,
    /// Something in it is damaged.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// It was cut off.
    #[error("it ends in the midst")]
    CutOff,
}

/// Reads the snapshot. Zones that it holds whole are in use even if it has an end too early: they are as good as they were.
///
/// # Errors
/// [`SnapshotError`] says why there may be zones that it lacks.
pub fn read_snapshot(file: &Path, store: &mut Store) -> Result<(), SnapshotError> {
    let read = read_messages(file, store);
    store.settle_all();
    store.publish();
    store.free_retired();
    read
}

fn read_messages(file: &Path, store: &mut Store) -> Result<(), SnapshotError> {
    let mut file = File::open(file)?;
    let mut magic = [0; SNAPSHOT_MAGIC.len()];
    file.read_exact(&mut magic).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SnapshotError::CutOff,
        _ => SnapshotError::Io(error),
    })?;
    if &magic != SNAPSHOT_MAGIC {
        return Err(SnapshotError::Magic);
    }
    let mut octets = Vec::new();
    let mut telling = Telling::default();
    let mut has_ended = false;
    while !has_ended {
        if read_some(&mut file, &mut octets)? == 0 {
            return Err(SnapshotError::CutOff);
        }
        take_frames(&mut octets, |message| {
            has_ended |= message == ToModule::SnapshotEnd;
            match store.take(message, &mut telling) {
                Some(ToAgent::Refused { zone, reason, .. }) => {
                    eprintln!("herald: the snapshot: {zone}: {reason}")
                }
                Some(
                    ToAgent::GeoLoaded { problem: Some(problem), .. }
                    | ToAgent::FirewallLoaded { problem: Some(problem), .. },
                ) => {
                    eprintln!("herald: the snapshot: {problem}")
                }
                _ => {}
            }
        })?;
    }
    if telling.is_unfinished() { Err(SnapshotError::CutOff) } else { Ok(()) }
}
