//! The service that drivers speak with: sessions with jobs, artifacts, questions, output.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    ops::Bound::{Excluded, Unbounded},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, write_private};
use rwasm_types::{
    ArtifactDigest, Code, Error, JobId, Result, SessionId, Tenant,
    api::{Ask, Order, Query},
};
use rwasm_values::ArtifactInfo;
use rwasm_wire::{Caller, GatewayService, Inbound, Outbound, Sender, accept_hello, convert, msg};
use tokio::sync::Notify;

use crate::{
    logs::LogReader,
    node::{CallRequest, Shared, find_export},
    owner::job::{Job, JobOptions},
};

/// Where jobs' output is, below the state directory.
const JOBS_DIR: &str = "jobs";
/// Messages to a driver that may wait for the network, each up to a batch of results.
const QUEUE: usize = 64;
/// The most bytes of a job's name.
const JOB_NAME_BYTES_MAX: usize = 200;
/// Numbers of sessions that are reserved on disk at once.
const SESSIONS_RESERVED: SessionId = 1024;
/// How far they go on after a restore.
const SESSIONS_RESTORED: SessionId = 1 << 20;

/// The service of a node that has a gateway. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    opener: Arc<Opener>,
}

/// What opening jobs needs.
struct Opener {
    sessions: Mutex<Sessions>,
    /// Jobs by the key of their opening, so that a repeated opening opens no second job.
    keys: Mutex<HashMap<(Tenant, Bytes), JobId>>,
}

/// How many jobs are opened between looks at what can be forgotten.
const FORGET_EVERY: SessionId = 64;

impl Gateway {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self> {
        let sessions = Sessions::open(&shared.state_dir)?;
        // Output of jobs of an earlier life, which nobody can ask for.
        match fs::remove_dir_all(shared.state_dir.join(JOBS_DIR)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "output of earlier jobs cannot be removed");
            }
            _ => {}
        }
        let opener = Opener { sessions: Mutex::new(sessions), keys: Mutex::default() };
        Ok(Self { shared: Arc::clone(shared), opener: Arc::new(opener) })
    }

    /// Who calls.
    fn tenant(&self, caller: &Caller) -> Result<Tenant> {
        self.shared.token.check(caller.token.as_deref())?;
        Ok(Tenant::default())
    }

    async fn info(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<Arc<ArtifactInfo>> {
        if let Some(info) = self.shared.artifacts.info(tenant, digest) {
            return Ok(info);
        }
        let bytes = self.shared.artifacts.read(tenant, digest)?;
        let info = match self.shared.engine.known(tenant, digest) {
            Some(info) => info,
            None => Arc::new(self.shared.engine.inspect(&bytes).await?),
        };
        self.shared.artifacts.set_info(tenant, digest, &info)?;
        Ok(info)
    }

    fn open_job(&self, tenant: &Tenant, open: &msg::OpenJob) -> Result<Arc<Job>> {
        if open.name.len() > JOB_NAME_BYTES_MAX || open.name.chars().any(char::is_control) {
            return Err(Error::new(Code::LIMIT, format!("a job's name may have {JOB_NAME_BYTES_MAX} bytes and no control characters")));
        }
        if open.key.len() != 16 {
            return Err(convert::malformed("a job's key has not 16 bytes"));
        }
        let mut keys = self.opener.keys.lock();
        let key = (tenant.clone(), open.key.clone());
        if let Some(job) = keys.get(&key).and_then(|id| self.shared.jobs.read().get(id).map(Arc::clone)) {
            return Ok(job);
        }
        let id = JobId { owner: self.shared.id, session: self.opener.sessions.lock().next()? };
        let path = self.shared.state_dir.join(JOBS_DIR).join(tenant.as_str()).join(id.to_string()).join("output.log");
        let log = self.shared.logs.open(path, self.shared.limits.log_bytes);
        let node = self.shared.id;
        let (tenant, name, detached) = (tenant.clone(), open.name.clone(), open.detached);
        let counters = self.shared.tally.open_job(&tenant);
        let job = Arc::new(Job::new(JobOptions { id, tenant, name, detached, node, log, counters }));
        self.shared.jobs.write().insert(id, Arc::clone(&job));
        keys.insert(key, id);
        if id.session.is_multiple_of(FORGET_EVERY) {
            let forgotten: HashSet<JobId> = self.shared.forget_jobs().into_iter().collect();
            keys.retain(|_, id| !forgotten.contains(id));
        }
        tracing::info!(tenant = %job.tenant, job = %id, name = %open.name, "job opened");
        Ok(job)
    }
}

