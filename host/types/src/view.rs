//! What is asked of a cluster to show it as it runs: places in long lists, filters, what ran when, and the counts of a moment.
//!
//! Lists are newest first. A page ends at a [`Cursor`], and the next one begins behind it, so that a page stays what it is while new rows
//! come in at the front.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    Attempt, Code, JobId, JobState, NodeId, TaskId, TaskState,
    api::{JobRecord, TaskCounts, TaskRecord, UnixMs},
};

/// A place in a list that is newest first: behind the row of this time and id. Tasks stand where their jobs do, and within a job by number,
/// so that a place is found without looking at what is before it.
///
/// Its text is `1763970000123.t1-7-42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor<I> {
    /// The row's time: when the job was submitted.
    pub at_ms: UnixMs,
    /// The row's id, which decides between rows of one time.
    pub id: I,
}

/// A text that is not a place in a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place in a list; use the one that the page before ended with")]
pub struct ParseCursorError(String);

impl<I: fmt::Display> fmt::Display for Cursor<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at_ms, self.id)
    }
}

impl<I: FromStr> FromStr for Cursor<I> {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let parts = text.split_once('.').and_then(|(at, id)| Some(Self { at_ms: at.parse().ok()?, id: id.parse().ok()? }));
        parts.ok_or_else(|| ParseCursorError(text.chars().take(80).collect()))
    }
}

impl<I: fmt::Display> Serialize for Cursor<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, I: FromStr> Deserialize<'de> for Cursor<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JobRecord {
    /// Where it stands in lists.
    pub fn cursor(&self) -> Cursor<JobId> {
        Cursor { at_ms: self.submitted_ms, id: self.id }
    }
}

impl TaskRecord {
    /// Where it stands in lists.
    pub fn cursor(&self) -> Cursor<TaskId> {
        Cursor { at_ms: self.job_submitted_ms, id: self.id }
    }
}

impl Cursor<TaskId> {
    /// Where the task's job stands.
    pub fn job(self) -> Cursor<JobId> {
        Cursor { at_ms: self.at_ms, id: self.id.job() }
    }
}

/// What is wanted of a list: rows in a state, all without one, and which part of them.
#[derive(Debug)]
pub struct Wanted<'a, S, P> {
    /// In which state.
    pub state: Option<S>,
    /// Which part.
    pub page: &'a P,
}

impl<S: Copy, P> Clone for Wanted<'_, S, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, P> Copy for Wanted<'_, S, P> {}

/// What is wanted of a list of jobs.
pub type JobsWanted<'a> = Wanted<'a, JobState, JobPage>;
/// What is wanted of a list of tasks.
pub type TasksWanted<'a> = Wanted<'a, TaskState, TaskPage>;

impl JobsWanted<'static> {
    /// The newest in a state, of all without one.
    pub const fn newest(state: Option<JobState>) -> Self {
        Self { state, page: &JobPage { name: None, after: None } }
    }
}

impl TasksWanted<'static> {
    /// The newest in a state, of all without one.
    pub const fn newest(state: Option<TaskState>) -> Self {
        Self { state, page: &TaskPage { node: None, export: None, code: None, after: None } }
    }
}

/// Which part of a list of jobs is wanted, beyond their state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    /// Only those whose names hold this text, in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those behind this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor<JobId>>,
}

impl JobPage {
    /// Whether a job's name is a wanted one.
    pub fn names(&self, job: &str) -> bool {
        self.name.as_ref().is_none_or(|name| holds(job, name))
    }

    /// Whether a row stands behind the place where the page begins.
    pub fn reaches(&self, place: Cursor<JobId>) -> bool {
        self.after.is_none_or(|after| place < after)
    }
}

/// Which part of a list of tasks is wanted, beyond their job and state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// Only those that run or ran on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Only those of exports whose names hold this text, in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
    /// Only those that ended with this error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Only those behind this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor<TaskId>>,
}

impl TaskPage {
    /// Whether counts by state tell how many tasks there are.
    pub fn is_counted(&self) -> bool {
        self.node.is_none() && self.export.is_none() && self.code.is_none()
    }

    /// Whether an export's name is a wanted one.
    pub fn exports(&self, export: &str) -> bool {
        self.export.as_ref().is_none_or(|name| holds(export, name))
    }

    /// Whether a task's node and error are wanted ones.
    pub fn takes(&self, node: Option<NodeId>, code: Option<Code>) -> bool {
        self.node.is_none_or(|wanted| node == Some(wanted)) && self.code.is_none_or(|wanted| code == Some(wanted))
    }

