//! The service that passes connections on between nodes that cannot reach each other, as a trait to implement and a client to call.
//!
//! ```text
//! dialler ──Tunnel{dial: n3}──▶ relay ──Ring──▶ n3, which attends
//!     ◀──────── bytes ─────────▶     ◀──Tunnel{answer}── n3
//! ```
//!
//! What goes through is a connection like any other: with TLS both ends prove to each other who they are, and the relay sees no more than
//! the network would.

use std::{future::Future, sync::Arc};

use bytes::BytesMut;
use rwasm_types::{NodeId, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tonic::{Request, Response, Status, codegen::InterceptedService, transport::Channel};

use crate::{
    connect::Connector,
    gateway::Bearer,
    generated::{self as proto, relay_client, relay_server, tunnel_part::Part},
    server::Caller,
    status,
    stream::{Inbound, Outbound, Replies, Sender},
};

/// Bytes of a part of a tunnel.
const PART_BYTES: usize = 64 << 10;
/// Parts that may wait for the network, each way.
const PARTS: usize = 8;

/// What a relay does for nodes.
pub trait RelayService: Send + Sync + 'static {
    /// Tells a node who wants to reach it, until it goes.
    fn attend(&self, caller: Caller, node: u32) -> impl Future<Output = Result<Outbound<Result<proto::Ring>>>> + Send;

    /// Passes a connection on.
    fn tunnel(
        &self,
        caller: Caller,
        inbound: Inbound<proto::TunnelPart>,
    ) -> impl Future<Output = Result<Outbound<Result<proto::TunnelPart>>>> + Send;
}

struct Adapter<S>(Arc<S>);

pub(crate) fn server<S: RelayService>(service: Arc<S>) -> relay_server::RelayServer<impl relay_server::Relay> {
    relay_server::RelayServer::new(Adapter(service)).max_decoding_message_size(2 * PART_BYTES)
}

#[tonic::async_trait]
impl<S: RelayService> relay_server::Relay for Adapter<S> {
    type AttendStream = Replies<proto::Ring>;
    type TunnelStream = Replies<proto::TunnelPart>;

    async fn attend(&self, request: Request<proto::AttendRequest>) -> Result<Response<Self::AttendStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.attend(caller, request.into_inner().node).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }

    async fn tunnel(&self, request: Request<tonic::Streaming<proto::TunnelPart>>) -> Result<Response<Self::TunnelStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.tunnel(caller, Inbound::new(request.into_inner())).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }
}

/// A connection to a relay; clones share it.
#[derive(Clone, Debug)]
pub struct RelayClient {
    inner: relay_client::RelayClient<InterceptedService<Channel, Bearer>>,
}

impl RelayClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::UNREACHABLE`] if nobody answers.
    pub async fn connect(connector: &Connector, token: &str) -> Result<Self> {
        let channel = connector.channel().await?;
        let inner = relay_client::RelayClient::with_interceptor(channel, Bearer::new(token)?);
        Ok(Self { inner: inner.max_decoding_message_size(2 * PART_BYTES) })
    }

    /// Waits for those that want to reach this node.
    ///
    /// # Errors
    ///
    /// What the relay says.
    pub async fn attend(&mut self, node: NodeId) -> Result<Inbound<proto::Ring>> {
        let reply = self.inner.attend(proto::AttendRequest { node: node.get() }).await;
        reply.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// Opens a tunnel, with what its first part says.
    ///
    /// # Errors
    ///
    /// What the relay says.
    pub async fn tunnel(&mut self, first: Part) -> Result<Tunnel<proto::TunnelPart>> {
        let (sender, outbound) = Outbound::channel(PARTS);
        // The channel was made with room.
        let _ = sender.try_send(proto::TunnelPart { part: Some(first) });
        let reply = self.inner.tunnel(outbound).await.map_err(|status| status::to_error(&status))?;
        Ok(Tunnel { inbound: Inbound::new(reply.into_inner()), sender, wrap: |part| part })
    }
}

/// One end of a tunnel that goes over a stream of messages.
pub struct Tunnel<T> {
    inbound: Inbound<proto::TunnelPart>,
    sender: Sender<T>,
    wrap: fn(proto::TunnelPart) -> T,
}

impl<T> std::fmt::Debug for Tunnel<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl Tunnel<Result<proto::TunnelPart>> {
    /// The relay's end, with what it answers.
    pub fn answer(inbound: Inbound<proto::TunnelPart>) -> (Self, Outbound<Result<proto::TunnelPart>>) {
        let (sender, outbound) = Outbound::channel(PARTS);
        (Self { inbound, sender, wrap: Ok }, outbound)
    }
}

impl<T> Tunnel<T> {
    /// Carries what comes out of a pipe, and into it what comes in, until both directions have ended. Each waits for whoever is slower.
    pub async fn carry(self, pipe: DuplexStream) {
        let Self { mut inbound, sender, wrap } = self;
        let (mut out, mut into) = tokio::io::split(pipe);
        let send = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PART_BYTES);
                match (&mut out).take(PART_BYTES as u64).read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let part = proto::TunnelPart { part: Some(Part::Bytes(buffer.split().freeze())) };
                if sender.send(wrap(part)).await.is_err() {
                    return;
                }
            }
        };
        let receive = async move {
            while let Ok(Some(proto::TunnelPart { part: Some(Part::Bytes(bytes)) })) = inbound.next().await {
                if into.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // Whoever reads the pipe is told that there is no more; it may be gone.
            let _ = into.shutdown().await;
        };
        tokio::join!(send, receive);
    }
}
