//! An index over what nodes offer: finds a node for any shape without looking at all of them.
//!
//! ```text
//!            [most cpu, most gpu, most memory, all marks, least used, lowest victim]
//!               ╱                                                   ╲
//!        [nodes 0–1]                                            [nodes 2–3]
//!         ╱      ╲                                               ╱      ╲
//!      node 0   node 1                                        node 2   node 3
//! ```
//!
//! Each branch holds the best of what lies below it, in each respect by itself, so a branch that cannot have a fitting node is passed
//! over as a whole. A change costs one way to the root, and so does a search, whatever the number of shapes that are looked for.

use std::ops::ControlFlow;

/// What a node offers, or the best of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Free cores, in ten-thousandths.
    pub(crate) cpu: u64,
    pub(crate) gpu: u64,
    /// Free memory, in bytes.
    pub(crate) memory: u64,
    /// Conditions that it meets; see [`crate::filter`].
    pub(crate) marks: u64,
    /// How much of its scarcest resource is used, of [`Offer::FULL`].
    pub(crate) used: u32,
    /// The lowest priority of a lease that may be taken back at once; [`Offer::NO_VICTIM`] where there is none.
    pub(crate) victim: i16,
}

impl Offer {
    /// The use of a node that is full.
    pub(crate) const FULL: u32 = 1 << 16;
    /// No lease can be taken back.
    pub(crate) const NO_VICTIM: i16 = i16::MAX;
    /// Nothing at all.
    pub(crate) const NONE: Self = Self { cpu: 0, gpu: 0, memory: 0, marks: 0, used: u32::MAX, victim: Self::NO_VICTIM };

    fn merge(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            gpu: self.gpu.max(other.gpu),
            memory: self.memory.max(other.memory),
            marks: self.marks | other.marks,
            used: self.used.min(other.used),
            victim: self.victim.min(other.victim),
        }
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) cpu: u64,
    pub(crate) gpu: u64,
    pub(crate) memory: u64,
    /// Conditions that must be met.
    pub(crate) marks: u64,
}

impl Want {
    pub(crate) fn fits(&self, offer: &Offer) -> bool {
        offer.cpu >= self.cpu
            && offer.gpu >= self.gpu
            && offer.memory >= self.memory
            && offer.marks & self.marks == self.marks
            && offer.used != u32::MAX
    }

    #[must_use]
    pub(crate) fn with(self, marks: u64) -> Self {
        Self { marks: self.marks | marks, ..self }
    }
}

/// The index. Nodes are named by their place, which is small and used again.
#[derive(Debug)]
pub(crate) struct Tree {
    /// A complete binary tree: the root is 1, the children of `i` are `2i` and `2i + 1`, the leaves are the last half.
    offers: Vec<Offer>,
}

/// More levels than a tree of 32-bit places has.
const DEPTH_MAX: usize = 34;

impl Default for Tree {
    fn default() -> Self {
        Self { offers: vec![Offer::NONE; 2] }
    }
}

impl Tree {
    fn leaves(&self) -> usize {
        self.offers.len() / 2
    }

    /// What a place offers.
    pub(crate) fn get(&self, place: u32) -> Offer {
        self.offers.get(self.leaves() + place as usize).copied().unwrap_or(Offer::NONE)
    }

    /// The best of all.
    pub(crate) fn root(&self) -> &Offer {
        &self.offers[1]
    }

    /// Changes what a place offers.
    pub(crate) fn set(&mut self, place: u32, offer: Offer) {
        while place as usize >= self.leaves() {
            self.double();
        }
        let mut at = self.leaves() + place as usize;
        self.offers[at] = offer;
        while at > 1 {
            at /= 2;
            let merged = self.offers[2 * at].merge(self.offers[2 * at + 1]);
            if self.offers[at] == merged {
                return;
            }
            self.offers[at] = merged;
        }
    }

    fn double(&mut self) {
        let leaves = self.leaves();
        let old = std::mem::replace(&mut self.offers, vec![Offer::NONE; 4 * leaves]);
        self.offers[2 * leaves..3 * leaves].copy_from_slice(&old[leaves..]);
        for at in (1..2 * leaves).rev() {
            self.offers[at] = self.offers[2 * at].merge(self.offers[2 * at + 1]);
        }
    }

