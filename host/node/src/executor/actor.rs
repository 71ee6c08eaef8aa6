//! An attempt that makes an actor: the constructor, and then calls for as long as it lives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rwasm_engine::{Actor, Control, Created, MethodCall, Outcome, Request};
use rwasm_types::{ActorId, Code, Error};

use super::{Ended, Item, LoadedCall, Slot, Taker, application_error, threads::TELL_AFTER};
use crate::{
    actors::{Delivery, Done, Mailbox, died, restarted},
    objects::inlined,
};

/// How long a destructor may take, of time and of processor time.
const DESTRUCTOR_TIME: Duration = Duration::from_secs(1);

/// What became of an attempt that was to make an actor.
pub(super) struct Lived {
    pub(super) ended: Ended,
    /// Whether it was alive and ended by itself, and is to be made anew.
    pub(super) crashed: bool,
}

/// Makes an actor, and works off its calls until it ends.
/// `taken` says whether the attempt was taken away from here, and may begin again elsewhere.
pub(super) async fn live(
    (call, item): (&LoadedCall, &Item),
    control: Arc<Control>,
    slot: impl FnOnce() -> Arc<dyn Slot> + Send,
    taken: impl Fn() -> bool + Send,
) -> Lived {
    let (request, reach) = match call.request(item, Arc::clone(&control), slot) {
        Ok(request) => request,
        Err(error) => return Lived { ended: Ended::unrun(item, error), crashed: false },
    };
    let lived = lead(call, item, &control, request, taken).await;
    if let Some(reach) = reach {
        reach.over(lived.ended.result.is_ok());
    }
    lived
}

async fn lead(call: &LoadedCall, item: &Item, control: &Arc<Control>, request: Request, taken: impl Fn() -> bool + Send) -> Lived {
    let begun = Instant::now();
    let Created { actor, outcome } = Arc::clone(&call.prepared).create(request).await;
    let Some(actor) = actor else { return Lived { ended: super::threads::ended(call, item, outcome), crashed: false } };
    let id = ActorId(item.task);
    let mailbox = Mailbox::new(Arc::clone(call.prepared.info()), Arc::clone(control));
    call.actors.open(id, &mailbox);
    call.taker.alive(item);
    let mut serving =
        Serving { call, mailbox: &mailbox, control, told: None, interrupted: None, cpu: outcome.cpu, memory_bytes: outcome.memory_bytes };
    let why = serving.serve(actor).await;
    serving.flush();
    let Serving { interrupted, cpu, memory_bytes, .. } = serving;
    call.actors.close(id, &mailbox);
    let again = call.tries_again(item.attempt);
    let crashed = again && matches!(&why, Err(error) if error.code() != Code::CANCELLED);
    let over = match &why {
        Ok(()) => died(id, &Error::new(Code::ACTOR_DIED, "it ended as it was told to")),
        Err(error) if crashed || again && taken() => restarted(id, error),
        Err(error) => died(id, error),
    };
    if let Some((taker, ended)) = interrupted {
        taker.ended(vec![Ended { result: Err(over.clone()), ..ended }]);
    }
    mailbox.close(&over).into_iter().for_each(|call| call.refuse(over.clone()));
    let outcome = Outcome { result: why.and(outcome.result), held: Vec::new(), cpu, wall: begun.elapsed(), memory_bytes };
    Lived { ended: super::threads::ended(call, item, outcome), crashed }
}

/// An actor that takes calls.
struct Serving<'a> {
    call: &'a LoadedCall,
    mailbox: &'a Arc<Mailbox>,
    /// Ends of calls that were not told yet, whom they are for, and since when they wait.
    told: Option<(Arc<dyn Taker>, Vec<Ended>, Instant)>,
    control: &'a Arc<Control>,
    /// The call that ran when the actor was ended, which has no other end than that.
    interrupted: Option<(Arc<dyn Taker>, Ended)>,
    cpu: Duration,
    memory_bytes: u64,
}

impl Serving<'_> {
    /// Works off calls until it is told to end, or cannot go on.
    async fn serve(&mut self, mut actor: Actor) -> Result<(), Error> {
        loop {
            // A call that runs sees by itself that the actor is to end, and comes to an end of its own.
            let delivery = tokio::select! {
                biased;
                () = self.control.cancelled() => return Err(Error::new(Code::CANCELLED, "the actor was ended")),
                delivery = self.mailbox.next() => delivery,
            };
            let Some(delivery) = delivery else { break };
            let ended = self.run(&mut actor, &delivery).await;
            let broken = (!actor.is_usable()).then(|| ended.result.as_ref().err().cloned()).flatten();
            let Done { more, cancelled } = self.mailbox.done();
            match broken {
                Some(error) if error.code() == Code::CANCELLED && !cancelled => {
                    self.interrupted = Some((delivery.taker, ended));
                    return Err(Error::new(Code::CANCELLED, "the actor was ended"));
                }
                Some(error) => {
                    self.tell(delivery.taker, ended, true);
                    return Err(if cancelled { error.context("a call of it that did not end") } else { error.context("a call of it") });
                }
                None if self.tell(delivery.taker, ended, !more) => {
                    // Guests of other tasks on this thread have their turn.
                    tokio::task::yield_now().await;
                }
                None => {}
            }
        }
        actor.end(DESTRUCTOR_TIME, DESTRUCTOR_TIME).await.map_err(|error| error.context("its destructor"))
    }

    async fn run(&mut self, actor: &mut Actor, delivery: &Delivery) -> Ended {
        let Delivery { item, export, limits, .. } = delivery;
        let Some(signature) = self.mailbox.outward.get(*export) else {
            return Ended::unrun(item, Error::internal("a call names an export that is not there"));
        };
        let args = match inlined(&self.call.objects, &self.call.tenant, signature, &item.args) {
            Ok(args) => args,
            Err(error) => return Ended::unrun(item, error),
        };
        let called =
            actor.call(MethodCall { export: *export, args, wall: limits.wall, cpu: limits.cpu, result_bytes: limits.result_bytes }).await;
        let Outcome { result, held, cpu, wall, memory_bytes } = called;
        self.cpu += cpu;
        self.memory_bytes = self.memory_bytes.max(memory_bytes);
        let failed = application_error(signature.result.as_ref(), &result);
        Ended { task: item.task, attempt: item.attempt, failed, result, held, cpu, wall, memory_bytes }
    }

    /// Tells how a call ended, together with others for the same caller as long as more wait. Says whether it was a while since it last did.
    fn tell(&mut self, taker: Arc<dyn Taker>, ended: Ended, now: bool) -> bool {
        if self.told.as_ref().is_some_and(|(before, ..)| !Arc::ptr_eq(before, &taker)) {
            self.flush();
        }
        let (_, waiting, since) = self.told.get_or_insert_with(|| (taker, Vec::new(), Instant::now()));
        waiting.push(ended);
        let late = since.elapsed() > TELL_AFTER;
        if now || late {
            self.flush();
        }
        late
    }

    fn flush(&mut self) {
        if let Some((taker, ended, _)) = self.told.take() {
            taker.ended(ended);
        }
    }
}
