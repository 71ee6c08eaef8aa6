//! Calls of actors that live on other nodes. They need no lease, for the actor has one; they go over the same link, in their order, and come
//! back as the outcomes of no lease.

use std::{collections::HashMap, sync::Arc};

use rwasm_types::{ActorId, Attempt, Error, JobId, NodeId};
use rwasm_wire::msg;

use super::{Key, Link, State, ended_elsewhere};
use crate::{
    batch,
    executor::Item,
    node::Shared,
    owner::job::{Job, JobCall},
};

/// Stands for the lease of what has none.
pub(super) const NO_LEASE: u64 = 0;

/// A call that was sent and has not ended.
pub(super) struct SentCall {
    pub(super) node: NodeId,
    pub(super) job: Arc<Job>,
    pub(super) call: Arc<JobCall>,
    pub(super) item: Item,
    /// The attempt of the actor that it was sent to.
    at: Attempt,
}

impl State {
    fn link_of(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links.get(&node).filter(|link| link.takes_tasks()).map(Arc::clone)
    }

    /// Cancels calls of a job.
    pub(super) fn cancel_sent_calls(&self, job: &Job, sequences: Option<&[u64]>) {
        let mut of_node: HashMap<NodeId, Vec<u64>> = HashMap::new();
        for ((session, sequence), sent) in &self.calls {
            if *session == job.id.session && sequences.is_none_or(|sequences| sequences.contains(sequence)) {
                of_node.entry(sent.node).or_default().push(*sequence);
            }
        }
        for (node, sequences) in of_node {
            if let Some(link) = self.links.get(&node) {
                link.send(msg::owner_message::Message::Cancel(msg::CancelRemote { session: job.id.session, sequences }));
            }
        }
    }

    /// A call of an earlier life goes on.
    pub(super) fn adopt_call(&mut self, node: NodeId, job: &Arc<Job>, call: &Arc<JobCall>, item: Item) {
        let key = (item.task.session, item.task.sequence);
        let sent = SentCall { node, job: Arc::clone(job), call: Arc::clone(call), item, at: Attempt::FIRST };
        self.calls.insert(key, sent);
    }
}

impl Shared {
    /// Sends calls to an actor's node; gives them back if that cannot be reached now.
    pub(crate) fn send_calls(
        &self,
        (node, at): (NodeId, Attempt),
        job: &Arc<Job>,
        call: &Arc<JobCall>,
        items: Vec<Item>,
    ) -> Result<(), Vec<Item>> {
        let mut state = self.spread.state.lock();
        let Some(link) = state.link_of(node) else { return Err(items) };
        let task = |item: &Item| msg::AssignedTask {
            sequence: item.task.sequence,
            attempt: item.attempt.0,
            args: item.args.clone(),
            depth: item.depth,
        };
        let tasks = items.iter().map(task);
        let assign = |tasks| msg::Assign { lease: NO_LEASE, session: job.id.session, call: call.number.into(), tasks };
        let messages = batch::split(tasks.collect(), |task| 32 + task.args.len()).into_iter().map(assign).collect();
        if !link.assign(job, call, messages) {
            return Err(items);
        }
        for item in items {
            let key: Key = (item.task.session, item.task.sequence);
            state.calls.insert(key, SentCall { node, job: Arc::clone(job), call: Arc::clone(call), item, at });
        }
        Ok(())
    }

    /// Calls that were sent ended.
    pub(super) fn call_outcomes(&self, outcomes: msg::RemoteOutcomes) {
        let id = JobId { owner: self.id, session: outcomes.session };
        let mut ended = Vec::with_capacity(outcomes.outcomes.len());
        let mut of = None;
        {
            let mut state = self.spread.state.lock();
            for outcome in outcomes.outcomes {
                let key: Key = (id.session, outcome.sequence);
                if state.calls.get(&key).is_some_and(|sent| sent.item.attempt == Attempt(outcome.attempt)) {
                    of = state.calls.remove(&key).map(|sent| sent.job).or(of);
                    ended.push(ended_elsewhere(id, outcome));
                }
            }
        }
        if let Some(job) = of {
            let pressure = job.end(ended);
            self.relieve(&job, pressure);
        }
    }

    /// An actor's attempts up to one are over: what they had of calls elsewhere has no other end.
    pub(crate) fn fail_calls(self: &Arc<Self>, actor: ActorId, up_to: Attempt, error: &Error) {
        let failed: Vec<SentCall> = {
            let mut state = self.spread.state.lock();
            state.calls.extract_if(|_, sent| sent.call.actor == Some(actor) && sent.at <= up_to).map(|(_, sent)| sent).collect()
        };
        failed.into_iter().for_each(|sent| self.lose_call(sent, error));
    }

    /// A call is lost with its actor: it is made again if its caller asked for that, and has failed else.
    pub(super) fn lose_call(self: &Arc<Self>, sent: SentCall, error: &Error) {
        let SentCall { job, call, item, .. } = sent;
        if let Some(item) = job.lost(item, error) {
            self.call_actor(&job, &call, vec![item]);
        }
    }

    /// Has an actor on another node end when it has worked off its calls.
    pub(crate) fn send_retire(&self, node: NodeId, job: JobId, sequence: u64) {
        let link = self.spread.state.lock().links.get(&node).map(Arc::clone);
        if let Some(link) = link {
            link.send(msg::owner_message::Message::Retire(msg::RetireActor { session: job.session, sequence }));
        }
    }
}
