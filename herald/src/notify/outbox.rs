//! The outbox: a SQLite file beside the log, with what wasn't delivered yet, how deliveries went, and how far the log was told.

use std::path::{Path, PathBuf};

use herald_core::ChannelId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Event, Message};

/// The file's name in the data directory.
pub const FILE: &str = "notify.sqlite";

/// Version of the file.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), told INTEGER NOT NULL);
CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT, channel BLOB NOT NULL, queued_ms INTEGER NOT NULL, id TEXT NOT NULL,
    at_ms INTEGER NOT NULL, revision INTEGER NOT NULL, monitor INTEGER NOT NULL, name TEXT NOT NULL, up INTEGER NOT NULL,
    cause TEXT NOT NULL);
CREATE INDEX message_channel ON message (channel, number);
CREATE TABLE channel (
    id BLOB PRIMARY KEY, pending INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, next_ms INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0, given_up INTEGER NOT NULL DEFAULT 0,
    last_delivered_ms INTEGER, last_failed_ms INTEGER, last_error TEXT) WITHOUT ROWID;
CREATE INDEX channel_next ON channel (next_ms) WHERE pending > 0;
";

/// So many messages wait for one channel; past it the oldest is given up.
const PENDING_MAX: i64 = 1_000;

/// After the first failure it is tried again this much later, in ms, then after twice as long and so on, at most this.
const BACK_OFF_MS: u64 = 1_000;
const BACK_OFF_MS_MAX: u64 = 10 * 60 * 1_000;

/// A message that can't be delivered for so long is given up, in ms.
const PATIENCE_MS: u64 = 24 * 3600 * 1_000;

/// Longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 300;

/// Why the outbox can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// What SQLite says.
    #[error("the outbox of notifications in {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Written by another version.
    #[error("the outbox of notifications in {} has version {found}, and this program knows {VERSION}: use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// The daemon is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

type Result<T> = std::result::Result<T, OutboxError>;

/// How deliveries by a channel go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Messages that wait.
    pub pending: u64,
    /// Attempts at the oldest of them that failed.
    pub attempts: u64,
    /// When the next attempt is due, in ms since the epoch, if one is.
    pub next_ms: Option<u64>,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that were given up.
    pub given_up: u64,
    /// When one was last delivered, in ms since the epoch.
    pub last_delivered_ms: Option<u64>,
    /// When an attempt last failed, in ms since the epoch.
    pub last_failed_ms: Option<u64>,
    /// Why, in words.
    pub last_error: Option<String>,
}

/// A message that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// By which channel.
    pub channel: ChannelId,
    /// Its place in the outbox.
    number: i64,
    queued_ms: u64,
    /// Attempts that failed.
    attempts: u64,
    /// What.
    pub message: Message,
}

/// The outbox.
pub struct Outbox {
    db: Connection,
    path: PathBuf,
}

impl Outbox {
    /// Opens it, or begins it: then what the log has up to `head` counts as told.
    pub fn open(path: &Path, head: u64) -> Result<Outbox> {
        let failed = |source| OutboxError::Sqlite { path: path.into(), source };
        let db = Connection::open(path).map_err(failed)?;
        match begin(&db, head).map_err(failed)? {
            VERSION => {}
            found => return Err(OutboxError::Version { path: path.into(), found }),
        }
        let outbox = Outbox { db, path: path.into() };
        // The log may have been put back from a copy: what it has not isn't told.
        outbox.run(|db| db.execute("UPDATE position SET told = min(told, ?1)", (signed(head),)))?;
        Ok(outbox)
    }

    /// Up to which revision the log was told.
    pub fn told(&self) -> Result<u64> {
        self.run(|db| db.query_row("SELECT told FROM position", (), |row| unsigned(row, 0)))
    }

    /// Puts messages in, and notes how far the log was told with them; how many had to be given up for that.
    pub fn queue(&mut self, messages: &[(ChannelId, Message)], told: u64, now_ms: u64) -> Result<u64> {
        self.change(|db| {
            let mut dropped = 0;
            for (channel, message) in messages {
                dropped += queue_one(db, *channel, message, now_ms)?;
            }
            db.execute("UPDATE position SET told = max(told, ?1)", (signed(told),))?;
            Ok(dropped)
        })
    }

