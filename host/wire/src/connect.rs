//! Dialling: a connection, encrypted or not, on which HTTP/2 is spoken, and errors that say what the other side is where it is not that.
//!
//! ```text
//! dial ─▶ TLS handshake, if any ─▶ HTTP/2's preface ─▶ first byte of the answer ─▶ the transport, which goes on from there
//! ```
//!
//! The preface is sent before the transport is there, because the transport keeps no errors but its own: what a server thinks of our
//! certificate, or that it speaks TLS and we do not, shows in the first bytes of its answer.

use std::{
    error, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rwasm_tls::ALERT_BYTE;
use rwasm_types::{Code, Error, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};

use crate::io::{CONNECTION_WINDOW_BYTES, DuplexDialler, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Pipe, STREAM_WINDOW_BYTES};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to say its first byte.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of the answer is read ahead at most: a few frames.
const AHEAD_BYTES: usize = 256;

/// How a client reaches a server.
#[derive(Clone, Debug)]
pub struct Connector {
    dial: Dial,
    tls: Option<rwasm_tls::Connector>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Dial {
    /// `host:port`, resolved at each attempt.
    Tcp(String),
    Memory(DuplexDialler),
    /// A stream that is open already, and what it leads to.
    Open(Arc<Mutex<Option<DuplexStream>>>, String),
}

impl From<DuplexDialler> for Connector {
    fn from(dialler: DuplexDialler) -> Self {
        Self { dial: Dial::Memory(dialler), tls: None, timeout: CONNECT_TIMEOUT }
    }
}

impl std::fmt::Display for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.dial {
            Dial::Tcp(address) => f.write_str(address),
            Dial::Memory(_) => f.write_str("the embedded cluster"),
            Dial::Open(_, what) => f.write_str(what),
        }
    }
}

impl Connector {
    /// Dials `host:port`.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self { dial: Dial::Tcp(address.into()), tls: None, timeout: CONNECT_TIMEOUT }
    }

    /// Uses a stream that is open already, once. `what` names for people where it leads.
    pub fn over(stream: DuplexStream, what: String) -> Self {
        Self { dial: Dial::Open(Arc::new(Mutex::new(Some(stream))), what), tls: None, timeout: CONNECT_TIMEOUT }
    }

    /// Makes encrypted connections.
    #[must_use]
    pub fn with_tls(self, tls: rwasm_tls::Connector) -> Self {
        Self { tls: Some(tls), ..self }
    }

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
        endpoint.connect_with_connector(connect).await.map_err(|error| match ours(&error) {
            Some(error) => error,
            None => self.unreachable(&error),
        })
    }

    async fn connect(&self) -> io::Result<Begun> {
        let (pipe, probe): (Pipe, bool) = match &self.dial {
            Dial::Tcp(address) => {
                let connect = TcpStream::connect(address);
                let stream = tokio::time::timeout(self.timeout, connect).await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
                stream.set_nodelay(true)?;
                (Box::new(stream), true)
            }
            Dial::Memory(dialler) => (Box::new(dialler.dial().await?), self.tls.is_some()),
            Dial::Open(stream, _) => (Box::new(stream.lock().take().ok_or(io::ErrorKind::NotConnected)?), true),
        };
        match &self.tls {
            Some(tls) => {
                let stream = tls.connect(pipe, &self.to_string()).await.map_err(io::Error::other)?;
                self.begin(Box::new(stream)).await
            }
            None if probe => self.begin(pipe).await,
            None => Ok(Begun { pipe, ahead: Vec::new(), taken: 0, said: 0 }),
        }
    }

    /// Says HTTP/2's preface and waits for the first bytes of the answer.
    async fn begin(&self, mut pipe: Pipe) -> io::Result<Begun> {
        let mut ahead = vec![0; AHEAD_BYTES];
        let exchange = async {
            pipe.write_all(PREFACE).await?;
            pipe.flush().await?;
            pipe.read(&mut ahead).await
        };
        let read = match tokio::time::timeout(FIRST_ANSWER_TIMEOUT, exchange).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) if self.tls.is_some() => {
                return Err(io::Error::other(rwasm_tls::Connector::explain(&error, &self.to_string())));
            }
            Ok(Err(error)) => {
                let lost = Error::new(Code::CONNECTION_LOST, format!("the connection ended: {error}"));
                return Err(io::Error::other(lost.hint("check that the address is rwasm's")));
            }
            Err(_) => {
                let mute = Error::new(Code::DEADLINE, format!("{self} takes connections and says nothing"));
                return Err(io::Error::other(mute.hint("check that the address is rwasm's, and that it is not stopped")));
            }
        };
        ahead.truncate(read);
        if self.tls.is_none() && ahead.first() == Some(&ALERT_BYTE) {
            return Err(io::Error::other(self.needs_tls()));
        }
        Ok(Begun { pipe, ahead, taken: 0, said: PREFACE.len() })
    }

    fn needs_tls(&self) -> Error {
        Error::new(Code::TLS_REQUIRED, format!("{self} speaks TLS only"))
            .hint("name the cluster's certificate authority with --ca or RWASM_CA, a file or a fingerprint")
            .with("address", self)
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Error {
        let mut cause: &dyn error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Error::new(Code::UNREACHABLE, format!("nobody answers at {self}: {cause}"))
            .hint("check the address, and that `rwasm start` ran there")
            .with("address", self)
    }
}

/// Our own error among the causes of another, where a connection could not be made.
pub(crate) fn ours(error: &(dyn error::Error + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(ours) = carried {
            return Some(ours.clone());
        }
        cause = error.source();
    }
    None
}

/// A connection whose preface was said and whose first answer was read already. The transport says the one, which is left out, and reads
/// the other.
struct Begun {
    pipe: Pipe,
    /// What was read, and how much of it the transport has taken.
    ahead: Vec<u8>,
    taken: usize,
    /// How much of what the transport says next was said before.
    said: usize,
}

impl AsyncRead for Begun {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.ahead.len() {
            let rest = &self.ahead[self.taken..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.taken += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.said > 0 && !buf.is_empty() {
            let count = self.said.min(buf.len());
            self.said -= count;
            return Poll::Ready(Ok(count));
        }
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.said > 0 {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
            return self.poll_write(cx, first);
        }
        Pin::new(&mut self.pipe).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
