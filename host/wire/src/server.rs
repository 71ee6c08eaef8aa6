//! Serving: one listener, any of our services behind it, limits on what a peer can hold.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::stream;
use rwasm_types::{Code, Error, Result};
use tokio::sync::Semaphore;
use tonic::{
    metadata::MetadataMap,
    service::Routes,
    transport::server::{Connected, TcpConnectInfo},
};

use crate::{
    echo,
    gateway::{self, GatewayService},
    head::{self, HeadService},
    io::{CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Listener, Pipe, STREAM_WINDOW_BYTES},
    peer::{self, PeerService},
};

/// Connections that a server holds at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Streams that one connection has open at once.
const STREAMS_MAX: u32 = 256;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// The metadata that names the tenant that a caller wants to look into.
pub(crate) const TENANT_HEADER: &str = "rwasm-tenant";

/// Who calls: what the transport knows of the other side.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The bearer token it showed.
    pub token: Option<String>,
    /// The tenant it wants to look into, where that is not its token's.
    pub tenant: Option<String>,
    /// Its address; `None` inside a process.
    pub address: Option<SocketAddr>,
}

impl Caller {
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        let address = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let tenant = request.metadata().get(TENANT_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { token: token(request.metadata()), tenant, address }
    }
}

fn token(metadata: &MetadataMap) -> Option<String> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

/// A server under construction: add services, then [`Server::serve`].
#[derive(Clone, Debug, Default)]
pub struct Server {
    routes: Routes,
}

impl Server {
    /// A server without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the service for drivers.
    #[must_use]
    pub fn gateway<S: GatewayService>(mut self, service: Arc<S>) -> Self {
        self.routes = self.routes.add_service(gateway::server(service));
        self
    }

    /// Adds the service for nodes that join.
    #[must_use]
    pub fn head<S: HeadService>(mut self, service: Arc<S>) -> Self {
        self.routes = self.routes.add_service(head::server(service));
        self
    }

    /// Adds the service between nodes.
    #[must_use]
    pub fn peer<S: PeerService>(mut self, service: Arc<S>) -> Self {
        self.routes = self.routes.add_service(peer::server(service));
        self
    }

    /// Adds the service that says back what it hears.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.routes = self.routes.add_service(echo::server());
        self
    }

    /// Serves until `shutdown` resolves, then finishes what is under way.
    ///
    /// # Errors
    ///
    /// If the listener fails for good.
    pub async fn serve(self, listener: Listener, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming(listener), shutdown)
            .await
            .map_err(|error| Error::new(Code::IO, format!("a server ended: {error}")))
    }
}

/// A connection that counts against the server's limit while it lives.
pub(crate) struct Counted {
    pipe: Pipe,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

fn incoming(listener: Listener) -> impl futures_util::Stream<Item = io::Result<Counted>> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, permits), |(mut listener, permits)| async move {
        loop {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            match listener.accept().await? {
                Ok(pipe) => return Some((Ok(Counted { pipe, _permit: permit }), (listener, permits))),
                // Out of descriptors, or the peer was gone before it was taken: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.pipe.connect_info()
    }
}

/// Passes reading and writing on to the connection.
mod forward {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Counted;

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.pipe).poll_write(cx, buf)
        }

        fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.pipe).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            self.pipe.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_shutdown(cx)
        }
    }
}
