//! Guests and objects: what they get and give, and what they are refused. Windows have tests of their own.

use std::{sync::Arc, time::Duration};

use rwasm_engine::objects::{LocalObjects, NoObjects};
use rwasm_objects::{Config, Store};
use rwasm_types::{Code, NodeId, TaskId, Tenant};

use crate::{
    common::{Lab, Task, Way, lab},
    guests::{PROFILES, hostile},
    shelf::{Files, Reach, Shelf},
};

/// The numbers that the guest tells for refusals: the place of the error case, from 1.
pub(crate) mod refused {
    pub(crate) const QUOTA: u32 = 2;
    pub(crate) const TOO_LARGE: u32 = 3;
    pub(crate) const UNFINISHED: u32 = 4;
    pub(crate) const OUT_OF_RANGE: u32 = 5;
    pub(crate) const NOT_ALIGNED: u32 = 6;
    pub(crate) const NOT_GROWN: u32 = 7;
    pub(crate) const OVERLAPPING: u32 = 8;
    pub(crate) const TOO_MANY: u32 = 9;
    pub(crate) const MALFORMED: u32 = 10;
    pub(crate) const UNAVAILABLE: u32 = 12;
    pub(crate) const OTHER: u32 = 14;
}

/// A value in which every byte tells where it is.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// The hostile guest in one of the two profiles, and objects for it.
pub(crate) struct Room {
    pub(crate) lab: Lab,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) reach: Arc<Reach>,
    guest: Arc<rwasm_engine::Prepared>,
}

impl Room {
    pub(crate) async fn new(profile: usize, files: Files) -> Self {
        let lab = lab();
        let guest = lab.prepare(&PROFILES[profile](&hostile("windows"))).await;
        let shelf = Shelf::new(files);
        Self { lab, reach: Arc::new(Reach(Arc::clone(&shelf))), shelf, guest }
    }

    pub(crate) fn task(&self, call: &str) -> Task {
        Task::new(&self.guest, call).objects(&self.reach)
    }

    pub(crate) async fn result(&self, call: &str) -> String {
        self.task(call).run(Way::Fiber).await.wave()
    }
}

#[tokio::test]
async fn an_object_is_read_as_a_whole_and_in_parts() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let bytes = pattern(300_000);
        let object = room.shelf.add("list<u8>", &bytes);
        assert_eq!(room.result(&format!("scan-copy({object})")).await, sum(&bytes).to_string());
        for (offset, length, expected) in [
            (0, 10, 45),
            (250, 2, 250),
            (299_999, 1, i64::from(bytes[299_999])),
            (300_000, 0, 0),
            (300_000, 1, -i64::from(refused::OUT_OF_RANGE)),
            (u64::MAX, 2, -i64::from(refused::OUT_OF_RANGE)),
        ] {
            let call = format!("scan-range({object}, {offset}, {length})");
            assert_eq!(room.result(&call).await, expected.to_string(), "{call}");
        }
        assert_eq!(room.shelf.held(), 0, "each guest let go of what it held");
    }
}

#[tokio::test]
async fn what_a_guest_puts_is_there_and_is_its_type() {
    let put = |bytes: &[u8], value_type: &str| format!("put({bytes:?}, {value_type:?})");
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        for (bytes, value_type) in [
            (&b"some bytes"[..], "list<u8>"),
            (b"", "list<u8>"),
            ("größe".as_bytes(), "string"),
            (b"\x00\x01", "list<bool>"),
            (b"\x01\x00\x00\x00\x02\x00\x00\x00", "list<u32>"),
            (b"\x01\x05", "option<u8>"),
        ] {
            let ran = room.task(&put(bytes, value_type)).run(Way::Fiber).await;
            let name = ran.wave();
            let item = room.shelf.item(name.trim_start_matches("ok(").trim_end_matches(')'));
            assert_eq!((item.bytes.as_slice(), item.value_type.to_string().as_str()), (bytes, value_type));
            // The result holds it until somebody has taken its refs.
            assert_eq!((ran.outcome.held.len(), room.shelf.held()), (1, 1));
            drop(ran);
            assert_eq!(room.shelf.held(), 0);
        }
        for (bytes, value_type) in [
            (&b"\xff"[..], "string"),
            (b"\x02", "list<bool>"),
            (b"\x01\x00\x00", "list<u32>"),
            (b"\x02", "option<u8>"),
            (b"\x00\x00", "option<u8>"),
            (b"x", "no type"),
            (b"", ""),
            (b"\x00", "own<rwasm:core/objects.object>"),
            (b"\x00", "stream<u8>"),
        ] {
            assert_eq!(room.result(&put(bytes, value_type)).await, format!("err({})", refused::MALFORMED), "{value_type}");
        }
    }
}

