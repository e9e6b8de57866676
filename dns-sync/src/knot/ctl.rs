//! The control protocol of knotd (3.2 and later), as a client, over its Unix socket.
//!
//! What goes over the socket are units of one octet, DATA and EXTRA followed by items: an octet for
//! which, two octets of length (big endian), and text. `BLOCK` ends a command, `END` the
//! connection. A command with many targets is one block of many DATA units: knotd runs its function for each
//! unit in turn, echoes the unit with an `error` item when it fails, goes on with the next one, and sends
//! one `BLOCK` when all are through. That is where the speed is: one answer a block, not one a record.
//!
//! knotd serves one connection at a time, in the thread that also applies catalog changes. So a
//! [`Connection`] is for one bounded batch; drop it at once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The most octets an item can have: its length is sent as 16 bits.
pub const ITEM_BYTES_MAX: usize = u16::MAX as usize;

/// How many octets a block is filled with before the next one is started.
const BLOCK_BYTES: usize = 32 * 1024;

/// How many octets of blocks may be under way unanswered. It has to fit into a socket buffer (208 KiB by default)
/// together with one item of the largest size: then no write ever waits for knotd to read, and the
/// two sides can't come to wait for each other.
const IN_FLIGHT_BYTES_MAX: usize = 96 * 1024;

/// How long to wait before trying again to connect to a socket with a full queue.
const CONNECT_RETRY_MS: u64 = 5;

/// The items of a unit. The numbers are `knot_ctl_idx_t`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Item {
    /// The name of the command.
    Command = 0,
    /// Flags of the command.
    Flags = 1,
    /// What went wrong, in an answer.
    Error = 2,
    /// Section of the configuration.
    Section = 3,
    /// Item of the configuration.
    Item = 4,
    /// Identifier in the configuration. Zone commands ignore and echo it, so it can carry a tag.
    Id = 5,
    /// Name of the zone.
    Zone = 6,
    /// Owner of a record.
    Owner = 7,
    /// TTL of a record.
    Ttl = 8,
    /// Type of a record.
    Type = 9,
    /// RDATA, or a value.
    Data = 10,
    /// An option or a filter of the output.
    Filter = 11,
}

const ITEM_COUNT: usize = 12;
const ITEM_CODE_OFFSET: u8 = 16;

const CODE_END: u8 = 0;
const CODE_DATA: u8 = 1;
const CODE_EXTRA: u8 = 2;
const CODE_BLOCK: u8 = 3;

/// The commands that are used. Each block holds units of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Server status; `version`, `workers` and the like by [`Item::Type`].
    Status,
    /// Stops knotd.
    Stop,
    /// Reloads the configuration file.
    Reload,
    /// Reads the configuration, whether it came from a file or not.
    ConfRead,
    /// State of zones.
    ZoneStatus,
    /// Schedules loading a zone from its file.
    ZoneReload,
    /// Reads records of a zone.
    ZoneRead,
    /// Opens the transaction of a zone. It can wait for a load that is being committed.
    ZoneBegin,
    /// Adds a record in the open transaction.
    ZoneSet,
    /// Removes a record or a whole RRset in the open transaction.
    ZoneUnset,
    /// Commits the transaction.
    ZoneCommit,
    /// Drops the transaction.
    ZoneAbort,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Command::Status => "status",
            Command::Stop => "stop",
            Command::Reload => "reload",
            Command::ConfRead => "conf-read",
            Command::ZoneStatus => "zone-status",
            Command::ZoneReload => "zone-reload",
            Command::ZoneRead => "zone-read",
            Command::ZoneBegin => "zone-begin",
            Command::ZoneSet => "zone-set",
            Command::ZoneUnset => "zone-unset",
            Command::ZoneCommit => "zone-commit",
            Command::ZoneAbort => "zone-abort",
        }
    }
}

