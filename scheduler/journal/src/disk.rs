//! A disk for tests: it can be full, lose its power, and keep whichever writes it likes of those that were not synced.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use redb::{Builder, StorageBackend};

use crate::{Journal, Store};

#[derive(Clone, Debug)]
enum Write {
    At(u64, Vec<u8>),
    Length(u64),
}

fn apply(image: &mut Vec<u8>, write: &Write) {
    match write {
        Write::At(offset, bytes) => {
            let offset = usize::try_from(*offset).unwrap();
            image.resize(image.len().max(offset + bytes.len()), 0);
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Write::Length(length) => image.resize(usize::try_from(*length).unwrap(), 0),
    }
}

#[derive(Debug, Default)]
struct Platter {
    /// What programs see.
    seen: Vec<u8>,
    /// What is there after the power was lost, at least.
    durable: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Write>,
}

/// A disk. Clones are the same one.
#[derive(Clone, Debug)]
struct Disk {
    platter: Arc<Mutex<Platter>>,
    /// How many writes there is room for.
    room: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl Disk {
    /// A disk on which there is something already.
    fn of(image: Vec<u8>) -> Self {
        let platter = Platter { seen: image.clone(), durable: image, pending: Vec::new() };
        Self { platter: Arc::new(Mutex::new(platter)), room: Arc::new(AtomicU64::new(u64::MAX)), syncs: Arc::default() }
    }

    fn store(&self) -> Store {
        let disk = self.clone();
        Store::with("a disk", move || Builder::new().set_check_integrity_on_open(true).create_with_backend(disk.clone()))
    }

    fn open(&self) -> rwasm_types::Result<Journal> {
        Journal::of(self.store())
    }

    /// From now on so many writes succeed; all, if it is the most there can be.
    fn set_room(&self, writes: u64) {
        self.room.store(writes, Relaxed);
    }

    /// What may be on the disk if the power is lost now: what was synced, and of the rest what `keeps` likes.
    fn after_power_loss(&self, mut keeps: impl FnMut() -> bool) -> Vec<u8> {
        let platter = self.platter.lock();
        let mut image = platter.durable.clone();
        platter.pending.iter().filter(|_| keeps()).for_each(|write| apply(&mut image, write));
        image
    }

    fn write(&self, write: Write) -> io::Result<()> {
        let take = |room: u64| if room == u64::MAX { Some(room) } else { room.checked_sub(1) };
        self.room.fetch_update(Relaxed, Relaxed, take).map_err(|_| io::ErrorKind::StorageFull)?;
        let mut platter = self.platter.lock();
        apply(&mut platter.seen, &write);
        platter.pending.push(write);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter.lock();
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(platter.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.write(Write::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter.lock();
        platter.durable = platter.seen.clone();
        platter.pending.clear();
        self.syncs.fetch_add(1, Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(Write::At(offset, bytes.to_vec()))
    }
}

mod tests {
    use parking_lot::RwLock;
    use proptest::{prelude::*, test_runner::Config};
    use rwasm_types::Code;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::{Change, Request, Table, Writer};

    fn put(key: impl ToString, value: impl Into<Vec<u8>>) -> Change {
        Change::Put { table: Table::Nodes, key: key.to_string(), value: value.into() }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_refuses_changes_serves_reads_and_recovers_by_itself() {
        let disk = Disk::of(Vec::new());
        let journal = disk.open().unwrap();
        journal.commit(vec![put("before", "1"), put("changed", "1"), put("removed", "1")]).await.unwrap();
        disk.set_room(0);
        for _ in 0..3 {
            let changes = vec![put("changed", "2"), put("during", "2"), Change::Delete { table: Table::Nodes, key: "removed".to_owned() }];
            assert_eq!(journal.commit(changes).await.unwrap_err().code(), Code::JOURNAL_FULL);
            assert_eq!(journal.get(Table::Nodes, "before").unwrap().unwrap(), b"1");
            assert_eq!(journal.get(Table::Nodes, "changed").unwrap().unwrap(), b"1");
        }
        disk.set_room(u64::MAX);
        journal.commit(vec![put("after", "3")]).await.unwrap();
        let seen = journal.scan(Table::Nodes, "").unwrap();
        assert_eq!(seen.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["after", "before", "changed", "removed"]);
        drop(journal);
        assert_eq!(disk.open().unwrap().scan(Table::Nodes, "").unwrap(), seen);
    }

    #[tokio::test]
    async fn what_a_failed_commit_left_on_the_disk_is_taken_back() {
        let disk = Disk::of(Vec::new());
        let journal = disk.open().unwrap();
        journal.commit(vec![put("kept", "1"), put("removed", "1")]).await.unwrap();
        let other = Disk::of(disk.after_power_loss(|| true));
        // The same disk, as it is if the commit that follows reached it and the answer of the disk was lost.
        let reached = other.open().unwrap();
        reached
            .commit(vec![put("kept", "2"), put("new", "2"), Change::Delete { table: Table::Nodes, key: "removed".to_owned() }])
            .await
            .unwrap();
        drop(reached);
        disk.set_room(0);
        assert!(journal.commit(vec![put("kept", "2")]).await.is_err());
        *disk.platter.lock() = std::mem::take(&mut *other.platter.lock());
        disk.set_room(u64::MAX);
        journal.commit(vec![put("last", "3")]).await.unwrap();
        let seen = journal.scan(Table::Nodes, "").unwrap();
        drop(journal);
        let found = disk.open().unwrap().scan(Table::Nodes, "").unwrap();
        assert_eq!(found, seen);
        assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["kept", "last", "removed"]);
    }

    #[test]
    fn commits_that_wait_together_share_a_transaction() {
        let disk = Disk::of(Vec::new());
        let syncs_of = |commits: usize| {
            let mut store = disk.store();
            let view = Arc::new(RwLock::new(store.load().unwrap()));
            let (requests, waiting) = mpsc::channel(commits);
            let mut answers: Vec<_> = (0..commits)
                .map(|n| {
                    let (answer, answered) = oneshot::channel();
                    requests.try_send(Request { changes: vec![put(n, "x")], answer }).unwrap();
                    answered
                })
                .collect();
            drop(requests);
            let before = disk.syncs.load(Relaxed);
            let mut writer = Writer::new(store, Arc::clone(&view), waiting);
            writer.run();
            assert!(answers.iter_mut().all(|answered| answered.try_recv().unwrap().is_ok()));
            assert!((0..commits).all(|n| view.read().get(Table::Nodes, &n.to_string()).is_some()));
            disk.syncs.load(Relaxed) - before
        };
        assert_eq!(syncs_of(1), syncs_of(1000));
    }

    proptest! {
        #![proptest_config(Config { cases: 48, ..Config::default() })]

        #[test]
        fn what_was_acknowledged_survives_a_loss_of_power_and_the_rest_is_there_whole_or_not_at_all(
            commits in prop::collection::vec(prop::collection::vec((0_u8..20, prop::collection::vec(any::<u8>(), 0..3000)), 1..8), 1..12),
            room in 0_u64..60,
            seed in 1..=u64::MAX,
        ) {
            let disk = Disk::of(Vec::new());
            let journal = disk.open().unwrap();
            let mut coin = seed;
            let mut toss = move || {
                coin ^= coin << 13;
                coin ^= coin >> 7;
                coin ^= coin << 17;
                coin & 1 == 0
            };
            disk.set_room(room);
            for commit in commits {
                let mut next = journal.0.view.read().clone();
                let changes: Vec<_> = commit.into_iter().map(|(key, value)| put(key, value)).collect();
                changes.iter().cloned().for_each(|change| next.apply(change));
                let acknowledged = runtime().block_on(journal.commit(changes)).is_ok();
                let found = Disk::of(disk.after_power_loss(&mut toss)).store().load().unwrap();
                prop_assert!(found == next || !acknowledged && found == *journal.0.view.read());
                if !acknowledged {
                    break;
                }
            }
        }
    }
}
