//! Serving: one listener, any of our services behind it, limits on what a peer can hold.

use std::{future::Future, net::SocketAddr, sync::Arc};

use rwasm_types::{Code, Error, NodeId, Result};
use tonic::{metadata::MetadataMap, service::Routes};

use crate::{
    door::{Guest, Watched, incoming},
    echo,
    gateway::{self, GatewayService},
    head::{self, HeadService},
    io::{CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Listener, STREAM_WINDOW_BYTES},
    peer::{self, PeerService},
    relay::{self, RelayService},
};

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
    /// The node that its certificate proved it to be.
    pub node: Option<NodeId>,
    /// Whether the connection is an encrypted one.
    pub encrypted: bool,
}

impl Caller {
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        let token = token(request.metadata());
        let tenant = request.metadata().get(TENANT_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match request.extensions().get::<Guest>() {
            Some(guest) => Self { token, tenant, address: guest.address, node: guest.node, encrypted: guest.encrypted },
            None => Self { token, tenant, ..Self::default() },
        }
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

    /// Adds the service that passes connections on between nodes.
    #[must_use]
    pub fn relay<S: RelayService>(mut self, service: Arc<S>) -> Self {
        self.routes = self.routes.add_service(relay::server(service));
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
            .layer(tower::layer::layer_fn(Watched))
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
