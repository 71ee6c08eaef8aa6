//! What this node's jobs leave, on its way to the head: what was written is said, and what is wanted is sent.
//!
//! The head asks for one batch at a time, so no more than that waits for the network, and whoever starts anew goes on where the head is.

use std::{sync::Arc, time::Duration};

use rwasm_history::{Position, ship::BATCH_BYTES_MAX};
use rwasm_runtime::{OnEnd, aside, fault, now_ms};
use rwasm_types::Result;
use rwasm_wire::{convert, msg};

use crate::node::Shared;

/// How long what was written may wait until it is said, so that much of it is said at once.
const SAY_WITHIN: Duration = Duration::from_millis(10);
/// How often a node that is about to end looks whether the head has everything, and how long it waits for that.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LAST_WITHIN: Duration = Duration::from_secs(1);

fn position(position: Position) -> Option<msg::HistoryPosition> {
    let Position { segment, offset } = position;
    Some(msg::HistoryPosition { segment, offset })
}

impl Shared {
    /// Tells the head up to where the past of jobs is written.
    pub(crate) fn say_written(&self) {
        let to = position(self.ledger.past().written());
        self.head.send(msg::node_message::Message::HistoryWritten(msg::HistoryWritten { to }));
    }

    /// Says what is written, whenever that changed, for as long as the node runs.
    pub(crate) async fn say_what_is_written(self: Arc<Self>) {
        loop {
            self.ledger.written().notified().await;
            self.say_written();
            tokio::time::sleep(SAY_WITHIN).await;
        }
    }

    /// The head says what it has, and what it wants next.
    ///
    /// # Errors
    ///
    /// If it does not follow the protocol.
    pub(crate) fn history_wanted(self: &Arc<Self>, wanted: &msg::HistoryWanted) -> Result<()> {
        let from = convert::required(wanted.from.as_ref(), "a place in the history")?;
        let from = Position { segment: from.segment, offset: from.offset };
        self.ledger.past().shipped(from);
        if let Some(error) = wanted.error.clone() {
            tracing::error!(error = %convert::any_error(error), "the head does not take what this node's jobs leave");
        }
        if wanted.bytes > 0 {
            fault::point("before-shipping");
            let bytes = usize::try_from(wanted.bytes).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX);
            let shared = Arc::clone(self);
            self.scope.spawn("ship", OnEnd::Continue, async move { shared.send_history(from, bytes).await });
        }
        Ok(())
    }

    async fn send_history(&self, from: Position, bytes: usize) {
        match aside(async { self.ledger.past().batch(from, bytes, now_ms()) }).await {
            Ok(batch) => {
                let batch = msg::HistoryBatch {
                    at: position(batch.at),
                    records: batch.records,
                    sealed: batch.sealed,
                    unreadable: batch.unreadable,
                };
                self.head.send(msg::node_message::Message::HistoryBatch(batch));
            }
            // The head asks again after a while.
            Err(error) => tracing::error!(%error, "what jobs left cannot be sent to the head"),
        }
    }

    /// Waits a moment for the head to have all that was written.
    pub(crate) async fn ship_the_last(&self) {
        let has_all = || self.ledger.past().shipped_all();
        let all = async {
            while !has_all() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        self.say_written();
        if tokio::time::timeout(LAST_WITHIN, all).await.is_err() {
            tracing::warn!("the head has not got all that this node's jobs leave; it asks again when the node is back");
        }
    }
}