    /// The oldest message of each channel that may be tried by now, and when another channel's is due, if all of these were taken.
    pub fn due(&self, now_ms: u64, limit: usize) -> Result<(Vec<Due>, Option<u64>)> {
        self.run(|db| {
            let mut select = db.prepare_cached(
                "SELECT channel.id, number, queued_ms, attempts, message.id, at_ms, monitor, name, up, cause, revision
                 FROM channel JOIN message ON number = (SELECT min(number) FROM message WHERE message.channel = channel.id)
                 WHERE pending > 0 AND next_ms <= ?1 ORDER BY next_ms LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let due = select.query_map((signed(now_ms), limit), due)?.collect::<rusqlite::Result<_>>()?;
            let mut select =
                db.prepare_cached("SELECT min(next_ms) FROM channel WHERE pending > 0 AND next_ms > ?1")?;
            let next: Option<i64> = select.query_row((signed(now_ms),), |row| row.get(0))?;
            Ok((due, next.map(i64::cast_unsigned)))
        })
    }

    /// A message was delivered.
    pub fn delivered(&mut self, due: &Due, now_ms: u64) -> Result<()> {
        self.change(|db| {
            let gone = db.execute("DELETE FROM message WHERE number = ?1", (due.number,))?;
            db.execute(
                "UPDATE channel SET pending = pending - ?2, attempts = 0, next_ms = 0, delivered = delivered + 1, last_delivered_ms = ?3
                 WHERE id = ?1",
                params![id(due.channel), i64::from(gone > 0), signed(now_ms)],
            )?;
            Ok(())
        })
    }

    /// An attempt failed; whether the message was given up. `jitter` spreads what failed together.
    pub fn failed(&mut self, due: &Due, why: &str, now_ms: u64, jitter: u8) -> Result<bool> {
        let is_given_up = now_ms.saturating_sub(due.queued_ms) >= PATIENCE_MS;
        let doubled = BACK_OFF_MS.checked_shl(u32::try_from(due.attempts).unwrap_or(u32::MAX).min(30));
        let wait_ms = doubled.unwrap_or(BACK_OFF_MS_MAX).min(BACK_OFF_MS_MAX);
        let next_ms = now_ms + wait_ms + wait_ms * u64::from(jitter) / 1024;
        let why: String = why.chars().take(ERROR_CHARS_MAX).collect();
        self.change(|db| {
            let gone = match is_given_up {
                true => db.execute("DELETE FROM message WHERE number = ?1", (due.number,))?,
                false => 0,
            };
            db.execute(
                "UPDATE channel SET pending = pending - ?2, given_up = given_up + ?2, attempts = attempts + 1, next_ms = ?3,
                    last_failed_ms = ?4, last_error = ?5 WHERE id = ?1",
                params![id(due.channel), i64::from(gone > 0), signed(next_ms), signed(now_ms), why],
            )?;
            Ok(gone > 0)
        })
    }

    /// Drops what waits for a channel: it is off or gone.
    pub fn empty(&mut self, channel: ChannelId) -> Result<()> {
        self.change(|db| {
            db.execute("DELETE FROM message WHERE channel = ?1", (id(channel),))?;
            db.execute(
                "UPDATE channel SET pending = 0, attempts = 0, next_ms = 0 WHERE id = ?1",
                (id(channel),),
            )?;
            Ok(())
        })
    }

    /// Forgets all about channels that aren't there any more.
    pub fn keep(&mut self, is_there: impl Fn(ChannelId) -> bool) -> Result<()> {
        self.change(|db| {
            let mut select = db.prepare("SELECT id FROM channel")?;
            let known = select.query_map((), |row| channel(row, 0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            for gone in known.into_iter().filter(|channel| !is_there(*channel)) {
                db.execute("DELETE FROM message WHERE channel = ?1", (id(gone),))?;
                db.execute("DELETE FROM channel WHERE id = ?1", (id(gone),))?;
            }
            Ok(())
        })
    }

    /// How deliveries by a channel go.
    pub fn status(&self, channel: ChannelId) -> Result<Status> {
        self.run(|db| {
            let mut select = db.prepare_cached(
                "SELECT pending, attempts, next_ms, delivered, given_up, last_delivered_ms, last_failed_ms, last_error
                 FROM channel WHERE id = ?1",
            )?;
            let status = select.query_row((id(channel),), |row| {
                let pending = unsigned(row, 0)?;
                Ok(Status {
                    pending,
                    attempts: unsigned(row, 1)?,
                    next_ms: some_unsigned(row, 2)?.filter(|_| pending > 0),
                    delivered: unsigned(row, 3)?,
                    given_up: unsigned(row, 4)?,
                    last_delivered_ms: some_unsigned(row, 5)?,
                    last_failed_ms: some_unsigned(row, 6)?,
                    last_error: row.get(7)?,
                })
            });
            Ok(status.optional()?.unwrap_or_default())
        })
    }

    /// Messages that wait, of all channels.
    pub fn pending(&self) -> Result<u64> {
        self.run(|db| {
            db.query_row("SELECT coalesce(sum(pending), 0) FROM channel WHERE pending > 0", (), |row| {
                unsigned(row, 0)
            })
        })
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.db).map_err(|source| OutboxError::Sqlite { path: self.path.clone(), source })
    }

    fn change<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let done = || {
            let transaction = self.db.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        done().map_err(|source| OutboxError::Sqlite { path: self.path.clone(), source })
    }
}

/// Makes the tables where there are none; gives the file's version.
fn begin(db: &Connection, head: u64) -> rusqlite::Result<i64> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    // What a loss of power takes is told again, of the log: a transaction is there as a whole or not.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.set_prepared_statement_cache_capacity(32);
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        let told = signed(head);
        db.execute_batch(&format!(
            "BEGIN; {SCHEMA} INSERT INTO position VALUES (1, {told}); PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
        return Ok(VERSION);
    }
    Ok(version)
}

/// Puts one message in; how many were given up for it.
fn queue_one(
    db: &Transaction<'_>,
    channel: ChannelId,
    message: &Message,
    now_ms: u64,
) -> rusqlite::Result<u64> {
    let Event::Verdict { monitor, name, up, cause, revision } = &message.event else { return Ok(0) };
    db.prepare_cached(
        "INSERT INTO message (channel, queued_ms, id, at_ms, revision, monitor, name, up, cause)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        id(channel),
        signed(now_ms),
        message.id,
        signed(message.at_ms),
        signed(*revision),
        monitor,
        name,
        up,
        cause
    ])?;
    let pending: i64 = db
        .prepare_cached(
            "INSERT INTO channel (id, pending) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET pending = pending + 1
             RETURNING pending",
        )?
        .query_row((id(channel),), |row| row.get(0))?;
    if pending <= PENDING_MAX {
        return Ok(0);
    }
    db.execute(
        "DELETE FROM message WHERE number = (SELECT min(number) FROM message WHERE channel = ?1)",
        (id(channel),),
    )?;
    db.execute(
        "UPDATE channel SET pending = pending - 1, given_up = given_up + 1 WHERE id = ?1",
        (id(channel),),
    )?;
    Ok(1)
}

fn due(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due {
        channel: channel(row, 0)?,
        number: row.get(1)?,
        queued_ms: unsigned(row, 2)?,
        attempts: unsigned(row, 3)?,
        message: Message {
            id: row.get(4)?,
            at_ms: unsigned(row, 5)?,
            event: Event::Verdict {
                monitor: row.get(6)?,
                name: row.get(7)?,
                up: row.get(8)?,
                cause: row.get(9)?,
                revision: unsigned(row, 10)?,
            },
        },
    })
}