    /// Of a job's tasks those with smaller numbers than this stand behind the place where the page begins.
    pub fn below(&self, job: Cursor<JobId>) -> u64 {
        match self.after {
            Some(after) if after.job() == job => after.id.sequence,
            Some(after) if after.job() < job => 0,
            _ => u64::MAX,
        }
    }
}

/// Whether a text holds another, in either case.
fn holds(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// A task's time on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which task.
    pub task: TaskId,
    /// The node.
    pub node: NodeId,
    /// Which execution.
    pub attempt: Attempt,
    /// Where the task is.
    pub state: TaskState,
    /// The export.
    pub export: String,
    /// When it was given a slot.
    pub started_ms: UnixMs,
    /// When it ended; `None` while it runs.
    #[serde(default)]
    pub ended_ms: Option<UnixMs>,
}

impl Span {
    /// How long it is, up to now if it has not ended.
    pub fn length_ms(&self, now_ms: UnixMs) -> u64 {
        self.ended_ms.unwrap_or(now_ms).saturating_sub(self.started_ms)
    }

    /// Whether what ran from one time on, and until another if it has ended, ran between two times.
    pub fn is_between(started_ms: UnixMs, ended_ms: Option<UnixMs>, from_ms: UnixMs, to_ms: UnixMs) -> bool {
        started_ms <= to_ms && ended_ms.is_none_or(|ended| ended >= from_ms)
    }

    /// Keeps the longest, in this order.
    pub fn keep_longest(spans: &mut Vec<Self>, now_ms: UnixMs, limit: usize) {
        spans.sort_by_key(|span| std::cmp::Reverse((span.length_ms(now_ms), span.task)));
        spans.truncate(limit);
    }
}

/// Jobs and tasks by state, and what ended lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Jobs that are remembered, by the names of their states.
    pub jobs: BTreeMap<String, u64>,
    /// Tasks of these jobs.
    pub tasks: TaskCounts,
    /// When this was answered, in seconds since 1970.
    pub now_s: u64,
    /// Tasks that ended in each of the last [`Summary::SECONDS`] whole seconds, the oldest first; the last is the second before `now_s`.
    pub ended_per_second: Vec<u32>,
    /// What could not be asked, one line each; empty when the answer is whole.
    #[serde(default)]
    pub missing: Vec<String>,
}

impl Summary {
    /// How many seconds of the past are told.
    pub const SECONDS: usize = 300;

    /// Adds another part. Parts whose clocks differ are aligned by their seconds.
    pub fn merge(&mut self, other: Self) {
        for (state, count) in other.jobs {
            *self.jobs.entry(state).or_default() += count;
        }
        self.tasks += other.tasks;
        self.missing.extend(other.missing);
        if self.ended_per_second.is_empty() {
            (self.now_s, self.ended_per_second) = (other.now_s, other.ended_per_second);
            return;
        }
        let len = self.ended_per_second.len() as u64;
        let first_s = self.now_s.saturating_sub(len);
        let others_first_s = other.now_s.saturating_sub(other.ended_per_second.len() as u64);
        for (second, count) in (others_first_s..).zip(other.ended_per_second) {
            let slot = second.checked_sub(first_s).and_then(|index| self.ended_per_second.get_mut(usize::try_from(index).ok()?));
            if let Some(slot) = slot {
                *slot = slot.saturating_add(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = Cursor { at_ms: 1_763_970_000_123, id: "t1-7-42".parse::<TaskId>().unwrap() };
        assert_eq!(cursor.to_string(), "1763970000123.t1-7-42");
        assert_eq!(cursor.to_string().parse::<Cursor<TaskId>>().unwrap(), cursor);
        let json = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor<TaskId>>(&json).unwrap(), cursor);
        for bad in ["", "1", "1.", "x.t1-7-42", "1.j1-7", "-1.t1-7-42"] {
            assert!(bad.parse::<Cursor<TaskId>>().is_err(), "{bad}");
        }
    }

    #[test]
    fn summaries_add_up_second_by_second() {
        let part = |now_s, ended: &[u32]| Summary {
            jobs: [("running".to_owned(), 1)].into(),
            tasks: TaskCounts { queued: 2, ..TaskCounts::default() },
            now_s,
            ended_per_second: ended.to_vec(),
            missing: Vec::new(),
        };
        let mut sum = Summary::default();
        sum.merge(part(100, &[1, 2, 3]));
        sum.merge(part(101, &[10, 20, 30]));
        sum.merge(part(50, &[7]));
        assert_eq!((sum.now_s, sum.ended_per_second), (100, vec![1, 12, 23]));
        assert_eq!((sum.jobs["running"], sum.tasks.queued), (3, 6));
    }
}
