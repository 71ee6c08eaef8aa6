//! Which results a driver says it has got: ranges of numbers.

use rwasm_types::Result;
use rwasm_wire::{convert, msg};

/// The most ranges that a driver may name.
const RANGES_MAX: usize = 1_000_000;

/// Numbers, as ranges that neither touch nor overlap, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received(Vec<(u64, u64)>);

impl Received {
    /// Reads what a driver says.
    ///
    /// # Errors
    ///
    /// If there are too many ranges, or they are not in order.
    pub(crate) fn read(ranges: &[msg::Range]) -> Result<Self> {
        if ranges.len() > RANGES_MAX {
            return Err(convert::malformed("too many ranges of results"));
        }
        let mut read: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let end = range.first.checked_add(range.count).filter(|end| *end > range.first);
            let in_order = read.last().is_none_or(|(_, last)| *last < range.first);
            let end = end.filter(|_| in_order).ok_or_else(|| convert::malformed("ranges of results are not in order"))?;
            read.push((range.first, end));
        }
        Ok(Self(read))
    }

    /// Whether a result is among them.
    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let place = self.0.partition_point(|(first, _)| *first <= sequence);
        place.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|(_, end)| sequence < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_order_are_read_and_others_refused() {
        let read = |ranges: &[(u64, u64)]| {
            Received::read(&ranges.iter().map(|(first, count)| msg::Range { first: *first, count: *count }).collect::<Vec<_>>())
        };
        let received = read(&[(0, 2), (5, 1)]).unwrap();
        assert_eq!((0..8).filter(|sequence| received.contains(*sequence)).collect::<Vec<_>>(), [0, 1, 5]);
        assert!(!read(&[]).unwrap().contains(0));
        for bad in [&[(0, 0)][..], &[(0, 2), (1, 1)], &[(5, 1), (0, 1)], &[(u64::MAX, 2)]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
