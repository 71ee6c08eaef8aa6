//! Objects as they are listed.

use std::collections::BTreeMap;

use rwasm_objects::refs::{Holder, Row, State, not_found};
use rwasm_types::{
    JobId, ObjectId, Result, Tenant,
    api::{JobMemory, Listing, MemoryRecord, ObjectRecord, ObjectState, Tally},
};
use rwasm_values::Type;

use super::Objects;

impl Objects {
    /// Objects of a tenant that this node owns, in the order of their ids.
    pub(crate) fn list(&self, tenant: &Tenant, limit: usize) -> Listing<ObjectRecord> {
        let directory = self.directory.lock();
        let own = || directory.rows().filter(|row| row.tenant == tenant && !row.borrowed);
        Listing { rows: own().take(limit).map(|row| record(&row)).collect(), total: own().count() as u64, missing: Vec::new() }
    }

    /// One object of a tenant.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::NO_SUCH_OBJECT`].
    pub(crate) fn record(&self, tenant: &Tenant, id: ObjectId) -> Result<ObjectRecord> {
        let directory = self.directory.lock();
        directory.row(id).filter(|row| row.tenant == tenant).map(|row| record(&row)).ok_or_else(|| not_found(id))
    }

    /// Ends a tenant's own hold of an object.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::NO_SUCH_OBJECT`].
    pub(crate) fn release(&self, tenant: &Tenant, id: ObjectId) -> Result<ObjectRecord> {
        let before = self.record(tenant, id)?;
        self.with(|directory| directory.release(id, Holder::Kept));
        let mut after = self.record(tenant, id).unwrap_or_else(|_gone| ObjectRecord { held_by: Vec::new(), holders: 0, ..before });
        after.kept_until_ms = None;
        Ok(after)
    }

    /// What a tenant's objects take here.
    pub(crate) fn memory(&self, tenant: &Tenant) -> MemoryRecord {
        let usage = self.store.usage();
        let of = usage.tenants.get(tenant).copied().unwrap_or_default();
        let (mut inline, mut no_job, mut jobs) = (Tally::default(), Tally::default(), BTreeMap::<JobId, Tally>::new());
        let directory = self.directory.lock();
        for row in directory.rows().filter(|row| row.tenant == tenant && !row.borrowed) {
            let State::Ready(meta) = row.state else { continue };
            if meta.inline.is_some() {
                inline.add(meta.size);
            }
            let mut held_by_jobs = row.holders.iter().filter_map(|holder| match holder {
                Holder::Job(job) => Some(*job),
                Holder::Task(task) | Holder::Result(task) => Some(task.job()),
                _ => None,
            });
            match held_by_jobs.next() {
                None => no_job.add(meta.size),
                Some(first) => {
                    let all: std::collections::BTreeSet<JobId> = held_by_jobs.chain([first]).collect();
                    all.into_iter().for_each(|job| jobs.entry(job).or_default().add(meta.size));
                }
            }
        }
        MemoryRecord {
            node: self.node,
            tenant: tenant.clone(),
            capacity_bytes: usage.capacity_bytes,
            creating: of.creating,
            sealed: of.sealed,
            pinned: of.pinned,
            spilled: of.spilled,
            inline,
            jobs: jobs.into_iter().map(|(job, held)| JobMemory { job, held }).collect(),
            no_job,
        }
    }
}

fn record(row: &Row<'_>) -> ObjectRecord {
    let (state, meta, error) = match row.state {
        State::Pending => (ObjectState::Pending, None, None),
        State::Ready(meta) => (ObjectState::Ready, Some(meta), None),
        State::Lost(error) => (ObjectState::Lost, None, Some(error.clone())),
    };
    let ty = meta.and_then(|meta| Type::decode(&meta.descriptor).ok());
    ObjectRecord {
        id: row.id,
        tenant: row.tenant.clone(),
        ty: ty.as_ref().map(ToString::to_string).unwrap_or_default(),
        type_hash: ty.map(|ty| ty.hash().to_string()).unwrap_or_default(),
        size_bytes: meta.map_or(0, |meta| meta.size),
        state,
        nodes: row.copies.iter().copied().collect(),
        held_by: row.holders.iter().take(ObjectRecord::HELD_BY_MAX).map(told).collect(),
        holders: row.holders.len() as u64,
        kept_until_ms: row.kept_until,
        error,
    }
}

/// A holder, for people.
fn told(holder: &Holder) -> String {
    match holder {
        Holder::Job(job) => format!("job {job}"),
        Holder::Driver(number) => format!("driver {number}"),
        Holder::Task(task) => format!("task {task}"),
        Holder::Result(task) => format!("result of {task}"),
        Holder::Object(object) => format!("object {object}"),
        Holder::Node(node) => format!("node {node}"),
        Holder::Kept => "tenant".to_owned(),
        Holder::Recovery => "recovery".to_owned(),
    }
}
