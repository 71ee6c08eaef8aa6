//! The stream to the gateway: one task reads it, hands each message to the job it is for, and opens it anew when it breaks.
//!
//! ```text
//! Submitter ─▶ Session::say: kept in the job's Kept, then sent      reader ─▶ Incoming ─▶ Job
//!                                    │                                 │
//!                                    └──── said again, what the ◀──────┘ connection broke
//!                                          gateway has not got
//! ```
//!
//! What a job's driver says is kept until the gateway has it, and what was received is counted. So a new stream goes on where the old one
//! broke: the gateway sends what was not received, and is told what it has not got.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::{Code, Error, Incarnation, Result, SessionId};
use rwasm_wire::{GatewayClient, Inbound, Outbound, RESUME, Sender, convert, hello, msg, read_welcome};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::kept::Kept;

/// Messages that may wait for the network.
const QUEUE: usize = 64;
/// Messages that may wait for a job's reader.
const JOB_QUEUE: usize = 256;
/// The first and the longest pause between attempts to come back.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// What a job's reader receives.
pub(crate) enum Incoming {
    Outcomes(msg::Outcomes),
    Outputs(msg::Outputs),
    Ended(msg::JobEnded),
    /// The stream broke; it is tried to open another.
    Away(Error),
    /// It goes on.
    Back,
    /// Nothing more comes.
    Lost(Error),
}

/// An open stream, or the next one.
pub(crate) struct Session {
    shared: Arc<Shared>,
    _scope: DropScope,
}

/// Ends the reading task with the session.
struct DropScope(Scope);

impl Drop for DropScope {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct Shared {
    gateway: GatewayClient,
    /// How long it is tried to come back; not at all if zero.
    reconnect: Duration,
    /// Held while something is said, so that it is said in order; without a sender while there is no stream.
    sender: tokio::sync::Mutex<Option<Sender<msg::DriverMessage>>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last_request: u32,
    opening: HashMap<u32, Opening>,
    defining: HashMap<(SessionId, u32), oneshot::Sender<Result<()>>>,
    jobs: HashMap<SessionId, Entry>,
    /// Jobs that are being resumed, by the number of their request.
    resuming: HashMap<u32, SessionId>,
    /// Whether the gateway knows how to go on after a break.
    resumes: bool,
    lost: Option<Error>,
}

/// A request for a job that was not answered yet.
struct Opening {
    open: msg::OpenJob,
    /// Who reads the job, if it is to be read.
    incoming: Option<mpsc::Sender<Incoming>>,
    answer: oneshot::Sender<Result<(msg::JobId, u64)>>,
}

struct Entry {
    incoming: mpsc::Sender<Incoming>,
    kept: Kept,
    /// Whether what is said is sent now, or when the job is resumed.
    connected: bool,
}

type Stream = (Sender<msg::DriverMessage>, Inbound<msg::GatewayMessage>, bool);

impl Session {
    pub(crate) async fn open(gateway: &GatewayClient, reconnect: Duration) -> Result<Self> {
        let gateway = gateway.clone();
        let (sender, inbound, resumes) = attach(&gateway).await?;
        let waiting = Mutex::new(Waiting { resumes, ..Waiting::default() });
        let shared = Arc::new(Shared { gateway, reconnect, sender: tokio::sync::Mutex::new(Some(sender)), waiting });
        let scope = Scope::new();
        scope.spawn("session-reader", OnEnd::Continue, Arc::clone(&shared).stay(inbound));
        Ok(Self { shared, _scope: DropScope(scope) })
    }

    /// Opens a job; what comes for it is read from the receiver.
    pub(crate) async fn open_job(&self, open: msg::OpenJob) -> Result<(msg::JobId, u64, mpsc::Receiver<Incoming>)> {
        let (incoming, receiver) = mpsc::channel(JOB_QUEUE);
        let (job, window) = self.ask(open, Some(incoming)).await?;
        Ok((job, window, receiver))
    }

    /// Asks for a job that is open by its key.
    pub(crate) async fn ask_for_job(&self, open: msg::OpenJob) -> Result<()> {
        self.ask(open, None).await.map(drop)
    }

