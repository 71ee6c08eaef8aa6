//! What is kept of jobs: that they began, how their tasks ended, how they ended. No arguments, no results, no output.
//!
//! ```text
//! Began …  Tasks Tasks … Ended        Tasks hold up to TASKS_PER_RECORD lines each; Ended says where they are
//! ```

use rwasm_types::{
    ArtifactDigest, Attempt, Code, Error, JobId, NodeId, Result, SessionId, TaskState,
    api::{JobRecord, TaskCounts, TaskRecord, UnixMs},
    view::Span,
};
use serde::{Deserialize, Serialize};

use crate::{
    coding::{Put, Take, damaged, to_json},
    segment::{self, Position, Record},
};

/// Tasks of one record.
pub const TASKS_PER_RECORD: usize = 4_096;
/// Bytes after which a record of tasks takes no further one, so that records travel in small batches.
const TASKS_BYTES: usize = 256 << 10;

/// What is kept of a task. Times are milliseconds since its job was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLine {
    /// How it ended.
    pub state: TaskState,
    /// Which of the job's calls.
    pub call: u16,
    /// Which execution gave the result.
    pub attempt: Attempt,
    /// The node it ran on.
    pub node: Option<NodeId>,
    /// When it was submitted.
    pub queued_ms: u32,
    /// When it was given a slot; 0 if it was not.
    pub started_ms: u32,
    /// When it ended.
    pub ended_ms: u32,
    /// Processor time, in microseconds.
    pub cpu_us: u32,
    /// Why it failed: the whole error where it was kept, else its code.
    pub error: Option<Result<Error, Code>>,
}

/// A call of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastCall {
    /// The export's name.
    pub export: String,
    /// The artifact.
    pub artifact: ArtifactDigest,
}

/// Where some of a job's tasks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The record.
    pub at: Position,
    /// The first task's number.
    pub first: u64,
    /// How many of each state.
    pub counts: TaskCounts,
}

/// A job that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    /// As lists show it.
    pub record: JobRecord,
    /// Its calls, in the order of their numbers.
    pub calls: Vec<PastCall>,
    /// Where its tasks are, in their order.
    pub chunks: Vec<Chunk>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// A job was opened.
    Began(Box<JobRecord>),
    /// Some of its tasks, in their order.
    Tasks {
        /// Which job.
        session: SessionId,
        /// The first task's number.
        first: u64,
        /// One for each.
        lines: Vec<TaskLine>,
    },
    /// The job ended.
    Ended(Box<EndedJob>),
}

const BEGAN: u8 = 1;
const TASKS: u8 = 2;
const ENDED: u8 = 3;

const ERROR_NONE: u8 = 0;
const ERROR_CODE: u8 = 1;
const ERROR_WHOLE: u8 = 2;

/// Adds that a job was opened.
pub(crate) fn push_began(out: &mut Vec<u8>, record: &JobRecord) -> Result<()> {
    push_json(out, BEGAN, record)
}

/// Adds that a job ended.
pub(crate) fn push_ended(out: &mut Vec<u8>, job: &EndedJob) -> Result<()> {
    push_json(out, ENDED, job)
}

fn push_json<T: Serialize>(out: &mut Vec<u8>, kind: u8, value: &T) -> Result<()> {
    let json = to_json(value)?;
    segment::push(out, kind, |out| {
        out.extend_from_slice(&json);
        Ok(())
    })
}

/// Adds some of a job's tasks: as many of the first as a record has room for, at least one. Gives how many.
pub(crate) fn push_tasks(out: &mut Vec<u8>, session: SessionId, first: u64, lines: &[TaskLine]) -> Result<usize> {
    let (mut encoded, mut count) = (Vec::new(), 0);
    for line in lines {
        put_line(&mut encoded, line)?;
        count += 1;
        if encoded.len() >= TASKS_BYTES {
            break;
        }
    }
    segment::push(out, TASKS, |out| {
        out.number(session.into());
        out.number(first);
        out.number(count as u64);
        out.extend_from_slice(&encoded);
        Ok(())
    })?;
    Ok(count)
}

fn state_code(state: TaskState) -> u8 {
    TaskState::ALL.iter().position(|known| *known == state).unwrap_or_default() as u8
}

fn put_line(out: &mut Vec<u8>, line: &TaskLine) -> Result<()> {
    out.push(state_code(line.state));
    out.number(line.call.into());
    out.number(line.attempt.0.into());
    out.number(line.node.map_or(0, NodeId::get).into());
    out.number(line.queued_ms.into());
    out.number(line.started_ms.into());
    out.number(line.ended_ms.into());
    out.number(line.cpu_us.into());
    match &line.error {
        None => out.push(ERROR_NONE),
        Some(Err(code)) => {
            out.push(ERROR_CODE);
            out.number(code.number().into());
        }
        Some(Ok(error)) => {
            out.push(ERROR_WHOLE);
            out.bytes(&to_json(error)?);
        }
    }
    Ok(())
}

