//! The one module of this room with unsafe code: memory that is shared with other processes, and extents of it that never overlap.
//!
//! A [`Mapping`] is a memfd that this process mapped writable, once. Everyone else can only read it: its seals forbid further writable
//! mappings, writing, growing and shrinking before anybody can have its descriptor. An [`Extent`] owns a range of its pages as a `Vec` owns
//! its elements. There is one extent of the whole when the mapping is made, and others come only from cutting and joining, so no two
//! extents share a byte, and the usual rules of `&` and `&mut` hold for what is in them.

#![expect(unsafe_code, reason = "shared memory is made of raw pages, and no type can show that nobody else writes them")]

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, Result},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// The unit of extents. [`page_size_fits`] says whether the machine's own pages are as small.
pub(crate) const PAGE: usize = 4096;

/// Whether a multiple of [`PAGE`] can be mapped on this machine.
pub(crate) fn page_size_fits() -> bool {
    PAGE.is_multiple_of(rustix::param::page_size())
}

/// A memfd and this process' writable mapping of it; gone when the last of its extents is.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to no thread, and its memory is reached through extents alone, which follow the rules of `&` and `&mut`.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared `Mapping` offers its descriptor and its address, and neither changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> Result<Self> {
        const FLAGS: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::ALLOW_SEALING);
        const NAME: &str = "rwasm-objects";
        // Kernels before 6.3 do not know that a file is never to be run.
        let file = memfd_create(NAME, FLAGS.union(MemfdFlags::NOEXEC_SEAL)).or_else(|error| match error {
            Errno::INVAL => memfd_create(NAME, FLAGS),
            other => Err(other),
        })?;
        ftruncate(&file, u64::try_from(bytes).map_err(|_| Errno::FBIG)?)?;
        // SAFETY: the kernel chooses a place where nothing is, so no memory of this process changes under anybody.
        let base = unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        let mapping = Self { base, bytes, file };
        // From here on the mapping above is the only one that can ever write; the file keeps its size, so that no reader of it faults.
        fcntl_add_seals(&mapping.file, SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping that was made here and is undone once. Extents keep the mapping alive, so nothing
        // points into it any more. It is unmapped as a whole, which the kernel does not refuse.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A range of pages of one memfd, owned: whoever has it is the only one who has these bytes.
///
/// Dropping an extent leaves its range unused until the whole mapping is gone, which is when all extents of it are.
pub(crate) struct Extent {
    mapping: Arc<Mapping>,
    offset: usize,
    bytes: usize,
}

impl Extent {
    /// A new memfd of that many pages, all of it one extent. Its bytes are zero, and take no memory before they are touched.
    pub(crate) fn map(pages: usize) -> Result<Self> {
        let bytes = pages.checked_mul(PAGE).filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or(Errno::FBIG)?;
        Ok(Self { mapping: Arc::new(Mapping::new(bytes)?), offset: 0, bytes })
    }

    /// The first `pages` of this extent, and the rest; `Err` with the extent as it was if it has not so many.
    pub(crate) fn cut(self, pages: usize) -> std::result::Result<(Self, Self), Self> {
        match pages.checked_mul(PAGE).filter(|first| *first <= self.bytes) {
            None => Err(self),
            Some(first) => {
                let rest = Self { mapping: Arc::clone(&self.mapping), offset: self.offset + first, bytes: self.bytes - first };
                Ok((Self { bytes: first, ..self }, rest))
            }
        }
    }

    /// Both as one; `Err` with both as they were if `next` does not follow on this one in the same mapping.
    pub(crate) fn join(self, next: Self) -> std::result::Result<Self, (Self, Self)> {
        if Arc::ptr_eq(&self.mapping, &next.mapping) && self.offset + self.bytes == next.offset {
            Ok(Self { bytes: self.bytes + next.bytes, ..self })
        } else {
            Err((self, next))
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies inside the mapping, which lives as long as this extent; it is initialised, for a memfd starts as zeros. No
        // other extent has a byte of it, so nobody writes it while this one is borrowed, and no other process can write the file at all.
        unsafe { slice::from_raw_parts(self.start(), self.bytes) }
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and this extent is borrowed alone, so no other reference to these bytes is alive in this process. Others
        // are handed the descriptor for sealed objects only, whose extents are not borrowed so again until nobody maps them.
        unsafe { slice::from_raw_parts_mut(self.start(), self.bytes) }
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: `offset` is at most the length of the mapping, so this is in it or one past its end; that length fits an `isize`.
        unsafe { self.mapping.base.as_ptr().add(self.offset) }
    }

    /// The memfd, which nobody can write through this.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.mapping.file.as_fd()
    }

    /// Where the extent begins in the memfd, in bytes; a multiple of [`PAGE`].
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// How many pages it has.
    pub(crate) fn pages(&self) -> usize {
        self.bytes / PAGE
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent").field("offset", &self.offset).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_cut_and_joined_without_losing_a_page() {
        let whole = Extent::map(4).unwrap();
        let (mut a, b) = whole.cut(1).unwrap();
        let (mut b, c) = b.cut(2).unwrap();
        assert_eq!([a.pages(), b.pages(), c.pages()], [1, 2, 1]);
        assert_eq!([a.offset(), b.offset(), c.offset()], [0, PAGE, 3 * PAGE]);
        a.bytes_mut().fill(1);
        b.bytes_mut().fill(2);
        assert!(c.bytes().iter().all(|byte| *byte == 0));
        let (a, c) = a.join(c).unwrap_err();
        let ab = a.join(b).unwrap();
        assert!(ab.bytes()[..PAGE].iter().all(|byte| *byte == 1) && ab.bytes()[PAGE..].iter().all(|byte| *byte == 2));
        let whole = ab.join(c).unwrap();
        assert_eq!((whole.offset(), whole.pages()), (0, 4));
        assert!(whole.cut(5).is_err());
    }

    #[test]
    fn extents_of_two_mappings_do_not_join() {
        let (a, rest) = Extent::map(2).unwrap().cut(1).unwrap();
        let (_, b) = Extent::map(2).unwrap().cut(1).unwrap();
        let (a, _) = a.join(b).unwrap_err();
        assert_eq!(a.join(rest).unwrap().pages(), 2);
    }

    #[test]
    fn what_the_address_space_does_not_hold_is_refused() {
        for pages in [usize::MAX, usize::MAX / PAGE, isize::MAX as usize / PAGE] {
            assert!(Extent::map(pages).is_err(), "{pages}");
        }
    }

    #[test]
    fn whoever_has_the_descriptor_can_only_read() {
        use rustix::fs::{FallocateFlags, fallocate, fcntl_get_seals};

        let mut extent = Extent::map(2).unwrap();
        extent.bytes_mut()[..3].copy_from_slice(b"abc");
        let file = extent.file();
        let attempt = |what: &str, result: Result<()>| assert!(matches!(result, Err(Errno::PERM)), "{what}: {result:?}");
        attempt("write", rustix::io::pwrite(file, b"x", 0).map(drop));
        attempt("shrink", ftruncate(file, 1));
        attempt("grow", ftruncate(file, 1 << 20));
        attempt("punch a hole", fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, PAGE as u64));
        attempt("add a seal", fcntl_add_seals(file, SealFlags::WRITE));
        assert!(fcntl_get_seals(file).unwrap().contains(SealFlags::FUTURE_WRITE | SealFlags::SEAL));
        // Opened anew, the file lets itself be opened for writing, and is as little written.
        let again = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))
            .unwrap();
        attempt("write, opened anew", rustix::io::pwrite(&again, b"x", 0).map(drop));
        for (flags, protection, refused) in [
            (MapFlags::SHARED, ProtFlags::READ | ProtFlags::WRITE, true),
            (MapFlags::SHARED, ProtFlags::READ, false),
            (MapFlags::PRIVATE, ProtFlags::READ | ProtFlags::WRITE, false),
        ] {
            // SAFETY: a new mapping where nothing is.
            let mapped = unsafe { mmap(ptr::null_mut(), PAGE, protection, flags, &again, 0) };
            assert_eq!(mapped.is_err(), refused, "{flags:?} {protection:?}");
            let Ok(base) = mapped else { continue };
            if flags == MapFlags::PRIVATE {
                // SAFETY: the page was mapped above, writable, and nobody else knows it.
                unsafe { base.cast::<u8>().write(b'x') };
            } else {
                // SAFETY: as above, for what must fail.
                assert!(unsafe { rustix::mm::mprotect(base, PAGE, rustix::mm::MprotectFlags::WRITE) }.is_err(), "not made writable later");
            }
            // SAFETY: what was mapped above is undone once.
            unsafe { munmap(base, PAGE) }.unwrap();
        }
        assert_eq!(&extent.bytes()[..3], b"abc", "a private write stays private");
    }
}