    async fn ask(&self, mut open: msg::OpenJob, incoming: Option<mpsc::Sender<Incoming>>) -> Result<(msg::JobId, u64)> {
        let (answer, answered) = oneshot::channel();
        {
            let sender = self.shared.sender.lock().await;
            {
                let mut waiting = self.shared.waiting.lock();
                if let Some(lost) = &waiting.lost {
                    return Err(lost.clone());
                }
                open.request = waiting.next_request();
                waiting.opening.insert(open.request, Opening { open: open.clone(), incoming, answer });
            }
            if let Some(sender) = &*sender {
                // If the stream is broken, it is asked again on the next one.
                let _ = sender.send(message(msg::driver_message::Message::OpenJob(open))).await;
            }
        }
        answered.await.map_err(|_| self.shared.lost())?
    }

    /// Whether it has ended for good: no job can be opened in it any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.waiting.lock().lost.is_some()
    }

    /// Defines a call of a job.
    pub(crate) async fn define(&self, define: msg::DefineCall) -> Result<()> {
        let (defined, define_waits) = oneshot::channel();
        let (session, number) = (define.session, define.number);
        self.shared.waiting.lock().defining.insert((session, number), defined);
        self.say(session, msg::driver_message::Message::DefineCall(define)).await?;
        define_waits.await.map_err(|_| self.shared.lost())?
    }

