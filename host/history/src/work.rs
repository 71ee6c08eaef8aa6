//! What is written down of unfinished work, before its effect.
//!
//! ```text
//! Opened ─▶ Defined … ─▶ Submitted … ─▶ Started (Returned) … ─▶ Ended …        Finished or Stopped        Closed
//! ```
//!
//! A [`Batch`] makes records into bytes for [`crate::Log::append`]; [`Work::read`] reads one. Every record begins with its job's session,
//! so that a reader that looks for one job can pass over the others.

use bytes::Bytes;
use rwasm_types::{ActorId, ArtifactDigest, Attempt, Error, Grants, NodeId, Result, SessionId, TaskOptions, Tenant, api::UnixMs};
use serde::{Deserialize, Serialize};

use crate::{
    coding::{Put, Take, damaged, to_json},
    segment::{self, Record},
};

/// Bytes after which a batch of outcomes is cut into several records; one larger outcome has a record of its own.
const ENDED_BYTES: usize = 8 << 20;

/// How a job was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its number at this owner.
    #[serde(skip, default)]
    pub session: SessionId,
    /// Who pays.
    pub tenant: Tenant,
    /// What its driver called it.
    pub name: String,
    /// Whether it outlives its driver.
    pub detached: bool,
    /// The driver's key: the same again is the same job.
    pub key: Vec<u8>,
    /// When.
    pub at_ms: UnixMs,
}

/// A call that a job's tasks are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOf {
    /// What is called.
    pub artifact: ArtifactDigest,
    /// The export as the driver named it; empty for the command.
    pub export: String,
    /// How.
    pub options: TaskOptions,
    /// With what.
    pub grants: Grants,
    /// Of a method: the actor that it is called on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<ActorId>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which task of the job.
    pub sequence: u64,
    /// Which execution.
    pub attempt: Attempt,
    /// The result in the codec's message form.
    pub result: Result<Bytes>,
    /// The function returned its error case, which the result holds; said as an error.
    pub failed: Option<Error>,
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Wall-clock time, in nanoseconds.
    pub wall_ns: u64,
    /// The guest's memory, in bytes.
    pub memory_bytes: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A driver opened a job.
    Opened(Opened),
    /// A call was taken.
    Defined {
        /// Which job.
        session: SessionId,
        /// 0, 1, 2, ….
        number: u16,
        /// What it is.
        call: Box<CallOf>,
    },
    /// Tasks were taken.
    Submitted {
        /// Which job.
        session: SessionId,
        /// Which call.
        call: u16,
        /// The number of the first.
        first: u64,
        /// When.
        at_ms: UnixMs,
        /// Their arguments.
        args: Vec<Bytes>,
    },
    /// Attempts were given to a node: from now on they may have run.
    Started {
        /// Which job.
        session: SessionId,
        /// Which node.
        node: NodeId,
        /// When.
        at_ms: UnixMs,
        /// Which tasks, and which execution of each.
        attempts: Vec<(u64, Attempt)>,
    },
    /// Attempts that never reached their node wait again.
    Returned {
        /// Which job.
        session: SessionId,
        /// Which tasks, and which execution of each.
        attempts: Vec<(u64, Attempt)>,
    },
    /// Attempts ended, and are their tasks' results.
    Ended {
        /// Which job.
        session: SessionId,
        /// When.
        at_ms: UnixMs,
        /// How.
        outcomes: Vec<Outcome>,
    },
    /// The driver submits no more.
    Finished {
        /// Which job.
        session: SessionId,
    },
    /// The job is not to go on.
    Stopped {
        /// Which job.
        session: SessionId,
        /// Why, where it is not the driver's wish.
        error: Option<Error>,
    },
    /// The job's past is kept and its driver has everything: nothing of it is needed any more.
    Closed {
        /// Which job.
        session: SessionId,
    },
}

const OPENED: u8 = 1;
const DEFINED: u8 = 2;
const SUBMITTED: u8 = 3;
const STARTED: u8 = 4;
const RETURNED: u8 = 5;
const ENDED: u8 = 6;
const FINISHED: u8 = 7;
const STOPPED: u8 = 8;
const CLOSED: u8 = 9;

const RESULT_IS_ERROR: u8 = 1;
const HAS_FAILED: u8 = 2;

/// Records that are appended together.
#[derive(Clone, Debug, Default)]
pub struct Batch(Vec<u8>);

