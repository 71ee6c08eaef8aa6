//! The service that drivers speak with: sessions with jobs, artifacts, questions, output, objects.

mod objects;
mod opener;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
};

use bytes::Bytes;
use rwasm_auth::Door;
use rwasm_history::work::{Opened, Outcome};
use rwasm_runtime::{BusyPoll, OnEnd, aside};
use rwasm_types::{
    ArtifactDigest, Code, Error, JobId, ObjectId, Result, SessionId, Tenant,
    api::{Ask, Order, Query},
};
use rwasm_values::ArtifactInfo;
use rwasm_wire::{Caller, GatewayService, Inbound, Outbound, RESUME, Sender, accept_hello, convert, msg};
use tokio::sync::Notify;

use self::opener::Opener;
use crate::{
    access::Visitor,
    exports::callable,
    logs::{JobLog, LogReader},
    node::{CallRequest, Shared},
    owner::{job::Job, received::Received, restore::DRIVER_GRACE_BROKEN},
};

/// Messages to a driver that may wait for the network, each up to a batch of results.
const QUEUE: usize = 64;
/// The most bytes of a job's name.
const JOB_NAME_BYTES_MAX: usize = 200;

/// The service of a node that has a gateway. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    opener: Arc<Opener>,
}

/// How many jobs are opened between looks at what can be forgotten.
const FORGET_EVERY: SessionId = 64;

impl Gateway {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self> {
        let opener = Opener::new(shared);
        Ok(Self { shared: Arc::clone(shared), opener: Arc::new(opener) })
    }

    fn enter(&self, caller: &Caller, door: Door<'_>) -> Result<Visitor> {
        self.shared.access.enter(caller, door)
    }

