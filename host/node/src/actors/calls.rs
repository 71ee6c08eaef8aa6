//! The way of calls to their actor: from the owner's queue into the mailbox, here or on another node; and their cancellation.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use rwasm_runtime::OnEnd;
use rwasm_types::{ActorId, Attempt, Code, Error, JobId, NodeId, Result, TaskId, Tenant};
use rwasm_values::Role;

use super::{
    Owned, Ticket, Waiting, busy, died, find_method,
    mailbox::{CANCEL_GRACE, Delivery, Mailbox},
};
use crate::{
    executor::{Ended, Item},
    node::{Shared, cancelled},
    owner::job::{Job, JobCall, JobTaker},
};

impl Shared {
    /// Checks that a job may call a method on an actor: that it is there, the tenant's, of the method's class, and of this node.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`], [`Code::ACTOR_CLASS`], [`Code::ACTOR_DIED`], or [`Code::ACTOR_ELSEWHERE`] if another node owns it.
    pub(crate) fn check_actor(&self, tenant: &Tenant, actor: ActorId, call: &JobCall) -> Result<()> {
        if actor.0.owner != self.id {
            let message = format!("actor {actor} belongs to node {}, and is called through the gateway of that", actor.0.owner);
            return Err(Error::new(Code::ACTOR_ELSEWHERE, message).hint("name that gateway with --address").with("actor", actor));
        }
        let (_, creator, record) = self.actor_parts(tenant, actor)?;
        let (made, called) = (&creator.export.role, &call.export.role);
        let same = match (made, called) {
            (Role::ActorCreate { resource: made }, Role::ActorMethod { resource: called }) => made == called,
            _ => false,
        };
        if !same || creator.artifact != call.artifact {
            let message = format!("`{}` is no method of actor {actor}, which is a {}", call.export.name, record.class);
            return Err(Error::new(Code::ACTOR_CLASS, message).hint("`rwasm inspect` lists the methods of a class").with("actor", actor));
        }
        match record.error {
            Some(why) => Err(died(actor, &why)),
            None => Ok(()),
        }
    }

    /// Passes calls of a job on to their actor, or has them wait for it.
    pub(crate) fn call_actor(self: &Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, mut items: Vec<Item>) {
        let Some(actor) = call.actor else { return };
        let Some(owned) = self.actors.owned(actor) else {
            return self.end(job, items, &died(actor, &Error::new(Code::ACTOR_DIED, "it has ended")));
        };
        let refused = {
            let mut owned = owned.lock();
            if let Some(dead) = owned.dead.clone() {
                drop(owned);
                return self.end(job, items, &dead);
            }
            let room = (owned.calls_max as usize).saturating_sub(owned.calls.load(Relaxed));
            let refused = items.split_off(room.min(items.len()));
            items.iter_mut().filter(|item| item.ticket.is_none()).for_each(|item| item.ticket = Some(Ticket::new(&owned.calls)));
            match owned.place {
                Some(place) if owned.waiting.is_empty() => self.pass_on(&mut owned, place, job, call, items),
                _ => {
                    let waiting = items.into_iter().map(|item| Waiting { job: Arc::clone(job), call: Arc::clone(call), item });
                    owned.waiting.extend(waiting);
                }
            }
            (refused, owned.calls_max)
        };
        let (refused, calls_max) = refused;
        if !refused.is_empty() {
            self.end(job, refused, &busy(actor, calls_max));
        }
    }

    /// Passes on what waits for an actor that is alive.
    pub(super) fn pass_on_waiting(self: &Arc<Self>, owned: &mut Owned) {
        while let (Some(place), Some(first)) = (owned.place, owned.waiting.front()) {
            let (job, call) = (Arc::clone(&first.job), Arc::clone(&first.call));
            let mut items = Vec::new();
            while let Some(waiting) =
                owned.waiting.pop_front_if(|waiting| Arc::ptr_eq(&waiting.job, &job) && Arc::ptr_eq(&waiting.call, &call))
            {
                items.push(waiting.item);
            }
            self.pass_on(owned, place, &job, &call, items);
        }
    }

    /// Passes calls on. Where the actor has ended meanwhile, they wait for what is told of that.
    fn pass_on(self: &Arc<Self>, owned: &mut Owned, place: (NodeId, Attempt), job: &Arc<Job>, call: &Arc<JobCall>, items: Vec<Item>) {
        let (node, _) = place;
        job.running(&items, node);
        let sent = if node == self.id { self.deliver(job, call, items) } else { self.send_calls(place, job, call, items) };
        if let Err(items) = sent {
            job.requeued(&items);
            owned.place = None;
            let waiting = items.into_iter().map(|item| Waiting { job: Arc::clone(job), call: Arc::clone(call), item });
            // Before what came later.
            waiting.rev().for_each(|waiting| owned.waiting.push_front(waiting));
        }
    }

