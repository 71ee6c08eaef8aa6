//! A job as its driver sees it: calls, tasks, and what comes back.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_runtime::BusyPoll;
use rwasm_types::{ActorId, Attempt, Code, Error, Grants, JobId, Result, SessionId, Stream, TaskOptions, api::JobRecord};
use rwasm_values::{Args, Export, Returned, Role, codec};
use rwasm_wire::{convert, msg};
use tokio::sync::{mpsc, watch};

use crate::{
    client::Artifact,
    session::{Incoming, Session},
};

/// The most tasks and bytes of arguments of one message.
const BATCH_TASKS: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// How a job is opened.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    /// A name for people.
    pub name: String,
    /// Whether the job goes on when the driver goes away.
    pub detached: bool,
    /// Whether its tasks' output is wanted as it comes.
    pub follow: bool,
}

/// What comes back from a job.
#[derive(Debug)]
pub enum JobEvent {
    /// Tasks ended.
    Outcomes(Vec<TaskOutcome>),
    /// Tasks wrote.
    Outputs(Vec<TaskOutput>),
    /// The job ended; nothing comes after this.
    Ended(Box<JobRecord>),
    /// The connection broke. It is tried to come back, and nothing is lost if that succeeds.
    Away(Error),
    /// The connection is back.
    Back,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct TaskOutcome {
    /// Which task of the job.
    pub sequence: u64,
    /// Which execution gave the result.
    pub attempt: Attempt,
    /// The result in the codec's message form.
    pub result: Result<Bytes>,
    /// Whether the function ran and returned its error case; the result has it.
    pub failed: bool,
    /// Processor time it used.
    pub cpu: Duration,
    /// Wall-clock time of the attempt.
    pub wall: Duration,
}

/// What a task wrote.
#[derive(Clone, Debug)]
pub struct TaskOutput {
    /// Which task of the job.
    pub sequence: u64,
    /// Which execution.
    pub attempt: Attempt,
    /// Which of its outputs.
    pub stream: Stream,
    /// The bytes, as they were written.
    pub bytes: Bytes,
}

impl TaskOutput {
    pub(crate) fn read(output: msg::Output) -> Result<Self> {
        let stream = convert::stream(output.stream)?;
        Ok(Self { sequence: output.sequence, attempt: Attempt(output.attempt), stream, bytes: output.bytes })
    }
}

/// A call that a job's tasks are of.
#[derive(Clone, Debug)]
pub struct Call {
    number: u32,
    export: Arc<Export>,
}

impl Call {
    /// A call that only checks and encodes: it belongs to no job, and nothing can be submitted with it.
    pub fn check_only(export: &Export) -> Self {
        Self { number: u32::MAX, export: Arc::new(export.clone()) }
    }

    /// The export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Encodes arguments, checked against the export's signature.
    ///
    /// # Errors
    ///
    /// Which argument does not fit, and why.
    pub fn encode(&self, args: &Args) -> Result<Bytes> {
        if self.export.role == Role::Command {
            return Ok(Bytes::new());
        }
        codec::encode_args(&self.export.signature, args, &codec::Limits::default())
    }

    /// Decodes a task's result.
    ///
    /// # Errors
    ///
    /// If it is no value of the export's result type.
    pub fn decode(&self, result: &Bytes) -> Result<Returned> {
        codec::decode_result(
            self.export.signature.result.as_ref(),
            result,
            &codec::Limits { bytes: usize::MAX, ..codec::Limits::default() },
        )
    }
}

/// An open job: the side that reads.
pub struct Job {
    submitter: Submitter,
    incoming: mpsc::Receiver<Incoming>,
    waits: BusyPoll,
}

/// An open job: the side that submits, which can be used while another part reads. Clones are the same.
#[derive(Clone)]
pub struct Submitter(Arc<Inner>);

struct Inner {
    id: JobId,
    session: Arc<Session>,
    state: Mutex<State>,
    /// What the job was opened with; the same again opens nothing new.
    key: Bytes,
    /// Tasks that have ended; whoever submits waits on it where the window is full.
    ended: watch::Sender<u64>,
    window: u64,
}

#[derive(Default)]
struct State {
    calls: u32,
    submitted: u64,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Submitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl Job {
    pub(crate) async fn open(session: &Arc<Session>, options: JobOptions) -> Result<Self> {
        let key = rwasm_runtime::random_bytes::<16>().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        let JobOptions { name, detached, follow } = options;
        let key = Bytes::copy_from_slice(&key);
        let open = msg::OpenJob { request: 0, key: key.clone(), name, detached, follow, resume: None };
        let (id, window, incoming) = session.open_job(open).await?;
        let id = convert::job(&id)?;
        let inner = Inner { id, session: Arc::clone(session), state: Mutex::default(), key, ended: watch::Sender::new(0), window };
        Ok(Self { submitter: Submitter(Arc::new(inner)), incoming, waits: BusyPoll::new() })
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.submitter.0.id
    }

    /// The side that submits.
    pub fn submitter(&self) -> Submitter {
        self.submitter.clone()
    }

    /// As [`Submitter::define`].
    ///
    /// # Errors
    ///
    /// As [`Submitter::define`].
    pub async fn define(&self, artifact: &Artifact, export: Option<&str>, options: &TaskOptions, grants: &Grants) -> Result<Call> {
        self.submitter.define(artifact, export, options, grants).await
    }

    /// As [`Submitter::submit`].
    ///
    /// # Errors
    ///
    /// As [`Submitter::submit`].
    pub async fn submit(&self, call: &Call, args: Vec<Bytes>) -> Result<Range<u64>> {
        self.submitter.submit(call, args).await
    }

    /// As [`Submitter::finish`].
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn finish(&self) -> Result<()> {
        self.submitter.finish().await
    }

    /// As [`Submitter::arrived`].
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn arrived(&self) -> Result<()> {
        self.submitter.arrived().await
    }

    /// As [`Submitter::cancel`].
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn cancel(&self) -> Result<()> {
        self.submitter.cancel().await
    }

    /// What comes back next; `None` after the job's end.
    ///
    /// # Errors
    ///
    /// If the connection ends before the job does.
    pub async fn next(&mut self) -> Result<Option<JobEvent>> {
        Ok(match self.waits.wait(self.incoming.recv()).await {
            None => None,
            Some(Incoming::Lost(error)) => return Err(error),
            Some(Incoming::Away(error)) => Some(JobEvent::Away(error)),
            Some(Incoming::Back) => Some(JobEvent::Back),
            Some(Incoming::Outcomes(outcomes)) => {
                self.submitter.0.ended.send_modify(|ended| *ended += outcomes.outcomes.len() as u64);
                Some(JobEvent::Outcomes(outcomes.outcomes.into_iter().map(outcome).collect()))
            }
            Some(Incoming::Outputs(outputs)) => {
                Some(JobEvent::Outputs(outputs.outputs.into_iter().map(TaskOutput::read).collect::<Result<_>>()?))
            }
            Some(Incoming::Ended(ended)) => {
                let record = serde_json::from_slice(&ended.record)
                    .map_err(|error| Error::new(Code::MALFORMED_MESSAGE, format!("a job's record is not understood: {error}")))?;
                Some(JobEvent::Ended(Box::new(record)))
            }
        })
    }
}

impl Submitter {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.0.id
    }

