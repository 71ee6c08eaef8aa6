//! How long the past of other owners is kept: by age and size. A segment goes as a whole, the oldest of an owner first.

use std::fs;

use rwasm_types::{Code, Error, NodeId, Result, api::UnixMs, format_bytes};

use super::{Owner, Relaxed, Shipped, weight};
use crate::{
    index::Change,
    segment::{self, disk},
};

impl Owner {
    fn weight(&self) -> u64 {
        self.segments.values().map(|bytes| weight(*bytes)).sum()
    }

    /// The oldest segment, if it may go: an owner that is there goes on in its last one.
    fn oldest(&self, live: bool) -> Option<u64> {
        self.segments.keys().next().copied().filter(|_| !live || self.segments.len() > 1)
    }
}

impl Shipped {
    /// Removes what is too old, and forgets owners of which nothing is left. `live` says which owners are there.
    ///
    /// # Errors
    ///
    /// If the index or a file cannot be written.
    pub fn retain(&self, live: &dyn Fn(NodeId) -> bool, now_ms: UnixMs) -> Result<()> {
        let _writing = self.writing.lock();
        let known: Vec<NodeId> = self.owners.read().keys().copied().collect();
        for owner in known {
            while let Some(number) = self.oldest(owner, live).filter(|number| self.is_old(owner, *number, now_ms)) {
                self.remove(owner, number)?;
            }
            self.forget_old(owner, live(owner), now_ms)?;
        }
        self.reduce(0, live)
    }

    /// Has room for so many bytes more.
    pub(super) fn make_room(&self, added: u64, live: &dyn Fn(NodeId) -> bool) -> Result<()> {
        self.reduce(added, live)?;
        if self.weight.load(Relaxed).saturating_add(added) > self.retention.bytes {
            let limit = format_bytes(self.retention.bytes);
            return Err(Error::new(Code::HISTORY_CROWDED, format!("the history of nodes takes {limit} at the head, which is the limit"))
                .hint("give it more with --cluster-history-bytes"));
        }
        Ok(())
    }

    /// Removes segments of whoever has most, until there is room.
    fn reduce(&self, added: u64, live: &dyn Fn(NodeId) -> bool) -> Result<()> {
        while self.weight.load(Relaxed).saturating_add(added) > self.retention.bytes {
            let largest = {
                let owners = self.owners.read();
                let removable = owners.iter().filter_map(|(id, owner)| Some((owner.weight(), *id, owner.oldest(live(*id))?)));
                removable.max()
            };
            let Some((_, owner, number)) = largest else { break };
            self.remove(owner, number)?;
            self.forget_empty(owner)?;
        }
        Ok(())
    }

    fn oldest(&self, owner: NodeId, live: &dyn Fn(NodeId) -> bool) -> Option<u64> {
        self.owners.read().get(&owner)?.oldest(live(owner))
    }

    fn is_old(&self, owner: NodeId, number: u64, now_ms: UnixMs) -> bool {
        let path = segment::path(&self.dir_of(owner), number);
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let modified = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let age_ms = modified.map_or(0, |since| u128::from(now_ms).saturating_sub(since.as_millis()));
        age_ms > u128::from(self.retention.age_ms)
    }

    fn remove(&self, owner: NodeId, number: u64) -> Result<()> {
        self.index.forget(owner, number)?;
        let path = segment::path(&self.dir_of(owner), number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(&error, &path)),
            _ => {}
        }
        let gone = self.owners.write().get_mut(&owner).and_then(|owner| owner.segments.remove(&number));
        self.weight.fetch_sub(gone.map_or(0, weight), Relaxed);
        Ok(())
    }

    /// Forgets gaps that are older than what is kept, and then the owner if nothing is left of it.
    fn forget_old(&self, owner: NodeId, live: bool, now_ms: UnixMs) -> Result<()> {
        let Some(mut note) = self.owners.read().get(&owner).map(|owner| owner.note.clone()) else { return Ok(()) };
        let old = |ms: UnixMs| now_ms.saturating_sub(ms) > self.retention.age_ms;
        let (before, lost_ms) = (note.gaps.len(), note.lost.map(|lost| lost.at_ms));
        note.gaps.retain(|gap| !old(gap.to_ms));
        if note.gaps.len() < before {
            self.index.apply(&[note.change(owner)?], true)?;
        }
        let nothing = note.gaps.is_empty() && !live && old(note.heard_ms.max(lost_ms.unwrap_or(0)));
        if let Some(known) = self.owners.write().get_mut(&owner) {
            known.note = note;
        }
        if nothing { self.forget_empty(owner) } else { Ok(()) }
    }

    /// Forgets an owner of which no segment is left. If it comes back, it begins anew with what it still has.
    fn forget_empty(&self, owner: NodeId) -> Result<()> {
        if self.owners.read().get(&owner).is_some_and(|owner| owner.segments.is_empty()) {
            self.index.apply(&[Change::Owner { owner, note: None }], true)?;
            self.owners.write().remove(&owner);
            let dir = self.dir_of(owner);
            match fs::remove_dir(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(&error, &dir)),
                _ => {}
            }
        }
        Ok(())
    }
}
