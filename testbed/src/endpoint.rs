//! Something that answers HTTP requests, as endpoints and receivers of webhooks do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest request that is read, in octets.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Answers every request with 200, until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens at an address; port 0 for a free one.
    ///
    /// # Panics
    /// If the address can't be listened on.
    pub fn start(address: SocketAddr) -> Endpoint {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let address = listener.local_addr().expect("it is bound");
        let (ends, requests) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
        let (asked_to_end, seen) = (Arc::clone(&ends), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if asked_to_end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut connection) = connection else { continue };
                let _ = connection.set_read_timeout(Some(Duration::from_secs(1)));
                let Some(request) = read(&mut connection) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = connection.write_all(answer);
            }
        });
        Endpoint { address, requests, ends, thread: Some(thread) }
    }

    /// The requests that came, heads and bodies.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a request with as long a body as it says; none if it breaks off.
fn read(connection: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        match connection.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(length) if request.len() < REQUEST_BYTES_MAX => request.extend_from_slice(&part[..length]),
            Ok(_) => return None,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