/// Why talking to knotd failed. What knotd says about a command is not here but in its [`Reply`].
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody listens on the socket, or it isn't there.
    #[error("can't connect to knotd's control socket {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sending or receiving failed or took too long.
    #[error("the control connection to knotd broke")]
    Io(#[from] io::Error),
    /// The answer is not of this protocol.
    #[error("knotd's answer makes no sense: {0}")]
    Protocol(&'static str),
}

/// An item is longer than the protocol can say.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an item of {bytes} octets is more than knotd's control protocol can carry")]
pub struct ItemTooLong {
    /// Its length in octets.
    pub bytes: usize,
}

/// Commands to be sent, encoded already, in blocks.
#[derive(Debug, Default)]
pub struct Batch {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    command: Command,
    bytes: Vec<u8>,
}

impl Batch {
    /// A batch without commands.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether there is no command in it.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Its size in octets.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.len()).sum()
    }

    /// Adds a unit. Units of the same command in a row share blocks. Nothing is added on error.
    pub fn push(&mut self, command: Command, items: &[(Item, &[u8])]) -> Result<(), ItemTooLong> {
        if let Some((_, value)) = items.iter().find(|(_, value)| value.len() > ITEM_BYTES_MAX) {
            return Err(ItemTooLong { bytes: value.len() });
        }
        let fits = self.blocks.last().is_some_and(|block| {
            block.command == command && block.bytes.len() < BLOCK_BYTES && command.takes_many_units()
        });
        if !fits {
            self.blocks.push(Block { command, bytes: Vec::with_capacity(256) });
        }
        let Some(block) = self.blocks.last_mut() else { return Ok(()) };
        block.bytes.push(CODE_DATA);
        push_item(&mut block.bytes, Item::Command, command.name().as_bytes());
        for (item, value) in items {
            push_item(&mut block.bytes, *item, value);
        }
        Ok(())
    }
}

impl Command {
    /// Whether knotd runs this command once for each unit of a block; otherwise only for the first.
    fn takes_many_units(self) -> bool {
        !matches!(self, Command::Status | Command::Stop | Command::Reload | Command::ConfRead)
    }
}

fn push_item(out: &mut Vec<u8>, item: Item, value: &[u8]) {
    out.push(ITEM_CODE_OFFSET + item as u8);
    // The caller has checked that the length fits.
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// One unit of an answer.
#[derive(Debug)]
pub struct Reply<'a> {
    items: [Option<&'a [u8]>; ITEM_COUNT],
}

impl<'a> Reply<'a> {
    /// The value of an item, if the unit has it.
    pub fn item(&self, item: Item) -> Option<&'a [u8]> {
        self.items[item as usize]
    }

    /// The value of an item as text; empty if it's missing or no UTF-8.
    pub fn text(&self, item: Item) -> &'a str {
        self.item(item).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// What knotd says went wrong with the unit that this one echoes.
    pub fn error(&self) -> Option<String> {
        self.item(Item::Error).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The number that was sent as [`Item::Id`] with the unit which this one echoes.
    pub fn tag(&self) -> Option<usize> {
        self.text(Item::Id).parse().ok()
    }
}

/// One connection to knotd, for one bounded batch.
pub struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    consumed: usize,
}

