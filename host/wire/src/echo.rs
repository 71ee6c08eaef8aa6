//! The bare transport: a stream that says back what it hears, so that benchmarks can tell what is ours and what is the network's.

use rwasm_types::Result;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    generated::{self as proto, echo_client, echo_server},
    io::Connector,
    status,
    stream::{Inbound, Outbound, Replies},
};

struct Echo;

/// Messages that may wait on their way back.
const QUEUE: usize = 64;

pub(crate) fn server() -> echo_server::EchoServer<impl echo_server::Echo> {
    echo_server::EchoServer::new(Echo)
}

#[tonic::async_trait]
impl echo_server::Echo for Echo {
    type EchoStream = Replies<proto::Payload>;

    async fn echo(&self, request: Request<tonic::Streaming<proto::Payload>>) -> Result<Response<Self::EchoStream>, Status> {
        let mut inbound = Inbound::new(request.into_inner());
        let (sender, outbound) = Outbound::channel(QUEUE);
        // It ends with its stream, and its stream with the server.
        let echo = async move {
            while let Ok(Some(payload)) = inbound.next().await {
                if sender.send(Ok(payload)).await.is_err() {
                    return;
                }
            }
        };
        tokio::task::spawn(echo);
        Ok(Response::new(Replies(outbound)))
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
