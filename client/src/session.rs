//! The stream to the gateway: one task reads it and hands each message to the job it is for.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::{Code, Error, Incarnation, Result, SessionId};
use rwasm_wire::{GatewayClient, Inbound, Outbound, Sender, convert, hello, msg, read_welcome};
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for the network.
const QUEUE: usize = 64;
/// Messages that may wait for a job's reader.
const JOB_QUEUE: usize = 256;

/// What a job's reader receives.
pub(crate) enum Incoming {
    Outcomes(msg::Outcomes),
    Outputs(msg::Outputs),
    Ended(msg::JobEnded),
    /// The stream broke.
    Lost(Error),
}

/// An open stream.
pub(crate) struct Session {
    sender: Sender<msg::DriverMessage>,
    waiting: Arc<Mutex<Waiting>>,
    _scope: DropScope,
}

/// Ends the reading task with the session.
struct DropScope(Scope);

impl Drop for DropScope {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[derive(Default)]
struct Waiting {
    last_request: u32,
    opening: HashMap<u32, oneshot::Sender<Result<(msg::JobId, u64)>>>,
    defining: HashMap<(SessionId, u32), oneshot::Sender<Result<()>>>,
    jobs: HashMap<SessionId, mpsc::Sender<Incoming>>,
    /// Messages for jobs whose reader is not there yet.
    lost: Option<Error>,
}

impl Session {
    pub(crate) async fn open(gateway: &mut GatewayClient) -> Result<Self> {
        let (sender, outbound) = Outbound::channel(QUEUE);
        // Drivers belong to no cluster and have one life.
        let hello = message(msg::driver_message::Message::Hello(hello("", Incarnation(0))));
        let closed = |_| Error::new(Code::CONNECTION_LOST, "the gateway closed the connection");
        sender.send(hello).await.map_err(closed)?;
        let mut inbound = gateway.attach(outbound).await?;
        match inbound.next().await?.and_then(|first| first.message) {
            Some(msg::gateway_message::Message::Welcome(welcome)) => read_welcome(&welcome)?,
            _ => return Err(convert::malformed("a gateway does not begin with a welcome")),
        }
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let scope = Scope::new();
        scope.spawn("session-reader", OnEnd::Continue, read(inbound, Arc::clone(&waiting)));
        Ok(Self { sender, waiting, _scope: DropScope(scope) })
    }

    pub(crate) async fn send(&self, to_gateway: msg::driver_message::Message) -> Result<()> {
        let sent = self.sender.send(message(to_gateway)).await;
        sent.map_err(|_| {
            self.waiting.lock().lost.clone().unwrap_or_else(|| Error::new(Code::CONNECTION_LOST, "the gateway closed the connection"))
        })
    }

    /// Opens a job; what comes for it is read from the receiver.
    pub(crate) async fn open_job(&self, open: msg::OpenJob) -> Result<(msg::JobId, u64, mpsc::Receiver<Incoming>)> {
        let (job, window) = self.ask_for_job(open).await?;
        let (sender, receiver) = mpsc::channel(JOB_QUEUE);
        self.waiting.lock().jobs.insert(job.session, sender);
        Ok((job, window, receiver))
    }

    /// Asks for a job by its key; it is opened if it is not.
    pub(crate) async fn ask_for_job(&self, mut open: msg::OpenJob) -> Result<(msg::JobId, u64)> {
        let (opened, open_waits) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            waiting.last_request += 1;
            open.request = waiting.last_request;
            waiting.opening.insert(open.request, opened);
        }
        self.send(msg::driver_message::Message::OpenJob(open)).await?;
        open_waits.await.map_err(|_| self.lost())?
    }

    /// Defines a call of a job.
    pub(crate) async fn define(&self, define: msg::DefineCall) -> Result<()> {
        let (defined, define_waits) = oneshot::channel();
        self.waiting.lock().defining.insert((define.session, define.number), defined);
        self.send(msg::driver_message::Message::DefineCall(define)).await?;
        define_waits.await.map_err(|_| self.lost())?
    }

    fn lost(&self) -> Error {
        self.waiting.lock().lost.clone().unwrap_or_else(|| Error::new(Code::CONNECTION_LOST, "the connection to the gateway ended"))
    }
}

fn message(message: msg::driver_message::Message) -> msg::DriverMessage {
    msg::DriverMessage { message: Some(message) }
}

async fn read(mut inbound: Inbound<msg::GatewayMessage>, waiting: Arc<Mutex<Waiting>>) {
    let error = loop {
        let message = match inbound.next().await {
            Ok(Some(message)) => message,
            Ok(None) => break Error::new(Code::CONNECTION_LOST, "the gateway closed the connection"),
            Err(error) => break error,
        };
        if let Err(error) = hand_over(message, &waiting).await {
            break error;
        }
    };
    let jobs: Vec<_> = {
        let mut waiting = waiting.lock();
        waiting.lost = Some(error.clone());
        waiting.opening.drain().for_each(|(_, opening)| drop(opening.send(Err(error.clone()))));
        waiting.defining.drain().for_each(|(_, defining)| drop(defining.send(Err(error.clone()))));
        waiting.jobs.drain().map(|(_, job)| job).collect()
    };
    for job in jobs {
        // A reader that is gone does not care.
        let _ = job.send(Incoming::Lost(error.clone())).await;
    }
}

async fn hand_over(message: msg::GatewayMessage, waiting: &Mutex<Waiting>) -> Result<()> {
    let (session, incoming) = match convert::required(message.message, "a gateway's message")? {
        msg::gateway_message::Message::Outcomes(outcomes) => (outcomes.session, Incoming::Outcomes(outcomes)),
        msg::gateway_message::Message::Outputs(outputs) => (outputs.session, Incoming::Outputs(outputs)),
        msg::gateway_message::Message::JobEnded(ended) => (ended.session, Incoming::Ended(ended)),
        msg::gateway_message::Message::JobOpened(opened) => {
            if let Some(opening) = waiting.lock().opening.remove(&opened.request) {
                let result = match convert::required(opened.result, "an opened job's result")? {
                    msg::job_opened::Result::Job(job) => Ok((job, opened.window)),
                    msg::job_opened::Result::Error(error) => Err(convert::any_error(error)),
                };
                // Whoever asked may have given up.
                let _ = opening.send(result);
            }
            return Ok(());
        }
        msg::gateway_message::Message::CallDefined(defined) => {
            if let Some(defining) = waiting.lock().defining.remove(&(defined.session, defined.number)) {
                let _ = defining.send(defined.error.map_or(Ok(()), |error| Err(convert::any_error(error))));
            }
            return Ok(());
        }
        msg::gateway_message::Message::Welcome(_) => return Err(convert::malformed("a second welcome")),
    };
    let ended = matches!(incoming, Incoming::Ended(_));
    let job = waiting.lock().jobs.get(&session).cloned();
    if let Some(job) = job {
        let _ = job.send(incoming).await;
    }
    if ended {
        waiting.lock().jobs.remove(&session);
    }
    Ok(())
}
