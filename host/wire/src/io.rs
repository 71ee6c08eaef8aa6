//! What messages travel over: TCP between processes, encrypted or not, and a pipe in memory inside one.
//!
//! All give the same streams to the same code above; the embedded cluster differs from a real one in nothing but this file.

use std::{io, net::SocketAddr, time::Duration};

use rwasm_tls::Acceptor;
use rwasm_types::{Code, Error, NodeId, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpListener,
    sync::mpsc,
};

/// Buffer of an in-memory pipe, each way.
pub(crate) const DUPLEX_BYTES: usize = 1 << 20;
/// Connections of in-memory pipes that may wait to be taken.
const DUPLEX_BACKLOG: usize = 64;
/// Windows of HTTP/2: as much as keeps a loopback or a fast network busy, and what one peer can make the other hold.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often an idle connection is probed, and how long it may not answer.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes both ways, whatever carries them.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One connection, whatever it is made of.
pub(crate) type Pipe = Box<dyn Duplex>;

/// A connection that came in.
pub(crate) struct Incoming {
    pub(crate) pipe: Pipe,
    /// Where from; `None` inside a process.
    pub(crate) address: Option<SocketAddr>,
}

/// Where a server takes connections from.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    tls: Option<Acceptor>,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
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
            Ok(listener) => Ok(Self { source: Source::Tcp(listener), tls: None }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::new(Code::PORT_IN_USE, format!("port {} of {} is already in use", address.port(), address.ip()))
                    .hint("choose another port, or stop what uses it")
                    .with("address", address))
            }
            Err(error) => Err(Error::new(Code::IO, format!("cannot listen on {address}: {error}"))),
        }
    }

    /// The listening end of an in-memory pipe.
    pub fn memory(listener: DuplexListener) -> Self {
        Self { source: Source::Memory(listener), tls: None }
    }

    /// Takes encrypted connections only.
    #[must_use]
    pub fn with_tls(self, acceptor: Acceptor) -> Self {
        Self { tls: Some(acceptor), ..self }
    }

    /// The socket, for another protocol than ours; `None` in memory, or if it was to be encrypted.
    pub fn into_tcp(self) -> Option<TcpListener> {
        match (self.source, self.tls) {
            (Source::Tcp(listener), None) => Some(listener),
            _ => None,
        }
    }

    /// The bound address; `None` in memory.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Tcp(listener) => listener.local_addr().ok(),
            Source::Memory(_) => None,
        }
    }

    /// What makes its connections encrypted ones, if they are.
    pub(crate) fn tls(&self) -> Option<&Acceptor> {
        self.tls.as_ref()
    }

    /// The next connection, before its handshake; `None` when there can be no more.
    pub(crate) async fn accept(&mut self) -> Option<io::Result<Incoming>> {
        match &mut self.source {
            Source::Tcp(listener) => Some(listener.accept().await.and_then(|(stream, address)| {
                stream.set_nodelay(true)?;
                Ok(Incoming { pipe: Box::new(stream), address: Some(address) })
            })),
            Source::Memory(listener) => listener.0.recv().await.map(|stream| Ok(Incoming { pipe: Box::new(stream), address: None })),
        }
    }
}

/// Makes an incoming connection an encrypted one, and tells which node it proved to come from.
pub(crate) async fn encrypted(acceptor: &Acceptor, pipe: Pipe) -> Result<(Pipe, Option<NodeId>)> {
    let (stream, node) = acceptor.accept(pipe).await?;
    Ok((Box::new(stream), node))
}

/// The listening end of an in-memory pipe.
#[derive(Debug)]
pub struct DuplexListener(mpsc::Receiver<DuplexStream>);

/// The dialling end of an in-memory pipe. Clones dial the same listener.
#[derive(Clone, Debug)]
pub struct DuplexDialler(mpsc::Sender<DuplexStream>);

/// Both ends of an in-memory network.
pub fn duplex() -> (DuplexDialler, DuplexListener) {
    let (sender, receiver) = mpsc::channel(DUPLEX_BACKLOG);
    (DuplexDialler(sender), DuplexListener(receiver))
}

impl DuplexDialler {
    /// Hands a stream to the listener, whose other end is wherever it is.
    ///
    /// # Errors
    ///
    /// If the listener is gone.
    pub async fn hand_over(&self, stream: DuplexStream) -> io::Result<()> {
        self.0.send(stream).await.map_err(|_closed| io::ErrorKind::ConnectionRefused.into())
    }

    /// A new connection to the listener.
    pub(crate) async fn dial(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        self.hand_over(theirs).await.map(|()| ours)
    }
}
