//! Attempts that are under way on other nodes while their owner cannot hear of them: because a link broke, or because this is another life of
//! the owner. The nodes keep them, and here they are taken up where they are.
//!
//! ```text
//! a link is up ─▶ the node says what it holds ─┬─ and it was expected ──▶ its outcome comes, once
//!                                              ├─ and it was not ───────▶ it is ended there
//!                    expected, and not held ───┴────────────────────────▶ it is lost, or never arrived: the task waits again
//! ```

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rwasm_types::{
    Attempt, Code, Error, LeaseId, NodeId, Result, SessionId, Tenant,
    api::{Ask, Listing, NodeRecord, Query},
};
use rwasm_wire::{convert, msg};

use super::{Key, Lease, Spread, State, calls};
use crate::{
    dispatch::ClassId,
    executor::{Ended, Item},
    node::{Shared, cancelled},
    owner::{
        job::{Job, JobCall},
        link::{Link, RUNNER_GRACE},
    },
};

/// How often the head is asked where a node is that attempts of an earlier life are under way on.
const LOOK_FOR_NODES: Duration = Duration::from_millis(200);

/// An attempt of an earlier life, from its node's word on.
pub(super) struct Awaited {
    job: Arc<Job>,
    call: Arc<JobCall>,
    item: Item,
    /// Whether it is to be ended there.
    cancelled: bool,
}

/// What follows from a node's word.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// Attempts that were expected and are held, by the group that they were named in.
    taken: Vec<(usize, Vec<u64>)>,
    /// Tasks whose attempts are not held.
    missing: Vec<Key>,
    /// Attempts that nobody expects: their tasks have ended, or have later ones.
    unwanted: Vec<(SessionId, Vec<u64>)>,
}

/// Compares what was expected with what is held.
fn sort_out(expected: &HashMap<Key, Attempt>, groups: &[msg::HeldGroup]) -> Sorted {
    let mut sorted = Sorted::default();
    let mut held = HashSet::new();
    for (place, group) in groups.iter().enumerate() {
        let wanted = |sequence: u64, attempt: u32| expected.get(&(group.session, sequence)) == Some(&Attempt(attempt));
        let both = || group.sequences.iter().copied().zip(group.attempts.iter().copied());
        let taken: Vec<u64> = both().filter(|(sequence, attempt)| wanted(*sequence, *attempt)).map(|(sequence, _)| sequence).collect();
        let unwanted: Vec<u64> = both().filter(|(sequence, attempt)| !wanted(*sequence, *attempt)).map(|(sequence, _)| sequence).collect();
        held.extend(taken.iter().map(|sequence| (group.session, *sequence)));
        if !taken.is_empty() {
            sorted.taken.push((place, taken));
        }
        if !unwanted.is_empty() {
            sorted.unwanted.push((group.session, unwanted));
        }
    }
    // An order to end a task names no attempt: where one of them is wanted, the other has to run to its end, and nobody hears of it.
    for (session, sequences) in &mut sorted.unwanted {
        sequences.retain(|sequence| !held.contains(&(*session, *sequence)));
    }
    sorted.unwanted.retain(|(_, sequences)| !sequences.is_empty());
    sorted.missing = expected.keys().filter(|key| !held.contains(key)).copied().collect();
    sorted.missing.sort_unstable();
    sorted
}

/// An attempt that a node does not hold.
struct Missing {
    job: Arc<Job>,
    class: ClassId,
    item: Item,
    cancelled: bool,
}

impl Spread {
    /// An attempt of an earlier life may be under way on another node.
    pub(crate) fn expect(&self, node: NodeId, job: &Arc<Job>, call: Arc<JobCall>, item: Item) {
        let awaited = Awaited { job: Arc::clone(job), call, cancelled: job.is_stopped(), item };
        let key = (awaited.job.id.session, awaited.item.task.sequence);
        self.state.lock().awaited.entry(node).or_default().insert(key, awaited);
    }

    /// Nodes that attempts of an earlier life are under way on, and that were not heard yet.
    fn awaited(&self) -> HashSet<NodeId> {
        self.state.lock().awaited.keys().copied().collect()
    }
}

impl State {
    /// Marks attempts whose node was not heard yet: they are to be ended there.
    pub(super) fn cancel_awaited(&mut self, job: &Job, sequences: Option<&[u64]>) {
        let awaited = self.awaited.values_mut().flatten().filter(|((session, _), _)| *session == job.id.session);
        for ((_, sequence), awaited) in awaited {
            awaited.cancelled |= sequences.is_none_or(|sequences| sequences.contains(sequence));
        }
    }

