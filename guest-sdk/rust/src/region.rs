//! Memory for windows: whole pages of WebAssembly, above all that the allocator and the linker know of.
//!
//! The host shows objects only where memory was grown, at multiples of a page. Memory never shrinks, so regions that are free again are kept
//! for the next windows.

#![expect(unsafe_code, reason = "pages that were grown have no owner that the language knows")]

use std::{arch::wasm32::memory_grow, cell::RefCell, ops::Deref, ptr, slice};

/// Pages of a guest's memory that are nobody else's.
pub(crate) struct Region {
    first: usize,
    pages: usize,
    len: usize,
}

/// First page and number of pages of each region that is free, none of them beside another.
struct Free(Vec<(usize, usize)>);

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free(Vec::new())) };
}

impl Region {
    /// Where regions begin: at multiples of this.
    pub(crate) const ALIGNMENT: usize = 64 << 10;

    /// A region of so many bytes; `None` if there is no memory, or if it would be empty.
    pub(crate) fn new(len: usize) -> Option<Self> {
        let pages = len.div_ceil(Self::ALIGNMENT);
        if pages == 0 {
            return None;
        }
        let first = FREE.with_borrow_mut(|free| free.take(pages)).or_else(|| match memory_grow::<0>(pages) {
            usize::MAX => None,
            first => Some(first),
        })?;
        Some(Self { first, pages, len })
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages were grown by this module, so they are there, are initialised and belong to no allocator; no other region has
        // them. Nobody writes to them but the host, in calls that are given this slice.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(self.first * Self::ALIGNMENT), self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        FREE.with_borrow_mut(|free| free.give(self.first, self.pages));
    }
}

impl Free {
    /// The first region that is large enough; what is left of it stays.
    fn take(&mut self, pages: usize) -> Option<usize> {
        let place = self.0.iter().position(|(_, free)| *free >= pages)?;
        let (first, free) = self.0[place];
        if free == pages {
            self.0.swap_remove(place);
        } else {
            self.0[place] = (first + pages, free - pages);
        }
        Some(first)
    }

    /// Takes a region back, and joins it with its neighbours.
    fn give(&mut self, mut first: usize, mut pages: usize) {
        self.0.retain(|(other, count)| {
            let before = other + count == first;
            let behind = first + pages == *other;
            if before {
                first = *other;
            }
            if before || behind {
                pages += count;
            }
            !before && !behind
        });
        self.0.push((first, pages));
    }
}
