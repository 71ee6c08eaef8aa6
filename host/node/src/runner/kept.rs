//! What a node keeps for one owner until the owner has written it down: attempts that wait or run, and what those that ended or wrote have
//! to say. Pure bookkeeping, without clock, locks or network.
//!
//! ```text
//! expect ─▶ under way ─ ended ─▶ outcomes ─┐                       ┌─ acknowledged ─▶ gone
//!               └────── wrote ─▶ outputs ──┴─ unsent ─ take ─▶ sent ─┘
//!                                              ▲                  │
//!                                              └── the link broke ┘
//! ```
//!
//! While the owner is there, it has no more under way than its leases allow, so outcomes need no limit. While it is away they have one, and
//! an outcome beyond it is given up: the owner finds the attempt missing, and takes it for lost.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use rwasm_types::{Attempt, SessionId};
use rwasm_wire::msg;

use crate::{batch, executor::HeldObjects, owner::outbox};

/// Bytes of outcomes that are kept for an owner that is away.
pub(super) const AWAY_BYTES_MAX: usize = 64 << 20;
/// Outcomes that are kept for an owner that is away.
pub(super) const AWAY_OUTCOMES_MAX: usize = 65_536;

/// An attempt of an owner's.
pub(super) type Key = (SessionId, u64, Attempt);

/// What an attempt came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Came {
    pub(super) call: u32,
    pub(super) lease: u64,
}

/// Attempts by what they came with, in order.
pub(super) type Held = BTreeMap<(SessionId, Came), Vec<(u64, Attempt)>>;

/// Things that leave in their order, and are kept until they are acknowledged. They are numbered from 1, and no number is used twice.
#[derive(Debug)]
struct Line<T> {
    kept: VecDeque<(u64, T)>,
    last: u64,
    /// How many of those that are kept were sent.
    sent: usize,
    bytes: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), last: 0, sent: 0, bytes: 0 }
    }
}

impl<T: Clone> Line<T> {
    fn push(&mut self, thing: T, size: usize) {
        self.last += 1;
        self.kept.push_back((self.last, thing));
        self.bytes += size;
    }

    /// What was not sent, each with its number; from now on it was.
    fn take(&mut self) -> Vec<(u64, T)> {
        let taken = self.kept.iter().skip(self.sent).cloned().collect();
        self.sent = self.kept.len();
        taken
    }

    /// All up to a number has arrived; each is given to `gone`.
    fn acknowledge(&mut self, number: u64, size: impl Fn(&T) -> usize, mut gone: impl FnMut(T)) {
        while let Some((_, thing)) = self.kept.pop_front_if(|(first, _)| *first <= number) {
            self.bytes -= size(&thing);
            self.sent = self.sent.saturating_sub(1);
            gone(thing);
        }
    }
}

#[derive(Clone, Debug)]
struct Said {
    session: SessionId,
    came: Came,
    outcome: msg::Outcome,
    /// What the result names: the owner holds it itself by the time that it acknowledges.
    held: HeldObjects,
}

fn outcome_size(said: &Said) -> usize {
    outbox::size(&said.outcome)
}

/// With what an entry takes by itself, for guests that write byte by byte.
fn output_size((_, output): &(SessionId, msg::Output)) -> usize {
    64 + output.bytes.len()
}

/// What is kept for one owner.
#[derive(Debug, Default)]
pub(super) struct Kept {
    under_way: HashMap<Key, Came>,
    /// Of those: which make actors that are alive.
    alive: HashSet<Key>,
    outcomes: Line<Said>,
    outputs: Line<(SessionId, msg::Output)>,
    failed: Vec<msg::DefineFailed>,
    away: bool,
    /// How many outcomes were given up.
    given_up: u64,
}

impl Kept {
    /// Attempts came in.
    pub(super) fn expect(&mut self, session: SessionId, came: Came, attempts: impl Iterator<Item = (u64, Attempt)>) {
        self.under_way.extend(attempts.map(|(sequence, attempt)| ((session, sequence, attempt), came)));
    }

    /// An attempt ended. Of one that was not expected, or whose end was told, nothing is kept.
    pub(super) fn ended(&mut self, session: SessionId, outcome: msg::Outcome, held: HeldObjects) {
        let key = (session, outcome.sequence, Attempt(outcome.attempt));
        let Some(came) = self.under_way.remove(&key) else { return };
        self.alive.remove(&key);
        let said = Said { session, came, outcome, held };
        let size = outcome_size(&said);
        if self.away && (self.outcomes.kept.len() >= AWAY_OUTCOMES_MAX || self.outcomes.bytes + size > AWAY_BYTES_MAX) {
            self.given_up += 1;
            return;
        }
        self.outcomes.push(said, size);
    }

