//! Where objects lie: segments of shared memory, each of one tenant, cut into extents that are used again while they are warm.
//!
//! ```text
//! segment of a tenant   │ object │ warm, free │ object │ object │ warm, free ┊ never touched, takes no memory │
//!                                                                           ▲ touched
//! ```
//!
//! The first touch of fresh shared memory costs many times a copy into memory that was touched before, so extents that come back are handed
//! out first. A sealed file gives no memory back but as a whole; so a segment that nothing uses is dropped when there is too much of its
//! kind. What counts against the capacity is what was touched, for that is what the machine has lost.
//!
//! This module keeps the books and makes and drops mappings. It knows no objects, and waits for nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustix::io::Errno;
use rwasm_types::Tenant;

use crate::raw::{Extent, PAGE};

/// The unit of all counts here.
const PAGE_U64: u64 = PAGE as u64;

/// The most segments of a node: each is a descriptor and a mapping of the process, of which it has some ten thousand.
pub(crate) const SEGMENTS_MAX: usize = 8_192;

/// The first segment of a tenant has as many pages; later ones as many as the tenant has already, up to the limit.
const FIRST_PAGES: u64 = 1_024;

/// Why there is no extent to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// The node's capacity is used up.
    Capacity,
    /// The tenant's part of it is.
    Quota,
    /// The kernel refused a segment.
    Kernel(Errno),
}

/// What an arena may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Pages that may be touched, of all segments.
    pub(crate) capacity: u64,
    /// The most pages of a segment, but for those of an object that is larger.
    pub(crate) segment: u64,
    /// Touched pages of segments that nothing uses.
    pub(crate) idle: u64,
}

/// An extent that is handed out, with what it is known by when it comes back.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) extent: Extent,
    /// Bytes at its beginning that may hold what was there before; those after them are zero.
    pub(crate) dirty: usize,
    /// The segment that it lies in.
    pub(crate) segment: u64,
}

impl Room {
    /// How many pages it has.
    pub(crate) fn pages(&self) -> u64 {
        self.extent.pages() as u64
    }
}

struct Segment {
    tenant: Tenant,
    pages: u64,
    /// Pages that were ever handed out; all beyond are zero and take no memory.
    touched: u64,
    /// Pages that are handed out.
    live: u64,
    /// What is free, by its first page; neighbours are joined.
    free: BTreeMap<u64, Extent>,
    /// Since when nothing uses it, by the arena's clock.
    idle: Option<u64>,
}

/// Pages of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Pages that its segments have touched.
    pub(crate) touched: u64,
    /// Pages that are handed out.
    pub(crate) live: u64,
}

#[derive(Default)]
struct Owned {
    held: Held,
    /// All pages of its segments.
    pages: u64,
    /// Free extents that end in touched pages: pages, segment, first page.
    warm: BTreeSet<(u64, u64, u64)>,
    /// Free extents that end in fresh pages, one for each segment at most.
    tails: BTreeSet<(u64, u64, u64)>,
}

impl Owned {
    /// The smallest extent that is large enough.
    fn fitting(extents: &BTreeSet<(u64, u64, u64)>, pages: u64) -> Option<(u64, u64)> {
        extents.range((pages, 0, 0)..).next().map(|(_, segment, first)| (*segment, *first))
    }

    fn index(&mut self, extent: (u64, u64, u64), touched: u64) -> &mut BTreeSet<(u64, u64, u64)> {
        if extent.2 + extent.0 > touched { &mut self.tails } else { &mut self.warm }
    }
}

/// All segments of a node.
pub(crate) struct Arena {
    sizes: Sizes,
    segments: BTreeMap<u64, Segment>,
    tenants: HashMap<Tenant, Owned>,
    total: Held,
    /// Segments that nothing uses, the one that is so for longest first: when it became so, and its number.
    idle: BTreeSet<(u64, u64)>,
    idle_pages: u64,
    next_segment: u64,
    clock: u64,
}

