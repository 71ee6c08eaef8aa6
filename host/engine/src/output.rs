//! Where a guest's standard output and error go: counted against the task's limits, held back when the reader is slow.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rwasm_types::Stream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::limit::{Budget, Reached};

/// The most bytes handed over at once; what a guest can make the host hold beside its own copy.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Who takes a task's output. One per attempt.
pub trait Output: Send + Sync + 'static {
    /// Takes bytes. A guest never writes more at once than the last [`Output::poll_room`] allowed, except for lines of `log`, which cannot
    /// wait and of which the rest may be dropped.
    fn write(&self, stream: Stream, bytes: Bytes);

    /// How many bytes may be written now; pending while there is no room.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize>;
}

/// Takes output and forgets it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Output for Discard {
    fn write(&self, _stream: Stream, _bytes: Bytes) {}

    fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(CHUNK_BYTES_MAX)
    }
}

/// One of a guest's two outputs: the taker, and what is left of the limit.
#[derive(Clone)]
pub(crate) struct Pipe {
    output: Arc<dyn Output>,
    budget: Arc<Budget>,
    stream: Stream,
    written: Arc<AtomicU64>,
}

impl Pipe {
    pub(crate) fn new(output: &Arc<dyn Output>, budget: &Arc<Budget>, stream: Stream) -> Self {
        Self { output: Arc::clone(output), budget: Arc::clone(budget), stream, written: Arc::default() }
    }

    /// Passes on what the limit allows, and says so when it was not all.
    pub(crate) fn write(&self, mut bytes: Bytes) -> Result<(), Reached> {
        let (limit, reached) = match self.stream {
            Stream::Stdout => (self.budget.limits.stdout_bytes, Reached::Stdout { limit: self.budget.limits.stdout_bytes }),
            Stream::Stderr => (self.budget.limits.stderr_bytes, Reached::Stderr { limit: self.budget.limits.stderr_bytes }),
        };
        let before = self.written.fetch_add(bytes.len() as u64, Relaxed);
        let left = limit.saturating_sub(before);
        let over = bytes.len() as u64 > left;
        if over {
            bytes.truncate(left as usize);
        }
        if !bytes.is_empty() {
            self.output.write(self.stream, bytes);
        }
        if over { Err(reached) } else { Ok(()) }
    }

    /// Whether something may be written without waiting.
    pub(crate) fn has_room(&self) -> bool {
        matches!(self.poll_room(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(room) if room > 0)
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.output.poll_room(cx).map(|room| room.min(CHUNK_BYTES_MAX))
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_room(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Self::write(self, bytes).map_err(|reached| StreamError::Trap(reached.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.poll_room(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(room) => Ok(room),
            Poll::Pending => Ok(0),
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx)).min(bytes.len());
        match Self::write(&self, Bytes::copy_from_slice(&bytes[..room])) {
            Ok(()) => Poll::Ready(Ok(room)),
            Err(reached) => {
                // No trap can be raised from here: the guest gets an error, and is ended before it can do much with it.
                self.budget.trip(reached);
                Poll::Ready(Err(io::Error::other(reached)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