fn take_line(take: &mut Take) -> Result<TaskLine> {
    let state = TaskState::ALL.get(usize::from(take.byte()?)).ok_or_else(|| damaged("a task's state is unknown"))?;
    Ok(TaskLine {
        state: *state,
        call: take.small()?,
        attempt: Attempt(take.small()?),
        node: NodeId::new(take.small()?),
        queued_ms: take.small()?,
        started_ms: take.small()?,
        ended_ms: take.small()?,
        cpu_us: take.small()?,
        error: match take.byte()? {
            ERROR_NONE => None,
            ERROR_CODE => Some(Err(Code::from_number(take.small()?))),
            ERROR_WHOLE => Some(Ok(take.json()?)),
            _ => return Err(damaged("a task's error is of no kind")),
        },
    })
}

/// More tasks than any job has, and a time that no clock shows: what a record from elsewhere may not be beyond, so that it can be counted.
const COUNT_MAX: u64 = 1 << 40;
const TIME_MAX_MS: u64 = 1 << 50;

impl Past {
    /// Checks what came from elsewhere: whether it is of this owner, and its numbers can be counted with.
    pub(crate) fn check(&self, owner: NodeId) -> Result<(), &'static str> {
        let counts = |counts: &TaskCounts| {
            let TaskCounts { compiling, queued, running, succeeded, failed, cancelled } = *counts;
            [compiling, queued, running, succeeded, failed, cancelled].iter().all(|count| *count <= COUNT_MAX)
        };
        let job = |record: &JobRecord| {
            let numbers = counts(&record.tasks) && record.submitted_ms <= TIME_MAX_MS && record.ended_ms.is_none_or(|ms| ms <= TIME_MAX_MS);
            match numbers {
                _ if record.id.owner != owner => Err("is of another owner"),
                true => Ok(()),
                false => Err("has numbers that cannot be"),
            }
        };
        match self {
            Self::Began(record) => job(record),
            Self::Ended(ended) => {
                let chunks = ended.chunks.iter().all(|chunk| counts(&chunk.counts) && chunk.first <= COUNT_MAX);
                job(&ended.record).and(if chunks { Ok(()) } else { Err("has numbers that cannot be") })
            }
            Self::Tasks { first, .. } => {
                if *first <= COUNT_MAX {
                    Ok(())
                } else {
                    Err("has numbers that cannot be")
                }
            }
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_DAMAGED`] if it is none of this version.
    pub fn read(record: &Record) -> Result<Self> {
        let json = |what: &str, error: serde_json::Error| damaged(&format!("{what} is no JSON of its kind: {error}"));
        match record.kind {
            BEGAN => serde_json::from_slice(&record.payload).map(Self::Began).map_err(|error| json("a job", error)),
            ENDED => serde_json::from_slice(&record.payload).map(Self::Ended).map_err(|error| json("a job's end", error)),
            TASKS => {
                let mut take = Take(record.payload.clone());
                let (session, first) = (take.small()?, take.number()?);
                let lines = (0..take.count(9)?).map(|_| take_line(&mut take)).collect::<Result<_>>()?;
                take.end()?;
                Ok(Self::Tasks { session, first, lines })
            }
            _ => Err(damaged("its kind is unknown")),
        }
    }
}

impl EndedJob {
    fn at(&self, ms: u32) -> UnixMs {
        self.record.submitted_ms.saturating_add(ms.into())
    }

    /// When a task of the job ran, and where; `None` if it did not between two times.
    pub fn span(&self, sequence: u64, line: &TaskLine, from_ms: UnixMs, to_ms: UnixMs) -> Option<Span> {
        let (node, started_ms) = (line.node?, self.at(line.started_ms));
        let ended_ms = line.state.is_final().then(|| self.at(line.ended_ms));
        Span::is_between(started_ms, ended_ms, from_ms, to_ms).then(|| Span {
            task: self.record.id.task(sequence),
            node,
            attempt: line.attempt,
            state: line.state,
            export: self.calls.get(usize::from(line.call)).map(|call| call.export.clone()).unwrap_or_default(),
            started_ms,
            ended_ms,
        })
    }

    /// A task of the job, as lists show it.
    pub fn task(&self, sequence: u64, line: &TaskLine) -> TaskRecord {
        let call = self.calls.get(usize::from(line.call));
        let job: JobId = self.record.id;
        TaskRecord {
            id: job.task(sequence),
            job,
            tenant: self.record.tenant.clone(),
            export: call.map(|call| call.export.clone()).unwrap_or_default(),
            artifact: call.map_or(ArtifactDigest([0; 32]), |call| call.artifact),
            state: line.state,
            attempt: line.attempt,
            node: line.node,
            job_submitted_ms: self.record.submitted_ms,
            queued_ms: self.at(line.queued_ms),
            started_ms: line.node.map(|_| self.at(line.started_ms)),
            ended_ms: line.state.is_final().then(|| self.at(line.ended_ms)),
            cpu_us: line.cpu_us.into(),
            error: line.error.clone().map(|error| error.unwrap_or_else(|code| Error::new(code, "the message was not kept"))),
        }
    }
}

/// Why a task that ended is where it is, in one line.
pub fn why(task: &TaskRecord) -> String {
    let (id, on) = (task.id, task.node.map_or_else(|| "no node".to_owned(), |node| format!("node {node}")));
    match (task.state, &task.error) {
        (TaskState::Succeeded, _) => format!("{id} succeeded on {on}"),
        (TaskState::Cancelled, _) => format!("{id} was cancelled"),
        (TaskState::Failed, Some(error)) => format!("{id} failed on {on}: {} ({})", error.message(), error.code()),
        (state, _) => format!("{id} {state} on {on}"),
    }
}

/// How many of each state.
pub(crate) fn count(lines: &[TaskLine]) -> TaskCounts {
    let mut counts = TaskCounts::default();
    lines.iter().for_each(|line| *counts.of(line.state) += 1);
    counts
}

#[cfg(test)]
mod tests {
    use rwasm_types::{JobState, Tenant};

    use super::*;
    use crate::segment::{LogKind, Origin, Segment};

    fn origin() -> Origin {
        Origin { kind: LogKind::Past, cluster: "c0123456789abcdef".into(), owner: NodeId::FIRST }
    }

    /// One of each record, and what is read back.
    fn one_of_each() -> (Vec<u8>, Vec<Past>) {
        let began = JobRecord {
            parent: None,
            id: JobId { owner: NodeId::FIRST, session: 7 },
            name: "n".into(),
            tenant: Tenant::default(),
            state: JobState::Running,
            tasks: TaskCounts::default(),
            detached: true,
            artifacts: Vec::new(),
            submitted_ms: 1_700_000_000_000,
            ended_ms: None,
            error: None,
        };
        let artifact = ArtifactDigest([9; 32]);
        let failed = Error::new(Code::TRAP, "t").hint("h").with("k", 1);
        let line = |state, error| TaskLine {
            state,
            call: 0,
            attempt: Attempt(2),
            node: NodeId::new(300),
            queued_ms: 1,
            started_ms: 200,
            ended_ms: 70_000,
            cpu_us: 5,
            error,
        };
        let lines = vec![
            line(TaskState::Succeeded, None),
            line(TaskState::Failed, Some(Ok(failed.clone()))),
            TaskLine { node: None, ..line(TaskState::Cancelled, Some(Err(Code::CANCELLED))) },
        ];
        let counts = count(&lines);
        let chunks = vec![Chunk { at: Position { segment: 1, offset: 64 }, first: 0, counts }];
        let record = JobRecord {
            state: JobState::Failed,
            tasks: counts,
            artifacts: vec![artifact],
            ended_ms: Some(1_700_000_070_000),
            error: Some(failed),
            ..began.clone()
        };
        let ended = EndedJob { record, calls: vec![PastCall { export: "add".into(), artifact }], chunks };
        let mut bytes = Vec::new();
        push_began(&mut bytes, &began).unwrap();
        assert_eq!(push_tasks(&mut bytes, 7, 0, &lines).unwrap(), lines.len());
        push_ended(&mut bytes, &ended).unwrap();
        (bytes, vec![Past::Began(Box::new(began)), Past::Tasks { session: 7, first: 0, lines }, Past::Ended(Box::new(ended))])
    }

    /// What this version writes is what the file holds, byte for byte, and later versions must read it: owners keep it, and so do heads.
    /// `UPDATE_GOLDEN=1` writes it anew, which is right only together with a new format number.
    #[test]
    fn a_segment_of_the_past_of_this_format_is_read_for_ever() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/past-1.seg");
        let (records, all) = one_of_each();
        let mut bytes = segment::header(&origin(), 1, 1_700_000_000_000).to_vec();
        bytes.extend_from_slice(&records);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &bytes).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden, dir.path().join(segment::file_name(1))).unwrap();
        let segment = Segment::open(dir.path(), 1, &origin()).unwrap().unwrap();
        let mut records = segment.records(0);
        let read: Vec<Past> = records.by_ref().map(|record| Past::read(&record).unwrap()).collect();
        assert_eq!(records.gap(), None);
        assert_eq!(read, all);
        assert_eq!(std::fs::read(golden).unwrap(), bytes);
    }
}
