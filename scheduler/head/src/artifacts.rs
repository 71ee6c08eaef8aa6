//! Artifacts of the whole cluster: what nodes have of them, their tags, and what is removed.
//!
//! Nodes have the bytes and know which of their jobs use them; the tags are the head's. An order goes to all nodes that are there, and the
//! answer says which were not.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use rwasm_journal::{Change, Table};
use rwasm_runtime::now_ms;
use rwasm_types::{
    ArtifactDigest, ArtifactName, Code, DigestPrefix, Error, Result, Tag,
    api::{ArtifactRecord, Ask, LIMIT_MAX, Listing, Order, Query, RemovedArtifact, TagRecord, UnixMs, artifact_in_use},
};
use rwasm_wire::msg;
use serde::{Deserialize, Serialize};

use crate::{
    ask::{from_all, json},
    orders::Once,
    state::Shared,
    stored,
};

/// Tags of a tenant.
const TAGS_MAX: usize = 10_000;

/// A tag in the journal, under `TENANT/TAG`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct StoredTag {
    digest: ArtifactDigest,
    set_ms: UnixMs,
}

fn key(tenant: &str, tag: &Tag) -> String {
    format!("{tenant}/{tag}")
}

impl Shared {
    /// A tenant's tags, in their order.
    fn tags_of(&self, tenant: &str) -> Result<Vec<TagRecord>> {
        let stored = stored::scan::<StoredTag>(&self.journal, Table::Tags, &format!("{tenant}/"))?;
        // What a later version writes may be no tag to this one.
        let record =
            |(tag, StoredTag { digest, set_ms }): (String, _)| Some(TagRecord { tag: tag.parse().ok()?, digest, set_ms, before: None });
        Ok(stored.into_iter().filter_map(record).collect())
    }

    /// The tags of a tenant.
    pub(crate) fn tags(&self, tenant: &str, limit: usize) -> Result<Listing<TagRecord>> {
        let mut rows = self.tags_of(tenant)?;
        let total = rows.len() as u64;
        rows.truncate(limit.min(LIMIT_MAX));
        Ok(Listing { rows, total, missing: Vec::new() })
    }

    /// Artifacts of the cluster, newest first; only those whose digest begins so.
    pub(crate) async fn artifacts(&self, question: &msg::Question, digest: Option<&DigestPrefix>) -> Result<Listing<ArtifactRecord>> {
        let ask = Ask::Query(Query::Artifacts { limit: LIMIT_MAX, digest: digest.cloned() });
        let all: Listing<ArtifactRecord> = from_all(self, &asking(question, &ask)?).await?;
        let mut tags: BTreeMap<ArtifactDigest, Vec<Tag>> = BTreeMap::new();
        for tag in self.tags_of(&question.tenant)? {
            tags.entry(tag.digest).or_default().push(tag.tag);
        }
        let mut rows = merged(all.rows);
        for row in &mut rows {
            row.tags = tags.remove(&row.digest).unwrap_or_default();
        }
        Ok(Listing { total: rows.len() as u64, rows, missing: all.missing })
    }

    /// One artifact, by its tag or digest.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_ARTIFACT`], or [`Code::AMBIGUOUS_DIGEST`] if the digits fit several.
    pub(crate) async fn artifact(&self, question: &msg::Question, name: &ArtifactName) -> Result<ArtifactRecord> {
        let prefix = match name {
            ArtifactName::Digest(prefix) => prefix.clone(),
            ArtifactName::Tag(tag) => self.tag_record(&question.tenant, tag)?.digest.into(),
        };
        let mut found = self.artifacts(question, Some(&prefix)).await?;
        match found.rows.len() {
            1 => Ok(found.rows.remove(0)),
            0 => Err(gone(name, &found.missing)),
            _ => {
                let fit: Vec<String> = found.rows.iter().take(3).map(|row| row.digest.to_string()).collect();
                Err(Error::new(Code::AMBIGUOUS_DIGEST, format!("`{name}` fits {} artifacts: {}, …", found.rows.len(), fit.join(", ")))
                    .hint("write more digits"))
            }
        }
    }

    fn tag_record(&self, tenant: &str, tag: &Tag) -> Result<TagRecord> {
        let found = self.tags_of(tenant)?.into_iter().find(|record| record.tag == *tag);
        found.ok_or_else(|| {
            Error::new(Code::NO_SUCH_ARTIFACT, format!("there is no tag {tag}")).hint("`rwasm artifact list` shows what there is")
        })
    }

    /// Gives an artifact a tag; answers with its record.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`] with too many tags; what finding the artifact or writing the journal says.
    pub(crate) async fn tag(&self, question: &msg::Question, tag: &Tag, name: &ArtifactName, once: &Once) -> Result<Bytes> {
        let digest = self.artifact(question, name).await?.digest;
        let tags = self.tags_of(&question.tenant)?;
        let before = tags.iter().find(|record| record.tag == *tag).map(|record| record.digest);
        if before.is_none() && tags.len() >= TAGS_MAX {
            return Err(Error::new(Code::LIMIT, format!("tenant {} has {TAGS_MAX} tags, which is the limit", question.tenant))
                .hint("remove some with `rwasm artifact rm TAG`"));
        }
        let stored = StoredTag { digest, set_ms: now_ms() };
        let record = TagRecord { tag: tag.clone(), digest, set_ms: stored.set_ms, before: before.filter(|before| *before != digest) };
        let answer = json(&record)?;
        let mut changes = once.remember(&answer)?;
        changes.push(stored::put(Table::Tags, key(&question.tenant, tag), &stored)?);
        self.journal.commit(changes).await?;
        tracing::info!(tenant = question.tenant, %tag, artifact = %digest.short(), "a tag was set");
        Ok(answer)
    }

