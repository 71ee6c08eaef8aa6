//! The service between nodes, as a trait to implement and a client to call.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use rwasm_types::{ArtifactDigest, Result, Tenant};
use tonic::{Request, Response, Status, codegen::InterceptedService, transport::Channel};

use crate::{
    MESSAGE_BYTES_MAX,
    connect::Connector,
    gateway::Bearer,
    generated::{self as proto, peer_client, peer_server},
    server::Caller,
    status,
    stream::{Inbound, Outbound, Replies},
};

/// What a node does for other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// Runs tasks for an owner, from its hello to its end.
    fn link(
        &self,
        caller: Caller,
        inbound: Inbound<proto::OwnerMessage>,
    ) -> impl Future<Output = Result<Outbound<Result<proto::RunnerMessage>>>> + Send;

    /// An artifact's bytes, in chunks.
    fn fetch(
        &self,
        caller: Caller,
        request: proto::FetchRequest,
    ) -> impl Future<Output = Result<Outbound<Result<proto::ArtifactChunk>>>> + Send;

    /// An object's value, in parts.
    fn pull(&self, caller: Caller, request: proto::PullRequest) -> impl Future<Output = Result<Outbound<Result<proto::PullPart>>>> + Send;

    /// Hears another node's directory of objects, from its hello to its end.
    fn tell(&self, caller: Caller, inbound: Inbound<proto::Telling>) -> impl Future<Output = Result<Outbound<Result<proto::Told>>>> + Send;
}

struct Adapter<S>(Arc<S>);

pub(crate) fn server<S: PeerService>(service: Arc<S>) -> peer_server::PeerServer<impl peer_server::Peer> {
    peer_server::PeerServer::new(Adapter(service)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[tonic::async_trait]
impl<S: PeerService> peer_server::Peer for Adapter<S> {
    type LinkStream = Replies<proto::RunnerMessage>;
    type FetchStream = Replies<proto::ArtifactChunk>;
    type PullStream = Replies<proto::PullPart>;
    type TellStream = Replies<proto::Told>;

    async fn link(&self, request: Request<tonic::Streaming<proto::OwnerMessage>>) -> Result<Response<Self::LinkStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.link(caller, Inbound::new(request.into_inner())).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }

    async fn fetch(&self, request: Request<proto::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.fetch(caller, request.into_inner()).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }

    async fn pull(&self, request: Request<proto::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.pull(caller, request.into_inner()).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }

    async fn tell(&self, request: Request<tonic::Streaming<proto::Telling>>) -> Result<Response<Self::TellStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.tell(caller, Inbound::new(request.into_inner())).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }
}

/// A connection to another node; clones share it.
#[derive(Clone, Debug)]
pub struct PeerClient {
    inner: peer_client::PeerClient<InterceptedService<Channel, Bearer>>,
}

impl PeerClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::UNREACHABLE`] if nobody answers.
    pub async fn connect(connector: &Connector, token: &str) -> Result<Self> {
        let channel = connector.channel().await?;
        Ok(Self {
            inner: peer_client::PeerClient::with_interceptor(channel, Bearer::new(token)?).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }

    /// Opens an owner's stream.
    ///
    /// # Errors
    ///
    /// What the other node says.
    pub async fn link(&mut self, outbound: Outbound<proto::OwnerMessage>) -> Result<Inbound<proto::RunnerMessage>> {
        self.inner.link(outbound).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// Fetches an artifact.
    ///
    /// # Errors
    ///
    /// What the other node says.
    pub async fn fetch(&mut self, tenant: &Tenant, digest: ArtifactDigest) -> Result<Inbound<proto::ArtifactChunk>> {
        let request = proto::FetchRequest { digest: Bytes::copy_from_slice(&digest.0), tenant: tenant.to_string() };
        self.inner.fetch(request).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// Pulls an object's value.
    ///
    /// # Errors
    ///
    /// What the other node says.
    pub async fn pull(&mut self, request: proto::PullRequest) -> Result<Inbound<proto::PullPart>> {
        self.inner.pull(request).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// Opens a stream to the other node's directory of objects.
    ///
    /// # Errors
    ///
    /// What the other node says.
    pub async fn tell(&mut self, outbound: Outbound<proto::Telling>) -> Result<Inbound<proto::Told>> {
        self.inner.tell(outbound).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }
}