    /// The actor that an attempt makes is alive. Of one that was not expected, nothing is kept.
    pub(super) fn alive(&mut self, key: Key) {
        if self.under_way.contains_key(&key) && self.alive.insert(key) {
            self.say_alive(key);
        }
    }

    fn say_alive(&mut self, key: Key) {
        let Some(came) = self.under_way.get(&key).copied() else { return };
        let (session, sequence, attempt) = key;
        let value = msg::outcome::Result::Value(Bytes::new());
        let outcome = msg::Outcome { sequence, attempt: attempt.0, alive: true, result: Some(value), ..msg::Outcome::default() };
        let said = Said { session, came, outcome, held: HeldObjects::new() };
        let size = outcome_size(&said);
        self.outcomes.push(said, size);
    }

    /// An attempt wrote.
    pub(super) fn wrote(&mut self, session: SessionId, output: msg::Output) {
        let wrote = (session, output);
        let size = output_size(&wrote);
        self.outputs.push(wrote, size);
    }

    /// A call cannot run here.
    pub(super) fn failed(&mut self, failed: msg::DefineFailed) {
        self.failed.push(failed);
    }

    /// Bytes of output that wait to be sent or acknowledged.
    pub(super) fn output_bytes(&self) -> usize {
        self.outputs.bytes
    }

    /// The owner has written down what came up to these numbers. Gives what need not be held for it any more.
    pub(super) fn acknowledge(&mut self, outputs: u64, outcomes: u64) -> HeldObjects {
        let mut held = HeldObjects::new();
        self.outputs.acknowledge(outputs, output_size, drop);
        self.outcomes.acknowledge(outcomes, outcome_size, |said| held.extend(said.held));
        held
    }

    /// The link broke: what was not acknowledged is to be sent again.
    pub(super) fn broke(&mut self) {
        self.away = true;
        self.outputs.sent = 0;
        self.outcomes.sent = 0;
        // Those calls are defined again.
        self.failed.clear();
        while self.outcomes.kept.len() > AWAY_OUTCOMES_MAX || self.outcomes.bytes > AWAY_BYTES_MAX {
            let Some((_, said)) = self.outcomes.kept.pop_back() else { return };
            self.outcomes.bytes -= outcome_size(&said);
            self.given_up += 1;
        }
    }

    /// The owner is back; says whether outcomes were given up meanwhile.
    pub(super) fn back(&mut self) -> bool {
        self.away = false;
        // Another life of the owner has not heard of them.
        let alive: Vec<Key> = self.alive.iter().copied().collect();
        alive.into_iter().for_each(|key| self.say_alive(key));
        std::mem::take(&mut self.given_up) > 0
    }

    /// A job has ended: nobody asks for what its attempts do.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.under_way.retain(|(of, ..), _| *of != session);
        self.alive.retain(|(of, ..)| *of != session);
    }

    /// Whether there is nothing that the owner could want to know.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.outcomes.kept.is_empty() && self.outputs.kept.is_empty()
    }

    /// How many attempts run or have said what was not acknowledged, and how many outcomes were given up.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.under_way.len() + self.outcomes.kept.len(), self.given_up)
    }

    /// Attempts that run, or have ended and not been acknowledged, by what they came with.
    pub(super) fn held(&self) -> Held {
        let mut held = Held::new();
        for ((session, sequence, attempt), came) in &self.under_way {
            held.entry((*session, *came)).or_default().push((*sequence, *attempt));
        }
        // What says that an actor is alive is no end of it.
        for (_, Said { session, came, outcome, .. }) in self.outcomes.kept.iter().filter(|(_, said)| !said.outcome.alive) {
            held.entry((*session, *came)).or_default().push((outcome.sequence, Attempt(outcome.attempt)));
        }
        held.values_mut().for_each(|attempts| attempts.sort_unstable());
        held
    }

    /// The messages that say all that was not sent; output first, so that an attempt's comes before its end. Nothing while the owner is away.
    pub(super) fn take(&mut self) -> Vec<msg::RunnerMessage> {
        if self.away {
            return Vec::new();
        }
        let mut messages = Vec::new();
        for (number, (session, output)) in self.outputs.take() {
            match messages.last_mut() {
                Some(msg::runner_message::Message::Outputs(last)) if last.session == session && last.outputs.len() < batch::COUNT_MAX => {
                    last.outputs.push(output);
                    last.number = number;
                }
                _ => messages.push(msg::runner_message::Message::Outputs(msg::RemoteOutputs { session, outputs: vec![output], number })),
            }
        }
        for batch in batch::split(self.outcomes.take(), |(_, said)| outcome_size(said)) {
            // A message holds the outcomes of one lease, and none is added to the message of an earlier batch.
            let mut last = None;
            for (number, Said { session, came, outcome, .. }) in batch {
                match messages.last_mut().filter(|_| last == Some((session, came.lease))) {
                    Some(msg::runner_message::Message::Outcomes(message)) => {
                        message.outcomes.push(outcome);
                        message.number = number;
                    }
                    _ => messages.push(msg::runner_message::Message::Outcomes(msg::RemoteOutcomes {
                        session,
                        lease: came.lease,
                        outcomes: vec![outcome],
                        number,
                    })),
                }
                last = Some((session, came.lease));
            }
        }
        messages.extend(std::mem::take(&mut self.failed).into_iter().map(msg::runner_message::Message::DefineFailed));
        messages.into_iter().map(|message| msg::RunnerMessage { message: Some(message) }).collect()
    }
}