    /// Says something of a job. It is kept until the gateway has it, and said again if the stream breaks before.
    pub(crate) async fn say(&self, session: SessionId, said: msg::driver_message::Message) -> Result<()> {
        let sender = self.shared.sender.lock().await;
        let connected = {
            let mut waiting = self.shared.waiting.lock();
            if let Some(lost) = &waiting.lost {
                return Err(lost.clone());
            }
            // Of a job that has ended, nothing is of interest any more.
            let Some(entry) = waiting.jobs.get_mut(&session) else { return Ok(()) };
            entry.kept.say(&said);
            entry.connected
        };
        match &*sender {
            Some(sender) if connected => match sender.send(message(said)).await {
                Err(_) if !self.shared.comes_back() => Err(self.shared.lost()),
                // Else the reader sees the break too.
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Waiting {
    fn next_request(&mut self) -> u32 {
        self.last_request = self.last_request.wrapping_add(1);
        self.last_request
    }
}

fn message(message: msg::driver_message::Message) -> msg::DriverMessage {
    msg::DriverMessage { message: Some(message) }
}

/// Opens a stream; says whether both sides know how to go on after a break.
async fn attach(gateway: &GatewayClient) -> Result<Stream> {
    let (sender, outbound) = Outbound::channel(QUEUE);
    // Drivers belong to no cluster and have one life.
    let hello = message(msg::driver_message::Message::Hello(hello("", Incarnation(0))));
    let closed = |_| Error::new(Code::CONNECTION_LOST, "the gateway closed the connection");
    sender.send(hello).await.map_err(closed)?;
    let mut inbound = gateway.clone().attach(outbound).await?;
    match inbound.next().await?.and_then(|first| first.message) {
        Some(msg::gateway_message::Message::Welcome(welcome)) => {
            read_welcome(&welcome)?;
            Ok((sender, inbound, welcome.features.iter().any(|feature| feature == RESUME)))
        }
        _ => Err(convert::malformed("a gateway does not begin with a welcome")),
    }
}

impl Shared {
    fn lost(&self) -> Error {
        let ended = || Error::new(Code::CONNECTION_LOST, "the connection to the gateway ended");
        self.waiting.lock().lost.clone().unwrap_or_else(ended)
    }

    fn comes_back(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.resumes && waiting.lost.is_none() && !self.reconnect.is_zero()
    }

    /// Reads the stream, and the next one when it breaks, until there is none to be had.
    async fn stay(self: Arc<Self>, mut inbound: Inbound<msg::GatewayMessage>) {
        loop {
            let broken = self.read(&mut inbound).await;
            match self.again(broken).await {
                Ok(next) => inbound = next,
                Err(error) => return self.give_up(error).await,
            }
        }
    }

    async fn read(&self, inbound: &mut Inbound<msg::GatewayMessage>) -> Error {
        loop {
            let message = match inbound.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return Error::new(Code::CONNECTION_LOST, "the gateway closed the connection"),
                Err(error) => return error,
            };
            if let Err(error) = self.hand_over(message).await {
                return error;
            }
        }
    }

    /// Opens another stream after one broke, and asks for all jobs there.
    async fn again(&self, broken: Error) -> Result<Inbound<msg::GatewayMessage>> {
        let readers: Vec<_> = {
            let mut waiting = self.waiting.lock();
            waiting.resuming.clear();
            waiting.jobs.values_mut().for_each(|entry| entry.connected = false);
            waiting.jobs.values().map(|entry| entry.incoming.clone()).collect()
        };
        let of_interest = !readers.is_empty() || !self.waiting.lock().opening.is_empty();
        if broken.code() != Code::CONNECTION_LOST || !of_interest || !self.comes_back() {
            return Err(broken);
        }
        // A message under way fails with the old stream, so this waits for nobody.
        *self.sender.lock().await = None;
        for reader in readers {
            // One that is gone does not care.
            let _ = reader.send(Incoming::Away(broken.clone())).await;
        }
        let until = Instant::now() + self.reconnect;
        let mut pause = RETRY_FIRST;
        let (sender, inbound, resumes) = loop {
            tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(RETRY_LONGEST);
            match attach(&self.gateway).await {
                Ok(stream) => break stream,
                Err(error) if !may_pass(&error) => return Err(error),
                Err(_) if Instant::now() >= until => {
                    let waited = rwasm_types::format_duration(self.reconnect);
                    return Err(broken.context(format_args!("the gateway did not come back within {waited}")));
                }
                Err(_) => {}
            }
        };
        if !resumes {
            return Err(broken);
        }
        let mut current = self.sender.lock().await;
        let asks: Vec<msg::OpenJob> = {
            let mut waiting = self.waiting.lock();
            let Waiting { jobs, opening, resuming, last_request, .. } = &mut *waiting;
            let resumed = jobs.iter().map(|(session, entry)| {
                *last_request = last_request.wrapping_add(1);
                resuming.insert(*last_request, *session);
                msg::OpenJob { request: *last_request, ..entry.kept.resume() }
            });
            // Those that were not answered: the same key opens nothing twice.
            resumed.chain(opening.values().map(|opening| opening.open.clone())).collect()
        };
        for ask in asks {
            // Another break is seen by the reader.
            let _ = sender.send(message(msg::driver_message::Message::OpenJob(ask))).await;
        }
        *current = Some(sender);
        Ok(inbound)
    }

    async fn give_up(&self, error: Error) {
        let readers: Vec<_> = {
            let mut waiting = self.waiting.lock();
            waiting.lost = Some(error.clone());
            waiting.opening.drain().for_each(|(_, opening)| drop(opening.answer.send(Err(error.clone()))));
            waiting.defining.drain().for_each(|(_, defining)| drop(defining.send(Err(error.clone()))));
            waiting.jobs.drain().map(|(_, entry)| entry.incoming).collect()
        };
        for reader in readers {
            // A reader that is gone does not care.
            let _ = reader.send(Incoming::Lost(error.clone())).await;
        }
    }

    async fn hand_over(&self, message: msg::GatewayMessage) -> Result<()> {
        let (session, incoming) = match convert::required(message.message, "a gateway's message")? {
            msg::gateway_message::Message::Outcomes(mut outcomes) => {
                if let Some(entry) = self.waiting.lock().jobs.get_mut(&outcomes.session) {
                    entry.kept.received(&mut outcomes);
                }
                if outcomes.outcomes.is_empty() {
                    return Ok(());
                }
                (outcomes.session, Incoming::Outcomes(outcomes))
            }
            msg::gateway_message::Message::Outputs(outputs) => {
                if let Some(entry) = self.waiting.lock().jobs.get_mut(&outputs.session) {
                    entry.kept.heard(outputs.outputs.len() as u64);
                }
                (outputs.session, Incoming::Outputs(outputs))
            }
            msg::gateway_message::Message::JobEnded(ended) => return self.ended(ended).await,
            msg::gateway_message::Message::JobOpened(opened) => return self.opened(opened).await,
            msg::gateway_message::Message::CallDefined(defined) => {
                self.defined(defined.session, defined.number, defined.error.map_or(Ok(()), |error| Err(convert::any_error(error))));
                return Ok(());
            }
            msg::gateway_message::Message::Welcome(_) => return Err(convert::malformed("a second welcome")),
        };
        self.pass_on(session, incoming).await;
        Ok(())
    }

    async fn pass_on(&self, session: SessionId, incoming: Incoming) {
        let reader = self.waiting.lock().jobs.get(&session).map(|entry| entry.incoming.clone());
        if let Some(reader) = reader {
            let _ = reader.send(incoming).await;
        }
    }

    fn defined(&self, session: SessionId, number: u32, result: Result<()>) {
        let mut waiting = self.waiting.lock();
        if let (Err(_), Some(entry)) = (&result, waiting.jobs.get_mut(&session)) {
            entry.kept.refused(number);
        }
        if let Some(defining) = waiting.defining.remove(&(session, number)) {
            let _ = defining.send(result);
        }
    }

    /// A job ended, and all of it was received: the gateway need not keep it.
    async fn ended(&self, ended: msg::JobEnded) -> Result<()> {
        let session = ended.session;
        self.pass_on(session, Incoming::Ended(ended)).await;
        let sender = self.sender.lock().await;
        let resumes = {
            let mut waiting = self.waiting.lock();
            waiting.jobs.remove(&session);
            waiting.resumes
        };
        if let Some(sender) = sender.as_ref().filter(|_| resumes) {
            // Unsaid, it costs the gateway a while.
            let _ = sender.send(message(msg::driver_message::Message::Release(msg::ReleaseJob { session }))).await;
        }
        Ok(())
    }

    /// A job was opened, or is gone on with: then the gateway is told what it has not got.
    async fn opened(&self, opened: msg::JobOpened) -> Result<()> {
        let result = convert::required(opened.result, "an opened job's result")?;
        let result = match result {
            msg::job_opened::Result::Job(job) => Ok(job),
            msg::job_opened::Result::Error(error) => Err(convert::any_error(error)),
        };
        let (opening, resumed) = {
            let mut waiting = self.waiting.lock();
            let mut opening = waiting.opening.remove(&opened.request);
            if let (Ok(job), Some(Opening { open, incoming, .. })) = (&result, &mut opening)
                && let Some(incoming) = incoming.take()
            {
                waiting.jobs.insert(job.session, Entry { incoming, kept: Kept::new(*job, open.clone()), connected: true });
            }
            (opening, waiting.resuming.remove(&opened.request))
        };
        if let Some(opening) = opening {
            // Whoever asked may have given up.
            let _ = opening.answer.send(result.map(|job| (job, opened.window)));
            return Ok(());
        }
        let Some(session) = resumed else { return Ok(()) };
        if let Err(error) = result {
            let entry = self.waiting.lock().jobs.remove(&session);
            if let Some(entry) = entry {
                let _ = entry.incoming.send(Incoming::Lost(error)).await;
            }
            return Ok(());
        }
        let sender = self.sender.lock().await;
        let unsaid = {
            let mut waiting = self.waiting.lock();
            let Some(entry) = waiting.jobs.get_mut(&session) else { return Ok(()) };
            entry.connected = true;
            entry.kept.unsaid(opened.submitted, opened.calls, opened.finished)
        };
        // Those that the gateway took before the break; it could not say so.
        let taken: Vec<u32> = {
            let waiting = self.waiting.lock();
            waiting.defining.keys().filter(|(of, number)| *of == session && *number < opened.calls).map(|(_, number)| *number).collect()
        };
        taken.into_iter().for_each(|number| self.defined(session, number, Ok(())));
        if let Some(sender) = &*sender {
            for said in unsaid {
                // Another break is seen by the reader.
                let _ = sender.send(message(said)).await;
            }
        }
        drop(sender);
        self.pass_on(session, Incoming::Back).await;
        Ok(())
    }
}

/// Whether what prevents a new stream may pass by itself.
fn may_pass(error: &Error) -> bool {
    matches!(error.code(), Code::UNREACHABLE | Code::CONNECTION_LOST | Code::DEADLINE)
}