impl GatewayService for Gateway {
    async fn attach(&self, caller: Caller, mut inbound: Inbound<msg::DriverMessage>) -> Result<Outbound<Result<msg::GatewayMessage>>> {
        let tenant = self.tenant(&caller)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.message), "a session's first message")?;
        let msg::driver_message::Message::Hello(hello) = first else {
            return Err(convert::malformed("a session does not begin with a hello"));
        };
        let shared = &self.shared;
        let welcome = accept_hello(&hello, &shared.cluster, shared.incarnation, Some(shared.id))?;
        let (sender, outbound) = Outbound::channel(QUEUE);
        // The channel was made with room.
        let _ = sender.try_send(Ok(message(msg::gateway_message::Message::Welcome(welcome))));
        let session = Session {
            gateway: self.clone(),
            tenant,
            sender,
            jobs: HashMap::new(),
            open: BTreeMap::new(),
            served: 0,
            ready: Arc::default(),
        };
        shared.scope.spawn("driver-session", OnEnd::Continue, session.run(inbound));
        Ok(outbound)
    }

    async fn describe(&self, caller: Caller, digest: Bytes) -> Result<Bytes> {
        let tenant = self.tenant(&caller)?;
        json(&*self.info(&tenant, convert::digest(&digest)?).await?)
    }

    async fn upload(&self, caller: Caller, chunks: Inbound<msg::ArtifactChunk>) -> Result<Bytes> {
        let tenant = self.tenant(&caller)?;
        let received = self.shared.artifacts.receive(&tenant, chunks).await?;
        let digest = self.shared.store(received).await?;
        json(&*self.info(&tenant, digest).await?)
    }

    async fn query(&self, caller: Caller, query: Bytes) -> Result<Bytes> {
        let tenant = self.tenant(&caller)?;
        let query: Query =
            serde_json::from_slice(&query).map_err(|error| convert::malformed(format_args!("a question is not understood: {error}")))?;
        self.shared.answer(&tenant, &Ask::Query(query), Bytes::new()).await.map(Bytes::from)
    }

    async fn control(&self, caller: Caller, order: Bytes, key: Bytes) -> Result<Bytes> {
        let tenant = self.tenant(&caller)?;
        if key.len() != 16 {
            return Err(convert::malformed("an order's key has not 16 bytes"));
        }
        let order: Order =
            serde_json::from_slice(&order).map_err(|error| convert::malformed(format_args!("an order is not understood: {error}")))?;
        self.shared.answer(&tenant, &Ask::Order(order), key).await.map(Bytes::from)
    }

    async fn logs(&self, caller: Caller, request: msg::LogsRequest) -> Result<Outbound<Result<msg::LogsChunk>>> {
        let tenant = self.tenant(&caller)?;
        let id = convert::job(&convert::required(request.job, "a job")?)?;
        let job = self.shared.job(&tenant, id)?;
        let (sender, outbound) = Outbound::channel(QUEUE);
        self.shared.scope.spawn("log-follower", OnEnd::Continue, follow(job, request.sequence, request.follow, sender));
        Ok(outbound)
    }
}

fn json<T: serde::Serialize>(answer: &T) -> Result<Bytes> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| Error::internal(format!("an answer has no JSON: {error}")))
}

