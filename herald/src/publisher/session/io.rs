//! A session's connection: cuts what comes into frames, writes what is to be sent, and keeps the time.

use std::net::SocketAddr;
use std::time::Duration;

use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_wire::stream::{self, FRAME_BYTES_MAX, ToHerald};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Next, Session, SessionError};
use crate::clock;
use crate::engine::Engine;
use crate::publisher::Publisher;

/// How long the TLS handshake may take.
const HANDSHAKE_S: u64 = 30;

/// Longest hello, in bytes: its digests have 4 KiB.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// How much the kernel may hold that it has not sent yet, in bytes: what a delta waits behind on a long way.
const UNSENT_BYTES: u32 = 64 * 1024;

/// A connection whose PoP isn't known yet.
pub(crate) struct Accepted {
    pub publisher: Publisher,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
}

impl Accepted {
    pub(crate) async fn run(self, stream: TcpStream, tls: Option<tokio_rustls::TlsAcceptor>) {
        let (address, shutdown) = (self.address, self.shutdown.clone());
        let ended = tokio::select! {
            ended = self.connected(stream, tls) => ended,
            () = shutdown.cancelled() => Ok(()),
        };
        match ended {
            Ok(()) | Err(SessionError::Replaced) => {}
            Err(e) => tracing::warn!("the session of a PoP at {address} ended: {e}"),
        }
    }

    async fn connected(
        self,
        stream: TcpStream,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Result<(), SessionError> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        match tls {
            None => self.session(stream).await,
            Some(tls) => {
                let limit = Duration::from_secs(HANDSHAKE_S);
                let accepted = tokio::time::timeout(limit, tls.accept(stream)).await;
                let stream = accepted.map_err(|_| SessionError::Silent(HANDSHAKE_S))??;
                self.session(stream).await
            }
        }
    }

    async fn session<S: AsyncRead + AsyncWrite + Send + 'static>(
        self,
        stream: S,
    ) -> Result<(), SessionError> {
        let (reading, mut writing) = tokio::io::split(stream);
        let mut frames = Frames::new(reading);
        let mut revision = self.publisher.engine.revision();
        let mut choices = self.publisher.shared.health().follow();
        let mut targets = self.publisher.shared.aliases().follow();
        let mut session =
            Session::new(self.publisher.shared.clone(), self.address.to_string(), clock::uptime());
        let mut replaced: Option<CancellationToken> = None;
        let mut is_noted = false;
        let mut out = Outgoing::default();
        loop {
            let mut next = Next::More;
            if out.is_written() {
                out.clear();
                // What is committed from here on is looked at next time.
                revision.mark_unchanged();
                choices.mark_unchanged();
                targets.mark_unchanged();
                next = session.poll(clock::uptime(), &mut out.bytes)?;
                if let Some(action) = session.due_note(clock::uptime()) {
                    note(self.publisher.engine.clone(), action);
                }
            }
            let is_idle = next != Next::More;
            let wake_at = match next {
                Next::At(at) => at,
                Next::More => session.silent_at(),
            };
            tokio::select! {
                frame = frames.next() => match frame? {
                    None => return Ok(()),
                    Some(frame) => {
                        session = take(session, frame).await?;
                        if let (false, Some((is_let_in, pop))) = (is_noted, session.login()) {
                            is_noted = true;
                            if let Some(log) = &self.publisher.access_log {
                                log.note_login(is_let_in, pop, self.address.ip());
                            }
                        }
                        if replaced.is_none() {
                            replaced = session.replaced();
                        }
                    }
                },
                done = out.write(&mut writing), if !out.is_written() => done?,
                // Who probes and resolves what is no matter of the log.
                changed = targets.changed(), if is_idle => if changed.is_err() { return Ok(()) },
                changed = choices.changed(), if is_idle => if changed.is_err() { return Ok(()) },
                changed = revision.changed(), if is_idle => if changed.is_err() { return Ok(()) },
                // A newer session of the same PoP knows better what it has.
                () = cancelled(replaced.as_ref()) => return Err(SessionError::Replaced),
                () = tokio::time::sleep(wake_at.saturating_sub(clock::uptime())) => {
                    if clock::uptime() >= session.silent_at() {
                        return Err(session.silent());
                    }
                }
            }
        }
    }
}

/// Puts something on the log. If that fails, the session asks for it again.
fn note(engine: Engine, action: Action) {
    let context = clock::context(Principal::System, None);
    tokio::spawn(async move {
        if let Err(e) = engine.submit(Command { context, action }).await {
            tracing::warn!("that zones are held back from a PoP can't be noted yet: {e}");
        }
    });
}

/// Has the session take a frame; what may take a while is kept off the threads that serve others.
async fn take(mut session: Session, frame: ToHerald) -> Result<Session, SessionError> {
    match frame {
        ToHerald::Inventory { .. } => {
            let taken =
                tokio::task::spawn_blocking(move || session.take(frame, clock::uptime()).map(|()| session));
            taken.await.map_err(|e| SessionError::Io(std::io::Error::other(e)))?
        }
        frame => session.take(frame, clock::uptime()).map(|()| session),
    }
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Bytes on their way out.
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    is_flushed: bool,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing { bytes: Vec::new(), written: 0, is_flushed: true }
    }
}

impl Outgoing {
    fn is_written(&self) -> bool {
        self.written == self.bytes.len() && self.is_flushed
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Writes some. It may be cancelled at any time.
    async fn write<W: AsyncWrite + Unpin>(&mut self, writing: &mut W) -> std::io::Result<()> {
        if self.written < self.bytes.len() {
            self.is_flushed = false;
            let count = writing.write(&self.bytes[self.written..]).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        } else {
            writing.flush().await?;
            self.is_flushed = true;
        }
        Ok(())
    }
}

/// Cuts a stream into frames.
struct Frames<R> {
    reading: R,
    bytes: Vec<u8>,
    taken: usize,
    /// Longest frame that is taken; from strangers no longer one than a hello has.
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(reading: R) -> Frames<R> {
        Frames { reading, bytes: Vec::new(), taken: 0, bytes_max: HELLO_BYTES_MAX }
    }

    /// The next frame; none at the stream's end. It may be cancelled at any time.
    async fn next(&mut self) -> Result<Option<ToHerald>, SessionError> {
        loop {
            if let Some((length, message)) = stream::decode_frame(&self.bytes[self.taken..])? {
                self.taken += length;
                self.bytes_max = FRAME_BYTES_MAX;
                return Ok(Some(message));
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            if self.bytes.len() > self.bytes_max + 4 {
                return Err(SessionError::OutOfTurn("a frame without end"));
            }
            if self.reading.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }
}
