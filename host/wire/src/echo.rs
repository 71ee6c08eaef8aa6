//! The bare transport: a stream that says back what it hears, so that benchmarks can tell what is ours and what is the network's.

use rwasm_types::Result;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    connect::Connector,
    generated::{self as proto, echo_client, echo_server},
    status,
    stream::{Inbound, Outbound},
};

struct Echo;

pub(crate) fn server() -> echo_server::EchoServer<impl echo_server::Echo> {
    echo_server::EchoServer::new(Echo)
}

#[tonic::async_trait]
impl echo_server::Echo for Echo {
    // What comes in is what goes out: no task and no queue of ours in between.
    type EchoStream = tonic::Streaming<proto::Payload>;

    async fn echo(&self, request: Request<tonic::Streaming<proto::Payload>>) -> Result<Response<Self::EchoStream>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// A connection to an echo.
#[derive(Clone, Debug)]
pub struct EchoClient {
    inner: echo_client::EchoClient<Channel>,
}

impl EchoClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::UNREACHABLE`] if nobody answers.
    pub async fn connect(connector: &Connector) -> Result<Self> {
        Ok(Self { inner: echo_client::EchoClient::new(connector.channel().await?) })
    }

    /// Opens a stream that says back what `outbound` says.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn echo(&mut self, outbound: Outbound<proto::Payload>) -> Result<Inbound<proto::Payload>> {
        self.inner.echo(outbound).await.map(|reply| Inbound::new(reply.into_inner())).map_err(|status| status::to_error(&status))
    }
}
