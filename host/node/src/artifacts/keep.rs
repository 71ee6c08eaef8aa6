//! What a node's store keeps: artifacts by their last use, up to so many bytes, and never less than what is in use.
//!
//! Three things hold an artifact: a tag, which the head knows; a job of this node that has not ended; and tasks of another owner that
//! wait or run here. Whatever nothing holds may go: when somebody asks for it, or to make room for another.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_runtime::now_ms;
use rwasm_types::{
    ArtifactDigest, Code, DigestPrefix, Error, JobId, Result, Tenant,
    api::{ArtifactRecord, Ask, LIMIT_MAX, Listing, Query, RemovedArtifact, TagRecord, UnixMs},
    format_bytes,
};
use rwasm_values::ArtifactInfo;

use super::{Received, Stored};
use crate::node::Shared;

/// An artifact that was used so lately makes no room for others: its job may be about to be opened.
const FRESH_MS: u64 = 600_000;

/// An artifact of a tenant.
type Key = (Tenant, ArtifactDigest);

/// Artifacts that tasks of other owners use, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<HashMap<Key, usize>>>);

/// Holds an artifact as long as it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Held,
    key: Key,
}

impl Held {
    /// Holds an artifact.
    pub(crate) fn hold(&self, tenant: &Tenant, digest: ArtifactDigest) -> Hold {
        let key = (tenant.clone(), digest);
        *self.0.lock().entry(key.clone()).or_default() += 1;
        Hold { held: self.clone(), key }
    }

    fn keys(&self) -> HashSet<Key> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.held.0.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// What a node's own jobs say of an artifact.
#[derive(Debug, Default)]
struct Use {
    /// Those that have not ended.
    jobs: Vec<JobId>,
    /// When the last of the others ended.
    ended_ms: UnixMs,
}

impl Shared {
    /// Stores an artifact that arrived, and makes room for it if need be.
    ///
    /// # Errors
    ///
    /// [`Code::ARTIFACTS_FULL`] if all that is stored is in use; [`Code::DISK_FULL`] and others of the disk.
    pub(crate) async fn store(&self, received: Received) -> Result<ArtifactDigest> {
        let most = self.artifacts.bytes_max;
        let stored = self.artifacts.all(None);
        let total: u64 = stored.iter().map(|stored| stored.bytes).sum();
        if total + received.bytes > most {
            self.make_room(total + received.bytes - most, stored).await?;
        }
        self.artifacts.keep(received)
    }

    /// Removes what was not used for longest and nothing holds, until so many bytes are free.
    async fn make_room(&self, bytes: u64, mut stored: Vec<Stored>) -> Result<()> {
        let mut tagged = HashSet::new();
        let tenants: HashSet<Tenant> = stored.iter().map(|stored| stored.tenant.clone()).collect();
        for tenant in tenants {
            let tags = self.head.ask(&tenant, None, &Ask::Query(Query::Tags { limit: LIMIT_MAX }), bytes::Bytes::new()).await;
            let tags = tags.map_err(|error| error.context("no room can be made for an artifact, as nobody tells which have tags"))?;
            let tags: Listing<TagRecord> =
                serde_json::from_slice(&tags).map_err(|error| Error::internal(format!("tags are no list: {error}")))?;
            tagged.extend(tags.rows.into_iter().map(|tag| (tenant.clone(), tag.digest)));
        }
        let (used, held, now) = (self.used(), self.artifacts.held.keys(), now_ms());
        stored.retain(|stored| {
            let key = (stored.tenant.clone(), stored.digest);
            let in_use = used.get(&key).is_some_and(|used| !used.jobs.is_empty());
            !in_use && !held.contains(&key) && !tagged.contains(&key) && now.saturating_sub(stored.used_ms) > FRESH_MS
        });
        stored.sort_by_key(|stored| stored.used_ms);
        let mut freed = 0;
        for stored in stored {
            if freed >= bytes {
                break;
            }
            freed += self.remove_artifact(&stored.tenant, stored.digest)?.artifact_bytes;
            tracing::info!(tenant = %stored.tenant, artifact = %stored.digest.short(), "an artifact made room for another");
        }
        if freed >= bytes {
            return Ok(());
        }
        let message =
            format!("the artifacts of node {} have reached {}, and all are in use", self.id, format_bytes(self.artifacts.bytes_max));
        Err(Error::new(Code::ARTIFACTS_FULL, message)
            .hint("remove some with `rwasm artifact rm`, remove tags, or start the node with a larger --artifact-storage"))
    }

    /// What this node's own jobs use.
    fn used(&self) -> HashMap<Key, Use> {
        let mut all: HashMap<Key, Use> = HashMap::new();
        for job in self.jobs.read().values() {
            let record = job.record();
            for artifact in record.artifacts {
                let used = all.entry((record.tenant.clone(), artifact)).or_default();
                match record.ended_ms {
                    Some(ended_ms) => used.ended_ms = used.ended_ms.max(ended_ms),
                    None => used.jobs.push(record.id),
                }
            }
        }
        all
    }