    /// Of the first nodes that fit and are used less than `used_below`, the one that is used most: it fills up first, and the others
    /// stay empty for what is large. At most `look_at` are compared.
    pub(crate) fn packed(&self, want: &Want, used_below: u32, look_at: usize, mut allowed: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        let mut seen = 0;
        let pass = |offer: &Offer| offer.used < used_below && want.fits(offer);
        let _ = self.walk(pass, |place, offer| {
            if allowed(place) {
                if best.is_none_or(|(used, _)| offer.used > used) {
                    best = Some((offer.used, place));
                }
                seen += 1;
                if seen >= look_at {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        best.map(|(_, place)| place)
    }

    /// Goes from left to right through the leaves that pass, over branches that pass.
    pub(crate) fn walk(&self, pass: impl Fn(&Offer) -> bool, mut leaf: impl FnMut(u32, &Offer) -> ControlFlow<()>) -> ControlFlow<()> {
        let leaves = self.leaves();
        let mut stack = [0usize; DEPTH_MAX];
        stack[0] = 1;
        let mut depth = 1;
        while depth > 0 {
            depth -= 1;
            let at = stack[depth];
            if !pass(&self.offers[at]) {
                continue;
            }
            if at >= leaves {
                leaf((at - leaves) as u32, &self.offers[at])?;
            } else {
                stack[depth] = 2 * at + 1;
                stack[depth + 1] = 2 * at;
                depth += 2;
            }
        }
        ControlFlow::Continue(())
    }

    /// Of the nodes that fit, one that is used least.
    pub(crate) fn emptiest(&self, want: &Want, mut allowed: impl FnMut(u32) -> bool) -> Option<u32> {
        let leaves = self.leaves();
        let mut best: Option<(u32, u32)> = None;
        let mut stack = [0usize; DEPTH_MAX];
        stack[0] = 1;
        let mut depth = 1;
        while depth > 0 {
            depth -= 1;
            let at = stack[depth];
            let offer = &self.offers[at];
            if best.is_some_and(|(used, _)| offer.used >= used) || !want.fits(offer) {
                continue;
            }
            if at >= leaves {
                let place = (at - leaves) as u32;
                if allowed(place) {
                    best = Some((offer.used, place));
                }
                continue;
            }
            // The side that is used less is looked at first, so that the other can be passed over.
            let (left, right) = (2 * at, 2 * at + 1);
            let (first, second) = if self.offers[left].used <= self.offers[right].used { (left, right) } else { (right, left) };
            stack[depth] = second;
            stack[depth + 1] = first;
            depth += 2;
        }
        best.map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offers() -> impl Strategy<Value = Vec<(u32, Offer)>> {
        let offer = (0u64..8, 0u64..3, 0u64..8, 0u64..8, 0u32..8, -2i16..3).prop_map(|(cpu, gpu, memory, marks, used, victim)| Offer {
            cpu,
            gpu,
            memory,
            marks,
            used,
            victim,
        });
        proptest::collection::vec((0u32..40, prop_oneof![4 => offer, 1 => Just(Offer::NONE)]), 0..80)
    }

    proptest! {
        #[test]
        fn searches_find_what_a_look_at_every_node_finds(
            offers in offers(), cpu in 0u64..8, gpu in 0u64..3, memory in 0u64..8, marks in 0u64..8, below in 0u32..8, not in 0u32..40,
        ) {
            let mut tree = Tree::default();
            let mut plain = vec![Offer::NONE; 40];
            for (place, offer) in offers {
                tree.set(place, offer);
                plain[place as usize] = offer;
            }
            let want = Want { cpu, gpu, memory, marks };
            let fitting = |used_below: u32| {
                let all = plain.iter().zip(0u32..);
                all.filter(move |(offer, place)| want.fits(offer) && offer.used < used_below && *place != not).map(|(offer, place)| (offer.used, place))
            };
            prop_assert_eq!(tree.packed(&want, below, 1, |place| place != not), fitting(below).map(|(_, place)| place).next());
            let fullest = fitting(below).take(3).reduce(|best, next| if next.0 > best.0 { next } else { best });
            prop_assert_eq!(tree.packed(&want, below, 3, |place| place != not), fullest.map(|(_, place)| place));
            let emptiest = fitting(u32::MAX).min();
            let found = tree.emptiest(&want, |place| place != not).map(|place| plain[place as usize].used);
            prop_assert_eq!(found, emptiest.map(|(used, _)| used));
            prop_assert_eq!(tree.root().victim, plain.iter().map(|offer| offer.victim).min().unwrap());
        }
    }
}
