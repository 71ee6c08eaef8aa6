//! Directories against a model: a few nodes with stores, links that break, lives that end, and users who put, pass and drop at random.
//!
//! The model knows what users hold and which bytes exist. Nothing that is held may be let go, and when nobody holds anything any more,
//! nothing may be left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rwasm_types::JobId;

use super::*;

const NODES: u32 = 4;
const STEPS: u64 = 2_000;

/// Random numbers that are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap()).copied()
    }
}

fn node(number: u32) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A node that is alive.
struct Place {
    directory: Directory,
    store: BTreeMap<ObjectId, Meta>,
    /// What its users hold, and know that they hold.
    holds: BTreeSet<(ObjectId, Holder)>,
    /// Nodes whose first word on the link since this life began has not come.
    unheard: BTreeSet<NodeId>,
}

/// What may happen.
#[derive(Clone, Copy)]
struct Faults {
    breaks: bool,
    kills: bool,
}

struct World {
    random: Random,
    faults: Faults,
    places: BTreeMap<NodeId, Place>,
    /// Messages under way, by sender and receiver; there are none between nodes without a link.
    links: BTreeMap<(NodeId, NodeId), VecDeque<Message>>,
    /// Nodes that have ended and that others still take for alive.
    unnoticed: BTreeSet<NodeId>,
    /// Objects that a death or a broken store may have taken.
    hurt: BTreeSet<ObjectId>,
    /// Results whose tasks hold what those name, until they are known, and the nodes where they ran; none if that has died.
    running: Vec<(ObjectId, Option<NodeId>)>,
    numbers: u64,
    now: UnixMs,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            random: Random(seed),
            faults,
            places: BTreeMap::new(),
            links: BTreeMap::new(),
            unnoticed: BTreeSet::new(),
            hurt: BTreeSet::new(),
            running: Vec::new(),
            // Apart from those of the tasks that hold something.
            numbers: 100,
            now: 0,
        };
        (1..=NODES).for_each(|number| world.begin(node(number)));
        world
    }

    fn begin(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.places.keys().copied().collect();
        let place = Place {
            directory: Directory::new(id),
            store: BTreeMap::new(),
            holds: BTreeSet::new(),
            unheard: others.iter().copied().collect(),
        };
        self.places.insert(id, place);
        others.into_iter().for_each(|other| self.link(id, other));
    }

    fn link(&mut self, a: NodeId, b: NodeId) {
        for (from, to) in [(a, b), (b, a)] {
            self.links.insert((from, to), VecDeque::new());
        }
        for (from, to) in [(a, b), (b, a)] {
            self.at(from).directory.linked(to);
            self.settle(from);
        }
    }

    fn at(&mut self, id: NodeId) -> &mut Place {
        self.places.get_mut(&id).unwrap()
    }

    /// Does what a directory has to be done.
    fn settle(&mut self, id: NodeId) {
        for action in self.at(id).directory.take_actions() {
            match action {
                Action::Send(to, message) => {
                    if let Some(link) = self.links.get_mut(&(id, to)) {
                        link.push_back(message);
                    }
                }
                Action::Delete(object) => drop(self.at(id).store.remove(&object)),
                Action::Ready(_) | Action::Lost(_) | Action::Places(..) => {}
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(message) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        if matches!(message, Message::Copies(..)) {
            self.at(to).unheard.remove(&from);
        }
        self.at(to).directory.hear(from, message);
        self.settle(to);
        let place = self.at(to);
        if place.unheard.is_empty() {
            place.directory.recovered();
            self.settle(to);
        }
        true
    }

    fn deliver_all(&mut self) {
        let pairs: Vec<_> = self.links.keys().copied().collect();
        while pairs.iter().any(|(from, to)| self.deliver(*from, *to)) {}
    }

    fn new_id(&mut self, owner: NodeId) -> ObjectId {
        self.numbers += 1;
        JobId { owner, session: 1 }.task(self.numbers).object(0)
    }

    /// An object that a user of a node holds and that is ready there, or any that it holds.
    fn held_at(&mut self, id: NodeId, ready: bool) -> Option<ObjectId> {
        let place = &self.places[&id];
        let is_ready = |object: &ObjectId| matches!(place.directory.look(&Tenant::default(), *object), Some(State::Ready(_)));
        let held: Vec<ObjectId> = place.holds.iter().map(|(object, _)| *object).filter(|object| !ready || is_ready(object)).collect();
        self.random.of(&held)
    }

    fn holder(&mut self, at: NodeId) -> Holder {
        let job = JobId { owner: at, session: u32::try_from(self.random.below(3)).unwrap() };
        match self.random.below(3) {
            0 => Holder::Job(job),
            1 => Holder::Driver(self.random.below(3)),
            _ => Holder::Task(job.task(self.random.below(5))),
        }
    }

    fn meta(&mut self, at: NodeId) -> Meta {
        let mut refs = Vec::new();
        for _ in 0..self.random.below(3) {
            refs.extend(self.held_at(at, true));
        }
        let inline = (self.random.below(4) == 0).then(|| Bytes::from_static(b"small"));
        let size = self.random.below(1_000_000);
        Meta { tenant: Tenant::default(), descriptor: Bytes::from_static(b"\x01\x70\x7d"), size, refs: refs.into(), inline }
    }

    fn put(&mut self, at: NodeId) {
        let (id, meta, holder) = (self.new_id(at), self.meta(at), self.holder(at));
        let place = self.at(at);
        if meta.inline.is_none() {
            place.store.insert(id, meta.clone());
        }
        place.directory.seal(id, meta, at, Some(holder)).unwrap();
        place.holds.insert((id, holder));
        self.settle(at);
    }

    /// A task of one node runs on another, and its result stays there.
    fn result(&mut self, owner: NodeId, runner: NodeId) {
        let id = self.new_id(owner);
        let mut meta = self.meta(owner);
        meta.inline = None;
        let holder = Holder::Result(id.task);
        let place = self.at(owner);
        place.directory.expect(id, &meta.tenant, holder);
        place.holds.insert((id, holder));
        for named in meta.refs.iter() {
            place.directory.hold(&meta.tenant, *named, Holder::Task(id.task)).unwrap();
        }
        self.running.push((id, Some(runner)));
        if self.random.below(8) == 0 {
            self.hurt.insert(id);
            self.at(owner).directory.fail(id, lost(id, "its task failed"));
        } else if runner == owner {
            let place = self.at(owner);
            place.store.insert(id, meta.clone());
            place.directory.seal(id, meta, owner, None).unwrap();
        } else {
            self.copy(runner, id, meta, owner);
        }
        self.settle(owner);
    }

    fn copy(&mut self, at: NodeId, id: ObjectId, meta: Meta, needed_by: NodeId) {
        let place = self.at(at);
        place.store.insert(id, meta.clone());
        place.directory.copied(id, meta, needed_by);
        if !self.links.contains_key(&(at, needed_by)) && at != needed_by {
            // Else the next statement would name it.
            self.hurt.insert(id);
        }
        self.settle(at);
    }

    /// A user of one node gets a ref from one of another.
    fn pass(&mut self, from: NodeId, to: NodeId) {
        let Some(object) = self.held_at(from, false) else { return };
        let holder = self.holder(to);
        let place = self.at(to);
        if place.directory.hold(&Tenant::default(), object, holder).is_ok() {
            place.holds.insert((object, holder));
            // Who passes a ref on keeps it until the other has it; else it may be gone, as after a death.
            if place.directory.look(&Tenant::default(), object) == Some(&State::Pending) {
                self.hurt.insert(object);
            }
        }
        self.settle(to);
    }

    /// A node fetches a copy, for itself or for a directory that needs it there.
    fn fetch(&mut self, at: NodeId, needed_by: NodeId) {
        let Some(object) = self.held_at(needed_by, true) else { return };
        let Some(State::Ready(meta)) = self.places[&needed_by].directory.look(&Tenant::default(), object).cloned() else { return };
        let somewhere = self.places.values().any(|place| place.store.contains_key(&object));
        if meta.inline.is_none() && somewhere {
            self.copy(at, object, meta, needed_by);
        }
    }

    /// A node wants the room of a copy that it has for others.
    fn spare(&mut self, at: NodeId) {
        let stored: Vec<ObjectId> = self.places[&at].store.keys().copied().collect();
        if let Some(object) = self.random.of(&stored) {
            self.at(at).directory.spare(object);
            self.settle(at);
        }
    }

    fn drop_one(&mut self, at: NodeId) {
        let held: Vec<_> = self.places[&at].holds.iter().copied().collect();
        let Some((object, holder)) = self.random.of(&held) else { return };
        let all = self.random.below(5) == 0;
        let place = self.at(at);
        if all {
            place.holds.retain(|(_, other)| *other != holder);
            place.directory.release_all(holder);
        } else {
            place.holds.remove(&(object, holder));
            place.directory.release(object, holder);
        }
        self.settle(at);
    }

    fn keep(&mut self, at: NodeId) {
        let Some(object) = self.held_at(at, false) else { return };
        let until = self.now + self.random.below(200);
        let place = self.at(at);
        place.directory.keep_until(&Tenant::default(), object, until).unwrap();
        place.holds.insert((object, Holder::Kept));
        self.settle(at);
    }

    /// Tasks whose results are known, or not wanted any more, have ended.
    fn end_tasks(&mut self) {
        for (id, runner) in std::mem::take(&mut self.running) {
            let owner = id.task.owner;
            let Some(place) = self.places.get_mut(&owner) else { continue };
            if place.directory.look(&Tenant::default(), id) == Some(&State::Pending) && runner.is_some() {
                self.running.push((id, runner));
            } else {
                place.directory.fail(id, lost(id, "its task's node was lost"));
                place.directory.release_all(Holder::Task(id.task));
                self.settle(owner);
            }
        }
    }

    /// Time passes.
    fn tick(&mut self) {
        self.now += 10;
        self.end_tasks();
        for id in self.places.keys().copied().collect::<Vec<_>>() {
            let now = self.now;
            let place = self.at(id);
            place.directory.expire(now);
            let still: BTreeSet<ObjectId> = place.directory.held_by(Holder::Kept).collect();
            place.holds.retain(|(object, holder)| *holder != Holder::Kept || still.contains(object));
            self.settle(id);
        }
    }

    fn break_link(&mut self, a: NodeId, b: NodeId) {
        if a == b || !self.links.contains_key(&(a, b)) {
            return;
        }
        if self.random.below(2) == 0 {
            return self.link(a, b);
        }
        // One way alone; the other side hears of it, and says what it has behind what is under way.
        self.links.insert((a, b), VecDeque::new());
        for (from, to) in [(a, b), (b, a)] {
            self.at(from).directory.linked(to);
            self.settle(from);
        }
    }

    fn kill(&mut self, id: NodeId) {
        let place = self.places.remove(&id).unwrap();
        self.hurt.extend(place.store.keys());
        // What a task there held, and its result names, may go.
        self.hurt.extend(place.directory.rows().map(|row| row.id));
        self.links.retain(|(from, to), _| *from != id && *to != id);
        self.unnoticed.insert(id);
        self.running.iter_mut().filter(|(_, runner)| *runner == Some(id)).for_each(|(_, runner)| *runner = None);
        for other in self.places.values_mut() {
            other.unheard.remove(&id);
            self.hurt.extend(other.directory.rows().map(|row| row.id).filter(|object| object.task.owner == id));
        }
    }

    /// The dead are noticed, and begin anew.
    fn notice(&mut self) {
        for id in std::mem::take(&mut self.unnoticed) {
            // Some come back before anybody has taken them for lost.
            if self.random.below(2) == 0 {
                for other in self.places.keys().copied().collect::<Vec<_>>() {
                    self.at(other).directory.node_lost(id);
                    self.settle(other);
                }
            }
            self.begin(id);
            self.deliver_all();
        }
        self.end_tasks();
        self.deliver_all();
    }

    fn step(&mut self) {
        let alive: Vec<NodeId> = self.places.keys().copied().collect();
        let (a, b) = (self.random.of(&alive).unwrap(), self.random.of(&alive).unwrap());
        match self.random.below(100) {
            0..20 => self.put(a),
            20..28 => self.result(a, b),
            28..40 if a != b => self.pass(a, b),
            40..48 => self.fetch(a, b),
            48..50 => self.spare(a),
            50..72 => self.drop_one(a),
            72..75 => self.keep(a),
            75..78 => self.tick(),
            78..79 if self.faults.breaks => self.break_link(a, b),
            79..80 if self.faults.kills && alive.len() > 2 => self.kill(a),
            80..81 => self.notice(),
            _ => drop(self.deliver(a, b)),
        }
    }

    /// What is held is known, and its bytes exist; what was not hurt is not lost.
    fn check(&self) {
        for (id, place) in &self.places {
            let ready = place.directory.rows().filter_map(|row| if let State::Ready(meta) = row.state { Some(meta.bytes()) } else { None });
            assert_eq!(place.directory.bytes(), ready.sum::<u64>(), "{id}");
            for (object, holder) in &place.holds {
                let state = place.directory.look(&Tenant::default(), *object);
                let state = state.unwrap_or_else(|| panic!("{object} is held by {holder:?} at {id} and not known"));
                match state {
                    State::Pending => {}
                    State::Lost(error) => assert!(self.hurt.contains(object), "{object}, held at {id}: {error}"),
                    State::Ready(meta) => {
                        let exists = meta.inline.is_some() || self.places.values().any(|place| place.store.contains_key(object));
                        assert!(exists || self.hurt.contains(object), "{object} is held by {holder:?} at {id}, and its bytes are gone");
                        for named in meta.refs.iter() {
                            let known = place.directory.look(&Tenant::default(), *named).is_some();
                            assert!(known || self.hurt.contains(named), "{object} at {id} names {named}, which is not known there");
                        }
                    }
                }
            }
        }
    }

    /// When all is said, what is held and not lost has its bytes where its directory thinks.
    fn check_calm(&mut self) {
        self.notice();
        self.deliver_all();
        self.check();
        for (id, place) in &self.places {
            for row in place.directory.rows() {
                for copy in row.copies {
                    assert!(self.places[copy].store.contains_key(&row.id), "{id} takes {copy} to have {}", row.id);
                }
                assert_ne!(row.state, &State::Pending, "{} waits at {id} for ever", row.id);
                assert!(!row.holders.is_empty(), "{} at {id}", row.id);
            }
        }
    }

    /// All users leave, and nothing may be left.
    fn end(&mut self) {
        self.check_calm();
        for id in self.places.keys().copied().collect::<Vec<_>>() {
            for (object, holder) in std::mem::take(&mut self.at(id).holds) {
                self.at(id).directory.release(object, holder);
            }
            self.settle(id);
        }
        self.deliver_all();
        self.end_tasks();
        self.deliver_all();
        for (id, place) in &self.places {
            assert!(place.directory.is_empty(), "{id}: {:#?}", place.directory);
            assert_eq!(place.directory.bytes(), 0, "{id}");
            assert_eq!(place.store.keys().collect::<Vec<_>>(), Vec::<&ObjectId>::new(), "{id} has copies that nobody needs");
        }
    }
}

fn run(seeds: std::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        let mut world = World::new(seed, faults);
        for step in 0..STEPS {
            world.step();
            if step % 16 == 0 {
                world.check();
            }
            if step % 500 == 499 {
                world.check_calm();
            }
        }
        world.end();
    }
}

#[test]
fn nothing_leaks_and_nothing_held_is_let_go() {
    run(0..15, Faults { breaks: false, kills: false });
}

#[test]
fn broken_links_lose_nothing() {
    run(100..115, Faults { breaks: true, kills: false });
}

#[test]
fn of_a_node_that_dies_only_its_own_is_lost_and_nothing_of_it_leaks() {
    run(200..220, Faults { breaks: true, kills: true });
}
