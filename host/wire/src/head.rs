//! The service that nodes join, as a trait to implement and a client to call.

use std::{future::Future, sync::Arc};

use rwasm_types::Result;
use tonic::{Request, Response, Status, codegen::InterceptedService, transport::Channel};

use crate::{
    MESSAGE_BYTES_MAX,
    connect::Connector,
    gateway::Bearer,
    generated::{self as proto, head_client, head_server},
    server::Caller,
    status,
    stream::{Inbound, Outbound, Replies},
};

/// What a head does for nodes.
pub trait HeadService: Send + Sync + 'static {
    /// A node's stream, from its join to its end.
    fn join(
        &self,
        caller: Caller,
        inbound: Inbound<proto::NodeMessage>,
    ) -> impl Future<Output = Result<Outbound<Result<proto::HeadMessage>>>> + Send;
}

struct Adapter<S>(Arc<S>);

pub(crate) fn server<S: HeadService>(service: Arc<S>) -> head_server::HeadServer<impl head_server::Head> {
    head_server::HeadServer::new(Adapter(service)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[tonic::async_trait]
impl<S: HeadService> head_server::Head for Adapter<S> {
    type JoinStream = Replies<proto::HeadMessage>;

    async fn join(&self, request: Request<tonic::Streaming<proto::NodeMessage>>) -> Result<Response<Self::JoinStream>, Status> {
        let caller = Caller::of(&request);
        let outbound = self.0.join(caller, Inbound::new(request.into_inner())).await;
        outbound.map(|outbound| Response::new(Replies(outbound))).map_err(|error| status::from_error(&error))
    }
}

/// A connection to a head.
#[derive(Clone, Debug)]
pub struct HeadClient {
    inner: head_client::HeadClient<InterceptedService<Channel, Bearer>>,
}

impl HeadClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::UNREACHABLE`] if nobody answers.
    pub async fn connect(connector: &Connector, token: &str) -> Result<Self> {
        let channel = connector.channel().await?;
        Ok(Self {
            inner: head_client::HeadClient::with_interceptor(channel, Bearer::new(token)?).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }

    /// Opens a node's stream.
    ///
    /// # Errors
    ///
    /// What the head says.
    pub async fn join(&mut self, outbound: Outbound<proto::NodeMessage>) -> Result<Inbound<proto::HeadMessage>> {
        self.inner.join(outbound).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }
}