    /// Removes a tag; answers with its record.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_ARTIFACT`] if there is none.
    pub(crate) async fn untag(&self, question: &msg::Question, tag: &Tag, once: &Once) -> Result<Bytes> {
        let answer = json(&self.tag_record(&question.tenant, tag)?)?;
        let mut changes = once.remember(&answer)?;
        changes.push(Change::Delete { table: Table::Tags, key: key(&question.tenant, tag) });
        self.journal.commit(changes).await?;
        tracing::info!(tenant = question.tenant, %tag, "a tag was removed");
        Ok(answer)
    }

    /// Removes an artifact from all nodes, and its tags.
    ///
    /// # Errors
    ///
    /// [`Code::ARTIFACT_IN_USE`] if a tag or a job holds it, unless `force`.
    pub(crate) async fn remove_artifact(
        &self,
        question: &msg::Question,
        prefix: &DigestPrefix,
        force: bool,
    ) -> Result<Listing<RemovedArtifact>> {
        let record = self.artifact(question, &ArtifactName::Digest(prefix.clone())).await?;
        let digest = record.digest;
        if !force && let Some(tag) = record.tags.first() {
            return Err(Error::new(Code::ARTIFACT_IN_USE, format!("artifact {} has the tag {tag}", digest.short()))
                .hint(format!("remove the tag with `rwasm artifact rm {tag}`, or both with --force"))
                .with("tag", tag));
        }
        if !force && let Some(job) = record.jobs.first() {
            return Err(artifact_in_use(digest, *job, record.jobs.len()));
        }
        let untag = |tag: &Tag| Change::Delete { table: Table::Tags, key: key(&question.tenant, tag) };
        self.journal.commit(record.tags.iter().map(untag).collect()).await?;
        from_all(self, &asking(question, &Ask::Order(Order::RemoveArtifact { artifact: digest.into(), force }))?).await
    }

    /// Removes from all nodes what no tag names and no job used for so long.
    ///
    /// # Errors
    ///
    /// What reading the tags says.
    pub(crate) async fn collect_artifacts(
        &self,
        question: &msg::Question,
        unused_for_ms: u64,
        dry_run: bool,
        keep: &[ArtifactDigest],
    ) -> Result<Listing<RemovedArtifact>> {
        let tagged = self.tags_of(&question.tenant)?.into_iter().map(|tag| tag.digest);
        let keep: HashSet<ArtifactDigest> = tagged.chain(keep.iter().copied()).collect();
        let order = Order::CollectArtifacts { unused_for_ms, dry_run, keep: keep.into_iter().collect() };
        from_all(self, &asking(question, &Ask::Order(order))?).await
    }
}

/// A question of the same tenant with something else to ask.
fn asking(question: &msg::Question, ask: &Ask) -> Result<msg::Question> {
    Ok(msg::Question { ask: json(ask)?, ..question.clone() })
}

/// Rows of several nodes: one for each artifact, newest first. It was stored when the first node had it.
fn merged(rows: Vec<ArtifactRecord>) -> Vec<ArtifactRecord> {
    let mut all: BTreeMap<ArtifactDigest, ArtifactRecord> = BTreeMap::new();
    for row in rows {
        let Some(known) = all.get_mut(&row.digest) else {
            all.insert(row.digest, row);
            continue;
        };
        known.stored_ms = known.stored_ms.min(row.stored_ms);
        known.used_ms = known.used_ms.max(row.used_ms);
        // Nodes of one machine share their compile cache.
        known.code_bytes = known.code_bytes.max(row.code_bytes);
        known.nodes.extend(row.nodes);
        known.jobs.extend(row.jobs);
    }
    let mut rows: Vec<ArtifactRecord> = all.into_values().collect();
    rows.iter_mut().for_each(|row| row.nodes.sort_unstable());
    rows.sort_by_key(|row| std::cmp::Reverse(row.stored_ms));
    rows
}

fn gone(name: &ArtifactName, missing: &[String]) -> Error {
    let message = match name {
        ArtifactName::Tag(tag) => format!("no node has the artifact that {tag} names"),
        ArtifactName::Digest(digest) => format!("no artifact {digest} is stored"),
    };
    let message = if missing.is_empty() { message } else { format!("{message}; {}", missing.join("; ")) };
    Error::new(Code::NO_SUCH_ARTIFACT, message).hint("`rwasm artifact list` shows what there is; submit the file to have it again")
}

#[cfg(test)]
mod tests {
    use rwasm_types::{NodeId, Tenant};

    use super::*;

    #[test]
    fn an_artifact_on_several_nodes_is_one_row() {
        let row = |byte: u8, node: u32, stored_ms, used_ms| ArtifactRecord {
            digest: ArtifactDigest([byte; 32]),
            tenant: Tenant::default(),
            size_bytes: 10,
            stored_ms,
            used_ms,
            code_bytes: 5,
            nodes: vec![NodeId::new(node).unwrap()],
            jobs: Vec::new(),
            tags: Vec::new(),
        };
        let rows = merged(vec![row(1, 2, 20, 30), row(2, 1, 15, 15), row(1, 1, 10, 20)]);
        assert_eq!(
            rows.iter().map(|row| (row.digest.0[0], row.stored_ms, row.used_ms, row.code_bytes)).collect::<Vec<_>>(),
            [(2, 15, 15, 5), (1, 10, 30, 5)]
        );
        assert_eq!(rows[1].nodes.iter().map(|node| node.get()).collect::<Vec<_>>(), [1, 2]);
    }
}
