//! The service that drivers speak with, as a trait to implement and a client to call.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use rwasm_types::{ArtifactDigest, Code, Error, ObjectId, Result, Tenant};
use tonic::{Request, Response, Status, codegen::InterceptedService, metadata::AsciiMetadataValue, transport::Channel};

use crate::{
    MESSAGE_BYTES_MAX,
    connect::Connector,
    convert,
    generated::{self as proto, gateway_client, gateway_server},
    server::{Caller, TENANT_HEADER},
    status,
    stream::{Inbound, Outbound, Replies},
};

/// What a gateway does. Each call begins by checking the caller's token.
pub trait GatewayService: Send + Sync + 'static {
    /// A driver's session.
    fn attach(
        &self,
        caller: Caller,
        inbound: Inbound<proto::DriverMessage>,
    ) -> impl Future<Output = Result<Outbound<Result<proto::GatewayMessage>>>> + Send;

    /// What a stored artifact offers, as JSON.
    fn describe(&self, caller: Caller, digest: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// Stores an artifact and says what it offers, as JSON.
    fn upload(&self, caller: Caller, chunks: Inbound<proto::ArtifactChunk>) -> impl Future<Output = Result<Bytes>> + Send;

    /// Answers a question, both as JSON.
    fn query(&self, caller: Caller, query: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// Carries out an order, once per key.
    fn control(&self, caller: Caller, order: Bytes, key: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// A job's output.
    fn logs(&self, caller: Caller, request: proto::LogsRequest) -> impl Future<Output = Result<Outbound<Result<proto::LogsChunk>>>> + Send;

    /// Stores a value as an object.
    fn put(&self, caller: Caller, parts: Inbound<proto::PutPart>) -> impl Future<Output = Result<ObjectId>> + Send;

    /// An object's value.
    fn get(&self, caller: Caller, request: proto::GetRequest) -> impl Future<Output = Result<Outbound<Result<proto::ObjectPart>>>> + Send;
}

struct Adapter<S>(Arc<S>);

pub(crate) fn server<S: GatewayService>(service: Arc<S>) -> gateway_server::GatewayServer<impl gateway_server::Gateway> {
    gateway_server::GatewayServer::new(Adapter(service)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn reply<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status::from_error(&error))
}

#[tonic::async_trait]
impl<S: GatewayService> gateway_server::Gateway for Adapter<S> {
    type AttachStream = Replies<proto::GatewayMessage>;
    type LogsStream = Replies<proto::LogsChunk>;
    type GetStream = Replies<proto::ObjectPart>;

    async fn attach(&self, request: Request<tonic::Streaming<proto::DriverMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.attach(caller, Inbound::new(request.into_inner())).await.map(Replies))
    }

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Result<Response<proto::Described>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.describe(caller, request.into_inner().digest).await.map(|info| proto::Described { info }))
    }

    async fn upload(&self, request: Request<tonic::Streaming<proto::ArtifactChunk>>) -> Result<Response<proto::Described>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.upload(caller, Inbound::new(request.into_inner())).await.map(|info| proto::Described { info }))
    }

    async fn query(&self, request: Request<proto::QueryRequest>) -> Result<Response<proto::QueryReply>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.query(caller, request.into_inner().query).await.map(|answer| proto::QueryReply { answer }))
    }

    async fn control(&self, request: Request<proto::ControlRequest>) -> Result<Response<proto::ControlReply>, Status> {
        let caller = Caller::of(&request);
        let proto::ControlRequest { order, key } = request.into_inner();
        reply(self.0.control(caller, order, key).await.map(|answer| proto::ControlReply { answer }))
    }

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.logs(caller, request.into_inner()).await.map(Replies))
    }

    async fn put(&self, request: Request<tonic::Streaming<proto::PutPart>>) -> Result<Response<proto::PutReply>, Status> {
        let caller = Caller::of(&request);
        let object = self.0.put(caller, Inbound::new(request.into_inner())).await;
        reply(object.map(|object| proto::PutReply { object: convert::object_bytes(object) }))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let caller = Caller::of(&request);
        reply(self.0.get(caller, request.into_inner()).await.map(Replies))
    }
}

