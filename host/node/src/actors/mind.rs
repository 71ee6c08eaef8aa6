//! What follows from what happens to actors: calls go on their way, are refused, or wait again. It happens aside, in order, so that whoever
//! tells of it may hold any lock.

use std::sync::Arc;

use rwasm_types::{ActorId, Attempt, Error, JobId, NodeId};

use super::{Event, Waiting, died, restarted};
use crate::node::Shared;

impl Shared {
    /// Minds actors for as long as the node runs.
    pub(crate) async fn mind_actors(self: Arc<Self>) {
        loop {
            self.actors.told.notified().await;
            let events = std::mem::take(&mut *self.actors.events.lock());
            for event in events {
                match event {
                    Event::Alive(actor, attempt, node) => self.actor_alive(actor, attempt, node),
                    Event::Lost(actor, attempt, error) => self.actor_lost(actor, attempt, &error),
                    Event::Ended(actor, error) => self.actor_ended(actor, &error),
                    Event::OnlyActorsLeft(job) => self.retire_all(job),
                }
            }
        }
    }

    fn actor_alive(self: &Arc<Self>, actor: ActorId, attempt: Attempt, node: NodeId) {
        let Some(owned) = self.actors.owned(actor) else { return };
        let mut owned = owned.lock();
        // What was told of an attempt that is over comes too late.
        if attempt > owned.lost && owned.dead.is_none() {
            owned.place = Some((node, attempt));
            self.pass_on_waiting(&mut owned);
        }
    }

    fn actor_lost(self: &Arc<Self>, actor: ActorId, attempt: Attempt, error: &Error) {
        let Some(owned) = self.actors.owned(actor) else { return };
        {
            let mut owned = owned.lock();
            owned.lost = owned.lost.max(attempt);
            owned.place = owned.place.filter(|(_, at)| *at > attempt);
        }
        self.fail_calls(actor, attempt, &restarted(actor, error));
    }

    fn actor_ended(self: &Arc<Self>, actor: ActorId, error: &Error) {
        let Some(owned) = self.actors.owned.lock().remove(&actor) else { return };
        let dead = died(actor, error);
        let waiting: Vec<Waiting> = {
            let mut owned = owned.lock();
            owned.place = None;
            owned.dead = Some(dead.clone());
            owned.waiting.drain(..).collect()
        };
        self.let_name_go(actor);
        self.refuse_waiting(waiting, &dead);
        self.fail_calls(actor, Attempt(u32::MAX), &dead);
    }

    /// Nothing of a job is left but its actors: they end, once they have worked off what others asked of them.
    fn retire_all(&self, id: JobId) {
        let Some(job) = self.jobs.read().get(&id).map(Arc::clone) else { return };
        for sequence in job.actors() {
            self.retire(&job, sequence);
        }
    }
}
