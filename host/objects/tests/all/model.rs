//! A hundred thousand random steps of producers, readers, the disk and those that wait, beside a model that only knows what was sealed.
//!
//! After each step the store shows what the model has and no more than it may have. At the end everybody lets go, and nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin as Pinned,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use rwasm_objects::{Config, Fetched, Fetching, ObjectState, Pin, Reserving, Restore, Spill, Store, Writer, may_wait};
use rwasm_types::{Code, Error, Tenant};

use crate::{PAGE, Shelf, bytes, id, pages, tenant};

const CASES: u32 = 100;
const STEPS: usize = 1_000;
const CAPACITY: u64 = 48;
const QUOTA: u64 = 30;
const DISK: u64 = 64 * PAGE;
const IDS: u64 = 24;
const TENANTS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Create {
        id: u64,
        tenant: usize,
        size: u64,
    },
    Reserve {
        id: u64,
        tenant: usize,
        size: u64,
    },
    PollReserve(usize),
    DropReserve(usize),
    Write(usize),
    /// Writes where the producer asked for the bytes.
    Fill(usize),
    Seal(usize),
    DropWriter(usize),
    Get {
        id: u64,
        tenant: usize,
    },
    Fetch {
        id: u64,
        tenant: usize,
    },
    PollFetch(usize),
    DropFetch(usize),
    Read(usize),
    DropRestore(usize),
    ClonePin(usize),
    Unpin(usize),
    Delete(u64),
    Relieve,
    Disk {
        full: bool,
        unreadable: bool,
    },
    /// Everything that one of two clients holds goes at once.
    Kill(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..IDS;
    let tenant = || prop_oneof![6 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let size = || prop_oneof![1 => Just(0), 6 => 1..3 * PAGE, 3 => 1..12 * PAGE, 1 => 1..QUOTA * PAGE, 1 => Just(u64::MAX)];
    let any = || any::<usize>();
    prop_oneof![
            10 => (id(), tenant(), size()).prop_map(|(id, tenant, size)| Step::Create { id, tenant, size }),
            4 => (id(), tenant(), size()).prop_map(|(id, tenant, size)| Step::Reserve { id, tenant, size }),
            6 => any().prop_map(Step::PollReserve),
            1 => any().prop_map(Step::DropReserve),
            3 => any().prop_map(Step::Write),
            2 => any().prop_map(Step::Fill),
            14 => any().prop_map(Step::Seal),
            2 => any().prop_map(Step::DropWriter),
            6 => (id(), tenant()).prop_map(|(id, tenant)| Step::Get { id, tenant }),
            6 => (id(), tenant()).prop_map(|(id, tenant)| Step::Fetch { id, tenant }),
            6 => any().prop_map(Step::PollFetch),
            1 => any().prop_map(Step::DropFetch),
            4 => any().prop_map(Step::Read),
            1 => any().prop_map(Step::DropRestore),
            2 => any().prop_map(Step::ClonePin),
            14 => any().prop_map(Step::Unpin),
            6 => id().prop_map(Step::Delete),
            10 => Just(Step::Relieve),
    1 => (0..4u8).prop_map(|fault| Step::Disk { full: fault == 0, unreadable: fault == 1 }),
            1 => (0..2usize).prop_map(Step::Kill),
        ]
}

/// What an object is, and was from the moment of its seal.
#[derive(Clone, Copy)]
struct Content {
    tenant: usize,
    seed: u64,
    size: u64,
}

struct World {
    shelf: Arc<Shelf>,
    store: Store,
    names: BTreeMap<u64, Content>,
    seed: u64,
    writers: Vec<(u64, usize, Writer)>,
    reserving: Vec<(u64, usize, Reserving)>,
    fetching: Vec<(u64, usize, Fetching)>,
    restores: Vec<(u64, Content, Restore)>,
    pins: Vec<(Content, Pin)>,
}

/// One of the things that there are, by any number.
fn pick<T>(things: &mut Vec<T>, which: usize) -> Option<T> {
    if things.is_empty() { None } else { Some(things.swap_remove(which % things.len())) }
}

fn poll<T, F: Future<Output = T> + Unpin>(future: &mut F) -> Option<T> {
    match Pinned::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn page_count(size: u64) -> u64 {
    size.div_ceil(PAGE).max(1)
}

impl World {
    fn new() -> Self {
        let shelf = Arc::new(Shelf::default());
        let spill = Some(Spill { threshold_percent: 70, ..shelf.spill(DISK) });
        let sizes = Config { segment_bytes: 16 * PAGE, tenant_bytes: QUOTA * PAGE, spill, ..Config::new(CAPACITY * PAGE) };
        Self {
            store: Store::open(sizes).unwrap(),
            shelf,
            names: BTreeMap::new(),
            seed: 0,
            writers: Vec::new(),
            reserving: Vec::new(),
            fetching: Vec::new(),
            restores: Vec::new(),
            pins: Vec::new(),
        }
    }

    fn tenant(which: usize) -> Tenant {
        tenant(TENANTS[which])
    }

    /// Whether an error of a create is one that there is a reason for.
    fn refused(&self, number: u64, size: u64, error: &Error) {
        match error.code() {
            Code::OBJECT_EXISTS => assert!(self.names.contains_key(&number)),
            Code::OBJECT_TOO_LARGE => assert!(page_count(size) > QUOTA),
            _ => assert!(may_wait(error), "{error}"),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create { id: number, tenant, size } => match self.store.create(&Self::tenant(tenant), id(number), size) {
                Ok(writer) => self.writers.push((number, tenant, writer)),
                Err(error) => self.refused(number, size, &error),
            },
            Step::Reserve { id: number, tenant, size } => match self.store.reserve(&Self::tenant(tenant), id(number), size) {
                Ok(waiting) => self.reserving.push((size, tenant, waiting)),
                Err(error) => self.refused(number, size, &error),
            },
            Step::PollReserve(which) => {
                let Some((size, tenant, mut waiting)) = pick(&mut self.reserving, which) else { return };
                match poll(&mut waiting) {
                    None => self.reserving.push((size, tenant, waiting)),
                    Some(Ok(writer)) => {
                        let number = writer.id().task.sequence;
                        self.writers.push((number, tenant, writer));
                    }
                    Some(Err(error)) => assert_eq!(error.code(), Code::OBJECT_EXISTS),
                }
            }
            Step::DropReserve(which) => drop(pick(&mut self.reserving, which)),
            Step::Write(which) => self.write(which),
            Step::Fill(which) => self.fill(which),
            Step::Seal(which) => self.seal(which),
            Step::DropWriter(which) => drop(pick(&mut self.writers, which)),
            Step::Get { id, tenant } => self.get(id, tenant),
            Step::Fetch { id: number, tenant } => {
                self.fetching.push((number, tenant, self.store.fetch(&Self::tenant(tenant), id(number))));
                self.poll_fetch(self.fetching.len() - 1);
            }
            Step::PollFetch(which) => self.poll_fetch(which),
            Step::DropFetch(which) => drop(pick(&mut self.fetching, which)),
            Step::Read(which) => {
                let Some((number, content, restore)) = pick(&mut self.restores, which) else { return };
                self.got(number, content, restore.read());
            }
            Step::DropRestore(which) => drop(pick(&mut self.restores, which)),
            Step::ClonePin(which) => {
                let count = self.pins.len().max(1);
                let clone = self.pins.get(which % count).map(|(content, pin)| (*content, pin.clone()));
                self.pins.extend(clone);
            }
            Step::Unpin(which) => {
                if let Some((content, pin)) = pick(&mut self.pins, which) {
                    assert!(pin[..] == bytes(content.seed, content.size), "{pin:?} changed");
                }
            }
            Step::Delete(number) => {
                // Another object may get the id, and these would not say which one they wait for.
                self.fetching.retain(|(waiting, ..)| *waiting != number);
                assert_eq!(self.store.delete(id(number)), self.names.remove(&number).is_some());
            }
            Step::Relieve => match self.store.relieve() {
                Ok(_) => {}
                Err(error) => assert!(error.code() == Code::SPILL_FAILED && *self.shelf.full.lock(), "{error}"),
            },
            Step::Disk { full, unreadable } => {
                *self.shelf.full.lock() = full;
                *self.shelf.unreadable.lock() = unreadable;
            }
            Step::Kill(client) => self.kill(client),
        }
    }

    /// Half of what there is goes, whoever has it.
    fn kill(&mut self, client: usize) {
        fn half<T>(things: &mut Vec<T>, client: usize) {
            let mut number = 0;
            things.retain(|_| {
                number += 1;
                number % 2 != client
            });
        }
        half(&mut self.writers, client);
        half(&mut self.reserving, client);
        half(&mut self.fetching, client);
        half(&mut self.restores, client);
        half(&mut self.pins, client);
    }

    /// Writes something that will be written over, or not.
    fn write(&mut self, which: usize) {
        let count = self.writers.len().max(1);
        let Some((_, _, writer)) = self.writers.get_mut(which % count) else { return };
        let left = writer.size() - writer.written();
        writer.write(&vec![0xEE; (left / 2) as usize]).unwrap();
        assert_eq!(writer.write(&vec![0; left as usize + 1]).unwrap_err().code(), Code::OBJECT_UNFINISHED);
    }

    fn fill(&mut self, which: usize) {
        let count = self.writers.len().max(1);
        let Some((_, _, writer)) = self.writers.get_mut(which % count) else { return };
        let written = writer.written() as usize;
        let bytes = writer.bytes_mut();
        assert!(bytes[written..].iter().all(|byte| *byte == 0), "what was there before shows");
    }

    fn seal(&mut self, which: usize) {
        let Some((number, tenant, mut writer)) = pick(&mut self.writers, which) else { return };
        if writer.written() < writer.size() && which.is_multiple_of(7) {
            assert_eq!(writer.seal([0; 32], Vec::new()).unwrap_err().code(), Code::OBJECT_UNFINISHED);
            return;
        }
        self.seed += 1;
        let content = Content { tenant, seed: self.seed, size: writer.size() };
        writer.bytes_mut().copy_from_slice(&bytes(content.seed, content.size));
        match writer.seal([0; 32], Vec::new()) {
            Ok(pin) => {
                assert!(self.names.insert(number, content).is_none(), "sealed twice");
                self.got(number, content, Ok(pin));
            }
            Err(error) => assert!(error.code() == Code::OBJECT_EXISTS && self.names.contains_key(&number), "{error}"),
        }
    }

    /// What a tenant should find.
    fn expected(&self, number: u64, tenant: usize) -> Option<Content> {
        self.names.get(&number).copied().filter(|content| content.tenant == tenant)
    }

    fn get(&mut self, number: u64, tenant: usize) {
        // Whoever else brings it back has to be let do so; this is one thread.
        if self.fetching.iter().any(|(other, ..)| *other == number) || self.restores.iter().any(|(other, ..)| *other == number) {
            return;
        }
        let result = self.store.get(&Self::tenant(tenant), id(number));
        match self.expected(number, tenant) {
            None => assert_eq!(result.unwrap_err().code(), Code::NO_SUCH_OBJECT),
            Some(content) => self.got(number, content, result),
        }
    }

    fn got(&mut self, number: u64, content: Content, result: rwasm_types::Result<Pin>) {
        match result {
            Ok(pin) => {
                assert!(pin[..] == bytes(content.seed, content.size), "object {number} is wrong");
                assert!(pages(&pin)[pin.len()..].iter().all(|byte| *byte == 0), "what was there before shows behind object {number}");
                self.pins.push((content, pin));
            }
            Err(error) if error.code() == Code::SPILL_FAILED => assert!(*self.shelf.unreadable.lock(), "{error}"),
            Err(error) => assert!(may_wait(&error), "{error}"),
        }
    }

    fn poll_fetch(&mut self, which: usize) {
        let Some((number, tenant, mut fetching)) = pick(&mut self.fetching, which) else { return };
        match (poll(&mut fetching), self.expected(number, tenant)) {
            (None, _) => self.fetching.push((number, tenant, fetching)),
            (Some(Ok(fetched)), expected) => {
                // What was granted before it was deleted is still what it was.
                let pin = match fetched {
                    Fetched::Ready(pin) => pin,
                    Fetched::Stored(restore) => {
                        if let Some(content) = expected {
                            self.restores.push((number, content, restore));
                        }
                        return;
                    }
                };
                if let Some(content) = expected {
                    self.got(number, content, Ok(pin));
                }
            }
            (Some(Err(error)), None) => assert!([Code::NO_SUCH_OBJECT, Code::SPILL_FAILED].contains(&error.code()), "{error}"),
            (Some(Err(error)), Some(_)) => assert_eq!(error.code(), Code::SPILL_FAILED),
        }
    }

    fn check(&self) {
        let usage = self.store.usage();
        assert!(usage.used_bytes <= usage.held_bytes && usage.held_bytes <= CAPACITY * PAGE, "{usage:?}");
        assert!(usage.disk_bytes <= DISK);
        let on_shelf: u64 = self.shelf.files.lock().values().map(|file| file.len() as u64).sum();
        assert_eq!(on_shelf, usage.disk_bytes);
        for tenant in usage.tenants.values() {
            assert!(tenant.held_bytes <= QUOTA * PAGE && tenant.memory_bytes() <= tenant.held_bytes, "{usage:?}");
        }
        let shown: BTreeMap<u64, u64> = self.store.list(None, None, 1_000).iter().map(|info| (info.id.task.sequence, info.size)).collect();
        let expected: BTreeMap<u64, u64> = self.names.iter().map(|(number, content)| (*number, content.size)).collect();
        assert_eq!(shown, expected);
        let pinned: BTreeSet<_> = self.pins.iter().map(|(content, _)| (content.seed, page_count(content.size) * PAGE)).collect();
        let least: u64 = pinned.iter().map(|(_, bytes)| bytes).sum();
        assert!(usage.pinned_bytes >= least, "a pin is not counted");
        // Readers whose turn came and who have not looked hold theirs as well.
        if self.fetching.is_empty() {
            assert_eq!(usage.pinned_bytes, least);
        }
        let creating: u64 = usage.tenants.values().map(|tenant| tenant.creating.objects).sum();
        let writers = self.writers.len() as u64;
        assert!((writers..=writers + self.reserving.len() as u64).contains(&creating));
    }

    fn end(mut self) {
        self.writers.clear();
        self.reserving.clear();
        self.restores.clear();
        self.fetching.clear();
        for (content, pin) in self.pins.drain(..) {
            assert!(pin[..] == bytes(content.seed, content.size));
        }
        *self.shelf.full.lock() = false;
        *self.shelf.unreadable.lock() = false;
        while self.store.relieve().unwrap() {}
        for (number, content) in &self.names {
            let info = self.store.info(&Self::tenant(content.tenant), id(*number)).unwrap();
            assert!(matches!(info.state, ObjectState::Sealed | ObjectState::Spilled));
            assert!(self.store.delete(id(*number)));
        }
        while self.store.relieve().unwrap() {}
        let usage = self.store.usage();
        assert_eq!((usage.used_bytes, usage.pinned_bytes, usage.disk_bytes, usage.waiting, self.shelf.count()), (0, 0, 0, 0, 0));
        assert!(usage.tenants.values().all(|tenant| tenant.memory_bytes() == 0 && tenant.spilled.objects == 0), "{usage:?}");
        assert!(usage.held_bytes <= CAPACITY * PAGE / 4, "what nothing uses is kept warm up to a limit");
        assert!(self.store.create(&tenant("a"), id(1), QUOTA * PAGE).is_ok(), "and all of it can be had again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_objects_are_right_and_nothing_is_left(steps in proptest::collection::vec(step(), STEPS)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
            world.check();
        }
        world.end();
    }
}