    async fn info(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<Arc<ArtifactInfo>> {
        if let Some(info) = self.shared.artifacts.info(tenant, digest) {
            return Ok(info);
        }
        let info = aside(async {
            let bytes = self.shared.artifacts.read(tenant, digest)?;
            match self.shared.engine.known(tenant, digest) {
                Some(info) => Ok(info),
                None => self.shared.engine.inspect(&bytes).await.map(Arc::new),
            }
        })
        .await?;
        self.shared.artifacts.set_info(tenant, digest, &info)?;
        Ok(info)
    }

    /// Answers what a caller asks, if it may ask that. A caller without a token is told nothing of what is wrong with its question.
    async fn answer<E: std::fmt::Display + Send>(&self, caller: &Caller, read: Result<Ask, E>, what: &str, key: Bytes) -> Result<Bytes> {
        let ask = match read {
            Ok(ask) => ask,
            Err(error) => {
                self.shared.access.admit(caller)?;
                return Err(convert::malformed(format_args!("{what} is not understood: {error}")));
            }
        };
        let Visitor { tenant, identity, .. } = self.enter(caller, Door::Ask(&ask))?;
        self.shared.answer(&tenant, identity.token, &ask, key).await.map(Bytes::from)
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
        if open.resume.is_some() {
            return Err(Error::new(Code::JOB_GONE, "the cluster does not know the job any more").hint("see `rwasm job list`"));
        }
        let id = JobId { owner: self.shared.id, session: self.opener.sessions.lock().next()? };
        let log = self.shared.logs.open(tenant, self.shared.outputs.path(tenant, id), self.shared.limits.log_bytes);
        let opened = Opened {
            session: id.session,
            tenant: tenant.clone(),
            name: open.name.clone(),
            detached: open.detached,
            key: open.key.to_vec(),
            at_ms: self.opener.time(),
        };
        let counters = self.shared.tally.open_job(tenant);
        let job = Job::open(id.owner, opened, log, self.shared.job_parts(counters))?;
        self.shared.jobs.write().insert(id, Arc::clone(&job));
        // Only now: a tenant that was deleted before is found here, and one that is deleted from now on has its jobs looked for.
        self.shared.access.there(tenant).inspect_err(|_gone| self.shared.purge(std::slice::from_ref(tenant)))?;
        keys.insert(key, id);
        if id.session.is_multiple_of(FORGET_EVERY) {
            self.shared.forget_jobs();
            let known = self.shared.jobs.read();
            keys.retain(|_, id| known.contains_key(id));
        }
        tracing::info!(tenant = %job.tenant, job = %id, name = %open.name, "job opened");
        Ok(job)
    }
}

impl GatewayService for Gateway {
    async fn attach(&self, caller: Caller, mut inbound: Inbound<msg::DriverMessage>) -> Result<Outbound<Result<msg::GatewayMessage>>> {
        let visitor = self.enter(&caller, Door::Attach)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.message), "a session's first message")?;
        let msg::driver_message::Message::Hello(hello) = first else {
            return Err(convert::malformed("a session does not begin with a hello"));
        };
        let shared = &self.shared;
        let welcome = accept_hello(&hello, &shared.cluster, shared.incarnation, Some(shared.id))?;
        let welcome_features = welcome.features.clone();
        let (sender, outbound) = Outbound::channel(QUEUE);
        // The channel was made with room.
        let _ = sender.try_send(Ok(message(msg::gateway_message::Message::Welcome(welcome))));
        let session = Session {
            gateway: self.clone(),
            visitor,
            sender,
            resumes: welcome_features.iter().any(|feature| feature == RESUME),
            jobs: HashMap::new(),
            open: BTreeMap::new(),
            served: 0,
            ready: Arc::default(),
        };
        shared.scope.spawn("driver-session", OnEnd::Continue, session.run(inbound));
        Ok(outbound)
    }

    async fn describe(&self, caller: Caller, digest: Bytes) -> Result<Bytes> {
        let Visitor { tenant, .. } = self.enter(&caller, Door::Describe)?;
        json(&*self.info(&tenant, convert::digest(&digest)?).await?)
    }

    async fn upload(&self, caller: Caller, chunks: Inbound<msg::ArtifactChunk>) -> Result<Bytes> {
        let mut visitor = self.enter(&caller, Door::Upload)?;
        let tenant = visitor.tenant.clone();
        let received = tokio::select! {
            received = self.shared.artifacts.receive(&tenant, chunks) => received?,
            error = visitor.ended(&self.shared.access) => return Err(error),
        };
        let digest = self.shared.store(received).await?;
        json(&*self.info(&tenant, digest).await?)
    }

    async fn query(&self, caller: Caller, query: Bytes) -> Result<Bytes> {
        let read = serde_json::from_slice::<Query>(&query);
        self.answer(&caller, read.map(Ask::Query), "a question", Bytes::new()).await
    }

    async fn control(&self, caller: Caller, order: Bytes, key: Bytes) -> Result<Bytes> {
        if key.len() != 16 {
            return Err(convert::malformed("an order's key has not 16 bytes"));
        }
        let read = serde_json::from_slice::<Order>(&order);
        self.answer(&caller, read.map(Ask::Order), "an order", key).await
    }

    async fn logs(&self, caller: Caller, request: msg::LogsRequest) -> Result<Outbound<Result<msg::LogsChunk>>> {
        let mut visitor = self.enter(&caller, Door::Logs)?;
        let id = convert::job(&convert::required(request.job, "a job")?)?;
        let log = self.shared.log(&visitor.tenant, id)?;
        let (sender, outbound) = Outbound::channel(QUEUE);
        let shared = Arc::clone(&self.shared);
        self.shared.scope.spawn("log-follower", OnEnd::Continue, async move {
            tokio::select! {
                // First: a token that is revoked ends jobs too, and their output with them.
                biased;
                error = visitor.ended(&shared.access) => {
                    // The follower may be gone.
                    let _ = sender.send(Err(error)).await;
                }
                () = follow(log, request.sequence, request.follow, sender.clone()) => {}
            }
        });
        Ok(outbound)
    }

    async fn put(&self, caller: Caller, parts: Inbound<msg::PutPart>) -> Result<ObjectId> {
        let mut visitor = self.enter(&caller, Door::Put)?;
        let tenant = visitor.tenant.clone();
        tokio::select! {
            put = self.put_object(&tenant, parts) => put,
            error = visitor.ended(&self.shared.access) => Err(error),
        }
    }

    async fn get(&self, caller: Caller, request: msg::GetRequest) -> Result<Outbound<Result<msg::ObjectPart>>> {
        let visitor = self.enter(&caller, Door::Get)?;
        self.get_object(visitor, &request).await
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
    visitor: Visitor,
    sender: Sender<Result<msg::GatewayMessage>>,
    /// Whether the driver comes back after its connection broke, and says when it has all of a job.
    resumes: bool,
    jobs: HashMap<SessionId, Arc<Job>>,
    /// Those whose end the driver does not know.
    open: BTreeMap<SessionId, Attached>,
    /// The job that something was last sent of; the next one goes first, so that none is passed over.
    served: SessionId,
    /// Told when a job has something to send.
    ready: Arc<Notify>,
}

