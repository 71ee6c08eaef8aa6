//! Parts of long lists: which tasks of a job in memory are wanted, from where on, and what ran when. Whatever the number of tasks, a page
//! costs what it shows, as long as the wanted rows are not rare.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, sync::Arc};

use rwasm_history::{
    Found,
    past::{PastCall, TaskLine},
};
use rwasm_types::{
    JobId, JobState, NodeId, TaskState,
    api::{TaskCounts, TaskRecord, UnixMs},
    view::{Cursor, Span, TasksWanted},
};

use super::{
    job::{Job, JobCall},
    tasks::{TaskEntry, TaskTable},
};

/// The part of [`TasksWanted`] that looks at one entry of one job.
struct Matcher<'a> {
    wanted: TasksWanted<'a>,
    /// Whether a call's export has the wanted name, by number.
    calls: Vec<bool>,
}

impl<'a> Matcher<'a> {
    fn new(wanted: TasksWanted<'a>, calls: &[Arc<JobCall>]) -> Self {
        Self { calls: calls.iter().map(|call| wanted.page.exports(&call.export.name.to_string())).collect(), wanted }
    }

    fn matches(&self, entry: &TaskEntry) -> bool {
        let TasksWanted { state, page } = self.wanted;
        state.is_none_or(|state| entry.state == state)
            && page.takes(entry.node, entry.error)
            && self.calls.get(usize::from(entry.call)).copied().unwrap_or_default()
    }
}

impl Job {
    /// Where it stands in lists.
    pub(crate) fn place(&self) -> Cursor<JobId> {
        Cursor { at_ms: self.submitted_ms, id: self.id }
    }

    /// Tasks that make or made actors, newest first, and their calls.
    pub(crate) fn made_actors(&self) -> Vec<(u64, Arc<JobCall>)> {
        let calls = self.calls.read();
        let state = self.state.lock();
        let made = |(sequence, entry): (u64, &TaskEntry)| {
            let call = calls.get(usize::from(entry.call)).filter(|call| call.makes_actor())?;
            Some((sequence, Arc::clone(call)))
        };
        state.tasks.newest().filter_map(made).collect()
    }

    /// What is kept of its calls.
    pub(crate) fn past_calls(&self) -> Vec<PastCall> {
        let call = |call: &Arc<JobCall>| PastCall { export: call.export.name.to_string(), artifact: call.artifact };
        self.calls.read().iter().map(call).collect()
    }

    /// What is kept of so many tasks from a number on.
    pub(crate) fn past_lines(&self, first: u64, count: usize) -> Vec<TaskLine> {
        let state = self.state.lock();
        let range: Range<u64> = first..state.tasks.len().min(first.saturating_add(count as u64));
        range.filter_map(|sequence| state.tasks.line(sequence)).collect()
    }

    /// Records of the newest wanted tasks, and how many there are.
    pub(crate) fn tasks(&self, wanted: TasksWanted<'_>, limit: usize) -> Found<TaskRecord> {
        let calls = self.calls.read();
        let matcher = Matcher::new(wanted, &calls);
        let state = self.state.lock();
        let tasks = &state.tasks;
        let below = wanted.page.below(self.place());
        let record = |(sequence, entry)| self.task_record(&calls, tasks, sequence, entry);
        let mut found = Found::default();
        if wanted.page.is_counted() {
            found.total = match wanted.state {
                Some(wanted) => *{ *tasks.counts() }.of(wanted),
                None => tasks.len(),
            };
            found.rows.extend(tasks.newest_below(below).filter(|(_, entry)| matcher.matches(entry)).take(limit).map(record));
            return found;
        }
        for (sequence, entry) in tasks.newest().filter(|(_, entry)| matcher.matches(entry)) {
            found.total += 1;
            if found.rows.len() < limit && sequence < below {
                found.rows.push(record((sequence, entry)));
            }
        }
        found
    }

    /// Where the job and its tasks are.
    pub(crate) fn glance(&self) -> (JobState, TaskCounts) {
        let state = self.state.lock();
        (state.job_state(), *state.tasks.counts())
    }

    /// Where the job is.
    pub(crate) fn job_state(&self) -> JobState {
        self.state.lock().job_state()
    }

    /// What ran between two times: the longest, and how many there are in all.
    pub(crate) fn spans(&self, from_ms: UnixMs, to_ms: UnixMs, limit: usize) -> Found<Span> {
        let calls = self.calls.read();
        let state = self.state.lock();
        if self.submitted_ms > to_ms || state.ended_ms.is_some_and(|ended| ended < from_ms) {
            return Found::default();
        }
        let tasks = &state.tasks;
        let mut longest = BinaryHeap::new();
        let mut total = 0;
        for (sequence, entry) in tasks.newest() {
            let Some((_, started_ms, ended_ms)) = times(tasks, entry) else { continue };
            if Span::is_between(started_ms, ended_ms, from_ms, to_ms) {
                total += 1;
                longest.push(Reverse((ended_ms.unwrap_or(to_ms).saturating_sub(started_ms), sequence)));
                if longest.len() > limit {
                    longest.pop();
                }
            }
        }
        let span = |Reverse((_, sequence))| {
            let entry = tasks.get(sequence)?;
            let (node, started_ms, ended_ms) = times(tasks, entry)?;
            let export = calls.get(usize::from(entry.call)).map(|call| call.export.name.to_string()).unwrap_or_default();
            Some(Span { task: self.id.task(sequence), node, attempt: entry.attempt, state: entry.state, export, started_ms, ended_ms })
        };
        Found { rows: longest.into_iter().filter_map(span).collect(), total, missing: Vec::new() }
    }
}

/// Where an entry's newest attempt runs or ran, since when, and until when.
fn times(tasks: &TaskTable, entry: &TaskEntry) -> Option<(NodeId, UnixMs, Option<UnixMs>)> {
    let node = entry.node.filter(|_| entry.state == TaskState::Running || entry.state.is_final())?;
    Some((node, tasks.at(entry.started_ms), entry.state.is_final().then(|| tasks.at(entry.ended_ms))))
}