    /// What this life sent to a node and has not heard the end of.
    fn sent_to(&self, node: NodeId) -> impl Iterator<Item = (Key, Attempt)> {
        let leases = self.leases.values().filter(move |lease| lease.node == node);
        let calls = self.calls.values().filter(move |sent| sent.node == node).map(|sent| &sent.item);
        let items = leases.flat_map(|lease| lease.sent.values()).chain(calls);
        items.map(|item| ((item.task.session, item.task.sequence), item.attempt))
    }

    /// Takes a task off its lease.
    fn take_sent(&mut self, node: NodeId, (session, sequence): Key) -> Option<Missing> {
        if self.calls.get(&(session, sequence)).is_some_and(|sent| sent.node == node) {
            let calls::SentCall { job, call, item, .. } = self.calls.remove(&(session, sequence))?;
            return Some(Missing { job, class: call.class, item, cancelled: false });
        }
        let of_task = |lease: &&mut Lease| lease.node == node && lease.sent.get(&sequence).is_some_and(|item| item.task.session == session);
        let lease = self.leases.values_mut().find(of_task)?;
        let item = lease.sent.remove(&sequence)?;
        let class = lease.class;
        let job = Arc::clone(&self.classes.get(&class)?.job);
        Some(Missing { job, class, item, cancelled: false })
    }

    /// Attempts of an earlier life go on under the lease that they were sent on; nothing more is sent on it. Says what the head is told of it.
    fn adopt(&mut self, link: &Arc<Link>, group: &msg::HeldGroup, attempts: Vec<Awaited>) -> Option<msg::LeaseHeld> {
        if group.lease == calls::NO_LEASE {
            attempts.into_iter().for_each(|awaited| self.adopt_call(link.node(), &awaited.job, &awaited.call, awaited.item));
            return None;
        }
        let class = attempts.first()?.call.class;
        let id = LeaseId(group.lease);
        let lease = self.leases.entry(id).or_insert_with(|| Lease {
            node: link.node(),
            class,
            slots: group.slots,
            link: Arc::clone(link),
            sent: HashMap::new(),
            alive: HashSet::new(),
            idle_since: Instant::now(),
            retired: true,
        });
        lease.sent.extend(attempts.into_iter().map(|awaited| (awaited.item.task.sequence, awaited.item)));
        self.lease_held(id)
    }

    /// What the head is told of a lease.
    fn lease_held(&self, id: LeaseId) -> Option<msg::LeaseHeld> {
        let lease = self.leases.get(&id)?;
        let class = self.classes.get(&lease.class)?;
        Some(msg::LeaseHeld {
            lease: id.0,
            node: lease.node.get(),
            job: Some(class.job.id.into()),
            tenant: class.job.tenant.to_string(),
            shape: Some((&class.call.shape).into()),
            slots: lease.slots,
            priority: class.call.options.priority.get().into(),
            retryable: class.call.retries_max > 0,
        })
    }
}

impl Shared {
    /// Finds the nodes that attempts of an earlier life are under way on, and hears what they hold. Those that are not there in time are given
    /// up with what was on them.
    pub(crate) async fn reclaim(self: Arc<Self>) {
        let over = tokio::time::Instant::now() + RUNNER_GRACE;
        loop {
            let awaited = self.spread.awaited();
            if awaited.is_empty() {
                return;
            }
            if tokio::time::Instant::now() >= over {
                awaited.into_iter().for_each(|node| self.give_up(node));
                return;
            }
            match self.nodes().await {
                Ok(nodes) => {
                    for node in nodes.rows.into_iter().filter(|node| node.alive && awaited.contains(&node.id)) {
                        self.link_to(node.id, node.data_address.as_deref().unwrap_or_default());
                    }
                }
                Err(error) => tracing::warn!(%error, "the head does not say where nodes are"),
            }
            tokio::time::sleep(LOOK_FOR_NODES).await;
        }
    }

    async fn nodes(&self) -> Result<Listing<NodeRecord>> {
        let answer = self.head.ask(&Tenant::default(), None, &Ask::Query(Query::Nodes), Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| convert::malformed(format_args!("an answer is no list: {error}")))
    }

