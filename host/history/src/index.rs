//! Where each job of the past stands, by tenant and owner, in a file and not in memory.
//!
//! Everything in it was read from segments, and can be again: it is written without waiting for the disk, and says up to where it has
//! read each owner's segments. What is missing after a crash is read anew; an index that cannot be read is made anew.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use rwasm_types::{
    Code, Error, JobId, JobState, NodeId, Result, SessionId, TaskState, Tenant,
    api::{JobRecord, TaskCounts},
};

use crate::segment::Position;

/// What this version writes; an index of another is made anew.
const FORMAT: u64 = 1;
/// Memory that the index may use for what was read and what is to be written, in bytes.
const CACHE_BYTES: usize = 16 << 20;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// tenant, 0, owner, session → [`Entry`].
const JOBS: Table = TableDefinition::new("jobs");
/// owner, segment, session → tenant: what is forgotten with a segment.
const SEGMENTS: Table = TableDefinition::new("segments");
/// owner, session → tenant: jobs that began and have not ended.
const OPEN: Table = TableDefinition::new("open");
/// tenant, 0, owner, state → how many jobs; with [`TASKS`] instead of a state, how many tasks of each final state.
const SUMS: Table = TableDefinition::new("sums");
/// owner → up to where its segments were read.
const READ: Table = TableDefinition::new("read");
/// owner → what the head notes of an owner whose segments it has, as JSON.
const OWNERS: Table = TableDefinition::new("owners");
/// `format`.
const META: Table = TableDefinition::new("meta");
const TASKS: u8 = 255;

/// A job in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub state: JobState,
    /// The record that says most of it.
    pub at: Position,
    /// Its tasks that ended, by state; none before the job has ended.
    pub tasks: [u64; 3],
}

/// How many jobs there are, and how many of their tasks have ended, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// In the order of [`JobState::ALL`].
    jobs: [u64; JobState::ALL.len()],
    tasks: [u64; 3],
}

impl Totals {
    /// Jobs in a state, all without one.
    pub fn jobs(&self, state: Option<JobState>) -> u64 {
        let wanted = |known: JobState| state.is_none_or(|state| state == known);
        self.jobs.iter().zip(JobState::ALL).filter(|(_, known)| wanted(*known)).map(|(count, _)| count).sum()
    }

    /// Tasks in a state, all without one; those that have not ended are in none.
    pub fn tasks(&self, state: Option<TaskState>) -> u64 {
        tasks_in(self.tasks, state)
    }

    /// All tasks that have ended.
    pub fn ended_tasks(&self) -> TaskCounts {
        let [succeeded, failed, cancelled] = self.tasks;
        TaskCounts { succeeded, failed, cancelled, ..TaskCounts::default() }
    }

    fn leave_out(&mut self, entry: Entry) {
        if let Some(count) = self.jobs.get_mut(usize::from(state_code(entry.state))) {
            *count = count.saturating_sub(1);
        }
        self.tasks.iter_mut().zip(entry.tasks).for_each(|(sum, by)| *sum = sum.saturating_sub(by));
    }
}

/// What changes in the index with one record.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A job began, in this record.
    Began { tenant: Tenant, job: JobId, at: Position },
    /// A job ended, in this record; what belongs to it begins in segment `first`.
    Ended { tenant: Tenant, job: JobId, state: JobState, tasks: TaskCounts, at: Position, first: u64 },
    /// The owner's segments were read up to here.
    Read { owner: NodeId, to: Position },
    /// What is noted of an owner changed; nothing is noted any more without.
    Owner { owner: NodeId, note: Option<Vec<u8>> },
}

/// The index of one directory.
#[derive(Debug)]
pub struct Index {
    db: Database,
    path: PathBuf,
}

impl Entry {
    fn to_bytes(self) -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[0] = state_code(self.state);
        let numbers = [self.at.segment, self.at.offset, self.tasks[0], self.tasks[1], self.tasks[2]];
        for (place, number) in bytes[1..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let state = *JobState::ALL.get(usize::from(*bytes.first()?))?;
        let mut numbers = bytes.get(1..41)?.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_be_bytes).unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Some(Self { state, at: Position { segment: next(), offset: next() }, tasks: [next(), next(), next()] })
    }
}

fn state_code(state: JobState) -> u8 {
    JobState::ALL.iter().position(|known| *known == state).unwrap_or_default() as u8
}

fn prefix(tenant: &Tenant, owner: Option<NodeId>) -> Vec<u8> {
    let mut key = tenant.as_str().as_bytes().to_vec();
    key.push(0);
    if let Some(owner) = owner {
        key.extend_from_slice(&owner.get().to_be_bytes());
    }
    key
}

fn job_key(tenant: &Tenant, job: JobId) -> Vec<u8> {
    let mut key = prefix(tenant, Some(job.owner));
    key.extend_from_slice(&job.session.to_be_bytes());
    key
}