impl Batch {
    /// The bytes to append.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, kind: u8, session: SessionId, fill: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        segment::push(&mut self.0, kind, |out| {
            out.number(session.into());
            fill(out)
        })
    }

    /// A driver opened a job.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::LIMIT`] if it is too long for a record; so for all others.
    pub fn opened(&mut self, opened: &Opened) -> Result<()> {
        let json = to_json(opened)?;
        self.push(OPENED, opened.session, |out| {
            out.bytes(&json);
            Ok(())
        })
    }

    /// A call was taken.
    ///
    /// # Errors
    ///
    /// If it is too long for a record.
    pub fn defined(&mut self, session: SessionId, number: u16, call: &CallOf) -> Result<()> {
        let json = to_json(call)?;
        self.push(DEFINED, session, |out| {
            out.number(number.into());
            out.bytes(&json);
            Ok(())
        })
    }

    /// Tasks were taken.
    ///
    /// # Errors
    ///
    /// If they are too long for a record.
    pub fn submitted(&mut self, session: SessionId, call: u16, first: u64, at_ms: UnixMs, args: &[Bytes]) -> Result<()> {
        self.0.reserve(args.iter().map(|args| args.len() + 4).sum::<usize>() + 64);
        self.push(SUBMITTED, session, |out| {
            out.number(call.into());
            out.number(first);
            out.number(at_ms);
            out.number(args.len() as u64);
            args.iter().for_each(|args| out.bytes(args));
            Ok(())
        })
    }

    /// Attempts were given to a node.
    ///
    /// # Errors
    ///
    /// If they are too long for a record.
    pub fn started(
        &mut self,
        session: SessionId,
        node: NodeId,
        at_ms: UnixMs,
        attempts: impl ExactSizeIterator<Item = (u64, Attempt)>,
    ) -> Result<()> {
        self.push(STARTED, session, |out| {
            out.number(node.get().into());
            out.number(at_ms);
            put_attempts(out, attempts);
            Ok(())
        })
    }

    /// Attempts never reached their node.
    ///
    /// # Errors
    ///
    /// If they are too long for a record.
    pub fn returned(&mut self, session: SessionId, attempts: impl ExactSizeIterator<Item = (u64, Attempt)>) -> Result<()> {
        self.push(RETURNED, session, |out| {
            put_attempts(out, attempts);
            Ok(())
        })
    }

    /// Attempts ended.
    ///
    /// # Errors
    ///
    /// If one is too long for a record.
    pub fn ended(&mut self, session: SessionId, at_ms: UnixMs, outcomes: &[Outcome]) -> Result<()> {
        let size = |outcome: &Outcome| outcome.result.as_ref().map_or(64, Bytes::len);
        let mut rest = outcomes;
        while !rest.is_empty() {
            let mut bytes = 0_usize;
            let more = rest[1..].iter().take_while(|outcome| {
                bytes = bytes.saturating_add(size(outcome));
                bytes <= ENDED_BYTES
            });
            let count = 1 + if size(&rest[0]) > ENDED_BYTES { 0 } else { more.count() };
            let (now, later) = rest.split_at(count);
            rest = later;
            self.push(ENDED, session, |out| {
                out.number(at_ms);
                out.number(now.len() as u64);
                now.iter().try_for_each(|outcome| put_outcome(out, outcome))
            })?;
        }
        Ok(())
    }

    /// The driver submits no more.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn finished(&mut self, session: SessionId) -> Result<()> {
        self.push(FINISHED, session, |_| Ok(()))
    }

    /// The job is not to go on.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn stopped(&mut self, session: SessionId, error: Option<&Error>) -> Result<()> {
        let json = error.map(to_json).transpose()?.unwrap_or_default();
        self.push(STOPPED, session, |out| {
            out.bytes(&json);
            Ok(())
        })
    }

    /// Nothing of the job is needed any more.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn closed(&mut self, session: SessionId) -> Result<()> {
        self.push(CLOSED, session, |_| Ok(()))
    }
}

fn put_attempts(out: &mut Vec<u8>, attempts: impl ExactSizeIterator<Item = (u64, Attempt)>) {
    out.number(attempts.len() as u64);
    for (sequence, attempt) in attempts {
        out.number(sequence);
        out.number(attempt.0.into());
    }
}

fn take_attempts(take: &mut Take) -> Result<Vec<(u64, Attempt)>> {
    (0..take.count(2)?).map(|_| Ok((take.number()?, Attempt(take.small()?)))).collect()
}

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) -> Result<()> {
    out.number(outcome.sequence);
    out.number(outcome.attempt.0.into());
    let flags = if outcome.result.is_err() { RESULT_IS_ERROR } else { 0 } | if outcome.failed.is_some() { HAS_FAILED } else { 0 };
    out.push(flags);
    out.number(outcome.cpu_ns);
    out.number(outcome.wall_ns);
    out.number(outcome.memory_bytes);
    match &outcome.result {
        Ok(value) => out.bytes(value),
        Err(error) => out.bytes(&to_json(error)?),
    }
    if let Some(failed) = &outcome.failed {
        out.bytes(&to_json(failed)?);
    }
    Ok(())
}

