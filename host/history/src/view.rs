//! What the past of one owner answers, wherever its segments lie: at the owner, or at the head that they were shipped to.

use std::{borrow::Cow, collections::HashSet, path::Path};

use rwasm_types::{
    Code, Error, JobId, JobState, Result, TaskState, Tenant,
    api::{JobRecord, TaskCounts, TaskRecord},
};

use crate::{
    index::{self, Index},
    past::{Chunk, EndedJob, Past, TaskLine},
    segment::{Origin, Position, Segment},
};

/// What is known of a job of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It began; its end is not known.
    Began(Box<JobRecord>),
    /// It ended.
    Ended(Box<EndedJob>),
}

impl Kept {
    /// The job, as lists show it.
    pub fn record(&self) -> &JobRecord {
        match self {
            Self::Began(record) => record,
            Self::Ended(job) => &job.record,
        }
    }
}

/// The past of one owner, to be asked.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pub(crate) index: &'a Index,
    pub(crate) dir: Cow<'a, Path>,
    pub(crate) origin: Cow<'a, Origin>,
}

impl View<'_> {
    /// A job of a tenant; `None` if it is not known here.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_DAMAGED`] if its record cannot be read.
    pub fn job(&self, tenant: &Tenant, job: JobId) -> Result<Option<Kept>> {
        let entry = self.index.job(tenant, job)?;
        entry.map(|entry| self.kept(entry.at)).transpose()
    }

    /// Whether a job of a tenant is known here.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn knows(&self, tenant: &Tenant, job: JobId) -> Result<bool> {
        Ok(self.index.job(tenant, job)?.is_some())
    }

    pub(crate) fn kept(&self, at: Position) -> Result<Kept> {
        match self.read(at)? {
            Past::Began(record) => Ok(Kept::Began(record)),
            Past::Ended(job) => Ok(Kept::Ended(job)),
            Past::Tasks { .. } => Err(Error::new(Code::HISTORY_DAMAGED, "the index of the history names a record of another kind")),
        }
    }

    fn read(&self, at: Position) -> Result<Past> {
        let segment = Segment::open(&self.dir, at.segment, &self.origin)?;
        let segment = segment.ok_or_else(|| Error::new(Code::HISTORY_DAMAGED, format!("segment {} has no header", at.segment)))?;
        Past::read(&segment.record(at.offset)?)
    }

    /// A tenant's jobs, newest first, without those that are known better elsewhere, and how many there are.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub fn jobs(&self, tenant: &Tenant, state: Option<JobState>, limit: usize, but: &HashSet<JobId>) -> Result<(Vec<JobRecord>, u64)> {
        let owner = self.origin.owner;
        let mut total = self.index.jobs_total(tenant, owner, state)?;
        for job in but {
            let entry = self.index.job(tenant, *job)?;
            total -= u64::from(entry.is_some_and(|entry| state.is_none_or(|state| state == entry.state)));
        }
        let mut places = Vec::new();
        if limit > 0 {
            self.index.newest(tenant, owner, |job, entry| {
                if !but.contains(&job) && state.is_none_or(|state| state == entry.state) {
                    places.push(entry.at);
                }
                places.len() < limit
            })?;
        }
        let records = places.into_iter().map(|at| self.kept(at).map(|kept| kept.record().clone()));
        Ok((records.collect::<Result<_>>()?, total))
    }

    /// A job's newest tasks in a state, and how many there are.
    ///
    /// # Errors
    ///
    /// If a record cannot be read.
    pub fn tasks_of(&self, job: &EndedJob, state: Option<TaskState>, limit: usize) -> Result<(Vec<TaskRecord>, u64)> {
        let count = |mut counts: TaskCounts| match state {
            None => counts.total(),
            Some(state) => *counts.of(state),
        };
        let mut rows = Vec::new();
        for chunk in job.chunks.iter().rev().filter(|chunk| count(chunk.counts) > 0) {
            if rows.len() >= limit {
                break;
            }
            let lines = self.lines(job, chunk)?;
            let numbered = lines.iter().enumerate().rev().map(|(index, line)| (chunk.first + index as u64, line));
            let matching = numbered.filter(|(_, line)| state.is_none_or(|state| state == line.state));
            rows.extend(matching.take(limit - rows.len()).map(|(sequence, line)| job.task(sequence, line)));
        }
        Ok((rows, count(job.record.tasks)))
    }

    /// One task of a job.
    ///
    /// # Errors
    ///
    /// If its record cannot be read.
    pub fn task_of(&self, job: &EndedJob, sequence: u64) -> Result<Option<TaskRecord>> {
        let place = job.chunks.partition_point(|chunk| chunk.first <= sequence);
        let Some(chunk) = place.checked_sub(1).and_then(|place| job.chunks.get(place)) else { return Ok(None) };
        let lines = self.lines(job, chunk)?;
        let line = usize::try_from(sequence - chunk.first).ok().and_then(|index| lines.get(index));
        Ok(line.map(|line| job.task(sequence, line)))
    }

    fn lines(&self, job: &EndedJob, chunk: &Chunk) -> Result<Vec<TaskLine>> {
        match self.read(chunk.at)? {
            Past::Tasks { session, first, lines } if session == job.record.id.session && first == chunk.first => Ok(lines),
            _ => Err(Error::new(Code::HISTORY_DAMAGED, format!("the tasks of job {} are not where they should be", job.record.id))),
        }
    }

    /// A tenant's newest tasks in a state, of jobs that are not known better elsewhere, and how many there are.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub fn tasks(&self, tenant: &Tenant, state: Option<TaskState>, limit: usize, but: &HashSet<JobId>) -> Result<(Vec<TaskRecord>, u64)> {
        let owner = self.origin.owner;
        let mut total = self.index.tasks_total(tenant, owner, state)?;
        for job in but {
            total -= self.index.job(tenant, *job)?.map_or(0, |entry| index::tasks_in(entry.tasks, state));
        }
        let mut places = Vec::new();
        let mut found = 0;
        if limit > 0 {
            self.index.newest(tenant, owner, |job, entry| {
                let tasks = index::tasks_in(entry.tasks, state);
                if !but.contains(&job) && tasks > 0 {
                    places.push(entry.at);
                    found += tasks;
                }
                found < limit as u64
            })?;
        }
        let mut rows = Vec::new();
        for at in places {
            if let Kept::Ended(job) = self.kept(at)? {
                rows.extend(self.tasks_of(&job, state, limit - rows.len())?.0);
            }
        }
        Ok((rows, total))
    }
}
