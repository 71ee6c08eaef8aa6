//! Who the cluster is, which life of its head this is, and which node has which number: written down before anybody is told.
//!
//! ```text
//! cluster/id        the cluster's id, made with the journal
//! cluster/head      the head's incarnation, one more at each start
//! cluster/numbers   numbers up to this one are not given again, whoever had them (after a restore)
//! nodes/NNNNNNNNNN  a node by its number: name, latest incarnation
//! ```

use parking_lot::Mutex;
use rwasm_journal::{CHANGES_MAX, Change, Journal, Snapshot, Table};
use rwasm_runtime::now_ms;
use rwasm_types::{Code, Error, Incarnation, LeaseId, Name, NodeId, Result, api::UnixMs};
use serde::{Deserialize, Serialize};

use crate::stored;

/// Nodes that are remembered, those that are gone included. Of more, the ones that joined first are forgotten; one that comes back all the
/// same keeps its number, but nobody knows any more which life of it was the last.
const NODES_KEPT: usize = 50_000;
/// How many more than that there may be before some are forgotten.
const NODES_SLACK: usize = 1_000;
/// How far numbers and incarnations go on after a restore: beyond all that was given since the backup was made.
const NODES_STEP: u32 = 10_000;
const INCARNATIONS_STEP: u64 = 1 << 32;

const ID: &str = "id";
const HEAD: &str = "head";
const NUMBERS: &str = "numbers";

#[derive(Debug, Serialize, Deserialize)]
struct IdRecord {
    id: String,
    made_ms: UnixMs,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeadRecord {
    incarnation: Incarnation,
}

#[derive(Debug, Serialize, Deserialize)]
struct NumbersRecord {
    last_node: u32,
}

/// A node as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeEntry {
    name: Name,
    incarnation: Incarnation,
    joined_ms: UnixMs,
}

/// Who wants to join.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The number it had before.
    pub(crate) node: Option<NodeId>,
    pub(crate) incarnation: Incarnation,
    pub(crate) name: Name,
}

/// Who may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) node: NodeId,
    /// When the cluster first saw it.
    pub(crate) joined_ms: UnixMs,
}

/// The numbers of a cluster.
pub(crate) struct Numbers {
    journal: Journal,
    cluster: String,
    incarnation: Incarnation,
    given: Mutex<Given>,
}

struct Given {
    /// The highest number that anybody has or had.
    last: u32,
    /// Nodes that are remembered.
    kept: usize,
}

impl Numbers {
    /// Begins another life of the head; with an empty journal, a cluster.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or holds what is not understood.
    pub(crate) async fn begin(journal: Journal) -> Result<Self> {
        let cluster = cluster(&journal).await?;
        let incarnation = stored::get::<HeadRecord>(&journal, Table::Cluster, HEAD)?.map_or(1, |known| known.incarnation.0 + 1);
        let head = HeadRecord { incarnation: Incarnation(incarnation) };
        let last = stored::get::<NumbersRecord>(&journal, Table::Cluster, NUMBERS)?.map_or(0, |known| known.last_node);
        let nodes = nodes(&journal)?;
        let last = nodes.last().map_or(last, |(node, _)| last.max(node.get()));
        journal.commit(vec![stored::put(Table::Cluster, HEAD.to_owned(), &head)?]).await?;
        let given = Mutex::new(Given { last, kept: nodes.len() });
        Ok(Self { journal, cluster, incarnation: head.incarnation, given })
    }

    /// The cluster's id.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Which life of the head this is.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Where this life numbers its leases from: owners keep those of earlier lives, for as long as their tasks run. Each life has 2^32 numbers,
    /// and their block is found again only after 2^24 lives, or 256 restores.
    pub(crate) fn first_lease(&self) -> LeaseId {
        let Incarnation(life) = self.incarnation;
        let (restores, lives) = (life / INCARNATIONS_STEP, life % (1 << 24));
        LeaseId((restores << 56 | lives << 32) + 1)
    }

    /// Gives a node its number: a new one, or the one it had. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Code::STALE_INCARNATION`] if a later life of the node has joined, [`Code::LIMIT`] if there are no numbers left, and what the
    /// journal says.
    pub(crate) async fn admit(&self, claim: Claim) -> Result<Admitted> {
        let Claim { node, incarnation, name } = claim;
        let node = match node {
            Some(node) => node,
            None => self.next()?,
        };
        let known = stored::get::<NodeEntry>(&self.journal, Table::Nodes, &key(node))?;
        let joined_ms = known.as_ref().map_or_else(now_ms, |known| known.joined_ms);
        let entry = NodeEntry { name, incarnation, joined_ms };
        match &known {
            Some(known) if known.incarnation > incarnation => return Err(stale(node, incarnation, known.incarnation)),
            // The same life again: nothing changes, so that it can join while nothing can be written.
            Some(known) if *known == entry => {}
            _ => self.write(node, &entry, known.is_none()).await?,
        }
        Ok(Admitted { node, joined_ms })
    }

