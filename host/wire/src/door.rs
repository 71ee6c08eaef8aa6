//! Who is let in: how many connections a server holds, and how long one may say nothing of use.
//!
//! ```text
//! accepted ── handshake ──▶ strange ── a request ──▶ heard ── an answer that is no refusal ──▶ known
//! ```
//!
//! A connection that is not known yet costs nothing to make, so there may be few of them, and when there are too many the oldest goes.
//! So whoever opens thousands of connections and says nothing takes no place from those that work, nor from those that come to work.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
    task::AtomicWaker,
};
use parking_lot::Mutex;
use rwasm_types::NodeId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::{
    codegen::{
        Service,
        http::{Request, Response},
    },
    transport::server::Connected,
};

use crate::io::{Incoming, Listener, Pipe, encrypted};

/// Connections that a server holds at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Of them, those that are not known yet.
const STRANGE_MAX: usize = 1024;
/// How long a connection may take to its first request, the handshake included.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const STRANGE: u8 = 0;
const HEARD: u8 = 1;
const KNOWN: u8 = 2;
const SHUT: u8 = 3;

/// What a server thinks of one connection.
#[derive(Debug)]
struct Door {
    state: AtomicU8,
    /// Wakes the connection when it is to end.
    reader: AtomicWaker,
}

impl Door {
    fn is(&self, state: u8) -> bool {
        self.state.load(Relaxed) == state
    }

    /// Goes on from one of the earlier states; one that is shut stays shut.
    fn advance(&self, to: u8) {
        let _ = self.state.fetch_update(Relaxed, Relaxed, |now| (now < to && now != SHUT).then_some(to));
    }

    fn shut(&self) {
        self.state.store(SHUT, Relaxed);
        self.reader.wake();
    }
}

/// What requests of a connection know of it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) address: Option<SocketAddr>,
    /// The node that it proved to come from.
    pub(crate) node: Option<NodeId>,
    pub(crate) encrypted: bool,
    door: Arc<Door>,
}