/// Adds to each request the caller's token, and the tenant that it wants to look into.
#[derive(Clone)]
pub(crate) struct Bearer {
    token: AsciiMetadataValue,
    tenant: Option<AsciiMetadataValue>,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens do not belong in logs.
        f.debug_struct("Bearer").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Bearer {
    pub(crate) fn new(token: &str) -> Result<Self> {
        let token = format!("Bearer {token}")
            .parse()
            .map_err(|_| Error::new(Code::TOKEN_MALFORMED, "the token holds characters that no token has").hint("copy it again"))?;
        Ok(Self { token, tenant: None })
    }

    fn looking_into(self, tenant: Option<&Tenant>) -> Result<Self> {
        let value = |tenant: &Tenant| tenant.as_str().parse().map_err(|_| Error::internal("a tenant's name is no metadata"));
        Ok(Self { tenant: tenant.map(value).transpose()?, ..self })
    }
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.token.clone());
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert(TENANT_HEADER, tenant.clone());
        }
        Ok(request)
    }
}

/// A connection to a gateway; clones share it.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    inner: gateway_client::GatewayClient<InterceptedService<Channel, Bearer>>,
}

impl GatewayClient {
    /// Connects; what is asked is asked of the token's tenant, or of the one that is named.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if nobody answers.
    pub async fn connect(connector: &Connector, token: &str, tenant: Option<&Tenant>) -> Result<Self> {
        let bearer = Bearer::new(token)?.looking_into(tenant)?;
        let channel = connector.channel().await?;
        let inner = gateway_client::GatewayClient::with_interceptor(channel, bearer).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { inner })
    }

    /// Opens a session; messages of `outbound` are sent as they come.
    ///
    /// # Errors
    ///
    /// What the gateway says.
    pub async fn attach(&mut self, outbound: Outbound<proto::DriverMessage>) -> Result<Inbound<proto::GatewayMessage>> {
        self.inner.attach(outbound).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// What a stored artifact offers, as JSON.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::NO_SUCH_ARTIFACT`] if it must be uploaded first.
    pub async fn describe(&mut self, digest: ArtifactDigest) -> Result<Bytes> {
        let request = proto::DescribeRequest { digest: Bytes::copy_from_slice(&digest.0) };
        self.inner.describe(request).await.map(|reply| reply.into_inner().info).map_err(|status| status::to_error(&status))
    }

    /// Uploads an artifact in chunks.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub async fn upload(&mut self, chunks: Outbound<proto::ArtifactChunk>) -> Result<Bytes> {
        self.inner.upload(chunks).await.map(|reply| reply.into_inner().info).map_err(|status| status::to_error(&status))
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// What the gateway says.
    pub async fn query(&mut self, query: Bytes) -> Result<Bytes> {
        let reply = self.inner.query(proto::QueryRequest { query }).await;
        reply.map(|reply| reply.into_inner().answer).map_err(|status| status::to_error(&status))
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// What the gateway says.
    pub async fn control(&mut self, order: Bytes, key: Bytes) -> Result<Bytes> {
        let reply = self.inner.control(proto::ControlRequest { order, key }).await;
        reply.map(|reply| reply.into_inner().answer).map_err(|status| status::to_error(&status))
    }

    /// Follows a job's output.
    ///
    /// # Errors
    ///
    /// What the gateway says.
    pub async fn logs(&mut self, request: proto::LogsRequest) -> Result<Inbound<proto::LogsChunk>> {
        self.inner.logs(request).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }

    /// Stores a value as an object.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub async fn put(&mut self, parts: Outbound<proto::PutPart>) -> Result<ObjectId> {
        let reply = self.inner.put(parts).await.map_err(|status| status::to_error(&status))?;
        convert::object(&reply.into_inner().object)
    }

    /// An object's value.
    ///
    /// # Errors
    ///
    /// What the gateway says.
    pub async fn get(&mut self, request: proto::GetRequest) -> Result<Inbound<proto::ObjectPart>> {
        self.inner.get(request).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }
}