fn sum_key(tenant: &Tenant, owner: NodeId, what: u8) -> Vec<u8> {
    let mut key = prefix(tenant, Some(owner));
    key.push(what);
    key
}

fn open_key(job: JobId) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&job.owner.get().to_be_bytes());
    key[4..].copy_from_slice(&job.session.to_be_bytes());
    key
}

fn segment_key(owner: NodeId, segment: u64, session: SessionId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&owner.get().to_be_bytes());
    key[4..12].copy_from_slice(&segment.to_be_bytes());
    key[12..].copy_from_slice(&session.to_be_bytes());
    key
}

/// The last four bytes of a key, as a number.
fn session_of(key: &[u8]) -> SessionId {
    key.last_chunk().map_or(0, |bytes| SessionId::from_be_bytes(*bytes))
}

fn tenant_of(bytes: &[u8]) -> Option<Tenant> {
    Tenant::new(std::str::from_utf8(bytes).ok()?).ok()
}

impl Index {
    /// Opens an index; makes it if it is not there, cannot be read, or is of another version.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        match Self::try_open(path) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the index of the history is made anew");
                // One that cannot be removed cannot be made anew either.
                let _ = std::fs::remove_file(path);
                Self::try_open(path)
            }
        }
    }

    fn try_open(path: &Path) -> Result<Self> {
        let bad = |error: redb::Error| Error::new(Code::IO, format!("cannot use {}: {error}", path.display()));
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| bad(error.into()))?;
        let index = Self { db, path: path.to_owned() };
        let format = index.write(true, |write| {
            for table in [JOBS, SEGMENTS, OPEN, SUMS, READ, OWNERS] {
                write.open_table(table)?;
            }
            let mut meta = write.open_table(META)?;
            let known = meta.get(&b"format"[..])?.map(|format| format.value().to_vec());
            if known.is_none() {
                meta.insert(&b"format"[..], &FORMAT.to_be_bytes()[..])?;
            }
            Ok(known)
        })?;
        match format {
            Some(format) if format != FORMAT.to_be_bytes() => {
                Err(Error::new(Code::HISTORY_NEWER, format!("{} is of another version", path.display())))
            }
            _ => Ok(index),
        }
    }

    fn bad(&self, error: &redb::Error) -> Error {
        Error::new(Code::IO, format!("cannot use {}: {error}", self.path.display()))
    }

    fn write<T>(&self, durable: bool, change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        let write = || {
            let mut write = self.db.begin_write()?;
            write.set_durability(if durable { Durability::Immediate } else { Durability::None }).map_err(redb::Error::from)?;
            // So that opening after a crash does not read all of it.
            write.set_quick_repair(durable);
            let done = change(&write)?;
            write.commit()?;
            Ok(done)
        };
        write().map_err(|error: redb::Error| self.bad(&error))
    }

    fn read<T>(&self, table: Table, read: impl FnOnce(&dyn Reading) -> Result<T, redb::Error>) -> Result<T> {
        let opened = || {
            let transaction = self.db.begin_read()?;
            read(&transaction.open_table(table)?)
        };
        opened().map_err(|error: redb::Error| self.bad(&error))
    }

    /// Takes changes together; on stable storage when it returns, if they are to be durable.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(crate) fn apply(&self, changes: &[Change], durable: bool) -> Result<()> {
        self.write(durable, |write| {
            let mut tables = Tables {
                jobs: write.open_table(JOBS)?,
                segments: write.open_table(SEGMENTS)?,
                open: write.open_table(OPEN)?,
                sums: write.open_table(SUMS)?,
            };
            let (mut read, mut owners) = (write.open_table(READ)?, write.open_table(OWNERS)?);
            for change in changes {
                match change {
                    Change::Began { tenant, job, at } => {
                        let entry = Entry { state: JobState::Running, at: *at, tasks: [0; 3] };
                        tables.put(tenant, *job, entry, at.segment)?;
                        tables.open.insert(&open_key(*job)[..], tenant.as_str().as_bytes())?;
                    }
                    Change::Ended { tenant, job, state, tasks, at, first } => {
                        let entry = Entry { state: *state, at: *at, tasks: [tasks.succeeded, tasks.failed, tasks.cancelled] };
                        tables.put(tenant, *job, entry, *first)?;
                        tables.open.remove(&open_key(*job)[..])?;
                    }
                    Change::Read { owner, to } => {
                        let mut value = to.segment.to_be_bytes().to_vec();
                        value.extend_from_slice(&to.offset.to_be_bytes());
                        read.insert(&owner.get().to_be_bytes()[..], &value[..])?;
                    }
                    Change::Owner { owner, note: Some(note) } => {
                        owners.insert(&owner.get().to_be_bytes()[..], &note[..])?;
                    }
                    Change::Owner { owner, note: None } => {
                        owners.remove(&owner.get().to_be_bytes()[..])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Up to where an owner's segments were read.
    pub(crate) fn read_to(&self, owner: NodeId) -> Result<Position> {
        let value = self.read(READ, |table| table.one(&owner.get().to_be_bytes()))?;
        let number = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(value.map_or_else(Position::default, |value| Position { segment: number(value.get(..8)), offset: number(value.get(8..16)) }))
    }

    /// What is noted of each owner.
    pub(crate) fn owners(&self) -> Result<Vec<(NodeId, Vec<u8>)>> {
        let mut owners = Vec::new();
        self.read(OWNERS, |table| {
            table.newest(&[], &mut |key, value| {
                let owner = key.first_chunk().and_then(|bytes| NodeId::new(u32::from_be_bytes(*bytes)));
                owners.extend(owner.map(|owner| (owner, value.to_vec())));
                true
            })
        })?;
        Ok(owners)
    }

    /// A job of a tenant.
    ///
    /// # Errors
    ///
    /// If the index cannot be read; so for all others.
    pub fn job(&self, tenant: &Tenant, job: JobId) -> Result<Option<Entry>> {
        Ok(self.read(JOBS, |table| table.one(&job_key(tenant, job)))?.and_then(|value| Entry::read(&value)))
    }

    /// A tenant's jobs at an owner, newest first, as long as `more` says so.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn newest(&self, tenant: &Tenant, owner: NodeId, more: impl FnMut(JobId, Entry) -> bool) -> Result<()> {
        self.newest_before(tenant, owner, None, more)
    }

    /// The same, of those before a job.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub(crate) fn newest_before(
        &self,
        tenant: &Tenant,
        owner: NodeId,
        before: Option<SessionId>,
        mut more: impl FnMut(JobId, Entry) -> bool,
    ) -> Result<()> {
        let begin = prefix(tenant, Some(owner));
        let end = before.map(|session| job_key(tenant, JobId { owner, session }));
        self.read(JOBS, |table| {
            table.between(&begin, end.as_deref(), &mut |key, value| {
                Entry::read(value).is_none_or(|entry| more(JobId { owner, session: session_of(key) }, entry))
            })
        })
    }

    /// How many of a tenant's jobs at an owner there are, and tasks of them, without some of the jobs.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn totals(&self, tenant: &Tenant, owner: NodeId, but: &HashSet<JobId>) -> Result<Totals> {
        // As of one moment: a job that ends meanwhile is in the sums as it is in its entry.
        let read = || {
            let transaction = self.db.begin_read()?;
            let (jobs, sums) = (transaction.open_table(JOBS)?, transaction.open_table(SUMS)?);
            let sum = |what: u8| Ok::<_, redb::Error>(sums.one(&sum_key(tenant, owner, what))?.map_or([0; 3], |value| read_sum(&value)));
            let mut totals = Totals { tasks: sum(TASKS)?, ..Totals::default() };
            for (code, count) in (0..).zip(&mut totals.jobs) {
                *count = sum(code)?[0];
            }
            for job in but {
                if let Some(entry) = jobs.one(&job_key(tenant, *job))?.and_then(|value| Entry::read(&value)) {
                    totals.leave_out(entry);
                }
            }
            Ok(totals)
        };
        read().map_err(|error: redb::Error| self.bad(&error))
    }

    /// Jobs of an owner that began and have not ended.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn open_jobs(&self, owner: NodeId) -> Result<Vec<(Tenant, JobId)>> {
        let mut jobs = Vec::new();
        self.read(OPEN, |table| {
            table.newest(&owner.get().to_be_bytes(), &mut |key, value| {
                jobs.extend(tenant_of(value).map(|tenant| (tenant, JobId { owner, session: session_of(key) })));
                true
            })
        })?;
        Ok(jobs)
    }

    /// Whether a job of a segment has not ended.
    pub(crate) fn holds_open(&self, owner: NodeId, segment: u64) -> Result<bool> {
        let mut open = false;
        let begin = segment_key(owner, segment, 0);
        let jobs = self.of_segment(&begin[..12])?;
        for (tenant, session) in jobs {
            open |= self.job(&tenant, JobId { owner, session })?.is_some_and(|entry| entry.state == JobState::Running);
        }
        Ok(open)
    }

    fn of_segment(&self, begin: &[u8]) -> Result<Vec<(Tenant, SessionId)>> {
        let mut jobs = Vec::new();
        self.read(SEGMENTS, |table| {
            table.newest(begin, &mut |key, value| {
                jobs.extend(tenant_of(value).map(|tenant| (tenant, session_of(key))));
                true
            })
        })?;
        Ok(jobs)
    }

    /// Forgets the jobs of a segment that is removed; gives them.
    pub(crate) fn forget(&self, owner: NodeId, segment: u64) -> Result<Vec<(Tenant, JobId)>> {
        let jobs = self.of_segment(&segment_key(owner, segment, 0)[..12])?;
        self.write(true, |write| {
            let mut tables = Tables {
                jobs: write.open_table(JOBS)?,
                segments: write.open_table(SEGMENTS)?,
                open: write.open_table(OPEN)?,
                sums: write.open_table(SUMS)?,
            };
            for (tenant, session) in &jobs {
                let job = JobId { owner, session: *session };
                tables.segments.remove(&segment_key(owner, segment, *session)[..])?;
                tables.open.remove(&open_key(job)[..])?;
                let gone = tables.jobs.remove(&job_key(tenant, job)[..])?.and_then(|value| Entry::read(value.value()));
                if let Some(entry) = gone {
                    tables.add(tenant, owner, entry, |sum, by| sum.saturating_sub(by))?;
                }
            }
            Ok(())
        })?;
        Ok(jobs.into_iter().map(|(tenant, session)| (tenant, JobId { owner, session })).collect())
    }
}