fn message(message: msg::gateway_message::Message) -> msg::GatewayMessage {
    msg::GatewayMessage { message: Some(message) }
}

/// One driver's stream. One task reads and writes it, so that the result of a short task leaves on the thread that the task came in on.
struct Session {
    gateway: Gateway,
    tenant: Tenant,
    sender: Sender<Result<msg::GatewayMessage>>,
    jobs: HashMap<SessionId, Arc<Job>>,
    /// Those whose end the driver does not know.
    open: BTreeMap<SessionId, Attached>,
    /// The job that something was last sent of; the next one goes first, so that none is passed over.
    served: SessionId,
    /// Told when a job has something to send.
    ready: Arc<Notify>,
}

/// A job of a session.
struct Attached {
    job: Arc<Job>,
    /// Whether all output that the driver wants was sent.
    output_sent: Arc<AtomicBool>,
}

impl Session {
    async fn run(mut self, mut inbound: Inbound<msg::DriverMessage>) {
        let outcome = self.converse(&mut inbound).await;
        if let Err(error) = outcome {
            tracing::info!(tenant = %self.tenant, %error, "a driver's session ended");
            // The driver may be gone, and then nobody hears why.
            let _ = self.sender.send(Err(error)).await;
        }
        // Nobody waits any more for what is not detached.
        for Attached { job, .. } in self.open.values().filter(|open| !open.job.detached && !open.job.has_ended()) {
            let error = Error::new(Code::CONNECTION_LOST, "the driver went away before the job ended")
                .hint("submit with --no-wait to let it go on");
            self.gateway.shared.stop(job, Some(error));
        }
        for Attached { job, .. } in self.open.values() {
            let pressure = job.outbox.close();
            self.gateway.shared.relieve(job, pressure);
        }
    }

    /// Reads and writes until the driver leaves. A driver that does not read is still heard: it may want to cancel.
    async fn converse(&mut self, inbound: &mut Inbound<msg::DriverMessage>) -> Result<()> {
        loop {
            let full = !self.flush();
            let message = tokio::select! {
                message = inbound.next() => message?,
                () = self.ready.notified(), if !full => continue,
                // Only waits for room; who takes it is decided above.
                room = self.sender.reserve(), if full => {
                    drop(room.map_err(|_| driver_gone())?);
                    continue;
                }
            };
            let Some(message) = message else { return Ok(()) };
            self.heard(convert::required(message.message, "a driver's message")?).await?;
        }
    }

    /// Sends what waits, as long as there is room; says whether all was sent.
    fn flush(&mut self) -> bool {
        loop {
            let Ok(permit) = self.sender.try_reserve() else { return false };
            let shared = &self.gateway.shared;
            let in_turn = self.open.range((Excluded(self.served), Unbounded)).chain(self.open.range(..=self.served));
            let next = in_turn.filter_map(|(session, open)| Some((*session, open.next(shared)?))).next();
            let Some((session, next)) = next else { return true };
            self.served = session;
            if matches!(next, msg::gateway_message::Message::JobEnded(_)) {
                self.open.remove(&session);
            }
            permit.send(Ok(message(next)));
        }
    }

    async fn heard(&mut self, message: msg::driver_message::Message) -> Result<()> {
        match message {
            msg::driver_message::Message::Submit(submit) => self.submit(submit)?,
            msg::driver_message::Message::OpenJob(open) => self.open_job(&open).await?,
            msg::driver_message::Message::DefineCall(define) => self.define(define).await?,
            msg::driver_message::Message::FinishJob(finish) => self.job(finish.session)?.finish(),
            msg::driver_message::Message::Cancel(cancel) => {
                let job = self.job(cancel.session)?;
                if cancel.sequences.is_empty() {
                    self.gateway.shared.stop(&job, None);
                } else {
                    self.gateway.shared.cancel(&job, Some(&cancel.sequences));
                }
            }
            msg::driver_message::Message::Hello(_) => return Err(convert::malformed("a second hello")),
        }
        Ok(())
    }

