//! What of a job a driver must know to go on after its connection broke: what it said that the gateway may not have, and what it received.

use std::collections::{BTreeMap, VecDeque};

use rwasm_wire::msg;

/// One job's memory.
pub(crate) struct Kept {
    open: msg::OpenJob,
    session: u32,
    calls: Vec<msg::DefineCall>,
    /// Tasks that the gateway may not have, in their order.
    batches: VecDeque<msg::Submit>,
    finished: bool,
    cancelled: bool,
    received: Ranges,
    outputs: u64,
}

impl Kept {
    pub(crate) fn new(job: msg::JobId, open: msg::OpenJob) -> Self {
        Self {
            open,
            session: job.session,
            calls: Vec::new(),
            batches: VecDeque::new(),
            finished: false,
            cancelled: false,
            received: Ranges::default(),
            outputs: 0,
        }
    }

    /// Something is said.
    pub(crate) fn say(&mut self, said: &msg::driver_message::Message) {
        match said {
            msg::driver_message::Message::DefineCall(define) => self.calls.push(define.clone()),
            msg::driver_message::Message::Submit(submit) => self.batches.push_back(submit.clone()),
            msg::driver_message::Message::FinishJob(_) => self.finished = true,
            msg::driver_message::Message::Cancel(_) => self.cancelled = true,
            msg::driver_message::Message::Hello(_)
            | msg::driver_message::Message::OpenJob(_)
            | msg::driver_message::Message::Release(_) => {}
        }
    }

    /// A call was not taken.
    pub(crate) fn refused(&mut self, number: u32) {
        self.calls.retain(|call| call.number != number);
    }

    /// Outcomes came; those that came before are left out.
    pub(crate) fn received(&mut self, outcomes: &mut msg::Outcomes) {
        self.arrived(outcomes.submitted);
        outcomes.outcomes.retain(|outcome| self.received.insert(outcome.sequence));
    }

    /// So many pieces of output came.
    pub(crate) fn heard(&mut self, outputs: u64) {
        self.outputs += outputs;
    }

    /// The gateway has so many tasks.
    fn arrived(&mut self, submitted: u64) {
        while self.batches.front().is_some_and(|batch| batch.first_sequence + batch.args.len() as u64 <= submitted) {
            self.batches.pop_front();
        }
    }

    /// How the job is asked for on a new stream.
    pub(crate) fn resume(&self) -> msg::OpenJob {
        msg::OpenJob { resume: Some(msg::Resume { received: self.received.list(), outputs: self.outputs }), ..self.open.clone() }
    }

    /// What is said again to a gateway that has so many tasks and calls, and may know that no more come.
    pub(crate) fn unsaid(&mut self, submitted: u64, calls: u32, finished: bool) -> Vec<msg::driver_message::Message> {
        self.arrived(submitted);
        let mut unsaid: Vec<msg::driver_message::Message> = Vec::new();
        let untaken = self.calls.iter().filter(|call| call.number >= calls);
        unsaid.extend(untaken.cloned().map(msg::driver_message::Message::DefineCall));
        for batch in &self.batches {
            let mut batch = batch.clone();
            // A message is taken whole or not at all; this holds for gateways that do it otherwise, too.
            let taken = usize::try_from(submitted.saturating_sub(batch.first_sequence)).unwrap_or(usize::MAX);
            batch.args.drain(..taken.min(batch.args.len()));
            batch.first_sequence = batch.first_sequence.max(submitted);
            unsaid.push(msg::driver_message::Message::Submit(batch));
        }
        if self.finished && !finished {
            unsaid.push(msg::driver_message::Message::FinishJob(msg::FinishJob { session: self.session }));
        }
        if self.cancelled {
            unsaid.push(msg::driver_message::Message::Cancel(msg::CancelTasks { session: self.session, sequences: Vec::new() }));
        }
        unsaid
    }
}

/// Numbers, as ranges that neither touch nor overlap: the first and the one after the last of each.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a number; says whether it was not there.
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(first, end)| (*first, *end));
        if before.is_some_and(|(_, end)| number < end) {
            return false;
        }
        let first = before.filter(|(_, end)| *end == number).map_or(number, |(first, _)| first);
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        self.0.insert(first, end);
        true
    }

    fn list(&self) -> Vec<msg::Range> {
        self.0.iter().map(|(first, end)| msg::Range { first: *first, count: end - first }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn submit(first_sequence: u64, count: usize) -> msg::driver_message::Message {
        msg::driver_message::Message::Submit(msg::Submit { session: 7, call: 0, first_sequence, args: vec![Bytes::new(); count] })
    }

    #[test]
    fn what_the_gateway_has_is_not_said_again_and_what_it_has_not_is() {
        let mut kept = Kept::new(msg::JobId { owner: 1, session: 7 }, msg::OpenJob::default());
        for number in 0..2 {
            kept.say(&msg::driver_message::Message::DefineCall(msg::DefineCall { session: 7, number, call: None }));
        }
        for first in [0, 10, 20] {
            kept.say(&submit(first, 10));
        }
        kept.say(&msg::driver_message::Message::FinishJob(msg::FinishJob { session: 7 }));
        let outcome = |sequence| msg::Outcome { sequence, ..Default::default() };
        let mut outcomes = msg::Outcomes { session: 7, outcomes: vec![outcome(3), outcome(4)], submitted: 10 };
        kept.received(&mut outcomes);
        assert_eq!(outcomes.outcomes.len(), 2);
        kept.received(&mut outcomes);
        assert_eq!(outcomes.outcomes.len(), 0, "none is passed on twice");
        assert_eq!(kept.resume().resume.unwrap().received, [msg::Range { first: 3, count: 2 }]);
        let unsaid = kept.unsaid(15, 1, false);
        let tasks: Vec<(u64, usize)> = unsaid
            .iter()
            .filter_map(|said| match said {
                msg::driver_message::Message::Submit(submit) => Some((submit.first_sequence, submit.args.len())),
                _ => None,
            })
            .collect();
        assert_eq!((unsaid.len(), tasks), (4, vec![(15, 5), (20, 10)]));
        assert_eq!(kept.unsaid(30, 2, true).len(), 0);
    }

    proptest! {
        #[test]
        fn ranges_are_sets(numbers in proptest::collection::vec(0_u64..40, 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), set.insert(number));
            }
            let list = ranges.list();
            prop_assert!(list.windows(2).all(|pair| pair[0].first + pair[0].count < pair[1].first));
            let all: Vec<u64> = list.iter().flat_map(|range| range.first..range.first + range.count).collect();
            prop_assert_eq!(all, set.into_iter().collect::<Vec<_>>());
        }
    }
}
