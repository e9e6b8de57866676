//! Connections: accepted, perhaps over TLS, served within limits, and ended gracefully.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Connection, ConnectionLimits, Connections, Running};
use super::gate::ClientAddress;

/// How connections are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// How many there may be.
    pub connections: ConnectionLimits,
    /// For the head of a request to arrive, and for a connection to be idle.
    pub head_time: Duration,
    /// For a client to take something of its answer.
    pub stall_time: Duration,
    /// For TLS to be agreed on.
    pub handshake_time: Duration,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits {
            connections: ConnectionLimits::default(),
            head_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(30),
            handshake_time: Duration::from_secs(10),
        }
    }
}

/// The head of a request has at most so many bytes, and of a body no more is read ahead.
const READ_BYTES_MAX: usize = 32 * 1024;

/// For what runs at a shutdown to come to its end.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// Serves until `shutdown`; then accepts no more, and gives what runs a while to finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: CancellationToken,
    limits: ServeLimits,
) {
    let (tasks, connections) = (TaskTracker::new(), Connections::new(limits.connections));
    let server =
        Arc::new(Server { router, tls: tls.map(TlsAcceptor::from), shutdown: shutdown.clone(), limits });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => match connections.admit(address.ip()) {
                Some(connection) => {
                    tasks.spawn(Arc::clone(&server).serve_stream(stream, address, Arc::new(connection)));
                }
                None => tracing::debug!("no room for a connection of {address}"),
            },
            Err(e) => {
                tracing::warn!("a connection could not be accepted: {e}");
                // Most likely out of file descriptors: let one be closed first.
                connections.end_longest_idle();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(SHUTDOWN_TIME, tasks.wait()).await.is_err() {
        tracing::warn!("some requests were still running after {} s", SHUTDOWN_TIME.as_secs());
    }
}

struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
    limits: ServeLimits,
}

impl Server {
    async fn serve_stream(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        connection: Arc<Connection>,
    ) {
        // Who says nothing has no buffers yet.
        let spoke = tokio::select! {
            spoke = tokio::time::timeout(self.limits.head_time, stream.readable()) => spoke.is_ok(),
            () = self.is_to_end(&connection) => false,
        };
        if !spoke {
            return;
        }
        // Answers are small and awaited: nothing is gained by collecting them.
        _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.stall_time));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else {
            return Box::pin(self.serve_connection(stream, address, connection)).await;
        };
        let handshake = tokio::time::timeout(self.limits.handshake_time, tls.accept(stream));
        let agreed = tokio::select! {
            agreed = Box::pin(handshake) => agreed,
            () = self.is_to_end(&connection) => return,
        };
        match agreed {
            Ok(Ok(stream)) => Box::pin(self.serve_connection(stream, address, connection)).await,
            Ok(Err(e)) => tracing::debug!("no TLS: {e}"),
            Err(_) => tracing::debug!("no TLS in time"),
        }
    }

    async fn serve_connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        connection: Arc<Connection>,
    ) {
        let service = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|mut request: Request<Incoming>| {
            let running = connection.begin();
            request.extensions_mut().insert(ClientAddress(address.ip()));
            let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
            let answer = service.call(request.map(|body| Asking { body, is_read: Arc::clone(&is_read) }));
            async move {
                let mut answer = answer.await?.map(|body| Answering { body, _running: running });
                // Where a body isn't read to its end the connection ends after the answer: who goes on with it must know.
                if !is_read.load(Ordering::Relaxed) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.head_time).max_buf_size(READ_BYTES_MAX);
        let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut ended = tokio::select! {
            biased;
            ended = serving.as_mut() => Some(ended),
            () = self.is_to_end(&connection) => None,
        };
        if ended.is_none() && (connection.is_running() || self.shutdown.is_cancelled()) {
            serving.as_mut().graceful_shutdown();
            ended = Some(serving.await);
        }
        if let Some(Err(e)) = ended {
            tracing::debug!("a connection ended: {e}");
        }
    }

    /// Waits until a connection has to come to its end.
    async fn is_to_end(&self, connection: &Connection) {
        tokio::select! {
            () = connection.ended() => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// The body of a request: it says whether it was read to its end.
struct Asking {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

impl hyper::body::Body for Asking {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer: up to its end the request runs.
struct Answering {
    body: Body,
    _running: Running,
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