#[tokio::test]
async fn a_value_may_be_larger_than_the_guest() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let part = "[1, 2, 3, 4]";
        let name = room.result(&format!("stream({part}, 40000, 10000)")).await;
        let item = room.shelf.item(name.trim_start_matches("ok(").trim_end_matches(')'));
        assert_eq!(item.bytes, [1, 2, 3, 4].repeat(10_000));
        for (size, times, code) in [(8, 3, refused::TOO_LARGE), (9, 2, refused::UNFINISHED)] {
            assert_eq!(room.result(&format!("stream({part}, {size}, {times})")).await, format!("err({code})"));
        }
        assert_eq!(room.shelf.held(), 0);
    }
}

#[tokio::test]
async fn handles_pass_through_a_guest() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let names: Vec<String> = (0..3).map(|at| room.shelf.add("list<u8>", &[at])).collect();
        let [a, b, c] = &names[..] else { unreachable!() };
        for (given, returned) in [(format!("[{a}, {b}, {a}, {c}]"), 3), ("[]".to_owned(), 0), (format!("[{c}]"), 1)] {
            let ran = room.task(&format!("same({given})")).run(Way::Fiber).await;
            assert_eq!(ran.wave(), given);
            assert_eq!((ran.outcome.held.len(), room.shelf.held()), (returned, returned));
        }
        assert_eq!(room.result(&format!("twice({b})")).await, format!("({b}, {b})"));
        let unknown = "@ref(o1-1-77-0)";
        let ran = room.task(&format!("scan-copy({unknown})")).run(Way::Fiber).await;
        assert_eq!(ran.code(), Some(Code::NOT_FOUND), "{}", ran.text());
        assert_eq!(room.shelf.held(), 0);
    }
}

#[tokio::test]
async fn handles_are_counted() {
    let room = Room::new(0, Files::Sealed).await;
    let object = room.shelf.add("list<u8>", b"x");
    // With the one that it was passed.
    assert_eq!(room.result(&format!("hoard-handles({object}, 200000)")).await, "99999");
    assert_eq!(room.shelf.held(), 0);
}

/// The same guest with the store that nodes have.
#[tokio::test]
async fn a_store_that_is_full_is_told() {
    const ROOM: u64 = 1 << 20;
    let room = Room::new(0, Files::Sealed).await;
    let store = Store::open(Config::new(ROOM)).unwrap();
    let task = TaskId { owner: NodeId::FIRST, session: 1, sequence: 7 };
    let local = Arc::new(LocalObjects::new(store, Tenant::default(), task, Duration::from_millis(20)));
    let object = local.put("list<u8>".parse().unwrap(), &pattern(700_000)).unwrap();
    let result = async |call: &str| room.task(call).objects(&local).run(Way::Fiber).await.wave();
    assert_eq!(result(&format!("scan(@ref({object}), 700000, 0)")).await, sum(&pattern(700_000)).to_string());
    assert_eq!(result(&format!("scan-copy(@ref({object}))")).await, sum(&pattern(700_000)).to_string());
    assert_eq!(result("stream([1, 2, 3, 4], 40000, 10000)").await, "ok(@ref(o1-1-7-2))");
    assert_eq!(result("stream([1, 2, 3, 4], 400000, 100000)").await, format!("err({})", refused::QUOTA));
    assert_eq!(result("stream([1, 2, 3, 4], 4000000, 1)").await, format!("err({})", refused::TOO_LARGE));
    assert_eq!(result("put([255], \"string\")").await, format!("err({})", refused::MALFORMED));
}

#[tokio::test]
async fn without_a_store_objects_are_refused() {
    let room = Room::new(0, Files::Sealed).await;
    let none = Arc::new(NoObjects);
    let ran = room.task("put([1], \"list<u8>\")").objects(&none).run(Way::Fiber).await;
    assert_eq!(ran.wave(), format!("err({})", refused::UNAVAILABLE));
    let object = room.shelf.add("list<u8>", b"x");
    let ran = room.task(&format!("scan-copy({object})")).objects(&none).run(Way::Fiber).await;
    assert_eq!(ran.code(), Some(Code::OBJECTS_ABSENT), "{}", ran.text());
}
