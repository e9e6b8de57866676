//! A long way over TCP: a proxy that hands every byte on a fixed time after it came, in order.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::loopback;

/// Most that is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many chunks are on their way at most: enough that the way is long, not narrow.
const CHUNKS_ON_THE_WAY: usize = 4096;

/// The proxy; its connections break when it is dropped.
#[derive(Debug)]
pub struct DelayProxy {
    /// Where to dial.
    pub listen: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl DelayProxy {
    /// Carries connections to `upstream`, with `one_way` of delay each way.
    ///
    /// # Panics
    /// If it can't listen.
    pub fn start(upstream: SocketAddr, one_way: Duration) -> Self {
        Self::start_at(loopback::free_endpoint(), upstream, one_way)
    }

    /// As [`DelayProxy::start`], at this address.
    ///
    /// # Panics
    /// If it can't listen.
    pub fn start_at(listen: SocketAddr, upstream: SocketAddr, one_way: Duration) -> Self {
        let listener = TcpListener::bind(listen).expect("the endpoint is free");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || {
                for near in listener.incoming().flatten() {
                    if shared.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(far) = TcpStream::connect(upstream) else { continue };
                    if let Err(e) = carry(&shared, near, far, one_way) {
                        eprintln!("delaying proxy: {e}");
                    }
                }
            }
        });
        Self { listen, shared, acceptor: Some(acceptor) }
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.listen);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in self.shared.streams.lock().expect("never poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(shared: &Shared, near: TcpStream, far: TcpStream, one_way: Duration) -> std::io::Result<()> {
    for (from, to) in [(&near, &far), (&far, &near)] {
        from.set_nodelay(true)?;
        let (sender, receiver) = sync_channel(CHUNKS_ON_THE_WAY);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || take(from, one_way, &sender));
        thread::spawn(move || deliver(to, &receiver));
    }
    shared.streams.lock().expect("never poisoned").extend([near, far]);
    Ok(())
}

/// Bytes, and when they arrive.
struct Parcel {
    due: Instant,
    bytes: Vec<u8>,
}

fn take(mut from: TcpStream, one_way: Duration, way: &SyncSender<Parcel>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        // The end of the stream travels as an empty parcel.
        let length = from.read(&mut chunk).unwrap_or(0);
        let parcel = Parcel { due: Instant::now() + one_way, bytes: chunk[..length].to_vec() };
        if way.send(parcel).is_err() || length == 0 {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, way: &Receiver<Parcel>) {
    for parcel in way {
        thread::sleep(parcel.due.saturating_duration_since(Instant::now()));
        if parcel.bytes.is_empty() || to.write_all(&parcel.bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_keeps_order_and_end() {
        let one_way = Duration::from_millis(50);
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = DelayProxy::start(upstream.local_addr().unwrap(), one_way);
        let echo = thread::spawn(move || {
            let (mut stream, _) = upstream.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut stream = TcpStream::connect(proxy.listen).unwrap();
        let start = Instant::now();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(start.elapsed() >= one_way * 2);
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        echo.join().unwrap();
    }
}
