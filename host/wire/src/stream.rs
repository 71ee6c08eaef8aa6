//! Message streams in both directions, with a limit on what waits.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use rwasm_types::{Error, Result};
use tokio::sync::mpsc;

use crate::status;

/// The sending end of an [`Outbound`]; waits where the other side reads too slowly.
pub type Sender<T> = mpsc::Sender<T>;

/// Messages that arrive.
pub struct Inbound<T> {
    stream: Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>,
}

impl<T> std::fmt::Debug for Inbound<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Inbound<T> {
    pub(crate) fn new(stream: tonic::Streaming<T>) -> Self {
        Self { stream: Box::pin(stream) }
    }

    /// The next message; `None` when the other side has finished.
    ///
    /// # Errors
    ///
    /// What the other side said, or that the connection broke.
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.stream.next().await.transpose().map_err(|status| status::to_error(&status))
    }
}

/// Messages that leave: handed to the transport, which drains it.
#[derive(Debug)]
pub struct Outbound<T> {
    receiver: mpsc::Receiver<T>,
}

impl<T> Outbound<T> {
    /// Both ends of a stream on which at most `capacity` messages wait.
    pub fn channel(capacity: usize) -> (Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self { receiver })
    }

    /// The next message, for tests and for streams that stay inside a process.
    pub async fn next(&mut self) -> Option<T> {
        self.receiver.recv().await
    }
}

/// What tonic's clients send.
impl<T> Stream for Outbound<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_recv(cx)
    }
}

/// What tonic's servers send.
pub(crate) struct Replies<T>(pub(crate) Outbound<Result<T, Error>>);

impl<T> Stream for Replies<T> {
    type Item = Result<T, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.receiver.poll_recv(cx).map(|item| item.map(|item| item.map_err(|error| status::from_error(&error))))
    }
}