impl Connection {
    /// Connects. `timeout` bounds the connecting, and later every single wait for knotd.
    pub fn open(path: &Path, timeout: Duration) -> Result<Connection, CtlError> {
        let connect = || -> io::Result<UnixStream> {
            let address = SocketAddrUnix::new(path)?;
            let deadline = Instant::now() + timeout;
            // Connecting to a Unix socket has no time limit of its own and waits while the queue is full
            // (knotd takes five), hence without blocking. A socket whose connect failed can be used again.
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                None,
            )?;
            loop {
                match rustix::net::connect(&socket, &address) {
                    Ok(()) => break,
                    Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(CONNECT_RETRY_MS));
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        let stream = connect().map_err(|source| CtlError::Connect { path: path.into(), source })?;
        Ok(Connection { stream, received: Vec::with_capacity(64 * 1024), consumed: 0 })
    }

    /// Sends the batch and hands every unit of the answers to `on_reply`, in order.
    ///
    /// Blocks are sent ahead of the answers, as far as socket buffers hold them. An error leaves open
    /// which of the commands were run.
    pub fn run(&mut self, batch: &Batch, mut on_reply: impl FnMut(&Reply<'_>)) -> Result<(), CtlError> {
        let mut in_flight_bytes = 0;
        let mut answered = 0;
        for block in &batch.blocks {
            while answered_waits(in_flight_bytes, block.bytes.len()) {
                self.receive_block(&mut on_reply)?;
                in_flight_bytes -= batch.blocks[answered].bytes.len();
                answered += 1;
            }
            self.stream.write_all(&block.bytes)?;
            self.stream.write_all(&[CODE_BLOCK])?;
            in_flight_bytes += block.bytes.len();
        }
        while answered < batch.blocks.len() {
            self.receive_block(&mut on_reply)?;
            answered += 1;
        }
        Ok(())
    }

    /// Says goodbye, so that knotd turns to the next connection without an error in its debug log.
    pub fn close(mut self) {
        // If this fails, closing the socket tells knotd the same.
        let _ = self.stream.write_all(&[CODE_END]);
    }

    /// Receives units up to the end of a block.
    fn receive_block(&mut self, on_reply: &mut impl FnMut(&Reply<'_>)) -> Result<(), CtlError> {
        loop {
            match self.next_unit()? {
                Some(length) => {
                    let unit = &self.received[self.consumed..self.consumed + length];
                    on_reply(&parse_unit(unit)?);
                    self.consumed += length;
                }
                None => return Ok(()),
            }
        }
    }

    /// Length of the next whole DATA or EXTRA unit in the buffer; none when a block has ended.
    fn next_unit(&mut self) -> Result<Option<usize>, CtlError> {
        loop {
            match scan_unit(&self.received[self.consumed..])? {
                Scan::Unit(length) => return Ok(Some(length)),
                Scan::Block => {
                    self.consumed += 1;
                    return Ok(None);
                }
                Scan::Incomplete => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), CtlError> {
        self.received.drain(..self.consumed);
        self.consumed = 0;
        let mut chunk = [0; 32 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.received.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

fn answered_waits(in_flight_bytes: usize, next_bytes: usize) -> bool {
    in_flight_bytes > 0 && in_flight_bytes + next_bytes > IN_FLIGHT_BYTES_MAX
}

enum Scan {
    Unit(usize),
    Block,
    Incomplete,
}

/// Finds the end of the unit at the start of `bytes`: where the next one starts.
fn scan_unit(bytes: &[u8]) -> Result<Scan, CtlError> {
    match bytes.first() {
        None => return Ok(Scan::Incomplete),
        Some(&CODE_BLOCK) => return Ok(Scan::Block),
        Some(&CODE_END) => return Err(CtlError::Protocol("an end in the middle")),
        Some(&CODE_DATA | &CODE_EXTRA) => {}
        Some(_) => return Err(CtlError::Protocol("an unknown kind of unit")),
    }
    let mut offset = 1;
    loop {
        match bytes[offset..] {
            [] => return Ok(Scan::Incomplete),
            [code, ..] if code < ITEM_CODE_OFFSET => return Ok(Scan::Unit(offset)),
            [_, high, low, ..] => {
                offset += 3 + usize::from(u16::from_be_bytes([high, low]));
                if offset > bytes.len() {
                    return Ok(Scan::Incomplete);
                }
            }
            _ => return Ok(Scan::Incomplete),
        }
    }
}

fn parse_unit(unit: &[u8]) -> Result<Reply<'_>, CtlError> {
    let mut items = [None; ITEM_COUNT];
    let mut rest = &unit[1..];
    while let [code, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = tail.split_at_checked(length).ok_or(CtlError::Protocol("an item cut short"))?;
        let index = usize::from(code.wrapping_sub(ITEM_CODE_OFFSET));
        *items.get_mut(index).ok_or(CtlError::Protocol("an unknown item"))? = Some(value);
        rest = next;
    }
    Ok(Reply { items })
}

/// Opens a connection for one batch and closes it: what most callers want.
pub fn run_batch(
    path: &Path,
    timeout: Duration,
    batch: &Batch,
    on_reply: impl FnMut(&Reply<'_>),
) -> Result<(), CtlError> {
    let mut connection = Connection::open(path, timeout)?;
    connection.run(batch, on_reply)?;
    connection.close();
    Ok(())
}