fn take_outcome(take: &mut Take) -> Result<Outcome> {
    let (sequence, attempt, flags) = (take.number()?, Attempt(take.small()?), take.byte()?);
    if flags & !(RESULT_IS_ERROR | HAS_FAILED) != 0 {
        return Err(damaged("an outcome has flags of no meaning"));
    }
    Ok(Outcome {
        sequence,
        attempt,
        cpu_ns: take.number()?,
        wall_ns: take.number()?,
        memory_bytes: take.number()?,
        result: if flags & RESULT_IS_ERROR == 0 { Ok(take.bytes()?) } else { Err(take.json()?) },
        failed: (flags & HAS_FAILED != 0).then(|| take.json()).transpose()?,
    })
}

/// Whether a record is of outcomes of this job; only those are worth reading where results are sent again.
pub fn is_ended_of(record: &Record, session: SessionId) -> bool {
    record.kind == ENDED && Take(record.payload.clone()).number().is_ok_and(|of| of == u64::from(session))
}

impl Work {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::HISTORY_DAMAGED`] if it is none of this version.
    pub fn read(record: &Record) -> Result<Self> {
        let mut take = Take(record.payload.clone());
        let session: SessionId = take.small()?;
        let work = match record.kind {
            OPENED => Self::Opened(Opened { session, ..take.json()? }),
            DEFINED => Self::Defined { session, number: take.small()?, call: Box::new(take.json()?) },
            SUBMITTED => {
                let (call, first, at_ms) = (take.small()?, take.number()?, take.number()?);
                let args = (0..take.count(1)?).map(|_| take.bytes()).collect::<Result<_>>()?;
                Self::Submitted { session, call, first, at_ms, args }
            }
            STARTED => {
                let node = NodeId::new(take.small()?).ok_or_else(|| damaged("a node's number is 0"))?;
                Self::Started { session, node, at_ms: take.number()?, attempts: take_attempts(&mut take)? }
            }
            RETURNED => Self::Returned { session, attempts: take_attempts(&mut take)? },
            ENDED => {
                let at_ms = take.number()?;
                let outcomes = (0..take.count(7)?).map(|_| take_outcome(&mut take)).collect::<Result<_>>()?;
                Self::Ended { session, at_ms, outcomes }
            }
            FINISHED => Self::Finished { session },
            STOPPED => {
                let mut error = take.clone();
                let absent = take.bytes()?.is_empty();
                Self::Stopped { session, error: if absent { None } else { Some(error.json()?) } }
            }
            CLOSED => Self::Closed { session },
            _ => return Err(damaged("its kind is unknown")),
        };
        take.end()?;
        Ok(work)
    }

    /// Whose it is.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Opened(opened) => opened.session,
            Self::Defined { session, .. }
            | Self::Submitted { session, .. }
            | Self::Started { session, .. }
            | Self::Returned { session, .. }
            | Self::Ended { session, .. }
            | Self::Finished { session }
            | Self::Stopped { session, .. }
            | Self::Closed { session } => *session,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rwasm_types::Code;

    use super::*;
    use crate::segment::{LogKind, Origin, Position, Segment};

    /// One of each record, and what is read back.
    fn one_of_each() -> (Batch, Vec<Work>) {
        one_of_each_of(Some("a1-2-3".parse().unwrap()))
    }

    /// The same, with calls of an actor, which the first files did not have.
    fn one_of_each_of(actor: Option<ActorId>) -> (Batch, Vec<Work>) {
        let opened =
            Opened { session: 7, tenant: Tenant::default(), name: "n".into(), detached: true, key: vec![1; 16], at_ms: 1_700_000_000_000 };
        let call = CallOf {
            artifact: ArtifactDigest([9; 32]),
            export: "add".into(),
            options: TaskOptions::default(),
            grants: Grants { stdin: Bytes::from_static(b"in"), ..Grants::default() },
            actor,
        };
        let args = vec![Bytes::from_static(b"ab"), Bytes::new()];
        let attempts = vec![(0, Attempt(1)), (300, Attempt(2))];
        let outcomes = vec![
            Outcome {
                sequence: 0,
                attempt: Attempt(1),
                result: Ok(Bytes::from_static(b"r")),
                failed: Some(Error::new(Code::APPLICATION, "no")),
                cpu_ns: 5,
                wall_ns: 6,
                memory_bytes: 70_000,
            },
            Outcome {
                sequence: 300,
                attempt: Attempt(2),
                result: Err(Error::new(Code::TRAP, "t").with("k", 1)),
                failed: None,
                cpu_ns: 0,
                wall_ns: 0,
                memory_bytes: 0,
            },
        ];
        let error = Error::new(Code::CONNECTION_LOST, "gone");
        let mut batch = Batch::default();
        batch.opened(&opened).unwrap();
        batch.defined(7, 0, &call).unwrap();
        batch.submitted(7, 0, 0, 1_700_000_000_001, &args).unwrap();
        batch.started(7, NodeId::FIRST, 1_700_000_000_002, attempts.clone().into_iter()).unwrap();
        batch.returned(7, attempts.clone().into_iter()).unwrap();
        batch.ended(7, 1_700_000_000_003, &outcomes).unwrap();
        batch.finished(7).unwrap();
        batch.stopped(7, None).unwrap();
        batch.stopped(7, Some(&error)).unwrap();
        batch.closed(7).unwrap();
        let works = vec![
            Work::Opened(opened),
            Work::Defined { session: 7, number: 0, call: Box::new(call) },
            Work::Submitted { session: 7, call: 0, first: 0, at_ms: 1_700_000_000_001, args },
            Work::Started { session: 7, node: NodeId::FIRST, at_ms: 1_700_000_000_002, attempts: attempts.clone() },
            Work::Returned { session: 7, attempts },
            Work::Ended { session: 7, at_ms: 1_700_000_000_003, outcomes },
            Work::Finished { session: 7 },
            Work::Stopped { session: 7, error: None },
            Work::Stopped { session: 7, error: Some(error) },
            Work::Closed { session: 7 },
        ];
        (batch, works)
    }

    fn origin() -> Origin {
        Origin { kind: LogKind::Work, cluster: "c0123456789abcdef".into(), owner: NodeId::FIRST }
    }

    fn read(dir: &std::path::Path) -> Vec<Work> {
        let segment = Segment::open(dir, 1, &origin()).unwrap().unwrap();
        let mut records = segment.records(0);
        let works = records.by_ref().map(|record| Work::read(&record).unwrap()).collect();
        assert_eq!(records.gap(), None);
        works
    }

    #[test]
    fn what_is_written_of_calls_of_actors_is_read() {
        let (batch, works) = one_of_each();
        let mut bytes = segment::header(&origin(), 1, 1_700_000_000_000).to_vec();
        bytes.extend_from_slice(batch.bytes());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(segment::file_name(1)), bytes).unwrap();
        assert_eq!(read(dir.path()), works);
    }

    /// What this version writes is what the file holds, byte for byte, and later versions must read it. `UPDATE_GOLDEN=1` writes it anew,
    /// which is right only together with a new format number.
    #[test]
    fn a_segment_of_this_format_is_read_for_ever() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/work-1.seg");
        let (batch, works) = one_of_each_of(None);
        let mut bytes = segment::header(&origin(), 1, 1_700_000_000_000).to_vec();
        bytes.extend_from_slice(batch.bytes());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &bytes).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden, dir.path().join(segment::file_name(1))).unwrap();
        assert_eq!(read(dir.path()), works);
        assert_eq!(std::fs::read(golden).unwrap(), bytes);
    }

    #[test]
    fn outcomes_too_large_for_one_record_become_several() {
        let outcome = |sequence, bytes: usize| Outcome {
            sequence,
            attempt: Attempt::FIRST,
            result: Ok(vec![0; bytes].into()),
            failed: None,
            cpu_ns: 0,
            wall_ns: 0,
            memory_bytes: 0,
        };
        let outcomes: Vec<Outcome> =
            [10, ENDED_BYTES * 2, 10, ENDED_BYTES, 20].into_iter().zip(0..).map(|(bytes, n)| outcome(n, bytes)).collect();
        let mut batch = Batch::default();
        batch.ended(1, 5, &outcomes).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = segment::header(&origin(), 1, 5).to_vec();
        bytes.extend_from_slice(batch.bytes());
        std::fs::write(dir.path().join(segment::file_name(1)), bytes).unwrap();
        let read: Vec<Outcome> = read(dir.path())
            .into_iter()
            .flat_map(|work| match work {
                Work::Ended { outcomes, .. } => outcomes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, outcomes);
    }

    proptest! {
        #[test]
        fn a_payload_that_was_changed_is_an_error_or_another_record_and_no_panic(kind in 0_u8..12, payload: Vec<u8>) {
            let _ = Work::read(&Record { at: Position::default(), kind, payload: payload.into() });
        }
    }
}
