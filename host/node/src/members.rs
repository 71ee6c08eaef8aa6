//! Which nodes the cluster has, as the head says: where they are, and which were lost.
//!
//! ```text
//! unknown ─▶ there ─▶ lost ─▶ there, in a later life or after a pause
//! ```
//!
//! A head that began anew hears of its nodes one by one, so whoever was there before is believed in for a while.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{Incarnation, NodeId, Result};
use rwasm_wire::{convert, msg};
use tokio::sync::watch;

/// How long a node may stay away from a head that began anew, or not be named by it, before it counts as lost.
const ABSENT_MAX: Duration = Duration::from_secs(15);
/// Lost nodes that are remembered.
const LOST_MAX: usize = 1024;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) life: Incarnation,
    /// Empty if it cannot be dialled.
    pub(crate) address: String,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    There(Member),
    /// Nobody has said yet.
    Awaited,
    /// It was lost, or never was.
    Lost,
}

/// What a word of the head's comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) there: Vec<(NodeId, Incarnation)>,
    pub(crate) lost: Vec<NodeId>,
}

/// The nodes of the cluster.
pub(crate) struct Members {
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    there: HashMap<NodeId, Member>,
    lost: BTreeSet<NodeId>,
    /// Those that this life of the head has not named yet, since when.
    absent: HashMap<NodeId, Instant>,
    /// When a head said all that it knew.
    told: Option<Instant>,
}

impl Default for Members {
    fn default() -> Self {
        Self { known: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Members {
    /// The head says who is there. Gives those that it named, with their lives, and those that were there and are lost.
    ///
    /// # Errors
    ///
    /// If a node's number is 0.
    pub(crate) fn hear(&self, word: &msg::Members, now: Instant) -> Result<News> {
        let mut news = News::default();
        {
            let mut known = self.known.lock();
            if word.whole {
                known.absent = known.there.keys().map(|node| (*node, now)).collect();
                known.told = Some(now);
            }
            for member in &word.there {
                let node = convert::node(member.node)?;
                let member = Member { life: Incarnation(member.incarnation), address: member.data_address.clone() };
                known.absent.remove(&node);
                known.lost.remove(&node);
                news.there.push((node, member.life));
                known.there.insert(node, member);
            }
            for node in &word.lost {
                let node = convert::node(*node)?;
                news.lost.extend(known.lose(node));
            }
        }
        self.changed.send_modify(|version| *version += 1);
        Ok(news)
    }

    /// Those that were there and that the head has not named for too long.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<NodeId> {
        let mut known = self.known.lock();
        let late: Vec<NodeId> =
            known.absent.iter().filter(|(_, since)| now.duration_since(**since) >= ABSENT_MAX).map(|(node, _)| *node).collect();
        let gone: Vec<NodeId> = late.into_iter().filter_map(|node| known.lose(node)).collect();
        drop(known);
        if !gone.is_empty() {
            self.changed.send_modify(|version| *version += 1);
        }
        gone
    }

    /// What is known of a node.
    pub(crate) fn standing(&self, node: NodeId, now: Instant) -> Standing {
        let known = self.known.lock();
        match known.there.get(&node) {
            Some(member) => Standing::There(member.clone()),
            None if known.lost.contains(&node) => Standing::Lost,
            None if known.told.is_some_and(|told| now.duration_since(told) >= ABSENT_MAX) => Standing::Lost,
            None => Standing::Awaited,
        }
    }

    /// Where a node is, if it is there.
    pub(crate) fn there(&self, node: NodeId) -> Option<Member> {
        self.known.lock().there.get(&node).cloned()
    }

    /// Told whenever something changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Known {
    /// Gives the node, if it was there.
    fn lose(&mut self, node: NodeId) -> Option<NodeId> {
        self.absent.remove(&node);
        self.lost.insert(node);
        if self.lost.len() > LOST_MAX {
            self.lost.pop_first();
        }
        self.there.remove(&node).map(|_before| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn word(whole: bool, there: &[(u32, u64)], lost: &[u32]) -> msg::Members {
        let member =
            |(node, incarnation): &(u32, u64)| msg::Member { node: *node, incarnation: *incarnation, data_address: format!("at:{node}") };
        msg::Members { whole, there: there.iter().map(member).collect(), lost: lost.to_vec() }
    }

    #[test]
    fn a_node_is_gone_when_the_head_says_so_or_it_began_a_later_life() {
        let (members, now) = (Members::default(), Instant::now());
        assert_eq!(members.standing(node(2), now), Standing::Awaited);
        let hear = |word| members.hear(&word, now).unwrap();
        assert_eq!(hear(word(true, &[(1, 5), (2, 5)], &[3])).lost, []);
        assert_eq!(members.standing(node(2), now), Standing::There(Member { life: Incarnation(5), address: "at:2".to_owned() }));
        assert_eq!(members.standing(node(3), now), Standing::Lost);
        assert_eq!(hear(word(false, &[(3, 1)], &[])), News { there: vec![(node(3), Incarnation(1))], lost: vec![] }, "it was only paused");
        assert_eq!(hear(word(false, &[(2, 6)], &[])).there, [(node(2), Incarnation(6))]);
        assert_eq!(hear(word(false, &[], &[2])).lost, [node(2)]);
        assert_eq!(hear(word(false, &[], &[2])).lost, [], "once");
        assert!(members.hear(&word(false, &[(0, 1)], &[]), now).is_err());
    }

    #[test]
    fn a_head_that_began_anew_is_given_time_to_hear_of_its_nodes() {
        let (members, now) = (Members::default(), Instant::now());
        members.hear(&word(true, &[(1, 1), (2, 1), (3, 1)], &[]), now).unwrap();
        let again = now + Duration::from_secs(60);
        members.hear(&word(true, &[(1, 1)], &[]), again).unwrap();
        members.hear(&word(false, &[(2, 1)], &[]), again).unwrap();
        assert_eq!(members.overdue(again), vec![]);
        assert!(members.there(node(3)).is_some());
        assert_eq!(members.standing(node(9), again), Standing::Awaited, "it may be about to be named");
        assert_eq!(members.overdue(again + ABSENT_MAX), vec![node(3)]);
        assert_eq!(members.standing(node(9), again + ABSENT_MAX), Standing::Lost);
    }
}