fn id(channel: ChannelId) -> [u8; 16] {
    channel.0.to_be_bytes()
}

fn channel(row: &Row<'_>, column: usize) -> rusqlite::Result<ChannelId> {
    row.get(column).map(|id| ChannelId(u128::from_be_bytes(id)))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

fn some_unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId(7);
    const OTHER: ChannelId = ChannelId(8);

    fn message(revision: u64) -> Message {
        let event = Event::Verdict {
            monitor: 3,
            name: "web".into(),
            up: revision.is_multiple_of(2),
            cause: "fra1: timed out".into(),
            revision,
        };
        Message { id: format!("msg_{revision}"), at_ms: 1000 + revision, event }
    }

    fn outbox() -> (tempfile::TempDir, Outbox) {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&dir.path().join(FILE), 5).unwrap();
        (dir, outbox)
    }

    fn due_ids(outbox: &Outbox, now_ms: u64) -> Vec<String> {
        outbox.due(now_ms, 10).unwrap().0.into_iter().map(|due| due.message.id).collect()
    }

    #[test]
    fn what_is_queued_outlives_a_restart_and_goes_in_order() {
        let (dir, mut outbox) = outbox();
        assert_eq!(outbox.told().unwrap(), 5);
        outbox.queue(&[(CHANNEL, message(6)), (CHANNEL, message(7)), (OTHER, message(7))], 9, 100).unwrap();
        drop(outbox);
        let mut outbox = Outbox::open(&dir.path().join(FILE), 9).unwrap();
        assert_eq!(outbox.told().unwrap(), 9);
        let (due, next) = outbox.due(100, 10).unwrap();
        assert_eq!((due.len(), next), (2, None));
        let of_channel = due.iter().find(|due| due.channel == CHANNEL).unwrap();
        assert_eq!(of_channel.message, message(6));
        outbox.delivered(of_channel, 200).unwrap();
        let (due, _) = outbox.due(200, 10).unwrap();
        let of_channel = due.iter().find(|due| due.channel == CHANNEL).unwrap();
        assert_eq!(of_channel.message, message(7));
        outbox.keep(|channel| channel == CHANNEL).unwrap();
        assert_eq!((outbox.status(OTHER).unwrap(), outbox.pending().unwrap()), (Status::default(), 1));
        // The log was put back: what comes after is told.
        drop(outbox);
        assert_eq!(Outbox::open(&dir.path().join(FILE), 3).unwrap().told().unwrap(), 3);
    }

    #[test]
    fn failures_wait_longer_each_time_and_are_given_up_in_the_end() {
        let (_dir, mut outbox) = outbox();
        outbox.queue(&[(CHANNEL, message(6)), (CHANNEL, message(7))], 7, 0).unwrap();
        let (mut now_ms, mut waits, mut given_up) = (0, Vec::new(), 0);
        while given_up == 0 {
            let (due, _) = outbox.due(now_ms, 10).unwrap();
            given_up += u64::from(outbox.failed(&due[0], "status 503", now_ms, 0).unwrap());
            assert!(due_ids(&outbox, now_ms).is_empty());
            let next_ms = outbox.due(now_ms, 10).unwrap().1.unwrap();
            waits.push(next_ms - now_ms);
            now_ms = next_ms;
        }
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert!(waits.iter().all(|wait_ms| *wait_ms <= BACK_OFF_MS_MAX), "{waits:?}");
        assert!(now_ms > PATIENCE_MS && now_ms < PATIENCE_MS + 2 * BACK_OFF_MS_MAX + 1, "{now_ms}");
        let status = outbox.status(CHANNEL).unwrap();
        assert_eq!((status.pending, status.given_up, status.delivered), (1, 1, 0));
        assert_eq!(status.last_error.as_deref(), Some("status 503"));
        let (due, _) = outbox.due(now_ms, 10).unwrap();
        assert_eq!(due[0].message, message(7));
        outbox.delivered(&due[0], now_ms).unwrap();
        let status = outbox.status(CHANNEL).unwrap();
        assert_eq!((status.pending, status.attempts, status.next_ms), (0, 0, None));
        assert_eq!((status.delivered, status.last_delivered_ms), (1, Some(now_ms)));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (_dir, mut outbox) = outbox();
        let many: Vec<_> = (0..PENDING_MAX.unsigned_abs() + 3).map(|n| (CHANNEL, message(n))).collect();
        assert_eq!(outbox.queue(&many, 9, 0).unwrap(), 3);
        let status = outbox.status(CHANNEL).unwrap();
        assert_eq!((status.pending, status.given_up), (PENDING_MAX.unsigned_abs(), 3));
        let (due, _) = outbox.due(0, 10).unwrap();
        assert_eq!(due[0].message, message(3));
        // One that was on its way when it went isn't counted twice.
        outbox.empty(CHANNEL).unwrap();
        outbox.delivered(&due[0], 1).unwrap();
        assert_eq!(outbox.status(CHANNEL).unwrap().pending, 0);
    }

    #[test]
    fn a_file_of_another_version_is_left_alone() {
        let (dir, outbox) = outbox();
        outbox.db.pragma_update(None, "user_version", 2).unwrap();
        drop(outbox);
        let refused = Outbox::open(&dir.path().join(FILE), 5).err().unwrap().to_string();
        assert!(refused.contains("version 2"), "{refused}");
    }

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/notify-1").join(FILE)
    }

    /// Files of this version are in the field: what reads them has to read this one.
    #[test]
    fn format_1_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::copy(fixture(), &path).unwrap();
        let mut outbox = Outbox::open(&path, 100).unwrap();
        assert_eq!((outbox.told().unwrap(), outbox.pending().unwrap()), (9, 1));
        let (due, next) = outbox.due(1_500, 10).unwrap();
        assert_eq!((due.len(), next), (0, Some(1_600)));
        let (due, _) = outbox.due(1_600, 10).unwrap();
        assert_eq!((&due[0].message, due[0].attempts), (&message(7), 1));
        outbox.delivered(&due[0], 1_700).unwrap();
        let status = outbox.status(CHANNEL).unwrap();
        assert_eq!(
            (status.delivered, status.last_delivered_ms, status.last_failed_ms),
            (2, Some(1_700), Some(600))
        );
        assert_eq!(status.last_error.as_deref(), Some("status 503"));
    }

    /// Makes the fixture anew; for a new version of the format only.
    #[test]
    #[ignore = "it writes into the source tree"]
    fn write_the_fixture() {
        std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
        let mut outbox = Outbox::open(&fixture(), 5).unwrap();
        outbox.queue(&[(CHANNEL, message(6)), (CHANNEL, message(7))], 9, 100).unwrap();
        let (due, _) = outbox.due(200, 1).unwrap();
        outbox.delivered(&due[0], 500).unwrap();
        let (due, _) = outbox.due(500, 1).unwrap();
        outbox.failed(&due[0], "status 503", 600, 0).unwrap();
    }
}