    fn number(&self) -> SessionId {
        self.0.id.session
    }

    /// Says what tasks will be calls of: an export by name, or the artifact's command where `export` is `None`.
    ///
    /// # Errors
    ///
    /// Why it cannot be called, here or by the cluster.
    pub async fn define(&self, artifact: &Artifact, export: Option<&str>, options: &TaskOptions, grants: &Grants) -> Result<Call> {
        let export = artifact.callable(export)?.clone();
        self.define_call(artifact, export, options, grants, None).await
    }

    /// Says what tasks will be calls of: an export whose type is as callers see it.
    pub(crate) async fn define_call(
        &self,
        artifact: &Artifact,
        export: Export,
        options: &TaskOptions,
        grants: &Grants,
        actor: Option<ActorId>,
    ) -> Result<Call> {
        let export = Arc::new(export);
        artifact.info().check_imports()?;
        grants.check()?;
        let number = {
            let mut state = self.0.state.lock();
            state.calls += 1;
            state.calls - 1
        };
        let name = if export.role == Role::Command { String::new() } else { export.name.to_string() };
        let call = msg::Call {
            artifact: Bytes::copy_from_slice(&artifact.digest().0),
            export: name,
            options: Some(options.into()),
            grants: Some(grants.into()),
            actor: actor.map(Into::into),
        };
        self.0.session.define(msg::DefineCall { session: self.number(), number, call: Some(call) }).await?;
        Ok(Call { number, export })
    }

    /// Submits one task for each of the encoded arguments; waits where the cluster has as much as it takes. Gives the tasks' numbers.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn submit(&self, call: &Call, args: Vec<Bytes>) -> Result<Range<u64>> {
        let first = self.0.state.lock().submitted;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for args in args {
            if batch.len() == BATCH_TASKS || bytes + args.len() > BATCH_BYTES && !batch.is_empty() {
                self.send(call, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += args.len();
            batch.push(args);
        }
        if !batch.is_empty() {
            self.send(call, batch).await?;
        }
        Ok(first..self.0.state.lock().submitted)
    }

    async fn send(&self, call: &Call, args: Vec<Bytes>) -> Result<()> {
        let count = args.len() as u64;
        let first_sequence = {
            let mut state = self.0.state.lock();
            state.submitted += count;
            state.submitted - count
        };
        if first_sequence + count > self.0.window {
            let mut ended = self.0.ended.subscribe();
            // The sender lives as long as this job.
            let _ = ended.wait_for(|ended| first_sequence + count - *ended <= self.0.window).await;
        }
        let submit = msg::Submit { session: self.number(), call: call.number, first_sequence, args };
        self.0.session.say(self.number(), msg::driver_message::Message::Submit(submit)).await
    }

    /// Says that no more tasks come; the job ends with its last task.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn finish(&self) -> Result<()> {
        self.0.session.say(self.number(), msg::driver_message::Message::FinishJob(msg::FinishJob { session: self.number() })).await
    }

    /// Waits until the gateway has all that was sent: whoever leaves a detached job before would leave a part of it behind.
    ///
    /// A session's messages are worked off in their order, so it is enough to ask for something last: for the same job once more.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn arrived(&self) -> Result<()> {
        self.0.session.ask_for_job(msg::OpenJob { key: self.0.key.clone(), ..msg::OpenJob::default() }).await
    }

    /// Cancels all tasks and ends the job.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub async fn cancel(&self) -> Result<()> {
        let cancel = msg::CancelTasks { session: self.number(), sequences: Vec::new() };
        self.0.session.say(self.number(), msg::driver_message::Message::Cancel(cancel)).await
    }
}

fn outcome(outcome: msg::Outcome) -> TaskOutcome {
    TaskOutcome {
        sequence: outcome.sequence,
        attempt: Attempt(outcome.attempt),
        failed: outcome.failed,
        cpu: Duration::from_nanos(outcome.cpu_ns),
        wall: Duration::from_nanos(outcome.wall_ns),
        result: convert::read_outcome_result(outcome.result),
    }
}
