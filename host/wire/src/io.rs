//! What messages travel over: TCP between processes, a pipe in memory inside one.
//!
//! Both give the same streams to the same code above; the embedded cluster differs from a real one in nothing but this file.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rwasm_types::{Code, Error, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::transport::{
    Channel, Endpoint,
    server::{Connected, TcpConnectInfo},
};

/// Buffer of an in-memory pipe, each way.
const DUPLEX_BYTES: usize = 1 << 20;
/// Connections of in-memory pipes that may wait to be taken.
const DUPLEX_BACKLOG: usize = 64;
/// Windows of HTTP/2: as much as keeps a loopback or a fast network busy, and what one peer can make the other hold.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection is probed, and how long it may not answer.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, whatever it is made of.
pub(crate) enum Pipe {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Connected for Pipe {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Tcp(stream) => stream.connect_info(),
            Self::Memory(_) => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

/// Where a server takes connections from.
#[derive(Debug)]
pub enum Listener {
    /// A bound TCP socket.
    Tcp(TcpListener),
    /// The listening end of an in-memory pipe.
    Memory(DuplexListener),
}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    ///
    /// [`Code::PORT_IN_USE`] or [`Code::IO`], naming the address.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::new(Code::PORT_IN_USE, format!("port {} of {} is already in use", address.port(), address.ip()))
                    .hint("choose another port, or stop what uses it")
                    .with("address", address))
            }
            Err(error) => Err(Error::new(Code::IO, format!("cannot listen on {address}: {error}"))),
        }
    }

    /// The bound address; `None` in memory.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Memory(_) => None,
        }
    }

    /// The next connection; `None` when there can be no more.
    pub(crate) async fn accept(&mut self) -> Option<io::Result<Pipe>> {
        match self {
            Self::Tcp(listener) => Some(listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Pipe::Tcp(stream))
            })),
            Self::Memory(listener) => listener.0.recv().await.map(|stream| Ok(Pipe::Memory(stream))),
        }
    }
}

/// The listening end of an in-memory pipe.
#[derive(Debug)]
pub struct DuplexListener(mpsc::Receiver<DuplexStream>);

/// How a client reaches a server.
#[derive(Clone, Debug)]
pub enum Connector {
    /// `host:port`, resolved at each attempt.
    Tcp(String),
    /// The other end of a [`DuplexListener`].
    Memory(mpsc::Sender<DuplexStream>),
}

/// Both ends of an in-memory network.
pub fn duplex() -> (Connector, DuplexListener) {
    let (sender, receiver) = mpsc::channel(DUPLEX_BACKLOG);
    (Connector::Memory(sender), DuplexListener(receiver))
}

impl std::fmt::Display for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Memory(_) => f.write_str("the embedded cluster"),
        }
    }
}

impl Connector {
    /// Opens a connection that later calls share.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_static("http://rwasm")
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let connector = self.clone();
        let connect = tower::service_fn(move |_uri| {
            let connector = connector.clone();
            async move { connector.connect().await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connect).await.map_err(|error| self.unreachable(&error))
    }

    fn connect(&self) -> impl Future<Output = io::Result<Pipe>> + Send + use<> {
        let connector = self.clone();
        async move {
            match connector {
                Self::Tcp(address) => {
                    let connect = TcpStream::connect(&address);
                    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
                    stream.set_nodelay(true)?;
                    Ok(Pipe::Tcp(stream))
                }
                Self::Memory(sender) => {
                    let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
                    sender.send(theirs).await.map_err(|_closed| io::ErrorKind::ConnectionRefused)?;
                    Ok(Pipe::Memory(ours))
                }
            }
        }
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Error {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Error::new(Code::UNREACHABLE, format!("nobody answers at {self}: {cause}"))
            .hint("check the address, and that `rwasm start` ran there")
            .with("address", self)
    }
}
