//! The bare transport between two processes: what any request costs before anything is done.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::Bytes;
use rwasm_runtime::Scope;
use rwasm_types::{Code, Error, Result};
use rwasm_wire::{Connector, EchoClient, Listener, Outbound, Server, msg};

use crate::{Setup, timing::Suite};

/// Messages of one pipelined batch.
const BATCH: usize = 1_000;

/// Serves an echo over gRPC, and a bare one over TCP on the next port that is free, until the scope ends. Gives both addresses.
///
/// # Errors
///
/// If nothing can be bound.
pub async fn echo_server(scope: &Scope) -> Result<String> {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await?;
    let address = listener.local_addr().ok_or_else(|| Error::internal("an echo has no address"))?;
    let until = scope.clone();
    scope.spawn("echo", rwasm_runtime::OnEnd::ShutDown, async move {
        let _ = Server::new().echo().serve(listener, async move { until.cancelled().await }).await;
    });
    let plain =
        std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| Error::new(Code::IO, format!("cannot bind an echo: {error}")))?;
    let plain_address = plain.local_addr().map_err(|error| Error::new(Code::IO, format!("an echo has no address: {error}")))?;
    std::thread::spawn(move || {
        for stream in plain.incoming().flatten() {
            std::thread::spawn(move || bare_echo(stream));
        }
    });
    Ok(format!("{address},{plain_address}"))
}

fn bare_echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

pub(crate) async fn rows(setup: &Setup, suite: &mut Suite<'_>) -> Result<()> {
    let (grpc, plain) = setup.echo.split_once(',').ok_or_else(|| Error::internal("an echo has two addresses"))?;
    let broken = |error: std::io::Error| Error::new(Code::CONNECTION_LOST, format!("the echo broke: {error}"));
    let mut stream = TcpStream::connect(plain).map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    suite.time("transport: TCP round trip", 1.0, || {
        let mut byte = [7];
        stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).map_err(broken)
    })?;
    let mut client = EchoClient::connect(&Connector::tcp(grpc)).await?;
    let (sender, outbound) = Outbound::channel(64);
    let inbound = tokio::sync::Mutex::new(client.echo(outbound).await?);
    let payload = || msg::Payload { bytes: Bytes::from_static(b"12345678") };
    let gone = || Error::new(Code::CONNECTION_LOST, "the echo is gone");
    suite
        .time_async("transport: stream round trip", 1.0, || async {
            sender.send(payload()).await.map_err(|_| gone())?;
            inbound.lock().await.next().await?.map(drop).ok_or_else(gone)
        })
        .await?;
    suite
        .time_async("transport: stream pipelined", BATCH as f64, || async {
            let send = async {
                for _ in 0..BATCH {
                    sender.send(payload()).await.map_err(|_| gone())?;
                }
                Ok(())
            };
            let receive = async {
                let mut inbound = inbound.lock().await;
                for _ in 0..BATCH {
                    inbound.next().await?.ok_or_else(gone)?;
                }
                Ok(())
            };
            tokio::try_join!(send, receive).map(drop)
        })
        .await
}