/// A piece of an attempt's output.
pub(super) fn output(sequence: u64, attempt: Attempt, stream: msg::Stream, offset: u64, bytes: Bytes) -> msg::Output {
    msg::Output { sequence, attempt: attempt.0, stream: stream.into(), bytes, offset }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rwasm_wire::msg::runner_message::Message;

    use super::*;

    const CAME: Came = Came { call: 0, lease: 7 };

    fn outcome(sequence: u64, bytes: usize) -> msg::Outcome {
        let value = msg::outcome::Result::Value(vec![0; bytes].into());
        msg::Outcome { sequence, attempt: 1, result: Some(value), ..msg::Outcome::default() }
    }

    fn expecting(count: u64) -> Kept {
        let mut kept = Kept::default();
        kept.expect(1, CAME, (0..count).map(|sequence| (sequence, Attempt(1))));
        kept
    }

    fn wrote(kept: &mut Kept, sequence: u64, text: &'static [u8]) {
        kept.wrote(1, output(sequence, Attempt(1), msg::Stream::Stdout, 0, Bytes::from_static(text)));
    }

    /// What messages say, as text: outputs, and the numbers of tasks that ended.
    fn said(messages: Vec<msg::RunnerMessage>) -> Vec<(String, u64)> {
        let one = |message: msg::RunnerMessage| match message.message.unwrap() {
            Message::Outputs(outputs) => {
                let bytes: Vec<u8> = outputs.outputs.iter().flat_map(|output| output.bytes.to_vec()).collect();
                (String::from_utf8(bytes).unwrap(), outputs.number)
            }
            Message::Outcomes(outcomes) => {
                (outcomes.outcomes.iter().map(|outcome| outcome.sequence.to_string()).collect(), outcomes.number)
            }
            other => panic!("{other:?}"),
        };
        messages.into_iter().map(one).collect()
    }

    fn line(text: &str, number: u64) -> (String, u64) {
        (text.to_owned(), number)
    }

    #[test]
    fn what_was_not_acknowledged_is_said_again_after_the_link_broke() {
        let mut kept = expecting(3);
        wrote(&mut kept, 0, b"a");
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        assert_eq!(said(kept.take()), [line("a", 1), line("0", 1)]);
        wrote(&mut kept, 1, b"b");
        kept.ended(1, outcome(1, 0), HeldObjects::new());
        assert_eq!(said(kept.take()), [line("b", 2), line("1", 2)]);
        kept.acknowledge(1, 1);
        kept.broke();
        wrote(&mut kept, 2, b"c");
        assert_eq!(kept.take(), []);
        assert_eq!(kept.held(), BTreeMap::from([((1, CAME), vec![(1, Attempt(1)), (2, Attempt(1))])]));
        assert!(!kept.back());
        assert_eq!(said(kept.take()), [line("bc", 3), line("1", 2)]);
        kept.ended(1, outcome(2, 0), HeldObjects::new());
        assert_eq!(said(kept.take()), [line("2", 3)]);
        kept.acknowledge(3, 3);
        assert!(kept.is_empty() && kept.output_bytes() == 0);
    }

    #[test]
    fn an_end_is_told_once_and_only_of_what_came() {
        let mut kept = expecting(1);
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        kept.ended(1, outcome(9, 0), HeldObjects::new());
        kept.ended(1, msg::Outcome { attempt: 2, ..outcome(0, 0) }, HeldObjects::new());
        assert_eq!(said(kept.take()), [line("0", 1)]);
        let mut kept = expecting(1);
        kept.forget(1);
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        assert!(kept.is_empty());
    }

    #[test]
    fn of_an_actor_that_is_alive_each_link_hears_and_of_its_end_once() {
        let mut kept = expecting(2);
        kept.alive((1, 0, Attempt(1)));
        kept.alive((1, 0, Attempt(1)));
        kept.alive((1, 9, Attempt(1)));
        let said_alive = |kept: &mut Kept| -> Vec<(u64, bool)> {
            let outcomes = kept.take().into_iter().flat_map(|message| match message.message {
                Some(Message::Outcomes(outcomes)) => outcomes.outcomes,
                other => panic!("{other:?}"),
            });
            outcomes.map(|outcome| (outcome.sequence, outcome.alive)).collect()
        };
        assert_eq!(said_alive(&mut kept), [(0, true)]);
        kept.acknowledge(0, 1);
        kept.broke();
        assert_eq!(kept.held()[&(1, CAME)], [(0, Attempt(1)), (1, Attempt(1))], "it is held, and has not ended");
        kept.back();
        assert_eq!(kept.held()[&(1, CAME)], [(0, Attempt(1)), (1, Attempt(1))]);
        assert_eq!(said_alive(&mut kept), [(0, true)]);
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        assert_eq!(said_alive(&mut kept), [(0, false)]);
        kept.acknowledge(0, 3);
        kept.broke();
        kept.back();
        assert_eq!(said_alive(&mut kept), []);
    }

    #[test]
    fn two_attempts_of_a_task_are_two() {
        let mut kept = expecting(1);
        let later = Came { call: 0, lease: 8 };
        kept.expect(1, later, std::iter::once((0, Attempt(2))));
        kept.ended(1, outcome(0, 0), HeldObjects::new());
        kept.ended(1, msg::Outcome { attempt: 2, ..outcome(0, 0) }, HeldObjects::new());
        let leases: Vec<u64> = kept
            .take()
            .into_iter()
            .map(|message| match message.message {
                Some(Message::Outcomes(outcomes)) => outcomes.lease,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(leases, [7, 8]);
    }

    #[test]
    fn for_an_owner_that_is_away_only_so_much_is_kept() {
        let many = AWAY_OUTCOMES_MAX as u64 + 10;
        let mut kept = expecting(many);
        kept.broke();
        (0..many).for_each(|sequence| kept.ended(1, outcome(sequence, 0), HeldObjects::new()));
        assert_eq!(kept.counts(), (AWAY_OUTCOMES_MAX, 10));
        assert!(kept.back(), "it is said that some were given up");
        // Large ones were there before: the newest go.
        let mut kept = expecting(5);
        (0..5).for_each(|sequence| kept.ended(1, outcome(sequence, AWAY_BYTES_MAX / 4), HeldObjects::new()));
        kept.broke();
        let held: Vec<u64> = kept.held()[&(1, CAME)].iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!((held, kept.counts().1), (vec![0, 1, 2], 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        End,
        Take,
        /// So many of those that arrived and were not acknowledged are.
        Acknowledge(u64),
        /// So many of those that were taken last did not arrive.
        Break(usize),
    }

    proptest! {
        /// However often the link breaks, the owner that says what it has heard gets each end once, in order.
        #[test]
        fn each_end_arrives_once(steps in proptest::collection::vec(prop_oneof![
            3 => Just(Step::End), 2 => Just(Step::Take), 1 => (0u64..4).prop_map(Step::Acknowledge), 1 => (0usize..4).prop_map(Step::Break),
        ], 0..80)) {
            let mut kept = expecting(100);
            let (mut next, mut heard, mut acknowledged) = (0, Vec::new(), 0);
            let take = |kept: &mut Kept, heard: &mut Vec<u64>, but: usize| {
                let outcomes: Vec<_> = kept.take().into_iter().flat_map(|message| match message.message {
                    Some(Message::Outcomes(outcomes)) => outcomes.outcomes,
                    other => panic!("{other:?}"),
                }).collect();
                let arrive = outcomes.len().saturating_sub(but);
                heard.extend(outcomes.into_iter().take(arrive).map(|outcome| outcome.sequence));
            };
            for step in steps {
                match step {
                    Step::End => {
                        kept.ended(1, outcome(next, 0), HeldObjects::new());
                        next += 1;
                    }
                    Step::Take => take(&mut kept, &mut heard, 0),
                    Step::Acknowledge(more) => {
                        acknowledged = (acknowledged + more).min(heard.len() as u64);
                        kept.acknowledge(0, acknowledged);
                    }
                    Step::Break(lost) => {
                        take(&mut kept, &mut heard, lost);
                        kept.broke();
                        // As the next link begins: it says what arrived. Nothing was sent on it.
                        kept.acknowledge(0, heard.len() as u64);
                        kept.back();
                    }
                }
            }
            take(&mut kept, &mut heard, 0);
            prop_assert_eq!(heard, (0..next).collect::<Vec<_>>());
        }
    }
}