    fn job(&self, session: SessionId) -> Result<Arc<Job>> {
        self.jobs.get(&session).map(Arc::clone).ok_or_else(|| convert::malformed("a message names a job that was not opened"))
    }

    async fn open_job(&mut self, open: &msg::OpenJob) -> Result<()> {
        let (result, window) = match self.gateway.open_job(&self.tenant, open) {
            Ok(job) => {
                self.attach(&job, open.follow);
                (msg::job_opened::Result::Job(job.id.into()), self.gateway.shared.limits.window)
            }
            Err(error) => (msg::job_opened::Result::Error((&error).into()), 0),
        };
        self.send(msg::gateway_message::Message::JobOpened(msg::JobOpened { request: open.request, result: Some(result), window })).await
    }

    /// Makes a job one of this session's; one that is already stays as it is.
    fn attach(&mut self, job: &Arc<Job>, follow: bool) {
        if self.jobs.contains_key(&job.id.session) {
            return;
        }
        let output_sent = Arc::new(AtomicBool::new(!follow));
        if follow {
            let writer = write_output(Arc::clone(job), self.sender.clone(), Arc::clone(&output_sent), Arc::clone(&self.ready));
            self.gateway.shared.scope.spawn("output-writer", OnEnd::Continue, writer);
        }
        job.outbox.attach(&self.ready);
        self.jobs.insert(job.id.session, Arc::clone(job));
        self.open.insert(job.id.session, Attached { job: Arc::clone(job), output_sent });
    }

    async fn define(&mut self, define: msg::DefineCall) -> Result<()> {
        let (session, number) = (define.session, define.number);
        let job = self.job(session)?;
        let error = self.try_define(&job, define).await.err().map(|error| (&error).into());
        self.send(msg::gateway_message::Message::CallDefined(msg::CallDefined { session, number, error })).await
    }

    async fn try_define(&self, job: &Arc<Job>, define: msg::DefineCall) -> Result<()> {
        let call = convert::required(define.call, "a call")?;
        let request = CallRequest {
            artifact: convert::digest(&call.artifact)?,
            export: call.export,
            options: convert::options(&convert::required(call.options, "options")?)?,
            grants: convert::grants(convert::required(call.grants, "grants")?)?,
        };
        let info = self.gateway.info(&self.tenant, request.artifact).await?;
        find_export(&info, &request.export)?;
        self.gateway.shared.define(job, define.number, request)
    }

    fn submit(&self, submit: msg::Submit) -> Result<()> {
        let job = self.job(submit.session)?;
        let call = u16::try_from(submit.call).ok().and_then(|number| job.call(number));
        let call = call.ok_or_else(|| convert::malformed("a task names a call that was not defined"))?;
        let counts = job.counts();
        if counts.total() - counts.finished() + submit.args.len() as u64 > self.gateway.shared.limits.window {
            let message = format!("job {} has {} tasks that have not ended, which is the limit", job.id, self.gateway.shared.limits.window);
            return Err(Error::new(Code::QUEUE_FULL, message));
        }
        for args in &submit.args {
            call.check(args)?;
        }
        let items = job.submit(&call, submit.first_sequence, submit.args)?;
        self.gateway.shared.enqueue(&job, &call, items);
        Ok(())
    }

    async fn send(&self, to_driver: msg::gateway_message::Message) -> Result<()> {
        self.sender.send(Ok(message(to_driver))).await.map_err(|_| driver_gone())
    }
}

fn driver_gone() -> Error {
    Error::new(Code::CONNECTION_LOST, "the driver went away")
}