    fn deliver(self: &Arc<Self>, job: &Arc<Job>, call: &JobCall, items: Vec<Item>) -> Result<(), Vec<Item>> {
        let Some(mailbox) = call.actor.and_then(|actor| self.actors.here(actor)) else { return Err(items) };
        let taker: Arc<dyn crate::executor::Taker> = Arc::new(self.taker_of(job));
        let delivery = |item| Delivery { item, export: call.export_index, limits: call.options.limits, taker: Arc::clone(&taker) };
        mailbox.deliver(items.into_iter().map(delivery).collect()).map_err(|(calls, _)| calls.into_iter().map(|call| call.item).collect())
    }

    /// Who takes what a job's attempts here write and how they end.
    pub(crate) fn taker_of(self: &Arc<Self>, job: &Arc<Job>) -> JobTaker {
        let pressed = Arc::downgrade(self);
        let pressure = move |job: &Job, pressure| {
            if let Some(shared) = pressed.upgrade() {
                shared.relieve(job, pressure);
            }
        };
        JobTaker { job: Arc::clone(job), pressure: Arc::new(pressure) }
    }

    /// Calls of another owner for an actor that lives here, or does not any more.
    pub(crate) fn deliver_remote(&self, actor: ActorId, method: &str, calls: Vec<Delivery>) {
        let gone = || died(actor, &Error::new(Code::ACTOR_DIED, format!("it does not live on node {} any more", self.id)));
        let Some(mailbox) = self.actors.here(actor) else {
            return calls.into_iter().for_each(|call| call.refuse(gone()));
        };
        let export = match find_method(&mailbox.info, method) {
            Ok((export, _)) => export,
            Err(error) => return calls.into_iter().for_each(|call| call.refuse(error.clone())),
        };
        let calls = calls.into_iter().map(|call| Delivery { export, ..call }).collect();
        if let Err((calls, error)) = mailbox.deliver(calls) {
            calls.into_iter().for_each(|call| call.refuse(error.clone()));
        }
    }

    /// Cancels calls of a job on an actor, all of them without `sequences`.
    pub(crate) fn cancel_calls(&self, actor: ActorId, job: &Arc<Job>, sequences: Option<&[u64]>) {
        let wanted = |task: TaskId| task.job() == job.id && sequences.is_none_or(|sequences| sequences.contains(&task.sequence));
        if let Some(owned) = self.actors.owned(actor) {
            let waiting = {
                let mut owned = owned.lock();
                let (taken, kept): (Vec<Waiting>, Vec<Waiting>) =
                    std::mem::take(&mut owned.waiting).into_iter().partition(|waiting| wanted(waiting.item.task));
                owned.waiting = kept.into();
                taken
            };
            self.end(job, waiting.into_iter().map(|waiting| waiting.item).collect(), &cancelled());
        }
        if let Some(mailbox) = self.actors.here(actor) {
            self.cancel_in_mailbox(&mailbox, wanted);
        }
    }

    /// Cancels calls that an actor of this node has.
    pub(crate) fn cancel_in_mailbox(&self, mailbox: &Arc<Mailbox>, wanted: impl Fn(TaskId) -> bool) {
        let (waiting, asked) = mailbox.cancel(wanted);
        waiting.into_iter().for_each(|call| call.refuse(cancelled()));
        if let Some(task) = asked {
            let mailbox = Arc::clone(mailbox);
            self.scope.spawn("cancel-grace", OnEnd::Continue, async move {
                tokio::time::sleep(CANCEL_GRACE).await;
                mailbox.end_if_at(task);
            });
        }
    }

    /// Ends what waits for an actor that is over.
    pub(super) fn refuse_waiting(&self, waiting: Vec<Waiting>, error: &Error) {
        for Waiting { job, item, .. } in waiting {
            let pressure = job.end(vec![Ended::unrun(&item, error.clone())]);
            self.relieve(&job, pressure);
        }
    }

    /// Has an actor of this owner end when it has worked off its calls; one that is not alive is ended at once.
    pub(crate) fn retire(&self, job: &Arc<Job>, sequence: u64) {
        let actor = ActorId(job.id.task(sequence));
        match self.actors.owned(actor).and_then(|owned| owned.lock().place) {
            Some((node, _)) if node == self.id => match self.actors.here(actor) {
                Some(mailbox) => mailbox.retire(),
                None => self.cancel(job, Some(&[sequence])),
            },
            Some((node, _)) => self.send_retire(node, job.id, sequence),
            None => self.cancel(job, Some(&[sequence])),
        }
    }

    /// An owner has an actor that lives here end when it has worked off its calls.
    pub(crate) fn retire_here(&self, job: JobId, sequence: u64) {
        if let Some(mailbox) = self.actors.here(ActorId(job.task(sequence))) {
            mailbox.retire();
        }
    }
}
