//! The control state of a head: small records in tables, on stable storage before they take effect.
//!
//! ```text
//!   commit ─▶ queue ─▶ writer thread ─▶ one transaction for all that waits ─▶ fsync ─▶ view ─▶ answers
//!                                         DIR/journal.redb                              ▲
//!   get, scan ──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! All records are kept in memory as well, so reading never waits for a disk, and goes on while a full one refuses every change.
//! It knows nothing of what the records mean, and is no place for anything that grows with the number of tasks.

mod change;
mod fault;
mod file;
mod snapshot;
mod view;
mod writer;

#[cfg(test)]
mod disk;

use std::{path::Path, sync::Arc, thread};

use parking_lot::RwLock;
use rwasm_types::{Error, Result};
use tokio::sync::{mpsc, oneshot};

pub use self::{
    change::{CHANGES_MAX, Change, KEY_BYTES_MAX, Table, VALUE_BYTES_MAX},
    file::{FILE, FORMAT},
    snapshot::Snapshot,
    view::JOURNAL_BYTES_MAX,
};
use self::{
    file::Store,
    view::View,
    writer::{Request, Writer},
};

/// Commits that wait for the writer; further ones wait for room here.
const QUEUE: usize = 1024;

/// A journal that is open. Clones are the same journal; it is closed, and its file free for others, when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: Arc<RwLock<View>>,
    /// `None` only while it is being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Drop for Inner {
    /// Lets the writer end, and waits for it: for one commit at most, as there is nobody left to wait for another.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // One that panicked has said so.
            let _ = writer.join();
        }
    }
}

impl Journal {
    /// Opens the journal of a directory, which must exist; makes one if there is none. The whole file is checked.
    ///
    /// # Errors
    ///
    /// `STATE_LOCKED` if it is open elsewhere; `FOREIGN_JOURNAL`, `DAMAGED_JOURNAL`, `NEWER_STATE` if it is not one of ours, not whole, or
    /// of a later version; `JOURNAL_FULL` and `IO` if it cannot be read or made.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::of(Store::in_dir(dir))
    }

    /// A journal that ends with its last clone: that of the embedded cluster.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn in_memory() -> Result<Self> {
        Self::of(Store::in_memory())
    }

    fn of(mut store: Store) -> Result<Self> {
        let view = Arc::new(RwLock::new(store.load()?));
        let (requests, waiting) = mpsc::channel(QUEUE);
        let mut writer = Writer::new(store, Arc::clone(&view), waiting);
        // A thread of its own and no task of a scope: an fsync takes milliseconds, in which no thread of a runtime may be held up. It ends
        // with the last clone, which waits for it.
        let writer = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::internal(format!("the journal gets no thread: {error}")))?;
        Ok(Self(Arc::new(Inner { view, requests: Some(requests), writer: Some(writer) })))
    }

    /// A record, as of the last commit.
    ///
    /// # Errors
    ///
    /// None yet; a journal that reads from its disk would have some.
    pub fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.view.read().get(table, key).map(<[u8]>::to_vec))
    }

    /// The records whose keys begin with `prefix`, in the order of their keys, as of the last commit.
    ///
    /// # Errors
    ///
    /// None yet; a journal that reads from its disk would have some.
    pub fn scan(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.0.view.read().scan(table, prefix).map(|(key, value)| (key.to_owned(), value.to_vec())).collect())
    }

    /// Carries out all of `changes` or none, in their order. When it returns, they are on stable storage and readers see them. Commits that
    /// come at the same time share one write; they are carried out in the order in which they came.
    ///
    /// A commit whose future is dropped may be carried out all the same.
    ///
    /// # Errors
    ///
    /// `JOURNAL_FULL` if the disk is full, `IO` if it fails otherwise; readers do not see such a commit, and later ones succeed as soon as
    /// the disk can be written again. `LIMIT` for what is too large.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        change::check(&changes)?;
        let (answer, answered) = oneshot::channel();
        let ended = || Error::internal("the journal's writer ended");
        let requests = self.0.requests.as_ref().ok_or_else(ended)?;
        requests.send(Request { changes, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::Code;

    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { table: Table::Cluster, key: key.to_owned(), value: value.as_bytes().to_vec() }
    }

    fn delete(key: &str) -> Change {
        Change::Delete { table: Table::Cluster, key: key.to_owned() }
    }

    #[tokio::test]
    async fn what_was_committed_is_read() {
        let journal = Journal::in_memory().unwrap();
        journal.commit(vec![put("a/1", "x"), put("a/2", "y"), put("b/1", "z"), put("a/1", "w")]).await.unwrap();
        assert_eq!(journal.get(Table::Cluster, "a/1").unwrap().unwrap(), b"w");
        assert_eq!(journal.get(Table::Nodes, "a/1").unwrap(), None);
        let keys = |prefix| journal.scan(Table::Cluster, prefix).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys("a/"), ["a/1", "a/2"]);
        assert_eq!(keys(""), ["a/1", "a/2", "b/1"]);
        journal.commit(vec![delete("a/1"), delete("never"), put("a/3", "v"), delete("a/3")]).await.unwrap();
        assert_eq!(keys("a"), ["a/2"]);
        journal.commit(Vec::new()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_and_harms_nobody() {
        let journal = Journal::in_memory().unwrap();
        let large = |key: String, bytes| Change::Put { table: Table::Tags, key, value: vec![0; bytes] };
        for bad in [
            vec![put("", "x")],
            vec![delete(&"k".repeat(KEY_BYTES_MAX + 1))],
            vec![put("good", "x"), large("v".to_owned(), VALUE_BYTES_MAX + 1)],
            (0..=CHANGES_MAX).map(|_| put("k", "v")).collect(),
        ] {
            assert_eq!(journal.commit(bad).await.unwrap_err().code(), Code::LIMIT);
        }
        assert_eq!(journal.scan(Table::Cluster, "").unwrap(), []);
        let mut stored = 0;
        let full = loop {
            match journal.commit(vec![large(format!("{stored}"), VALUE_BYTES_MAX)]).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((full.code(), stored), (Code::LIMIT, JOURNAL_BYTES_MAX / (VALUE_BYTES_MAX + 2)));
        journal.commit(vec![Change::Delete { table: Table::Tags, key: "0".to_owned() }, put("small", "x")]).await.unwrap();
    }

    #[test]
    fn a_journal_is_shared_between_threads() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Journal>();
    }
}
