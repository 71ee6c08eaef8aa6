//! One listener and the connections behind it: HTTP/1.1, bounded in number, in headers and in how long a peer may be silent.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rwasm_runtime::{OnEnd, Scope};
use rwasm_tls::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long a peer may take to send a request's head, and how long it may be silent between requests.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long to wait where no connection can be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `scope` ends; connections live in `inner`, so that one that panics does not end more than the server.
pub(crate) fn spawn(name: &'static str, listener: TcpListener, tls: Option<Acceptor>, router: Router, scope: &Scope, inner: Scope) {
    scope.spawn(name, OnEnd::Continue, async move {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, tls) = (router.clone(), tls.clone());
                    inner.spawn("http-connection", OnEnd::Continue, async move {
                        // A small answer is not to wait for a larger one.
                        let _ = stream.set_nodelay(true);
                        match tls {
                            None => converse(stream, router).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok((stream, _)) => converse(stream, router).await,
                                Err(error) => tracing::debug!(%error, "a handshake failed"),
                            },
                        }
                        drop(permit);
                    });
                }
                // Out of descriptors, or the peer was gone before it was taken.
                Err(error) => {
                    tracing::warn!(server = name, %error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