    /// The tenant's artifacts on this node, newest first; only those whose digest begins so.
    pub(crate) fn list_artifacts(&self, tenant: &Tenant, only: Option<&DigestPrefix>, limit: usize) -> Listing<ArtifactRecord> {
        let (mut used, held) = (self.used(), self.artifacts.held.keys());
        let mut stored = self.artifacts.all(Some(tenant));
        stored.retain(|stored| only.is_none_or(|only| only.fits(&stored.digest)));
        stored.sort_by_key(|stored| (std::cmp::Reverse(stored.stored_ms), stored.digest));
        let total = stored.len() as u64;
        let rows = stored.into_iter().take(limit).map(|stored| {
            let key = (stored.tenant, stored.digest);
            let Use { mut jobs, ended_ms } = used.remove(&key).unwrap_or_default();
            jobs.sort_unstable();
            ArtifactRecord {
                digest: stored.digest,
                size_bytes: stored.bytes,
                stored_ms: stored.stored_ms,
                used_ms: if jobs.is_empty() && !held.contains(&key) { stored.used_ms.max(ended_ms) } else { now_ms() },
                code_bytes: self.engine.code_bytes(&key.0, stored.digest),
                nodes: vec![self.id],
                jobs,
                tags: Vec::new(),
                tenant: key.0,
            }
        });
        Listing { rows: rows.collect(), total, missing: Vec::new() }
    }

    /// Removes an artifact and its machine code from this node. What runs goes on.
    fn remove_artifact(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<RemovedArtifact> {
        let artifact_bytes = self.artifacts.remove(tenant, digest)?;
        let code_bytes = self.engine.remove(tenant, digest)?;
        Ok(RemovedArtifact { digest, node: self.id, artifact_bytes, code_bytes })
    }

    /// Removes an artifact as somebody asked; an empty list if it is not here.
    ///
    /// # Errors
    ///
    /// [`Code::ARTIFACT_IN_USE`] if a job that has not ended uses it, unless `force`.
    pub(crate) fn remove_if_unused(&self, tenant: &Tenant, digest: ArtifactDigest, force: bool) -> Result<Listing<RemovedArtifact>> {
        if !self.artifacts.contains(tenant, digest) {
            return Ok(Listing::default());
        }
        let jobs = self.used().remove(&(tenant.clone(), digest)).unwrap_or_default().jobs;
        if let Some(job) = jobs.first().filter(|_| !force) {
            return Err(rwasm_types::api::artifact_in_use(digest, *job, jobs.len()));
        }
        let removed = self.remove_artifact(tenant, digest)?;
        tracing::info!(%tenant, artifact = %digest.short(), force, "an artifact was removed");
        Ok(Listing { rows: vec![removed], total: 1, missing: Vec::new() })
    }

    /// Removes what was not used for so long, nothing uses, and is not among `keep`; or says what it would.
    pub(crate) fn collect_artifacts(
        &self,
        tenant: &Tenant,
        unused_for: Duration,
        dry_run: bool,
        keep: &[ArtifactDigest],
    ) -> Result<Listing<RemovedArtifact>> {
        let keep: HashSet<ArtifactDigest> = keep.iter().copied().collect();
        let before = now_ms().saturating_sub(u64::try_from(unused_for.as_millis()).unwrap_or(u64::MAX));
        let held = self.artifacts.held.keys();
        let mut rows = Vec::new();
        for row in self.list_artifacts(tenant, None, usize::MAX).rows {
            let in_use = !row.jobs.is_empty() || held.contains(&(tenant.clone(), row.digest));
            if in_use || keep.contains(&row.digest) || row.used_ms > before {
                continue;
            }
            rows.push(if dry_run {
                RemovedArtifact { digest: row.digest, node: self.id, artifact_bytes: row.size_bytes, code_bytes: row.code_bytes }
            } else {
                self.remove_artifact(tenant, row.digest)?
            });
        }
        tracing::info!(%tenant, artifacts = rows.len(), dry_run, "artifacts that nothing uses were collected");
        Ok(Listing { total: rows.len() as u64, rows, missing: Vec::new() })
    }

    /// What an artifact offers, if that is known; it counts as a use of it.
    pub(crate) fn use_artifact(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Arc<ArtifactInfo>> {
        let info = self.artifacts.info(tenant, digest)?;
        self.artifacts.touch(tenant, digest);
        Some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_twice_is_let_go_twice() {
        let held = Held::default();
        let (tenant, digest) = (Tenant::default(), ArtifactDigest([7; 32]));
        let (first, second) = (held.hold(&tenant, digest), held.hold(&tenant, digest));
        drop(first);
        assert!(held.keys().contains(&(tenant, digest)));
        drop(second);
        assert!(held.keys().is_empty());
    }
}