/// What a job adds to the index, from its record.
pub(crate) fn ended(record: &JobRecord, at: Position, first: u64) -> Change {
    Change::Ended { tenant: record.tenant.clone(), job: record.id, state: record.state, tasks: record.tasks, at, first }
}

/// How many of counts are in a state, all without one; tasks that have not ended are in none.
pub(crate) fn tasks_in(counts: [u64; 3], state: Option<TaskState>) -> u64 {
    match state {
        None => counts.iter().sum(),
        Some(TaskState::Succeeded) => counts[0],
        Some(TaskState::Failed) => counts[1],
        Some(TaskState::Cancelled) => counts[2],
        Some(_) => 0,
    }
}

fn read_sum(bytes: &[u8]) -> [u64; 3] {
    let mut sum = [0; 3];
    for (number, bytes) in sum.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = bytes.try_into().map_or(0, u64::from_be_bytes);
    }
    sum
}

struct Tables<'a> {
    jobs: redb::Table<'a, &'static [u8], &'static [u8]>,
    segments: redb::Table<'a, &'static [u8], &'static [u8]>,
    open: redb::Table<'a, &'static [u8], &'static [u8]>,
    sums: redb::Table<'a, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    /// Puts a job in the place of what was known of it. It is forgotten with segment `first`.
    fn put(&mut self, tenant: &Tenant, job: JobId, entry: Entry, first: u64) -> Result<(), redb::Error> {
        let old = self.jobs.insert(&job_key(tenant, job)[..], &entry.to_bytes()[..])?.and_then(|value| Entry::read(value.value()));
        if let Some(old) = old {
            self.add(tenant, job.owner, old, |sum, by| sum.saturating_sub(by))?;
            // Of a job that ended, the first segment is not in its entry; there is no second end.
            self.segments.remove(&segment_key(job.owner, old.at.segment, job.session)[..])?;
        }
        self.segments.insert(&segment_key(job.owner, first, job.session)[..], tenant.as_str().as_bytes())?;
        self.add(tenant, job.owner, entry, u64::saturating_add)
    }

    /// Adds an entry to the sums, or takes it away.
    fn add(&mut self, tenant: &Tenant, owner: NodeId, entry: Entry, add: impl Fn(u64, u64) -> u64) -> Result<(), redb::Error> {
        for (what, by) in [(state_code(entry.state), [1, 0, 0]), (TASKS, entry.tasks)] {
            let key = sum_key(tenant, owner, what);
            let mut sum = self.sums.get(&key[..])?.map_or([0; 3], |value| read_sum(value.value()));
            sum.iter_mut().zip(by).for_each(|(sum, by)| *sum = add(*sum, by));
            let bytes: Vec<u8> = sum.iter().flat_map(|number| number.to_be_bytes()).collect();
            self.sums.insert(&key[..], &bytes[..])?;
        }
        Ok(())
    }
}

/// What is read of a table.
trait Reading {
    fn one(&self, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error>;

    /// Those whose keys begin so and stand before `end`, the last first, as long as `more` says so.
    fn between(&self, begin: &[u8], end: Option<&[u8]>, more: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), redb::Error>;

    /// All whose keys begin so.
    fn newest(&self, begin: &[u8], more: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), redb::Error> {
        self.between(begin, None, more)
    }
}

impl Reading for redb::ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn one(&self, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(self.get(key)?.map(|value| value.value().to_vec()))
    }

    fn between(&self, begin: &[u8], end: Option<&[u8]>, more: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), redb::Error> {
        // Longer than every key that begins so: what follows in a key has at most 16 bytes.
        let last = [begin, &[0xff; 17]].concat();
        for entry in self.range::<&[u8]>(begin..end.unwrap_or(&last))?.rev() {
            let (key, value) = entry?;
            if !more(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}