impl Attached {
    /// The next message that the driver is owed.
    fn next(&self, shared: &Shared) -> Option<msg::gateway_message::Message> {
        let (job, session) = (&self.job, self.job.id.session);
        // Asked before the outbox is looked at: what ends a job is in the outbox before the job has ended.
        let ended = job.has_ended() && self.output_sent.load(Acquire);
        let (outcomes, pressure) = job.outbox.take();
        shared.relieve(job, pressure);
        if !outcomes.is_empty() {
            return Some(msg::gateway_message::Message::Outcomes(msg::Outcomes { session, outcomes }));
        }
        ended.then(|| {
            let record = json(&job.record()).unwrap_or_default();
            msg::gateway_message::Message::JobEnded(msg::JobEnded { session, record })
        })
    }
}

/// Sends a job's output as it is written, then says so.
async fn write_output(job: Arc<Job>, sender: Sender<Result<msg::GatewayMessage>>, sent: Arc<AtomicBool>, ready: Arc<Notify>) {
    let session = job.id.session;
    let mut reader = LogReader::new(&job.log, None);
    loop {
        match reader.read() {
            Ok(outputs) if outputs.is_empty() => {
                let more = tokio::select! {
                    more = reader.wait() => more,
                    () = sender.closed() => false,
                };
                if !more {
                    break;
                }
            }
            Ok(outputs) => {
                let outputs = msg::gateway_message::Message::Outputs(msg::Outputs { session, outputs });
                if sender.send(Ok(message(outputs))).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "a job's output cannot be followed");
                break;
            }
        }
    }
    sent.store(true, Release);
    ready.notify_one();
}

/// Sends a job's output, once or until it ends.
async fn follow(job: Arc<Job>, only: Option<u64>, follow: bool, sender: Sender<Result<msg::LogsChunk>>) {
    let mut reader = LogReader::new(&job.log, only);
    loop {
        match reader.read() {
            Ok(outputs) if outputs.is_empty() => {
                let more = tokio::select! {
                    more = reader.wait(), if follow => more,
                    () = std::future::ready(()), if !follow => false,
                    () = sender.closed() => return,
                };
                if !more {
                    return;
                }
            }
            Ok(outputs) => {
                if sender.send(Ok(msg::LogsChunk { outputs })).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // The follower may be gone.
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
    }
}

/// Numbers for sessions, never given twice by a node, whatever happens to it: blocks of them are reserved on disk before they are used.
pub(crate) struct Sessions {
    path: PathBuf,
    next: SessionId,
    reserved: SessionId,
}

impl Sessions {
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("sessions");
        let damaged = || Error::new(Code::DAMAGED_STATE, format!("{} is damaged", path.display()));
        let reserved = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| damaged().hint("put it back from a backup"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::new(Code::IO, format!("cannot read {}: {error}", path.display()))),
        };
        Ok(Self { path, next: reserved + 1, reserved })
    }

    /// Leaves out the numbers that may have been given since a backup was made.
    pub(crate) fn renumber(state_dir: &Path) -> Result<()> {
        let mut sessions = Self::open(state_dir)?;
        if sessions.reserved > 0 {
            sessions.reserve(sessions.reserved.saturating_add(SESSIONS_RESTORED))?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<SessionId> {
        if self.next > self.reserved {
            self.reserve(self.next.saturating_add(SESSIONS_RESERVED))?;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    fn reserve(&mut self, reserved: SessionId) -> Result<()> {
        let written = write_private(&self.path, reserved.to_string().as_bytes());
        written.map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", self.path.display())))?;
        self.reserved = reserved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_numbers_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _life in 0..3 {
            let mut sessions = Sessions::open(dir.path()).unwrap();
            assert!((0..1500).all(|_| seen.insert(sessions.next().unwrap())));
        }
        let last = *seen.last().unwrap();
        Sessions::renumber(dir.path()).unwrap();
        assert!(Sessions::open(dir.path()).unwrap().next().unwrap() > last + SESSIONS_RESTORED);
        fs::write(dir.path().join("sessions"), "x").unwrap();
        assert!(Sessions::open(dir.path()).is_err());
    }
}
