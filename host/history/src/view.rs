//! What the past of one owner answers, wherever its segments lie: at the owner, or at the head that they were shipped to.
//!
//! Lists are newest first, and a page begins behind a place that is found without reading what is before it. Filters that the index does not
//! know look through records, newest first, as long as the question's budget lasts; what was not looked through is said.

use std::{borrow::Cow, collections::HashSet, path::Path};

use rwasm_types::{
    Code, Error, JobId, Result, SessionId, Tenant,
    api::{JobRecord, TaskCounts, TaskRecord, UnixMs},
    format_time,
    view::{Cursor, JobsWanted, Span, TasksWanted},
};

use crate::{
    index::{self, Entry, Index, Totals},
    past::{Chunk, EndedJob, Past, TaskLine},
    segment::{Origin, Position, Segment},
};

/// Records of jobs, and lines of tasks, that one question looks through.
const JOBS_LOOKED_AT_MAX: usize = 10_000;
const LINES_LOOKED_AT_MAX: usize = 200_000;

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

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The newest that are wanted; of spans the longest.
    pub rows: Vec<T>,
    /// How many there are.
    pub total: u64,
    /// What could not be read or was not looked through, a line each.
    pub missing: Vec<String>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), total: 0, missing: Vec::new() }
    }
}

/// What one question may still look through.
#[derive(Debug)]
pub(crate) struct Budget {
    jobs: usize,
    lines: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { jobs: JOBS_LOOKED_AT_MAX, lines: LINES_LOOKED_AT_MAX }
    }

    fn is_spent(&self) -> bool {
        self.jobs == 0 || self.lines == 0
    }

    /// Takes a job; says in `missing` if there was none left to take.
    pub(crate) fn job(&mut self, submitted_ms: UnixMs, missing: &mut Vec<String>) -> bool {
        if self.is_spent() {
            missing.push(format!(
                "what is older than {} was not looked through; name a job, or ask without a filter",
                format_time(submitted_ms)
            ));
            return false;
        }
        self.jobs -= 1;
        true
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

    /// The session before which a tenant's jobs stand behind a place; `None` where all do.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub(crate) fn behind(&self, tenant: &Tenant, after: Option<Cursor<JobId>>) -> Result<Option<SessionId>> {
        let Some(after) = after else { return Ok(None) };
        if after.id.owner == self.origin.owner {
            return Ok(Some(after.id.session));
        }
        self.first(tenant, |place| place < after).map(Some)
    }

    /// The session before which a tenant's jobs stand at places like these. Sessions are numbered as time goes by, so it is found by halves.
    pub(crate) fn first(&self, tenant: &Tenant, is_behind: impl Fn(Cursor<JobId>) -> bool) -> Result<SessionId> {
        let (mut low, mut high) = (0, SessionId::MAX);
        while low < high {
            let middle = high - (high - low) / 2;
            let mut newest = None;
            self.index.newest_before(tenant, self.origin.owner, Some(middle), |id, entry| {
                newest = Some((id, entry));
                false
            })?;
            let fits = match newest {
                Some((id, entry)) => is_behind(Cursor { at_ms: self.kept(entry.at)?.record().submitted_ms, id }),
                None => true,
            };
            if fits { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }

    /// A tenant's jobs, newest first, without those that are known better elsewhere.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub fn jobs(&self, tenant: &Tenant, wanted: JobsWanted<'_>, limit: usize, but: &HashSet<JobId>) -> Result<Found<JobRecord>> {
        let JobsWanted { state, page } = wanted;
        let mut found = Found::default();
        if page.name.is_some() {
            let mut budget = Budget::new();
            for (_, entry) in
                self.entries(tenant, None, JOBS_LOOKED_AT_MAX + 1, but, |entry| state.is_none_or(|state| state == entry.state))?
            {
                let record = self.kept(entry.at)?.record().clone();
                if !budget.job(record.submitted_ms, &mut found.missing) {
                    break;
                }
                if page.names(&record.name) {
                    found.total += 1;
                    if found.rows.len() < limit && page.reaches(record.cursor()) {
                        found.rows.push(record);
                    }
                }
            }
            return Ok(found);
        }
        found.total = self.totals(tenant, but)?.jobs(state);
        let behind = self.behind(tenant, page.after)?;
        for (_, entry) in self.entries(tenant, behind, limit, but, |entry| state.is_none_or(|state| state == entry.state))? {
            found.rows.push(self.kept(entry.at)?.record().clone());
        }
        Ok(found)
    }

    /// A tenant's newest jobs before a session that are wanted, at most so many.
    fn entries(
        &self,
        tenant: &Tenant,
        before: Option<SessionId>,
        limit: usize,
        but: &HashSet<JobId>,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<(JobId, Entry)>> {
        let mut entries = Vec::new();
        if limit > 0 {
            self.index.newest_before(tenant, self.origin.owner, before, |job, entry| {
                if !but.contains(&job) && wanted(&entry) {
                    entries.push((job, entry));
                }
                entries.len() < limit
            })?;
        }
        Ok(entries)
    }

    /// A job's newest tasks that are wanted, and how many there are.
    ///
    /// # Errors
    ///
    /// If a record cannot be read.
    pub fn tasks_of(&self, job: &EndedJob, wanted: TasksWanted<'_>, limit: usize) -> Result<Found<TaskRecord>> {
        let (mut found, mut budget) = (Found::default(), Budget::new());
        self.add_tasks(job, wanted, limit, &mut budget, &mut found)?;
        Ok(found)
    }

    /// Adds a job's tasks to what was found, newest first, and to their number.
    pub(crate) fn add_tasks(
        &self,
        job: &EndedJob,
        wanted: TasksWanted<'_>,
        limit: usize,
        budget: &mut Budget,
        found: &mut Found<TaskRecord>,
    ) -> Result<()> {
        let TasksWanted { state, page } = wanted;
        let in_state = |mut counts: TaskCounts| match state {
            None => counts.total(),
            Some(state) => *counts.of(state),
        };
        let below = page.below(job.record.cursor());
        let counted = page.is_counted();
        if counted {
            found.total += in_state(job.record.tasks);
        }
        let calls: Vec<bool> = job.calls.iter().map(|call| page.exports(&call.export)).collect();
        if !calls.contains(&true) {
            return Ok(());
        }
        for chunk in job.chunks.iter().rev().filter(|chunk| in_state(chunk.counts) > 0) {
            if counted && (found.rows.len() >= limit || below == 0) {
                return Ok(());
            }
            if counted && chunk.first >= below {
                continue;
            }
            if !counted && budget.lines == 0 {
                found.missing.push(format!("tasks of job {} before number {} were not looked through", job.record.id, chunk.first));
                return Ok(());
            }
            let lines = self.lines(job, chunk)?;
            if !counted {
                budget.lines = budget.lines.saturating_sub(lines.len());
            }
            for (index, line) in lines.iter().enumerate().rev() {
                let code = line.error.as_ref().map(|error| error.as_ref().map_or_else(|code| *code, Error::code));
                let named = calls.get(usize::from(line.call)).copied().unwrap_or_default();
                if !named || state.is_some_and(|state| state != line.state) || !page.takes(line.node, code) {
                    continue;
                }
                found.total += u64::from(!counted);
                let sequence = chunk.first + index as u64;
                if found.rows.len() < limit && sequence < below {
                    found.rows.push(job.task(sequence, line));
                }
            }
        }
        Ok(())
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

    /// A tenant's tasks, those of the newest jobs first, of jobs that are not known better elsewhere.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub fn tasks(&self, tenant: &Tenant, wanted: TasksWanted<'_>, limit: usize, but: &HashSet<JobId>) -> Result<Found<TaskRecord>> {
        let TasksWanted { state, page } = wanted;
        let (mut found, mut budget) = (Found::default(), Budget::new());
        let has_some = |entry: &Entry| index::tasks_in(entry.tasks, state) > 0;
        if page.is_counted() {
            found.total = self.totals(tenant, but)?.tasks(state);
            let after = page.after.map(Cursor::job);
            let begun = after.filter(|after| after.id.owner == self.origin.owner).map(|after| after.id);
            // The job in which the page before ended is not over.
            let behind = match begun {
                Some(job) => job.session.checked_add(1),
                None => self.behind(tenant, after)?,
            };
            let mut jobs = Vec::new();
            let mut there = 0;
            if limit > 0 {
                self.index.newest_before(tenant, self.origin.owner, behind, |job, entry| {
                    if !but.contains(&job) && has_some(&entry) {
                        jobs.push(entry);
                        there += if begun == Some(job) { 0 } else { index::tasks_in(entry.tasks, state) };
                    }
                    there < limit as u64
                })?;
            }
            let total = found.total;
            for entry in jobs {
                if let Kept::Ended(job) = self.kept(entry.at)? {
                    self.add_tasks(&job, wanted, limit, &mut budget, &mut found)?;
                }
            }
            found.total = total;
            return Ok(found);
        }
        for (_, entry) in self.entries(tenant, None, JOBS_LOOKED_AT_MAX + 1, but, has_some)? {
            let Kept::Ended(job) = self.kept(entry.at)? else { continue };
            if !budget.job(job.record.submitted_ms, &mut found.missing) {
                break;
            }
            self.add_tasks(&job, wanted, limit, &mut budget, &mut found)?;
        }
        Ok(found)
    }

    /// How many jobs and tasks a tenant has, of jobs that are not known better elsewhere.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn totals(&self, tenant: &Tenant, but: &HashSet<JobId>) -> Result<Totals> {
        self.index.totals(tenant, self.origin.owner, but)
    }

    /// What ran between two times, the longest first, of jobs that are not known better elsewhere.
    ///
    /// # Errors
    ///
    /// If the index or a record cannot be read.
    pub fn spans(&self, tenant: &Tenant, from_ms: UnixMs, to_ms: UnixMs, limit: usize, but: &HashSet<JobId>) -> Result<Found<Span>> {
        let (mut found, mut budget) = (Found::default(), Budget::new());
        let behind = Some(self.first(tenant, |place| place.at_ms <= to_ms)?);
        for (_, entry) in self.entries(tenant, behind, JOBS_LOOKED_AT_MAX + 1, but, |entry| entry.tasks.iter().sum::<u64>() > 0)? {
            let Kept::Ended(job) = self.kept(entry.at)? else { continue };
            if !budget.job(job.record.submitted_ms, &mut found.missing) {
                break;
            }
            self.add_spans(&job, from_ms, to_ms, limit, &mut budget, &mut found)?;
        }
        Ok(found)
    }

    /// What of a job ran between two times, the longest first.
    ///
    /// # Errors
    ///
    /// If a record cannot be read.
    pub fn spans_of(&self, job: &EndedJob, from_ms: UnixMs, to_ms: UnixMs, limit: usize) -> Result<Found<Span>> {
        let (mut found, mut budget) = (Found::default(), Budget::new());
        self.add_spans(job, from_ms, to_ms, limit, &mut budget, &mut found)?;
        Ok(found)
    }

    pub(crate) fn add_spans(
        &self,
        job: &EndedJob,
        from_ms: UnixMs,
        to_ms: UnixMs,
        limit: usize,
        budget: &mut Budget,
        found: &mut Found<Span>,
    ) -> Result<()> {
        if job.record.submitted_ms > to_ms || job.record.ended_ms.is_some_and(|ended| ended < from_ms) {
            return Ok(());
        }
        for chunk in job.chunks.iter().rev() {
            if budget.lines == 0 {
                found.missing.push(format!("tasks of job {} before number {} were not looked through", job.record.id, chunk.first));
                return Ok(());
            }
            let lines = self.lines(job, chunk)?;
            budget.lines = budget.lines.saturating_sub(lines.len());
            let before = found.rows.len();
            found.rows.extend((chunk.first..).zip(&lines).filter_map(|(sequence, line)| job.span(sequence, line, from_ms, to_ms)));
            found.total += (found.rows.len() - before) as u64;
            if found.rows.len() > 2 * limit {
                Span::keep_longest(&mut found.rows, to_ms, limit);
            }
        }
        Span::keep_longest(&mut found.rows, to_ms, limit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::{
        NodeId, TaskId, TaskState,
        view::{JobPage, TaskPage},
    };

    use super::*;
    use crate::{
        PastStore,
        store::tests::{RETENTION, end_job, id, origin},
    };

    fn store(dir: &Path) -> PastStore {
        let store = PastStore::open(dir, origin(), RETENTION, 5).unwrap();
        for session in [2, 3, 5, 8, 13] {
            end_job(&store, session, u64::from(session) * 3);
        }
        store
    }

    #[test]
    fn pages_put_together_are_the_whole_list_wherever_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let (store, tenant, none) = (store(dir.path()), Tenant::default(), HashSet::new());
        let walk = |state, first: TaskPage, size: usize| {
            let (mut rows, mut page) = (Vec::new(), first);
            loop {
                let found = store.view().tasks(&tenant, TasksWanted { state, page: &page }, size, &none).unwrap();
                let Some(last) = found.rows.last() else { return (rows, found.total) };
                page.after = Some(last.cursor());
                rows.extend(found.rows);
            }
        };
        for state in [None, Some(TaskState::Failed)] {
            for first in [TaskPage::default(), TaskPage { export: Some("AD".to_owned()), ..TaskPage::default() }] {
                let whole = walk(state, first.clone(), 1_000);
                assert_eq!(whole.0.len() as u64, whole.1);
                assert!(whole.0.is_sorted_by_key(|row| std::cmp::Reverse(row.cursor())));
                for size in [1, 2, 7] {
                    assert_eq!(walk(state, first.clone(), size), whole, "{state:?} {first:?} {size}");
                }
            }
        }
        let none_such = TaskPage { export: Some("other".to_owned()), ..TaskPage::default() };
        assert_eq!(walk(None, none_such, 9), (vec![], 0));
    }

    #[test]
    fn a_page_begins_behind_a_place_of_another_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (store, tenant, none) = (store(dir.path()), Tenant::default(), HashSet::new());
        let other = JobId { owner: NodeId::new(9).unwrap(), session: 1 };
        for (at_ms, sessions) in
            [(1_014, vec![13, 8, 5, 3, 2]), (1_013, vec![13, 8, 5, 3, 2]), (1_012, vec![8, 5, 3, 2]), (1_002, vec![2]), (1, vec![])]
        {
            let page = JobPage { after: Some(Cursor { at_ms, id: other }), ..JobPage::default() };
            let found = store.view().jobs(&tenant, JobsWanted { state: None, page: &page }, 9, &none).unwrap();
            assert_eq!(found.rows.iter().map(|row| row.id.session).collect::<Vec<_>>(), sessions, "{at_ms}");
            let page = TaskPage {
                after: Some(Cursor { at_ms, id: TaskId { owner: other.owner, session: 1, sequence: 0 } }),
                ..TaskPage::default()
            };
            let found = store.view().tasks(&tenant, TasksWanted { state: None, page: &page }, 1, &none).unwrap();
            assert_eq!(found.rows.first().map(|row| row.id.session), sessions.first().copied(), "{at_ms}");
        }
    }

    #[test]
    fn names_and_times_are_looked_for_in_the_records() {
        let dir = tempfile::tempdir().unwrap();
        let (store, tenant, none) = (store(dir.path()), Tenant::default(), HashSet::new());
        let page = JobPage { name: Some("JOB 3".to_owned()), ..JobPage::default() };
        let found = store.view().jobs(&tenant, JobsWanted { state: None, page: &page }, 9, &none).unwrap();
        assert_eq!((found.rows[0].id, found.total, found.missing), (id(3), 1, vec![]));
        // Tasks of job N run from 1002 + N to 1003 + N.
        let spans = store.view().spans(&tenant, 1_006, 1_007, 100, &none).unwrap();
        let sessions: HashSet<u32> = spans.rows.iter().map(|span| span.task.session).collect();
        assert_eq!((sessions, spans.total), (HashSet::from([3, 5]), 24));
        assert_eq!(store.view().spans(&tenant, 1_006, 1_007, 4, &none).unwrap().rows.len(), 4);
    }

    #[test]
    fn what_was_not_looked_through_is_said() {
        let mut budget = Budget { jobs: 1, lines: 1 };
        let mut missing = Vec::new();
        assert!(budget.job(5, &mut missing) && !budget.job(4, &mut missing));
        assert!(missing[0].contains("was not looked through"), "{missing:?}");
    }
}
