//! How much goes into one message: many small things, or one large one.

/// The most bytes of payload in one message of several; a larger one goes alone. Far below what a peer takes, and small enough that other
/// streams of a connection get their turn.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// The most things in one message.
pub(crate) const COUNT_MAX: usize = 4_096;

/// How many of the first things make one message; at least one if there is any.
pub(crate) fn length<'a, T: 'a>(things: impl IntoIterator<Item = &'a T>, size: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |thing: &&T| {
        let first = bytes == 0;
        // Empty things count as well, so that only the first is the first.
        bytes = bytes.saturating_add(size(thing).max(1));
        first || bytes <= BYTES_MAX
    };
    things.into_iter().take(COUNT_MAX).take_while(fits).count()
}

/// Cuts things into messages, in their order.
pub(crate) fn split<T>(mut things: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    while !things.is_empty() {
        let rest = things.split_off(length(&things, &size));
        batches.push(std::mem::replace(&mut things, rest));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_things_go_alone_and_small_ones_together() {
        let of = |sizes: &[usize]| split(sizes.to_vec(), |size| *size).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[BYTES_MAX * 2, 1, 1]), [1, 2]);
        assert_eq!(of(&[BYTES_MAX / 2, BYTES_MAX / 2, 1]), [2, 1]);
        assert_eq!(of(&[0; COUNT_MAX + 1]), [COUNT_MAX, 1]);
        assert_eq!(of(&[usize::MAX, usize::MAX]), [1, 1]);
    }
}
