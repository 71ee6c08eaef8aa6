//! The thread that writes: it takes all commits that wait, carries them out in one transaction, and answers them.
//!
//! After a failed write nobody knows what of it reached the disk. Readers go on with what was there before it, and before the next commit
//! the file is opened anew and made to agree with them.

use std::sync::Arc;

use parking_lot::RwLock;
use rwasm_types::{Code, Result};
use tokio::sync::{mpsc, oneshot};

use crate::{
    change::{Change, limit},
    file::Store,
    view::{JOURNAL_BYTES_MAX, View},
};

/// Bytes of keys and values that one transaction takes, if there is more than one commit in it: the larger, the longer the first waits.
const BATCH_BYTES: usize = 4 << 20;

/// A commit and whoever waits for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) changes: Vec<Change>,
    pub(crate) answer: oneshot::Sender<Result<()>>,
}

pub(crate) struct Writer {
    store: Store,
    view: Arc<RwLock<View>>,
    waiting: mpsc::Receiver<Request>,
    /// The last answer to a commit that was tried: what is said of it once.
    failing: Option<Code>,
}

impl Writer {
    pub(crate) fn new(store: Store, view: Arc<RwLock<View>>, waiting: mpsc::Receiver<Request>) -> Self {
        Self { store, view, waiting, failing: None }
    }

    /// Works until the last sender is gone.
    pub(crate) fn run(&mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let batch = self.batch(first);
            self.carry_out(batch);
        }
    }

    /// What waits by now, up to a size.
    fn batch(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = 0;
        let mut batch = vec![first];
        while bytes < BATCH_BYTES {
            let Ok(next) = self.waiting.try_recv() else { break };
            bytes += next.changes.iter().map(size).sum::<usize>();
            batch.push(next);
        }
        batch
    }

    fn carry_out(&mut self, batch: Vec<Request>) {
        let batch = self.within_limit(batch);
        if batch.is_empty() {
            return;
        }
        let changes: Vec<&Change> = batch.iter().flat_map(|request| &request.changes).collect();
        let outcome = self.store.write(&self.view, &changes);
        self.tell(&outcome);
        let (changes, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|request| (request.changes, request.answer)).unzip();
        if outcome.is_ok() {
            let mut view = self.view.write();
            changes.into_iter().flatten().for_each(|change| view.apply(change));
        }
        for answer in answers {
            // Whoever asked may have given up.
            let _ = answer.send(outcome.clone());
        }
    }

    /// Answers the commits that the journal has no room for, and returns the others. Removing is always allowed.
    fn within_limit(&self, batch: Vec<Request>) -> Vec<Request> {
        let mut bytes = self.view.read().bytes();
        let (fitting, refused): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| {
            let added: usize = request.changes.iter().filter(|change| matches!(change, Change::Put { .. })).map(size).sum();
            let fits = added == 0 || bytes + added <= JOURNAL_BYTES_MAX;
            // What is replaced or removed in the same batch counts until the next one.
            bytes += if fits { added } else { 0 };
            fits
        });
        for request in refused {
            let _ = request.answer.send(Err(limit(format!("the journal has no room within its limit of {JOURNAL_BYTES_MAX} bytes"))));
        }
        fitting
    }

    /// Says once that commits fail, and once that they succeed again.
    fn tell(&mut self, outcome: &Result<()>) {
        let failing = outcome.as_ref().err().map(rwasm_types::Error::code);
        if failing != self.failing {
            match outcome {
                Err(error) => tracing::error!(%error, "the journal cannot be written; what changes the cluster's state is refused"),
                Ok(()) => tracing::info!("the journal can be written again"),
            }
            self.failing = failing;
        }
    }
}

/// Bytes of a change's key and value.
fn size(change: &Change) -> usize {
    let (_, key) = change.place();
    key.len() + if let Change::Put { value, .. } = change { value.len() } else { 0 }
}