    /// A node did not come: what was under way on it is lost.
    fn give_up(self: &Arc<Self>, node: NodeId) {
        let awaited = self.spread.state.lock().awaited.remove(&node).unwrap_or_default();
        tracing::warn!(%node, attempts = awaited.len(), "a node that attempts were under way on did not come back");
        let message = format!("node {node} was lost: it did not come back in time after this node began anew");
        let error = Error::new(Code::NODE_LOST, message).with("node", node);
        let lost = awaited.into_values().map(Awaited::missing).collect();
        self.lose(lost, &error);
    }

    /// A node says what it holds of this owner; gives what it is told before all else. `before` is what it called its keeping on the last link
    /// of this life.
    ///
    /// # Errors
    ///
    /// If its word makes no sense.
    pub(crate) fn held(self: &Arc<Self>, link: &Arc<Link>, held: msg::HeldAttempts, before: Option<u64>) -> Result<Vec<Told>> {
        if held.groups.iter().any(|group| group.sequences.len() != group.attempts.len()) {
            return Err(convert::malformed("a node holds sequences without attempts"));
        }
        let node = link.node();
        let mut first = Vec::new();
        let (missing, leases, taken) = {
            let mut state = self.spread.state.lock();
            let mut awaited = state.awaited.remove(&node).unwrap_or_default();
            let mut expected: HashMap<Key, Attempt> = awaited.iter().map(|(key, awaited)| (*key, awaited.item.attempt)).collect();
            if before.is_some() {
                // What is queued for the first link is not sent yet.
                expected.extend(state.sent_to(node));
            }
            let sorted = sort_out(&expected, &held.groups);
            let (mut leases, mut taken) = (Vec::new(), 0);
            for (place, sequences) in sorted.taken {
                let group = &held.groups[place];
                link.knows(group.session);
                taken += sequences.len();
                let adopted: Vec<Awaited> = sequences.iter().filter_map(|sequence| awaited.remove(&(group.session, *sequence))).collect();
                let stopped = adopted.iter().filter(|awaited| awaited.cancelled || awaited.job.is_stopped());
                let stopped: Vec<u64> = stopped.map(|awaited| awaited.item.task.sequence).collect();
                if !stopped.is_empty() {
                    first.push(cancel(group.session, stopped));
                }
                leases.extend(state.adopt(link, group, adopted));
            }
            let missing = sorted.missing.into_iter().filter_map(|key| match awaited.remove(&key) {
                Some(awaited) => Some(awaited.missing()),
                None => state.take_sent(node, key),
            });
            let missing: Vec<Missing> = missing.collect();
            for (session, sequences) in sorted.unwanted {
                first.push(cancel(session, sequences));
            }
            (missing, leases, taken)
        };
        first.extend(self.strangers(&held.groups));
        for lease in leases.into_iter().filter(|lease| lease.slots > 0) {
            self.head.send(msg::node_message::Message::LeaseHeld(lease));
        }
        if taken > 0 || !missing.is_empty() {
            tracing::info!(%node, taken, missing = missing.len(), "attempts that were under way on a node");
        }
        if before == Some(held.keeping) && !held.gave_up {
            // It has forgotten nothing, so they never arrived.
            self.wait_again(missing);
        } else {
            let error = Error::new(Code::NOT_HELD, format!("node {node} does not have the task any more")).with("node", node);
            self.lose(missing, &error);
        }
        self.surplus.notify_one();
        Ok(first)
    }

    /// Has a node forget jobs of earlier lives that are over.
    fn strangers(&self, groups: &[msg::HeldGroup]) -> Vec<Told> {
        let jobs = self.jobs.read();
        let goes_on = |session: SessionId| {
            let id = rwasm_types::JobId { owner: self.id, session };
            jobs.get(&id).is_some_and(|job| !job.has_ended())
        };
        let mut over: Vec<SessionId> = groups.iter().map(|group| group.session).filter(|session| !goes_on(*session)).collect();
        over.dedup();
        over.into_iter().map(|session| Told::Forget(msg::ForgetSession { session })).collect()
    }

    /// A link broke that was up. What was not sent waits again; leases without work are given back, for others are of more use.
    pub(crate) fn link_broke(self: &Arc<Self>, link: &Link, unsent: Vec<msg::Assign>) {
        let node = link.node();
        let (idle, unsent) = {
            let mut state = self.spread.state.lock();
            let keys = unsent.iter().flat_map(|assign| assign.tasks.iter().map(|task| (assign.session, task.sequence)));
            let unsent: Vec<Missing> = keys.filter_map(|key| state.take_sent(node, key)).collect();
            let idle: Vec<LeaseId> =
                state.leases.extract_if(|_, lease| lease.node == node && lease.sent.is_empty()).map(|(id, _)| id).collect();
            (idle, unsent)
        };
        idle.into_iter().for_each(|lease| self.give_back(lease, true));
        self.wait_again(unsent);
    }