/// A connection that is served.
pub(crate) struct Served {
    pipe: Pipe,
    guest: Guest,
    /// When it has to have sent a request; gone when it has.
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Served {
    type ConnectInfo = Guest;

    fn connect_info(&self) -> Guest {
        self.guest.clone()
    }
}

impl Served {
    /// Why the connection has to end now, if it has to.
    fn ends(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let door = &self.guest.door;
        if !door.is(KNOWN) {
            door.reader.register(cx.waker());
        }
        if door.is(SHUT) {
            return Some(io::ErrorKind::ConnectionAborted.into());
        }
        if !door.is(STRANGE) {
            self.deadline = None;
        }
        let late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        late.then(|| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Served {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.ends(cx) {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Served {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
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

/// Connections that are not known yet, the oldest first.
#[derive(Default)]
struct Strangers(Mutex<VecDeque<Weak<Door>>>);

impl Strangers {
    /// Adds one; of too many, the oldest goes.
    fn add(&self, door: &Arc<Door>) {
        let mut waiting = self.0.lock();
        waiting.push_back(Arc::downgrade(door));
        if waiting.len() > STRANGE_MAX {
            waiting.retain(|door| door.upgrade().is_some_and(|door| !door.is(KNOWN) && !door.is(SHUT)));
            while waiting.len() > STRANGE_MAX {
                Self::shut_first(&mut waiting);
            }
        }
    }

    /// Makes room for one connection, if there is one that is not known.
    fn make_room(&self) {
        Self::shut_first(&mut self.0.lock());
    }

    fn shut_first(waiting: &mut VecDeque<Weak<Door>>) {
        while let Some(door) = waiting.pop_front() {
            if let Some(door) = door.upgrade().filter(|door| !door.is(KNOWN) && !door.is(SHUT)) {
                door.shut();
                return;
            }
        }
    }
}

/// The connections of a listener, after their handshakes.
pub(crate) fn incoming(listener: Listener) -> impl futures_util::Stream<Item = io::Result<Served>> {
    let hall = Hall {
        listener,
        arrived: None,
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        strangers: Strangers::default(),
        handshakes: FuturesUnordered::new(),
    };
    stream::unfold(hall, |mut hall| async move { hall.next().await.map(|served| (Ok(served), hall)) })
}

type Handshake = Pin<Box<dyn Future<Output = Option<Served>> + Send>>;

/// A listener and what is on its way in.
struct Hall {
    listener: Listener,
    /// Taken, and not counted yet.
    arrived: Option<Incoming>,
    permits: Arc<Semaphore>,
    strangers: Strangers,
    /// Bounded by [`STRANGE_MAX`]: the oldest stranger ends, and with it its handshake.
    handshakes: FuturesUnordered<Handshake>,
}

impl Hall {
    async fn next(&mut self) -> Option<Served> {
        loop {
            let Self { listener, arrived, permits, strangers, handshakes } = self;
            tokio::select! {
                Some(served) = handshakes.next() => {
                    if served.is_some() {
                        return served;
                    }
                }
                permit = take(listener, arrived, permits, strangers) => {
                    let (permit, incoming) = (permit?, self.arrived.take()?);
                    if let Some(served) = self.admit(incoming, permit) {
                        return Some(served);
                    }
                }
            }
        }
    }

    /// Lets a connection in at once, or begins its handshake.
    fn admit(&mut self, incoming: Incoming, permit: OwnedSemaphorePermit) -> Option<Served> {
        let Incoming { pipe, address } = incoming;
        // Whoever is in this process is no stranger.
        let state = if address.is_none() { KNOWN } else { STRANGE };
        let door = Arc::new(Door { state: AtomicU8::new(state), reader: AtomicWaker::new() });
        let deadline = (state == STRANGE).then(|| Box::pin(tokio::time::sleep(FIRST_REQUEST_TIMEOUT)));
        if state == STRANGE {
            self.strangers.add(&door);
        }
        let guest = Guest { address, node: None, encrypted: false, door };
        let Some(acceptor) = self.listener.tls().cloned() else {
            return Some(Served { pipe, guest, deadline, _permit: permit });
        };
        self.handshakes.push(Box::pin(async move {
            let shut = std::future::poll_fn(|cx| {
                guest.door.reader.register(cx.waker());
                if guest.door.is(SHUT) { Poll::Ready(()) } else { Poll::Pending }
            });
            let outcome = tokio::select! {
                outcome = encrypted(&acceptor, pipe) => outcome,
                () = shut => return None,
            };
            match outcome {
                Ok((pipe, node)) => Some(Served { pipe, guest: Guest { node, encrypted: true, ..guest }, deadline, _permit: permit }),
                Err(error) => {
                    // Told where somebody looks for it, and not to whoever can make a line of log with a byte.
                    tracing::debug!(?address, %error, "a connection was not let in");
                    None
                }
            }
        }));
        None
    }
}

/// Waits for a connection, and for room for it; `None` when there can be no more. It may be dropped at any time, and begun again.
async fn take(
    listener: &mut Listener,
    arrived: &mut Option<Incoming>,
    permits: &Arc<Semaphore>,
    strangers: &Strangers,
) -> Option<OwnedSemaphorePermit> {
    while arrived.is_none() {
        match listener.accept().await? {
            Ok(incoming) => {
                *arrived = Some(incoming);
                if permits.available_permits() == 0 {
                    strangers.make_room();
                }
            }
            // Out of descriptors, or the peer was gone before it was taken: neither ends the server.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                strangers.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The semaphore is never closed.
    Arc::clone(permits).acquire_owned().await.ok()
}

/// Watches requests and answers: what was heard of a connection decides whether it is one that works.
#[derive(Clone, Debug)]
pub(crate) struct Watched<S>(pub(crate) S);

impl<S, B, R> Service<Request<B>> for Watched<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let door = request.extensions().get::<Guest>().map(|guest| Arc::clone(&guest.door)).filter(|door| !door.is(KNOWN));
        let answered = self.0.call(request);
        let Some(door) = door else { return Box::pin(answered) };
        door.advance(HEARD);
        Box::pin(async move {
            let answer = answered.await?;
            if !is_refusal(&answer) {
                door.advance(KNOWN);
            }
            Ok(answer)
        })
    }
}

/// Whether an answer says that the caller may not ask.
fn is_refusal<R>(answer: &Response<R>) -> bool {
    let code = answer.headers().get("grpc-status").map(|code| tonic::Code::from_bytes(code.as_bytes()));
    matches!(code, Some(tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Arc<Door> {
        Arc::new(Door { state: AtomicU8::new(STRANGE), reader: AtomicWaker::new() })
    }

    #[test]
    fn of_too_many_strangers_the_oldest_goes_and_nobody_who_is_known() {
        let strangers = Strangers::default();
        let doors: Vec<_> = (0..STRANGE_MAX).map(|_| door()).collect();
        doors.iter().for_each(|door| strangers.add(door));
        doors[0].advance(HEARD);
        doors[0].advance(KNOWN);
        let late: Vec<_> = (0..3).map(|_| door()).collect();
        late.iter().for_each(|door| strangers.add(door));
        assert!(doors[0].is(KNOWN));
        // One place was that of the known one.
        assert!(doors[1].is(SHUT) && doors[2].is(SHUT) && doors[3].is(STRANGE) && late.iter().all(|door| door.is(STRANGE)));
        strangers.make_room();
        assert!(doors[3].is(SHUT));
        doors[3].advance(KNOWN);
        assert!(doors[3].is(SHUT), "what is shut stays shut");
    }
}