    /// A number that nobody ever had. It is used up from now on, whether its node comes to join or not.
    fn next(&self) -> Result<NodeId> {
        let mut given = self.given.lock();
        let none_left = || Error::new(Code::LIMIT, "the cluster has no node numbers left");
        given.last = given.last.checked_add(1).ok_or_else(none_left)?;
        NodeId::new(given.last).ok_or_else(none_left)
    }

    async fn write(&self, node: NodeId, entry: &NodeEntry, new: bool) -> Result<()> {
        let forget = {
            let mut given = self.given.lock();
            // Given before the backup that this journal was restored from, or forgotten.
            given.last = given.last.max(node.get());
            given.kept += usize::from(new);
            given.kept > NODES_KEPT + NODES_SLACK
        };
        let mut changes = vec![stored::put(Table::Nodes, key(node), entry)?];
        if forget {
            changes.extend(self.forget(node)?);
        }
        self.journal.commit(changes).await
    }

    /// The changes that forget the nodes that joined first.
    fn forget(&self, but: NodeId) -> Result<Vec<Change>> {
        let mut nodes = nodes(&self.journal)?;
        let kept = nodes.len();
        // The highest number stays: it says where numbers go on.
        nodes.pop();
        nodes.sort_by_key(|(_, entry)| entry.joined_ms);
        let forgotten = nodes.iter().filter(|(node, _)| *node != but).take(kept.saturating_sub(NODES_KEPT).min(CHANGES_MAX / 2));
        let changes: Vec<Change> = forgotten.map(|(node, _)| Change::Delete { table: Table::Nodes, key: key(*node) }).collect();
        self.given.lock().kept = kept + 1 - changes.len();
        Ok(changes)
    }
}

/// The id of the cluster that a head's journal is of; one that is empty gets one.
///
/// # Errors
///
/// If the journal cannot be written, or holds what is not understood.
pub async fn cluster(journal: &Journal) -> Result<String> {
    if let Some(known) = stored::get::<IdRecord>(journal, Table::Cluster, ID)? {
        return Ok(known.id);
    }
    let id = IdRecord { id: new_id()?, made_ms: now_ms() };
    journal.commit(vec![stored::put(Table::Cluster, ID.to_owned(), &id)?]).await?;
    Ok(id.id)
}

/// Lets the numbers of a journal that was restored go on beyond all that was given since its backup: to nodes that joined, and to lives of
/// the head.
///
/// # Errors
///
/// If the journal cannot be written, or holds what is not understood.
pub async fn renumber(journal: &Journal) -> Result<()> {
    let last = stored::get::<NumbersRecord>(journal, Table::Cluster, NUMBERS)?.map_or(0, |known| known.last_node);
    let last = nodes(journal)?.last().map_or(last, |(node, _)| last.max(node.get()));
    let incarnation = stored::get::<HeadRecord>(journal, Table::Cluster, HEAD)?.map_or(0, |known| known.incarnation.0);
    let numbers = NumbersRecord { last_node: last.saturating_add(NODES_STEP) };
    let head = HeadRecord { incarnation: Incarnation(incarnation.saturating_add(INCARNATIONS_STEP)) };
    journal
        .commit(vec![stored::put(Table::Cluster, NUMBERS.to_owned(), &numbers)?, stored::put(Table::Cluster, HEAD.to_owned(), &head)?])
        .await
}

/// The id of the cluster that a journal is of, if it is of one.
///
/// # Errors
///
/// If it holds what is not understood.
pub fn cluster_of(journal: &Snapshot) -> Result<Option<String>> {
    journal.get(Table::Cluster, ID).map(|value| stored::read::<IdRecord>(Table::Cluster, ID, value).map(|known| known.id)).transpose()
}

/// A later life of a node has taken its place.
pub(crate) fn stale(node: NodeId, given: Incarnation, known: Incarnation) -> Error {
    let message = format!(
        "node {node} is in its life {known} by now, and this one is {given}: another process was started from the same \
                           state directory, or from a copy of it"
    );
    Error::new(Code::STALE_INCARNATION, message).hint("start this one with a state directory of its own")
}

/// Nodes that are remembered, in the order of their numbers. Other records may lie below a node's.
fn nodes(journal: &Journal) -> Result<Vec<(NodeId, NodeEntry)>> {
    let mut nodes = Vec::new();
    for (key, value) in journal.scan(Table::Nodes, "")? {
        if let Some(node) = key.parse().ok().and_then(NodeId::new) {
            nodes.push((node, stored::read(Table::Nodes, &key, &value)?));
        }
    }
    Ok(nodes)
}

