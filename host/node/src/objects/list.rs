//! Objects as they are listed.

use std::collections::BTreeMap;

use bytes::Bytes;
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
        let (mut seen, mut total) = (Vec::new(), 0);
        {
            let directory = self.directory.lock();
            for row in directory.rows().filter(|row| row.tenant == tenant && !row.borrowed) {
                if seen.len() < limit {
                    seen.push(Seen::of(&row));
                }
                total += 1;
            }
        }
        Listing { rows: seen.into_iter().map(Seen::told).collect(), total, missing: Vec::new() }
    }

    /// One object of a tenant.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::NO_SUCH_OBJECT`].
    pub(crate) fn record(&self, tenant: &Tenant, id: ObjectId) -> Result<ObjectRecord> {
        let seen = self.directory.lock().row(id).filter(|row| row.tenant == tenant).map(|row| Seen::of(&row));
        seen.map(Seen::told).ok_or_else(|| not_found(id))
    }

    /// Ends a tenant's own hold of an object.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::NO_SUCH_OBJECT`].
    pub(crate) fn release(&self, tenant: &Tenant, id: ObjectId) -> Result<ObjectRecord> {
        let before = self.record(tenant, id)?;
        self.with(|directory| directory.unkeep(id));
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
                Holder::Task(task) | Holder::Attempt(task, _) | Holder::Result(task) => Some(task.job()),
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

/// A row as it is seen under the directory's lock. What takes time, to print its type and holders, is done after.
struct Seen {
    record: ObjectRecord,
    /// Of the object's type, if that is known.
    descriptor: Option<Bytes>,
    holders: Vec<Holder>,
}

impl Seen {
    fn of(row: &Row<'_>) -> Self {
        let (state, meta, error) = match row.state {
            State::Pending => (ObjectState::Pending, None, None),
            State::Ready(meta) => (ObjectState::Ready, Some(meta), None),
            State::Lost(error) => (ObjectState::Lost, None, Some(error.clone())),
        };
        let record = ObjectRecord {
            id: row.id,
            tenant: row.tenant.clone(),
            ty: String::new(),
            type_hash: String::new(),
            size_bytes: meta.map_or(0, |meta| meta.size),
            state,
            nodes: row.copies.iter().copied().collect(),
            held_by: Vec::new(),
            holders: row.holders.len() as u64,
            kept_until_ms: row.kept_until,
            error,
        };
        let descriptor = meta.map(|meta| meta.descriptor.clone());
        Self { record, descriptor, holders: row.holders.iter().copied().take(ObjectRecord::HELD_BY_MAX).collect() }
    }

    fn told(self) -> ObjectRecord {
        let Self { record, descriptor, holders } = self;
        let ty = descriptor.as_ref().and_then(|descriptor| Type::decode(descriptor).ok());
        ObjectRecord {
            ty: ty.as_ref().map(ToString::to_string).unwrap_or_default(),
            type_hash: descriptor.map(|descriptor| blake3::hash(&descriptor).to_string()).unwrap_or_default(),
            held_by: holders.iter().map(told).collect(),
            ..record
        }
    }
}

/// A holder, for people.
fn told(holder: &Holder) -> String {
    match holder {
        Holder::Job(job) => format!("job {job}"),
        Holder::Driver(number) => format!("driver {number}"),
        Holder::Task(task) => format!("task {task}"),
        Holder::Attempt(task, attempt) => format!("attempt {} of {task}", attempt.0),
        Holder::Result(task) => format!("result of {task}"),
        Holder::Object(object) => format!("object {object}"),
        Holder::Node(node) => format!("node {node}"),
        Holder::Kept => "tenant".to_owned(),
        Holder::Recovery => "recovery".to_owned(),
    }
}
