//! The tasks of one job as its owner keeps them: a table by number, small enough for a million of them.

use std::{collections::BTreeMap, time::Duration};

use rwasm_history::past::TaskLine;
use rwasm_types::{
    Attempt, Code, Error, NodeId, TaskState,
    api::{TaskCounts, UnixMs},
};

/// Errors that are kept whole, for the first tasks that fail; of others the code is kept.
const ERRORS_MAX: usize = 1_000;

/// One task. Times are milliseconds since the job was opened, so that they fit in 32 bits for 49 days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskEntry {
    pub(crate) state: TaskState,
    pub(crate) call: u16,
    pub(crate) error: Option<Code>,
    pub(crate) attempt: Attempt,
    pub(crate) node: Option<NodeId>,
    pub(crate) queued_ms: u32,
    pub(crate) started_ms: u32,
    pub(crate) ended_ms: u32,
    pub(crate) cpu_us: u32,
}

impl TaskEntry {
    /// The node on which its attempt may have begun and has not ended.
    pub(crate) fn under_way(&self) -> Option<NodeId> {
        self.node.filter(|_| self.state == TaskState::Running)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    entries: Vec<TaskEntry>,
    errors: BTreeMap<u64, Error>,
    counts: TaskCounts,
    /// The job's begin.
    begun_ms: UnixMs,
}

impl TaskTable {
    pub(crate) fn new(begun_ms: UnixMs) -> Self {
        Self { begun_ms, ..Self::default() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn counts(&self) -> &TaskCounts {
        &self.counts
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&TaskEntry> {
        self.entries.get(usize::try_from(sequence).ok()?)
    }

    pub(crate) fn error(&self, sequence: u64) -> Option<&Error> {
        self.errors.get(&sequence)
    }

    /// The error of the first task, by number, that failed.
    pub(crate) fn first_error(&self) -> Option<&Error> {
        self.errors.values().next()
    }

    fn since(&self, now_ms: UnixMs) -> u32 {
        u32::try_from(now_ms.saturating_sub(self.begun_ms)).unwrap_or(u32::MAX)
    }

    /// The wall-clock time of an entry's milliseconds.
    pub(crate) fn at(&self, ms: u32) -> UnixMs {
        self.begun_ms + u64::from(ms)
    }

    /// Adds a task in its first state.
    pub(crate) fn push(&mut self, call: u16, state: TaskState, now_ms: UnixMs) {
        let queued_ms = self.since(now_ms);
        self.entries.push(TaskEntry {
            state,
            call,
            error: None,
            attempt: Attempt::FIRST,
            node: None,
            queued_ms,
            started_ms: 0,
            ended_ms: 0,
            cpu_us: 0,
        });
        *self.counts.of(state) += 1;
    }

    fn change(&mut self, sequence: u64, state: TaskState) -> Option<&mut TaskEntry> {
        let entry = self.entries.get_mut(usize::try_from(sequence).ok()?)?;
        if entry.state.is_final() {
            return None;
        }
        *self.counts.of(entry.state) -= 1;
        *self.counts.of(state) += 1;
        entry.state = state;
        Some(entry)
    }

    /// A task's artifact is ready.
    pub(crate) fn queued(&mut self, sequence: u64) {
        self.change(sequence, TaskState::Queued);
    }

    /// A task was given a slot.
    pub(crate) fn running(&mut self, sequence: u64, attempt: Attempt, node: NodeId, now_ms: UnixMs) {
        let started_ms = self.since(now_ms);
        if let Some(entry) = self.change(sequence, TaskState::Running) {
            entry.attempt = attempt;
            entry.node = Some(node);
            entry.started_ms = started_ms;
        }
    }

    /// A task waits again, for another attempt; says whether it does, which one that has ended does not.
    pub(crate) fn requeued(&mut self, sequence: u64, attempt: Attempt) -> bool {
        let Some(entry) = self.change(sequence, TaskState::Queued) else { return false };
        entry.attempt = attempt;
        entry.node = None;
        true
    }

    /// A task ended. Says whether it had not ended before: only the first end of the newest attempt counts.
    pub(crate) fn ended(&mut self, sequence: u64, attempt: Attempt, error: Option<&Error>, cpu: Duration, now_ms: UnixMs) -> bool {
        if self.get(sequence).is_none_or(|entry| entry.attempt != attempt) {
            return false;
        }
        let state = match error.map(Error::code) {
            None => TaskState::Succeeded,
            Some(Code::CANCELLED) => TaskState::Cancelled,
            Some(_) => TaskState::Failed,
        };
        let ended_ms = self.since(now_ms);
        let Some(entry) = self.change(sequence, state) else { return false };
        entry.ended_ms = ended_ms;
        entry.cpu_us = u32::try_from(cpu.as_micros()).unwrap_or(u32::MAX);
        entry.error = error.map(Error::code);
        if let Some(error) = error.filter(|_| self.errors.len() < ERRORS_MAX) {
            self.errors.insert(sequence, error.clone());
        }
        true
    }

    /// What is kept of a task.
    pub(crate) fn line(&self, sequence: u64) -> Option<TaskLine> {
        let entry = self.get(sequence)?;
        Some(TaskLine {
            state: entry.state,
            call: entry.call,
            attempt: entry.attempt,
            node: entry.node,
            queued_ms: entry.queued_ms,
            started_ms: entry.started_ms,
            ended_ms: entry.ended_ms,
            cpu_us: entry.cpu_us,
            error: entry.error.map(|code| self.error(sequence).cloned().ok_or(code)),
        })
    }

    /// Entries from the newest, with their numbers.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (u64, &TaskEntry)> {
        self.newest_below(u64::MAX)
    }

    /// The same, of those with smaller numbers than this.
    pub(crate) fn newest_below(&self, below: u64) -> impl Iterator<Item = (u64, &TaskEntry)> {
        let below = usize::try_from(below).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.iter().take(below).enumerate().rev().map(|(number, entry)| (number as u64, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<TaskEntry>() <= 36, "{}", size_of::<TaskEntry>());
    }

    #[test]
    fn the_first_end_of_the_newest_attempt_counts() {
        let mut table = TaskTable::new(1_000);
        let node = NodeId::FIRST;
        table.push(0, TaskState::Compiling, 1_005);
        table.queued(0);
        table.running(0, Attempt(1), node, 1_010);
        table.requeued(0, Attempt(2));
        assert!(!table.ended(0, Attempt(1), None, ZERO, 1_020), "a stale attempt");
        table.running(0, Attempt(2), node, 1_030);
        let error = Error::new(Code::TRAP, "x");
        assert!(table.ended(0, Attempt(2), Some(&error), Duration::from_micros(5), 1_040));
        assert!(!table.ended(0, Attempt(2), None, ZERO, 1_050), "an end after the end");
        assert!(!table.ended(7, Attempt(1), None, ZERO, 1_050), "a task that was never there");
        assert_eq!(*table.counts(), TaskCounts { failed: 1, ..TaskCounts::default() });
        let entry = table.get(0).unwrap();
        assert_eq!((entry.cpu_us, table.at(entry.queued_ms), table.at(entry.ended_ms)), (5, 1_005, 1_040));
        assert_eq!(table.first_error(), Some(&error));
    }
}
