//! Windows: objects in a guest's own memory, without a copy.
//!
//! ```text
//! guest memory   | image, stack, heap │ grown … [ region: pages of the object, private │ last bytes, copied ] … |
//!                                     ▲ what it started with: never under a window
//! ```
//!
//! Pages are mapped privately and writable: code of the guest, of libraries and of this host may write there, and only the guest's own copy
//! of the page changes. Only whole pages of the object are mapped, and its last bytes are copied, so that no byte beside an object is seen.
//! A window is undone before its memory can belong to anybody else, or the process ends: see [`crate::raw::Mapping`].

use std::{ops::Range, sync::Arc};

use rustix::{
    fs::{SealFlags, fcntl_get_seals, fstat},
    param::page_size,
};
use rwasm_types::Error;
use wasmtime::StoreContextMut;

use super::{Region, Sealed, error::Refusal, imports::COPY_BYTES_MAX, maps::MAPS};
use crate::{
    raw::{GuestBytes, Mapping},
    store::Host,
};

/// Where regions and their places in objects begin: at multiples of WebAssembly's page, which every page of a machine divides.
const ALIGNMENT: u64 = 64 << 10;

/// The most windows that a guest can have open.
const WINDOWS_MAX: usize = 64;

/// Below this, copying is quicker than mapping.
const MAPPED_BYTES_MIN: usize = 256 << 10;

/// The open windows of a guest. A window's number is its place.
#[derive(Default)]
pub(super) struct Windows(Vec<Option<Window>>);

/// An object, or a part of it, in a guest's memory; what a handle of `window` stands for.
pub(super) struct Window {
    /// The pages that are mapped. Declared before what keeps them, so that it ends before.
    mapping: Option<Mapping>,
    region: GuestBytes,
    _sealed: Arc<dyn Sealed>,
}

impl Windows {
    /// Whether a region can become a window, and the place that it will have. `started_with` is what the guest's memory began with.
    pub(super) fn check(&self, region: &GuestBytes, offset: u64, started_with: u64) -> Result<u32, Refusal> {
        if !(region.offset() as u64).is_multiple_of(ALIGNMENT) || !offset.is_multiple_of(ALIGNMENT) {
            return Err(Refusal::NotAligned);
        }
        if region.len() == 0 {
            return Err(Refusal::OutOfRange);
        }
        if (region.offset() as u64) < started_with {
            return Err(Refusal::NotGrown);
        }
        if self.0.iter().flatten().any(|open| open.region.overlaps(region)) {
            return Err(Refusal::Overlapping);
        }
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free < WINDOWS_MAX { Ok(free as u32) } else { Err(Refusal::TooMany) }
    }

    /// Keeps a window at the place that was found for it.
    pub(super) fn keep(&mut self, place: u32, window: Window) {
        let place = place as usize;
        if place == self.0.len() {
            self.0.push(Some(window));
        } else if let Some(free) = self.0.get_mut(place) {
            *free = Some(window);
        }
    }

    /// Takes a window out.
    pub(super) fn take(&mut self, place: u32) -> Option<Window> {
        self.0.get_mut(place as usize)?.take()
    }
}

impl Window {
    /// Shows a range of an object in a region of the same length, which has been checked.
    pub(super) fn open(
        cx: &mut StoreContextMut<'_, Host>,
        region: GuestBytes,
        sealed: Arc<dyn Sealed>,
        range: Range<usize>,
    ) -> Result<Self, Refusal> {
        let stored = sealed.region().filter(|_| range.len() >= MAPPED_BYTES_MIN);
        let mapping = match stored {
            Some(stored) => {
                let pages = range.len() - range.len() % page_size();
                let offset = place_in_file(&stored, &range)?;
                if !MAPS.admit() {
                    return Err(Refusal::TooMany);
                }
                let mapping = Mapping::new(&region, pages, stored.file, offset);
                Some(mapping.map_err(|error| Refusal::Other(format!("the kernel refused a window: {error}")))?)
            }
            None if range.len() as u64 > COPY_BYTES_MAX => return Err(Refusal::TooLarge),
            None => None,
        };
        let mapped = mapping.as_ref().map_or(0, Mapping::len);
        let rest = sealed.bytes().get(range.start + mapped..range.end).unwrap_or_default();
        region.write(cx, mapped, rest);
        Ok(Self { mapping, region, _sealed: sealed })
    }

    /// Leaves zeros.
    pub(super) fn close(self, cx: &mut StoreContextMut<'_, Host>) {
        let mapped = self.mapping.as_ref().map_or(0, Mapping::len);
        drop(self.mapping);
        self.region.clear(cx, mapped);
    }
}

/// Where a range of an object lies in its file, if the file holds it and will go on to.
///
/// A page beyond the end of a file ends the process that touches it. The store seals its files; that is looked at here once more, because a
/// mistake there would be any guest's way to end a node.
fn place_in_file(stored: &Region<'_>, range: &Range<usize>) -> Result<u64, Refusal> {
    let broken = |what: &str| Refusal::from(Error::internal(format!("the file of an object {what}")));
    let seals = fcntl_get_seals(stored.file).map_err(|error| broken(&format!("cannot be asked for its seals: {error}")))?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(broken("is not sealed against shrinking"));
    }
    let size = fstat(stored.file).map_err(|error| broken(&format!("cannot be asked for its size: {error}")))?.st_size;
    let end = stored.offset.checked_add(range.end as u64);
    if range.end as u64 > stored.length || end.is_none_or(|end| end > size.unsigned_abs()) {
        return Err(broken("is shorter than the object"));
    }
    let offset = stored.offset + range.start as u64;
    if offset.is_multiple_of(page_size() as u64) { Ok(offset) } else { Err(broken("does not hold it at the start of a page")) }
}