impl Arena {
    pub(crate) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            segments: BTreeMap::new(),
            tenants: HashMap::new(),
            total: Held::default(),
            idle: BTreeSet::new(),
            idle_pages: 0,
            next_segment: 0,
            clock: 0,
        }
    }

    /// An extent of that many pages, at least one, for a tenant that may have touched `quota` pages in all.
    ///
    /// Segments that nothing uses are dropped for it where that is needed; they go to `trash`, for unmapping takes long and need not be done
    /// under anybody's lock.
    pub(crate) fn take(&mut self, tenant: &Tenant, pages: u64, quota: u64, trash: &mut Vec<Extent>) -> Result<Room, Short> {
        if let Some((segment, first)) = self.tenants.get(tenant).and_then(|owned| Owned::fitting(&owned.warm, pages)) {
            return self.hand_out(segment, first, pages).ok_or(Short::Kernel(Errno::INVAL));
        }
        loop {
            let tail = self.tenants.get(tenant).and_then(|owned| Owned::fitting(&owned.tails, pages));
            let warm = tail.map_or(0, |(segment, first)| {
                self.segments.get(&segment).map_or(0, |segment| segment.touched - first.min(segment.touched))
            });
            let cost = pages - warm.min(pages);
            let short = if self.held(tenant).touched.saturating_add(cost) > quota {
                Short::Quota
            } else if self.total.touched.saturating_add(cost) > self.sizes.capacity
                || (tail.is_none() && self.segments.len() >= SEGMENTS_MAX)
            {
                Short::Capacity
            } else {
                let (segment, first) = match tail {
                    Some(found) => found,
                    None => self.add_segment(tenant, pages)?,
                };
                return self.hand_out(segment, first, pages).ok_or(Short::Kernel(Errno::INVAL));
            };
            let kept = tail.map(|(segment, _)| segment);
            let own = |segment: &Segment| short != Short::Quota || segment.tenant == *tenant;
            let drops = |id: &u64| Some(*id) != kept && self.segments.get(id).is_some_and(own);
            let Some(id) = self.idle.iter().map(|(_, id)| *id).find(drops) else { return Err(short) };
            trash.extend(self.drop_idle(id));
        }
    }

    /// Segments of which at most half of what they touched is used, the emptiest first, with the pages that are used; of these tenants.
    pub(crate) fn sparse(&self, tenants: impl Fn(&Tenant) -> bool) -> Vec<(u64, u64)> {
        let sparse = |segment: &&Segment| segment.live > 0 && segment.live * 2 <= segment.touched && tenants(&segment.tenant);
        let segments = self.segments.iter().filter(|(_, segment)| sparse(segment));
        let mut found: Vec<_> = segments.map(|(id, segment)| (*id, segment.live)).collect();
        found.sort_by_key(|(id, live)| (*live, *id));
        found
    }

    /// An extent in a segment of the same tenant that is as full or fuller; warm if there is one.
    pub(crate) fn take_in_fuller(&mut self, than: u64, pages: u64, quota: u64) -> Option<Room> {
        let from = self.segments.get(&than)?;
        let owned = self.tenants.get(&from.tenant)?;
        let left = self.sizes.capacity.saturating_sub(self.total.touched).min(quota.saturating_sub(owned.held.touched));
        let fits = |(_, id, first): &&(u64, u64, u64)| {
            let cost = |to: &Segment| (first + pages).saturating_sub(to.touched);
            *id != than && self.segments.get(id).is_some_and(|to| to.live >= from.live && cost(to) <= left)
        };
        let start = (pages, 0, 0);
        let (_, id, first) = *owned.warm.range(start..).chain(owned.tails.range(start..)).find(fits)?;
        self.hand_out(id, first, pages)
    }

    /// Takes an extent back. Segments that nothing uses and that are more than may stay go to `trash`.
    pub(crate) fn give_back(&mut self, room: Room, trash: &mut Vec<Extent>) {
        let pages = room.pages();
        let Some(segment) = self.segments.get_mut(&room.segment) else { return };
        let Some(owned) = self.tenants.get_mut(&segment.tenant) else { return };
        segment.live -= pages;
        owned.held.live -= pages;
        self.total.live -= pages;
        let (mut first, mut extent) = (room.extent.offset() as u64 / PAGE_U64, room.extent);
        if let Some((&before, left)) = segment.free.range(..first).next_back()
            && before + left.pages() as u64 == first
            && let Some(left) = segment.free.remove(&before)
        {
            owned.index((left.pages() as u64, room.segment, before), segment.touched).remove(&(left.pages() as u64, room.segment, before));
            match left.join(extent) {
                Ok(joined) => (first, extent) = (before, joined),
                Err(_) => return,
            }
        }
        let after = first + extent.pages() as u64;
        if let Some(right) = segment.free.remove(&after) {
            owned.index((right.pages() as u64, room.segment, after), segment.touched).remove(&(right.pages() as u64, room.segment, after));
            match extent.join(right) {
                Ok(joined) => extent = joined,
                Err(_) => return,
            }
        }
        let key = (extent.pages() as u64, room.segment, first);
        owned.index(key, segment.touched).insert(key);
        segment.free.insert(first, extent);
        if segment.live == 0 {
            self.clock += 1;
            segment.idle = Some(self.clock);
            self.idle.insert((self.clock, room.segment));
            self.idle_pages += segment.touched;
        }
        while self.idle_pages > self.sizes.idle {
            let Some((_, id)) = self.idle.first().copied() else { break };
            trash.extend(self.drop_idle(id));
        }
    }

    /// What a tenant holds.
    pub(crate) fn held(&self, tenant: &Tenant) -> Held {
        self.tenants.get(tenant).map_or_else(Held::default, |owned| owned.held)
    }

    /// What all tenants hold.
    pub(crate) fn total(&self) -> Held {
        self.total
    }

    /// What each tenant holds that has segments.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = (&Tenant, Held)> {
        self.tenants.iter().map(|(tenant, owned)| (tenant, owned.held))
    }

    /// How many segments there are.
    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    fn add_segment(&mut self, tenant: &Tenant, pages: u64) -> Result<(u64, u64), Short> {
        let grown = self.tenants.get(tenant).map_or(0, |owned| owned.pages).max(FIRST_PAGES).min(self.sizes.segment);
        let pages = pages.max(grown);
        let extent = Extent::map(usize::try_from(pages).unwrap_or(usize::MAX)).map_err(Short::Kernel)?;
        self.next_segment += 1;
        let id = self.next_segment;
        let owned = self.tenants.entry(tenant.clone()).or_default();
        owned.pages += pages;
        owned.tails.insert((pages, id, 0));
        let free = BTreeMap::from([(0, extent)]);
        self.clock += 1;
        self.idle.insert((self.clock, id));
        let segment = Segment { tenant: tenant.clone(), pages, touched: 0, live: 0, free, idle: Some(self.clock) };
        self.segments.insert(id, segment);
        Ok((id, 0))
    }

    /// The first pages of the free extent that begins there; `None` if there is none or it is smaller.
    fn hand_out(&mut self, id: u64, first: u64, pages: u64) -> Option<Room> {
        let segment = self.segments.get_mut(&id)?;
        let owned = self.tenants.get_mut(&segment.tenant)?;
        let whole = segment.free.remove(&first)?;
        let key = (whole.pages() as u64, id, first);
        owned.index(key, segment.touched).remove(&key);
        if let Some(since) = segment.idle.take() {
            self.idle.remove(&(since, id));
            self.idle_pages -= segment.touched;
        }
        let dirty = segment.touched.saturating_sub(first).min(pages);
        let touches = pages - dirty;
        let (extent, rest) = whole.cut(usize::try_from(pages).ok()?).ok()?;
        segment.touched += touches;
        segment.live += pages;
        for held in [&mut owned.held, &mut self.total] {
            held.touched += touches;
            held.live += pages;
        }
        if rest.pages() > 0 {
            let key = (rest.pages() as u64, id, first + pages);
            owned.index(key, segment.touched).insert(key);
            segment.free.insert(first + pages, rest);
        }
        Some(Room { extent, dirty: usize::try_from(dirty).ok()? * PAGE, segment: id })
    }

    /// Drops a segment that nothing uses, and returns what is left to be unmapped.
    fn drop_idle(&mut self, id: u64) -> Option<Extent> {
        let segment = self.segments.remove(&id)?;
        if let Some(since) = segment.idle {
            self.idle.remove(&(since, id));
            self.idle_pages -= segment.touched;
        }
        self.total.touched -= segment.touched;
        if let Some(owned) = self.tenants.get_mut(&segment.tenant) {
            owned.held.touched -= segment.touched;
            owned.pages -= segment.pages;
            for (first, extent) in &segment.free {
                let key = (extent.pages() as u64, id, *first);
                owned.index(key, segment.touched).remove(&key);
            }
            if owned.pages == 0 {
                self.tenants.remove(&segment.tenant);
            }
        }
        segment.free.into_values().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    fn arena(capacity: u64, idle: u64) -> Arena {
        Arena::new(Sizes { capacity, segment: 4_096, idle })
    }

    fn take(arena: &mut Arena, name: &str, pages: u64) -> Result<Room, Short> {
        arena.take(&tenant(name), pages, u64::MAX, &mut Vec::new())
    }

    fn give(arena: &mut Arena, room: Room) {
        arena.give_back(room, &mut Vec::new());
    }

    #[test]
    fn warm_extents_come_first_and_know_that_they_are_dirty() {
        let mut arena = arena(10_000, 10_000);
        let mut a = take(&mut arena, "a", 4).unwrap();
        assert_eq!(a.dirty, 0);
        a.extent.bytes_mut().fill(7);
        let kept = take(&mut arena, "a", 1).unwrap();
        give(&mut arena, a);
        assert_eq!(arena.total(), Held { touched: 5, live: 1 });
        let again = take(&mut arena, "a", 3).unwrap();
        assert_eq!((again.dirty, again.extent.offset()), (3 * PAGE, 0));
        let fresh = take(&mut arena, "a", 2).unwrap();
        assert_eq!((fresh.dirty, fresh.extent.offset()), (0, 5 * PAGE), "one warm page is left, which is too small");
        assert_eq!(arena.total(), Held { touched: 7, live: 6 });
        for room in [kept, again, fresh] {
            give(&mut arena, room);
        }
        let all = take(&mut arena, "a", 10).unwrap();
        assert_eq!((all.dirty, arena.total()), (7 * PAGE, Held { touched: 10, live: 10 }), "warm and fresh pages are joined");
        assert!(all.extent.bytes()[7 * PAGE..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn no_page_goes_from_one_tenant_to_another() {
        let mut arena = arena(10_000, 10_000);
        let mut a = take(&mut arena, "a", 3).unwrap();
        a.extent.bytes_mut().fill(7);
        let segment = a.segment;
        give(&mut arena, a);
        let b = take(&mut arena, "b", 3).unwrap();
        assert!(b.segment != segment && b.dirty == 0 && b.extent.bytes().iter().all(|byte| *byte == 0));
        assert_eq!(take(&mut arena, "a", 3).unwrap().segment, segment);
    }

    #[test]
    fn what_was_touched_counts_and_what_nothing_uses_is_dropped_for_whoever_needs_it() {
        let mut arena = arena(100, 100);
        let a = take(&mut arena, "a", 60).unwrap();
        let kept = take(&mut arena, "a", 1).unwrap();
        assert_eq!(take(&mut arena, "b", 40).unwrap_err(), Short::Capacity);
        give(&mut arena, a);
        assert_eq!(take(&mut arena, "b", 40).unwrap_err(), Short::Capacity, "a page of the tenant holds its whole segment");
        give(&mut arena, kept);
        assert_eq!(arena.total(), Held { touched: 61, live: 0 });
        let b = take(&mut arena, "b", 40).unwrap();
        assert_eq!(arena.held(&tenant("a")), Held::default());
        give(&mut arena, b);
        assert_eq!(take(&mut arena, "b", 101).unwrap_err(), Short::Capacity);
        assert_eq!(take(&mut arena, "b", 100).unwrap().dirty, 40 * PAGE, "its own warm pages are kept for it");
    }

    #[test]
    fn a_quota_holds_a_tenant_and_nobody_else() {
        let mut arena = arena(1_000, 1_000);
        let mut take = |name: &str, pages| arena.take(&tenant(name), pages, 10, &mut Vec::new());
        let a = take("a", 10).unwrap();
        assert_eq!(take("a", 1).unwrap_err(), Short::Quota);
        take("b", 10).unwrap();
        give(&mut arena, a);
        assert!(arena.take(&tenant("a"), 10, 10, &mut Vec::new()).is_ok());
    }

    #[test]
    fn segments_grow_with_their_tenant_and_a_large_object_has_its_own() {
        let mut arena = arena(1 << 20, 1 << 20);
        let rooms: Vec<_> = [1, 1_024, 1_024, 5_000].map(|pages| take(&mut arena, "a", pages).unwrap()).into();
        assert_eq!(arena.segments(), 4);
        let sizes: Vec<_> = arena.segments.values().map(|segment| segment.pages).collect();
        assert_eq!(sizes, [1_024, 1_024, 2_048, 5_000]);
        drop(rooms);
    }

    #[test]
    fn of_what_nothing_uses_as_much_stays_as_may() {
        let mut arena = arena(10_000, 1_500);
        let rooms: Vec<_> = (0..3).map(|_| take(&mut arena, "a", 1_024).unwrap()).collect();
        let mut trash = Vec::new();
        for room in rooms {
            arena.give_back(room, &mut trash);
        }
        assert_eq!((arena.segments(), arena.total().touched, trash.len()), (1, 1_024, 2));
        let mut none = Arena::new(Sizes { capacity: 10_000, segment: 4_096, idle: 0 });
        let room = take(&mut none, "a", 1).unwrap();
        give(&mut none, room);
        assert_eq!((none.segments(), none.total(), none.tenants.len()), (0, Held::default(), 0));
    }
}