    /// Whether attempts may be under way on a node.
    pub(crate) fn has_work_on(&self, node: NodeId) -> bool {
        self.spread.state.lock().sent_to(node).next().is_some()
    }

    /// The head does not know of leases from before its life.
    pub(crate) fn tell_leases(&self) {
        let held: Vec<msg::LeaseHeld> = {
            let state = self.spread.state.lock();
            state.leases.keys().filter_map(|lease| state.lease_held(*lease)).filter(|lease| lease.slots > 0).collect()
        };
        held.into_iter().for_each(|lease| self.head.send(msg::node_message::Message::LeaseHeld(lease)));
    }

    /// Attempts never reached their node: they wait as they were.
    fn wait_again(self: &Arc<Self>, missing: Vec<Missing>) {
        for Missing { job, class, item, .. } in missing {
            job.requeued(std::slice::from_ref(&item));
            self.put_back(&job, class, item);
        }
        self.pump();
    }

    /// Attempts are lost: their tasks are tried again, or have failed.
    fn lose(self: &Arc<Self>, missing: Vec<Missing>, error: &Error) {
        for Missing { job, class, item, cancelled: ended } in missing {
            if ended {
                self.end(&job, vec![item], &cancelled());
            } else if let Some(item) = job.lost(item, error) {
                self.put_back(&job, class, item);
            }
        }
        self.pump();
    }

    fn put_back(self: &Arc<Self>, job: &Arc<Job>, class: ClassId, item: Item) {
        if let Some(call) = job.task_call(item.task.sequence).filter(|call| call.actor.is_some()) {
            return self.call_actor(job, &call, vec![item]);
        }
        let orphans = self.dispatcher.lock().put_back(class, vec![item]).err().unwrap_or_default();
        let pressure = job.end(orphans.iter().map(|item| Ended::unrun(item, cancelled())).collect());
        self.relieve(job, pressure);
    }
}

/// A message to a node.
type Told = msg::owner_message::Message;

fn cancel(session: SessionId, sequences: Vec<u64>) -> Told {
    Told::Cancel(msg::CancelRemote { session, sequences })
}

impl Awaited {
    fn missing(self) -> Missing {
        Missing { class: self.call.class, job: self.job, item: self.item, cancelled: self.cancelled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(session: SessionId, attempts: &[(u64, u32)]) -> msg::HeldGroup {
        let (sequences, attempts) = attempts.iter().copied().unzip();
        msg::HeldGroup { session, sequences, attempts, ..msg::HeldGroup::default() }
    }

    fn expected(attempts: &[(SessionId, u64, u32)]) -> HashMap<Key, Attempt> {
        attempts.iter().map(|(session, sequence, attempt)| ((*session, *sequence), Attempt(*attempt))).collect()
    }

    #[test]
    fn what_is_held_is_taken_what_is_not_is_missing_and_the_rest_is_ended() {
        let expected = expected(&[(1, 0, 1), (1, 1, 2), (1, 2, 1), (3, 0, 1)]);
        let groups = [group(1, &[(0, 1), (1, 1)]), group(2, &[(7, 1)]), group(3, &[(0, 1)])];
        let sorted = sort_out(&expected, &groups);
        assert_eq!(sorted.taken, [(0, vec![0]), (2, vec![0])]);
        assert_eq!(sorted.missing, [(1, 1), (1, 2)], "an earlier attempt is not the one that is expected");
        assert_eq!(sorted.unwanted, [(1, vec![1]), (2, vec![7])]);
    }

    #[test]
    fn a_task_is_not_ended_for_the_sake_of_its_earlier_attempt() {
        let sorted = sort_out(&expected(&[(1, 0, 2)]), &[group(1, &[(0, 1)]), group(1, &[(0, 2)])]);
        assert_eq!(sorted, Sorted { taken: vec![(1, vec![0])], ..Sorted::default() });
    }

    #[test]
    fn from_a_node_that_began_anew_all_is_missing() {
        let sorted = sort_out(&expected(&[(1, 0, 1), (2, 5, 3)]), &[]);
        assert_eq!(sorted, Sorted { missing: vec![(1, 0), (2, 5)], ..Sorted::default() });
    }
}