/// Sorts as the number does.
fn key(node: NodeId) -> String {
    format!("{:010}", node.get())
}

fn new_id() -> Result<String> {
    let bytes = rwasm_runtime::random_bytes::<8>().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    Ok(format!("c{:016x}", u64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(node: Option<u32>, incarnation: u64) -> Claim {
        Claim { node: node.and_then(NodeId::new), incarnation: Incarnation(incarnation), name: Name::lossy("a") }
    }

    async fn admit(numbers: &Numbers, node: Option<u32>, incarnation: u64) -> Result<u32, Code> {
        numbers.admit(claim(node, incarnation)).await.map(|admitted| admitted.node.get()).map_err(|error| error.code())
    }

    #[tokio::test]
    async fn numbers_survive_the_head_and_are_given_once() {
        let journal = Journal::in_memory().unwrap();
        let first = Numbers::begin(journal.clone()).await.unwrap();
        assert_eq!(admit(&first, None, 5).await, Ok(1));
        assert_eq!(admit(&first, None, 6).await, Ok(2));
        let again = Numbers::begin(journal).await.unwrap();
        assert_eq!((again.cluster(), again.incarnation()), (first.cluster(), Incarnation(2)));
        assert_eq!(admit(&again, Some(1), 5).await, Ok(1));
        assert_eq!(admit(&again, Some(2), 7).await, Ok(2));
        assert_eq!(admit(&again, None, 1).await, Ok(3));
        // Given by this cluster, in a time that the journal does not know of.
        assert_eq!(admit(&again, Some(9), 1).await, Ok(9));
        assert_eq!(admit(&again, None, 1).await, Ok(10));
        assert_ne!(Numbers::begin(Journal::in_memory().unwrap()).await.unwrap().cluster(), first.cluster());
    }

    #[tokio::test]
    async fn an_earlier_life_of_a_node_is_fenced_by_a_later_one() {
        let journal = Journal::in_memory().unwrap();
        let numbers = Numbers::begin(journal.clone()).await.unwrap();
        assert_eq!(admit(&numbers, None, 5).await, Ok(1));
        assert_eq!(admit(&numbers, Some(1), 7).await, Ok(1));
        assert_eq!(admit(&numbers, Some(1), 6).await, Err(Code::STALE_INCARNATION));
        let again = Numbers::begin(journal).await.unwrap();
        assert_eq!(admit(&again, Some(1), 6).await, Err(Code::STALE_INCARNATION));
        assert_eq!(admit(&again, Some(1), 7).await, Ok(1));
    }

    #[tokio::test]
    async fn after_a_restore_numbers_go_on_beyond_what_the_backup_knew() {
        let journal = Journal::in_memory().unwrap();
        let before = Numbers::begin(journal.clone()).await.unwrap();
        assert_eq!(admit(&before, None, 1).await, Ok(1));
        renumber(&journal).await.unwrap();
        let after = Numbers::begin(journal.clone()).await.unwrap();
        assert!(after.incarnation() > before.incarnation());
        assert_eq!(admit(&after, None, 1).await, Ok(NODES_STEP + 2));
        assert_eq!(after.cluster(), before.cluster());
    }

    #[tokio::test]
    async fn nodes_that_joined_first_are_forgotten_first_and_no_number_is_given_again() {
        let journal = Journal::in_memory().unwrap();
        let entry = |n: usize| NodeEntry { name: Name::lossy("a"), incarnation: Incarnation(1), joined_ms: n as u64 };
        let all: Vec<Change> =
            (1..=NODES_KEPT + NODES_SLACK).map(|n| stored::put(Table::Nodes, format!("{n:010}"), &entry(n)).unwrap()).collect();
        for changes in all.chunks(CHANGES_MAX) {
            journal.commit(changes.to_vec()).await.unwrap();
        }
        let numbers = Numbers::begin(journal.clone()).await.unwrap();
        let next = u32::try_from(NODES_KEPT + NODES_SLACK + 1).unwrap();
        assert_eq!(admit(&numbers, None, 1).await, Ok(next));
        let left = nodes(&journal).unwrap();
        assert_eq!((left.len(), left[0].0.get() as usize, left.last().unwrap().0.get()), (NODES_KEPT + 1, NODES_SLACK + 1, next));
        assert_eq!(admit(&numbers, None, 1).await, Ok(next + 1));
        assert_eq!(admit(&numbers, Some(1), 1).await, Ok(1));
    }
}
