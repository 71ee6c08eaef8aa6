//! Parts of long lists: which tasks of a job are wanted, from where on, and what ran when. Whatever the number of tasks, a page costs what
//! it shows, as long as the wanted rows are not rare.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use rwasm_types::{
    JobState, NodeId, TaskId, TaskState,
    api::{TaskRecord, UnixMs},
    view::{Cursor, Span, TaskPage},
};

use super::{
    job::{Job, JobCall},
    tasks::{TaskEntry, TaskTable},
};

/// Which tasks are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) state: Option<TaskState>,
    pub(crate) page: &'a TaskPage,
}

/// The part of [`Wanted`] that looks at one entry of one job.
struct Matcher<'a> {
    wanted: Wanted<'a>,
    /// Whether a call's export has the wanted name, by number.
    calls: Option<Vec<bool>>,
}

impl<'a> Matcher<'a> {
    fn new(wanted: Wanted<'a>, calls: &[Arc<JobCall>]) -> Self {
        let named = |text: &String| {
            let text = text.to_lowercase();
            calls.iter().map(|call| call.export.name.to_string().to_lowercase().contains(&text)).collect()
        };
        Self { calls: wanted.page.export.as_ref().map(named), wanted }
    }

    fn matches(&self, entry: &TaskEntry) -> bool {
        let Wanted { state, page } = self.wanted;
        state.is_none_or(|state| entry.state == state)
            && page.node.is_none_or(|node| entry.node == Some(node))
            && page.code.is_none_or(|code| entry.error == Some(code))
            && self.calls.as_ref().is_none_or(|calls| calls.get(usize::from(entry.call)).copied().unwrap_or_default())
    }

    /// Whether the counts by state tell how many match.
    fn is_counted(&self) -> bool {
        let TaskPage { node, export, code, .. } = self.wanted.page;
        node.is_none() && export.is_none() && code.is_none()
    }
}

impl Job {
    /// How many tasks are wanted, wherever the page begins, and when the newest of all was submitted.
    pub(crate) fn glance(&self, wanted: Wanted<'_>) -> (u64, UnixMs) {
        let matcher = Matcher::new(wanted, &self.calls.read());
        let state = self.state.lock();
        let newest = state.tasks.entries().last().map_or(self.submitted_ms, |entry| state.tasks.at(entry.queued_ms));
        let total = match wanted.state {
            _ if !matcher.is_counted() => state.tasks.entries().iter().filter(|entry| matcher.matches(entry)).count() as u64,
            Some(wanted) => {
                let mut counts = *state.tasks.counts();
                *counts.of(wanted)
            }
            None => state.tasks.len(),
        };
        (total, newest)
    }

    /// Records of the newest wanted tasks behind the page's beginning.
    pub(crate) fn tasks(&self, wanted: Wanted<'_>, limit: usize) -> Vec<TaskRecord> {
        let calls = self.calls.read();
        let matcher = Matcher::new(wanted, &calls);
        let state = self.state.lock();
        let tasks = &state.tasks;
        let entries = tasks.entries();
        let behind = wanted.page.after.map_or(entries.len(), |after| self.behind(entries, |entry| tasks.at(entry.queued_ms), after));
        let newest = entries.iter().take(behind).enumerate().rev().map(|(sequence, entry)| (sequence as u64, entry));
        let matching = newest.filter(|(_, entry)| matcher.matches(entry));
        matching.take(limit).map(|(sequence, entry)| self.task_record(&calls, tasks, sequence, entry)).collect()
    }

    /// How many of the oldest tasks stand behind a place in a list.
    fn behind(&self, entries: &[TaskEntry], at: impl Fn(&TaskEntry) -> UnixMs, after: Cursor<TaskId>) -> usize {
        // Of the entries at the same time, those with smaller ids; found by halves, for times do not go back.
        let earlier = entries.partition_point(|entry| at(entry) < after.at_ms);
        let same = entries[earlier..].partition_point(|entry| at(entry) == after.at_ms);
        let smaller = match after.id.job().cmp(&self.id) {
            std::cmp::Ordering::Greater => same,
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => {
                let sequence = usize::try_from(after.id.sequence).unwrap_or(usize::MAX);
                sequence.saturating_sub(earlier).min(same)
            }
        };
        earlier + smaller
    }

    /// Where the job is.
    pub(crate) fn job_state(&self) -> JobState {
        self.state.lock().job_state()
    }

    /// What ran between two times: the longest, and how many there are in all.
    pub(crate) fn spans(&self, from_ms: UnixMs, to_ms: UnixMs, limit: usize) -> (Vec<Span>, u64) {
        let calls = self.calls.read();
        let state = self.state.lock();
        if self.submitted_ms > to_ms || state.ended_ms.is_some_and(|ended| ended < from_ms) {
            return (Vec::new(), 0);
        }
        let tasks = &state.tasks;
        let mut longest = BinaryHeap::new();
        let mut total = 0;
        for (sequence, entry) in (0u64..).zip(tasks.entries()) {
            let Some((_, started_ms, ended_ms)) = times(tasks, entry) else { continue };
            if started_ms <= to_ms && ended_ms.is_none_or(|ended| ended >= from_ms) {
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
        (longest.into_iter().filter_map(span).collect(), total)
    }
}

/// Where an entry's newest attempt runs or ran, since when, and until when.
fn times(tasks: &TaskTable, entry: &TaskEntry) -> Option<(NodeId, UnixMs, Option<UnixMs>)> {
    let node = entry.node.filter(|_| entry.state == TaskState::Running || entry.state.is_final())?;
    Some((node, tasks.at(entry.started_ms), entry.state.is_final().then(|| tasks.at(entry.ended_ms))))
}