/// Why a session goes on.
#[expect(clippy::large_enum_variant, reason = "it is on the stack for a moment, and a message is what it mostly is")]
enum Next {
    /// The driver said something; `None` if it has said all.
    Message(Option<msg::DriverMessage>),
    /// Something may be sent.
    ToSend,
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
        let refused = outcome.as_ref().err().filter(|error| error.code() != Code::CONNECTION_LOST).cloned();
        // Who closes its side, or breaks the rules, does not come back.
        let comes_back = self.resumes && outcome.as_ref().is_err_and(|error| error.code() == Code::CONNECTION_LOST);
        for job in self.jobs.values() {
            let Some(pressure) = job.outbox.leave(&self.ready, !comes_back || job.detached) else { continue };
            self.gateway.shared.relieve(job, pressure);
            if comes_back && !job.detached {
                self.gateway.shared.await_driver(job, DRIVER_GRACE_BROKEN);
            } else {
                self.gateway.shared.driver_left(job, refused.as_ref());
            }
        }
        if let Err(error) = outcome {
            let tenant = &self.visitor.tenant;
            // Whoever has all, or leaves its jobs with the cluster, goes without saying so first.
            if self.open.values().all(|open| open.job.detached) && error.code() == Code::CONNECTION_LOST {
                tracing::debug!(%tenant, %error, "a driver's session ended");
            } else {
                tracing::info!(%tenant, %error, "a driver's session ended");
            }
            // The driver may be gone, and then nobody hears why.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    /// Reads and writes until the driver leaves. A driver that does not read is still heard: it may want to cancel.
    async fn converse(&mut self, inbound: &mut Inbound<msg::DriverMessage>) -> Result<()> {
        let mut waits = BusyPoll::new();
        loop {
            let full = !self.flush();
            let next = async {
                tokio::select! {
                    biased;
                    message = inbound.next() => message.map(Next::Message),
                    () = self.ready.notified(), if !full => Ok(Next::ToSend),
                    // Only waits for room; who takes it is decided above.
                    room = self.sender.reserve(), if full => room.map(|_| Next::ToSend).map_err(|_| driver_gone()),
                    error = self.visitor.ended(&self.gateway.shared.access) => Err(error),
                }
            };
            let message = match waits.wait(next).await? {
                Next::ToSend => continue,
                Next::Message(None) => return Ok(()),
                Next::Message(Some(message)) => message,
            };
            self.visitor.check(&self.gateway.shared.access)?;
            self.heard(convert::required(message.message, "a driver's message")?).await?;
        }
    }

    /// Sends what waits, as long as there is room; says whether all was sent.
    fn flush(&mut self) -> bool {
        loop {
            let Ok(permit) = self.sender.try_reserve() else { return false };
            let shared = &self.gateway.shared;
            let in_turn = self.open.range((Excluded(self.served), Unbounded)).chain(self.open.range(..=self.served));
            let next = in_turn.filter_map(|(session, open)| Some((*session, open.next(shared, &self.ready)?))).next();
            let Some((session, next)) = next else { return true };
            self.served = session;
            let ended = matches!(next, msg::gateway_message::Message::JobEnded(_));
            permit.send(Ok(message(next)));
            if ended {
                self.open.remove(&session);
                if !self.resumes {
                    self.release(session);
                }
            }
        }
    }

    /// The driver has all of a job.
    fn release(&mut self, session: SessionId) {
        if let Some(job) = self.jobs.remove(&session) {
            // Dropped from now on, if there were any more.
            if let Some(pressure) = job.outbox.leave(&self.ready, true) {
                self.gateway.shared.relieve(&job, pressure);
            }
            job.release();
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
            msg::driver_message::Message::Release(release) => {
                self.job(release.session)?;
                self.release(release.session);
            }
            msg::driver_message::Message::Hello(_) => return Err(convert::malformed("a second hello")),
        }
        Ok(())
    }

    fn job(&self, session: SessionId) -> Result<Arc<Job>> {
        self.jobs.get(&session).map(Arc::clone).ok_or_else(|| convert::malformed("a message names a job that was not opened"))
    }

    async fn open_job(&mut self, open: &msg::OpenJob) -> Result<()> {
        let received = open.resume.as_ref().map(|resume| Received::read(&resume.received)).transpose()?;
        let mut answer = msg::JobOpened { request: open.request, ..Default::default() };
        match self.gateway.open_job(&self.visitor.tenant, open) {
            Ok(job) => {
                (answer.submitted, answer.calls, answer.finished) = job.arrived();
                answer.window = self.gateway.shared.limits.window;
                answer.result = Some(msg::job_opened::Result::Job(job.id.into()));
                let outputs = open.resume.as_ref().map_or(0, |resume| resume.outputs);
                self.attach(&job, open.follow, received.as_ref(), outputs);
            }
            Err(error) => answer.result = Some(msg::job_opened::Result::Error((&error).into())),
        }
        self.send(msg::gateway_message::Message::JobOpened(answer)).await
    }

    /// Makes a job one of this session's; one that is already stays as it is. A driver that is back says which results it has received,
    /// and how many pieces of output.
    fn attach(&mut self, job: &Arc<Job>, follow: bool, received: Option<&Received>, outputs: u64) {
        if self.jobs.contains_key(&job.id.session) {
            return;
        }
        let output_sent = Arc::new(AtomicBool::new(!follow));
        if follow {
            let reader = LogReader::after(&job.log, outputs);
            let writer = write_output(Arc::clone(job), reader, self.sender.clone(), Arc::clone(&output_sent), Arc::clone(&self.ready));
            self.gateway.shared.scope.spawn("output-writer", OnEnd::Continue, writer);
        }
        match received {
            // Results of a detached job are for whoever is there when they come.
            Some(received) if !job.detached => {
                let (owed, pressure) = job.resume(received, &self.ready);
                self.gateway.shared.relieve(job, pressure);
                self.gateway.shared.scope.spawn("resend", OnEnd::Continue, resend(Arc::clone(job), owed));
            }
            _ => job.outbox.attach(&self.ready),
        }
        self.jobs.insert(job.id.session, Arc::clone(job));
        self.open.insert(job.id.session, Attached { job: Arc::clone(job), output_sent });
    }

    async fn define(&mut self, define: msg::DefineCall) -> Result<()> {
        let (session, number) = (define.session, define.number);
        let job = self.job(session)?;
        let error = self.try_define(&job, define).await.err();
        if let Some(error) = &error {
            job.refused(error);
        }
        let error = error.as_ref().map(Into::into);
        self.send(msg::gateway_message::Message::CallDefined(msg::CallDefined { session, number, error })).await
    }

    async fn try_define(&self, job: &Arc<Job>, define: msg::DefineCall) -> Result<()> {
        let call = convert::required(define.call, "a call")?;
        let request = CallRequest {
            artifact: convert::digest(&call.artifact)?,
            export: call.export,
            options: convert::options(&convert::required(call.options, "options")?)?,
            grants: convert::grants(convert::required(call.grants, "grants")?)?,
            actor: call.actor.as_ref().map(convert::actor).transpose()?,
        };
        let info = self.gateway.info(&self.visitor.tenant, request.artifact).await?;
        callable(&info, &request.export, request.actor)?;
        let Visitor { tenant, identity, .. } = &self.visitor;
        self.gateway.shared.may_be_granted(tenant, identity.token, &request.grants).await?;
        self.gateway.shared.name_what_is_made(job, identity.token, &request).await?;
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
        if call.options.actor.name.is_some() && (submit.args.len() > 1 || job.has_tasks_of(call.number)) {
            return Err(convert::malformed("a call that makes one named actor has several tasks"));
        }
        let items = job.submit(&call, submit.first_sequence, submit.args)?;
        self.gateway.shared.enqueue_named(&job, &call, items, true);
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
    /// The next message that the driver is owed by a session.
    fn next(&self, shared: &Shared, ready: &Arc<Notify>) -> Option<msg::gateway_message::Message> {
        let (job, session) = (&self.job, self.job.id.session);
        // Asked before the outbox is looked at: what ends a job is in the outbox before the job has ended.
        let ended = job.has_ended() && job.outbox.is_settled() && self.output_sent.load(Acquire);
        let (outcomes, pressure) = job.outbox.take(ready)?;
        shared.relieve(job, pressure);
        if !outcomes.is_empty() {
            let (submitted, _, _) = job.arrived();
            return Some(msg::gateway_message::Message::Outcomes(msg::Outcomes { session, outcomes, submitted }));
        }
        ended.then(|| {
            let record = json(&job.record()).unwrap_or_default();
            msg::gateway_message::Message::JobEnded(msg::JobEnded { session, record })
        })
    }
}

/// Reads results that a driver has not got from where they were written down, and puts them into the job's outbox.
async fn resend(job: Arc<Job>, owed: Vec<u64>) {
    let mut owed: HashSet<u64> = owed.into_iter().collect();
    for segment in job.ledger.segments_of(job.id.session) {
        if owed.is_empty() {
            break;
        }
        job.outbox.room().await;
        match job.ledger.outcomes(job.id.session, segment) {
            Ok(outcomes) => {
                let wanted = outcomes.into_iter().filter(|outcome| owed.remove(&outcome.sequence));
                job.outbox.resend(wanted.map(outcome_message).collect());
            }
            Err(error) => tracing::error!(tenant = %job.tenant, job = %job.id, %error, "results that were written down cannot be read"),
        }
    }
    let lost = Error::new(Code::RESULT_GONE, "the result was not written down, and the connection broke before it was sent");
    let gone = owed.into_iter().map(|sequence| msg::Outcome {
        sequence,
        attempt: 1,
        result: Some(convert::outcome_result(Err(lost.clone()))),
        ..Default::default()
    });
    job.outbox.resend(gone.collect());
    job.outbox.resent();
}

/// A result that was written down, as it travels.
fn outcome_message(outcome: Outcome) -> msg::Outcome {
    let Outcome { sequence, attempt, result, failed, cpu_ns, wall_ns, memory_bytes } = outcome;
    let result = Some(convert::outcome_result(result));
    msg::Outcome { sequence, attempt: attempt.0, result, failed: failed.is_some(), cpu_ns, wall_ns, memory_bytes, alive: false }
}

/// Sends a job's output as it is written, then says so.
async fn write_output(
    job: Arc<Job>,
    mut reader: LogReader,
    sender: Sender<Result<msg::GatewayMessage>>,
    sent: Arc<AtomicBool>,
    ready: Arc<Notify>,
) {
    let session = job.id.session;
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
                tracing::error!(tenant = %job.tenant, job = %job.id, %error, "a job's output cannot be followed");
                break;
            }
        }
    }
    sent.store(true, Release);
    ready.notify_one();
}

/// Sends a job's output, once or until it ends.
async fn follow(log: Arc<JobLog>, only: Option<u64>, follow: bool, sender: Sender<Result<msg::LogsChunk>>) {
    let mut reader = LogReader::new(&log, only);
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
