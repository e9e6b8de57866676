//! Connections: accepted, perhaps over TLS, served within limits, and ended gracefully.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// So many connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// For the head of a request to arrive, and for a connection to be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// For TLS to be agreed on.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// For what runs at a shutdown to come to its end.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// Serves until `shutdown`; then accepts no more, and gives what runs a while to finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
                tokio::spawn(async move {
                    serve_stream(stream, router, tls, watcher).await;
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!("a connection could not be accepted: {e}");
                // Most likely out of file descriptors: let some be closed first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_TIME, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still running after {} s", SHUTDOWN_TIME.as_secs());
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_stream(stream: TcpStream, router: Router, tls: Option<TlsAcceptor>, watcher: Watcher) {
    // Answers are small and awaited: nothing is gained by collecting them.
    _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve_connection(stream, router, watcher).await };
    match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, router, watcher).await,
        Ok(Err(e)) => tracing::debug!("no TLS: {e}"),
        Err(_) => tracing::debug!("no TLS in time"),
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(e) = watcher.watch(connection).await {
        tracing::debug!("a connection ended: {e}");
    }
}
