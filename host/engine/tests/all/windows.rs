//! Windows: whatever a guest does with them, objects stay as they are, its memory is nobody else's, and the process lives.
//!
//! Each way to do harm has a row or a test, and each was seen to fail without what it is there for.

use std::{
    os::unix::process::ExitStatusExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rwasm_types::Code;
use wasmtime::{Config, Engine, Memory, MemoryType, Store, StoreLimits, StoreLimitsBuilder};

use crate::{
    child::{alone, maps, succeeded},
    common::{Task, Way, block_on},
    guests::{PROFILES, hostile},
    objects::{Room, pattern, refused, sum},
    shelf::Files,
};

const MIB: usize = 1 << 20;

/// Not a whole number of pages.
const SIZE: usize = MIB + 1_000;

#[tokio::test]
async fn a_window_shows_what_the_object_holds() {
    for profile in [0, 1] {
        // With and without a file, for what has none is copied.
        for files in [Files::Sealed, Files::None] {
            let room = Room::new(profile, files).await;
            let bytes = pattern(SIZE);
            let object = room.shelf.add("list<u8>", &bytes);
            for (len, offset) in [(SIZE, 0), (SIZE - 65_536, 65_536), (300_001, 131_072), (10, 0), (1, MIB), (MIB, 0)] {
                let expected = sum(&bytes[offset..offset + len]);
                assert_eq!(room.result(&format!("scan({object}, {len}, {offset})")).await, expected.to_string(), "{len} from {offset}");
                // Neither what lies behind the range in the object, nor what lies behind the object in its file.
                assert_eq!(room.result(&format!("beside({object}, {len})")).await, "0", "{len}");
            }
            assert_eq!(room.shelf.held(), 0);
        }
    }
}

/// Stores of the guest, instructions that are calls into the host, and what the host copies into the guest.
#[tokio::test]
async fn what_is_written_into_a_window_is_seen_by_the_guest_alone() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let bytes = pattern(SIZE);
        let object = room.shelf.add("list<u8>", &bytes);
        for _ in 0..2 {
            assert_eq!(room.result(&format!("scribble({object}, {SIZE})")).await, sum(&bytes).to_string());
            let twice = 2 * sum(&bytes[..65_536]);
            assert_eq!(room.result(&format!("read-into-window({object}, {SIZE})")).await, twice.to_string());
            assert_eq!(room.shelf.item(&object).in_file(), bytes);
            assert_eq!(room.result(&format!("scan({object}, {SIZE}, 0)")).await, sum(&bytes).to_string());
        }
    }
}

/// What WASI gives, the host writes where the guest says: here, into a window.
#[tokio::test]
async fn wasi_writes_into_a_window() {
    const MORE: &str = r#"
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (core func $random (canon lower (func $random "get-random-bytes") (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core module $Wasi
    (import "host" "memory" (memory 2))
    (import "host" "show" (func $show (param i32 i32 i32 i64 i32)))
    (import "host" "give" (func $give (param i32)))
    (import "host" "random" (func $random (param i64 i32)))
    (func (export "random") (param $object i32) (result i32)
      (local $at i32)
      (local.set $at (i32.mul (memory.grow (i32.const 16)) (i32.const 65536)))
      (call $show (local.get $object) (local.get $at) (i32.const 1048576) (i64.const 0) (i32.const 256))
      (if (i32.load8_u (i32.const 256)) (then (unreachable)))
      (call $give (local.get $at))
      (call $random (i64.const 65536) (i32.const 256))
      ;; Whether that is where the bytes are.
      (i32.eq (i32.load (i32.const 256)) (local.get $at))))
  (core instance $wasi (instantiate $Wasi (with "host" (instance
    (export "memory" (memory $memory "memory")) (export "show" (func $show)) (export "give" (func $memory "give"))
    (export "random" (func $random))))))
  (func (export "random-into-window") (param "object" (own $object)) (result bool) (canon lift (core func $wasi "random"))))"#;
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let bytes = pattern(SIZE);
        let object = room.shelf.add("list<u8>", &bytes);
        let guest = hostile("windows");
        let guest = room.lab.prepare(&PROFILES[profile](&format!("{}{MORE}", guest.strip_suffix(')').unwrap()))).await;
        let ran = Task::new(&guest, &format!("random-into-window({object})")).objects(&room.reach).run(Way::Fiber).await;
        assert_eq!(ran.wave(), "true");
        assert_eq!(room.shelf.item(&object).in_file(), bytes);
    }
}

/// The guest starts with 2 pages, and has grown by 64.
#[tokio::test]
async fn a_region_that_is_not_the_guests_own_is_refused() {
    const START: usize = 2 * 65_536;
    const END: usize = 66 * 65_536;
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let object = room.shelf.add("list<u8>", &pattern(SIZE));
        for (at, len, offset, code) in [
            (START, SIZE, 0, 0),
            (END - MIB, MIB, 0, 0),
            // Where its module and its data are.
            (0, MIB, 0, refused::NOT_GROWN),
            (65_536, MIB, 0, refused::NOT_GROWN),
            (START - 65_536, 10, 0, refused::NOT_GROWN),
            (START + 4_096, MIB, 0, refused::NOT_ALIGNED),
            (START + 1, MIB, 0, refused::NOT_ALIGNED),
            (START, MIB / 2, 4_096, refused::NOT_ALIGNED),
            (START, 0, 0, refused::OUT_OF_RANGE),
            (START, SIZE + 1, 0, refused::OUT_OF_RANGE),
            (START, MIB, 65_536, refused::OUT_OF_RANGE),
            (START, MIB, usize::MAX - 65_535, refused::OUT_OF_RANGE),
        ] {
            let call = format!("try-at({object}, {at}, {len}, {offset})");
            assert_eq!(room.result(&call).await, code.to_string(), "{call}");
        }
        // Beyond its memory, which is against the canonical ABI.
        for (at, len) in [(END, 1), (END - 65_536, 65_537), (u32::MAX as usize & !65_535, 65_536), (START, u32::MAX as usize)] {
            let call = format!("try-at({object}, {at}, {len}, 0)");
            assert_eq!(room.task(&call).run(Way::Fiber).await.code(), Some(Code::TRAP), "{call}");
        }
        assert_eq!(room.result(&format!("overlap({object}, {MIB})")).await, refused::OVERLAPPING.to_string());
    }
}

#[tokio::test]
async fn windows_of_a_guest_are_counted() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let object = room.shelf.add("list<u8>", &pattern(SIZE));
        assert_eq!(room.result(&format!("hoard-windows({object}, {MIB}, 1000)")).await, "64");
        // One that is closed makes room for another.
        assert_eq!(room.result(&format!("churn-windows({object}, {MIB}, 200)")).await, "200");
    }
}

/// Ten thousand windows one after the other, and a thousand guests with 64 each, leave no more mappings than the first ones.
#[test]
fn windows_leave_no_mappings_behind() {
    if let Some(output) = alone("windows::windows_leave_no_mappings_behind") {
        return succeeded(&output);
    }
    let room = block_on(Room::new(0, Files::Sealed));
    let object = room.shelf.add("list<u8>", &pattern(SIZE));
    let hoard = format!("hoard-windows({object}, 300000, 64)");
    for _ in 0..3 {
        assert_eq!(block_on(room.result(&hoard)), "64");
    }
    let before = maps();
    assert_eq!(block_on(room.result(&format!("churn-windows({object}, {MIB}, 10000)"))), "10000");
    for _ in 0..100 {
        assert_eq!(block_on(room.result(&hoard)), "64");
    }
    let after = maps();
    println!("{before} mappings before, {after} after");
    assert!(after < before + 64, "{before} mappings before, {after} after");
}

#[tokio::test]
async fn memory_grows_beside_a_window() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let bytes = pattern(SIZE);
        let object = room.shelf.add("list<u8>", &bytes);
        assert_eq!(room.result(&format!("grow-after({object}, {SIZE})")).await, (sum(&bytes) + 1).to_string());
    }
}

#[tokio::test]
async fn a_window_outlives_its_handle_and_leaves_zeros() {
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let bytes = pattern(SIZE);
        let object = room.shelf.add("list<u8>", &bytes);
        assert_eq!(room.result(&format!("outlive({object}, {SIZE})")).await, sum(&bytes).to_string());
        for len in [SIZE, 1_000] {
            assert_eq!(room.result(&format!("close({object}, {len})")).await, "0");
        }
        assert_eq!(Arc::strong_count(&room.shelf.item(&object)), 2, "the bytes were let go of with the window");
    }
}

#[tokio::test]
async fn a_window_keeps_what_it_shows() {
    let room = Room::new(0, Files::Sealed).await;
    let bytes = pattern(SIZE);
    let object = room.shelf.add("list<u8>", &bytes);
    // The shelf, and this test.
    let item = room.shelf.item(&object);
    let kept = Arc::new(AtomicUsize::new(0));
    let (told, shown) = (Arc::clone(&kept), Arc::clone(&item));
    // While there is a window, and nobody reads: two handles of this test, the shelf's, the guest's and the window's.
    on_second(&room, move || told.store(Arc::strong_count(&shown), Relaxed));
    assert_eq!(room.result(&format!("scribble({object}, {SIZE})")).await, sum(&bytes).to_string());
    assert_eq!(kept.load(Relaxed), 5);
}

/// However a guest with windows ends, the next one in its place, of another tenant, finds zeros, and its own data.
#[tokio::test]
async fn the_next_guest_finds_zeros() {
    const LEN: usize = 2 * MIB;
    for profile in [0, 1] {
        let room = Room::new(profile, Files::Sealed).await;
        let object = room.shelf.add("list<u8>", &pattern(SIZE));
        let other = PROFILES[profile](&hostile("windows").replace("\\07", "\\07\\08"));
        let tenant = "other".parse().unwrap();
        let other = room.lab.engine.prepare(&tenant, crate::common::digest(other.as_bytes()), other.as_bytes()).await.unwrap();
        for (call, code) in [
            (format!("scan({object}, {SIZE}, 0)"), None),
            (format!("hoard-windows({object}, 300000, 64)"), None),
            (format!("scribble({object}, {SIZE})"), None),
            (format!("trap-after({object}, {SIZE})"), Some(Code::TRAP)),
            (format!("spin-after({object}, {SIZE})"), Some(Code::CPU_TIME)),
            (format!("close({object}, {SIZE})"), None),
        ] {
            // In every place of the pool, with the same image and with another.
            for turn in 0..4 {
                let task = room
                    .task(&call)
                    .limits(|limits| limits.cpu = Duration::from_millis(if code == Some(Code::CPU_TIME) { 30 } else { 10_000 }));
                assert_eq!(task.run(Way::Fiber).await.code(), code, "{call}");
                let peek = format!("peek({LEN})");
                let ran = if turn % 2 == 0 { room.task(&peek) } else { Task::new(&other, &peek) }.run(Way::Fiber).await;
                assert_eq!(ran.wave(), "0", "after {call}");
            }
        }
        // One that is given up while it waits for an object.
        let task = room.task(&format!("scribble({object}, {SIZE})"));
        let control = task.control();
        room.shelf.on_bytes(move || control.cancel());
        assert_eq!(task.run(Way::Fiber).await.code(), Some(Code::CANCELLED));
        for _ in 0..4 {
            assert_eq!(Task::new(&other, &format!("peek({LEN})")).run(Way::Fiber).await.wave(), "0");
        }
        assert_eq!(room.shelf.held(), 0);
    }
}

/// A page of a file that is gone ends the process that touches it.
#[tokio::test]
async fn a_file_that_could_shrink_is_not_mapped() {
    for files in [Files::Unsealed, Files::Short] {
        let room = Room::new(0, files).await;
        let object = room.shelf.add("list<u8>", &pattern(SIZE));
        assert_eq!(room.result(&format!("try-at({object}, 131072, {MIB}, 0)")).await, refused::OTHER.to_string(), "{files:?}");
    }
}

/// Where half of the mappings that the kernel allows are taken, windows are refused, and those that are open can be undone.
#[test]
fn windows_are_refused_before_mappings_run_out() {
    if let Some(output) = alone("windows::windows_are_refused_before_mappings_run_out") {
        return succeeded(&output);
    }
    let room = block_on(Room::new(0, Files::Sealed));
    let object = room.shelf.add("list<u8>", &pattern(SIZE));
    let (hoard, scribble) = (format!("hoard-windows({object}, {MIB}, 1000)"), format!("scribble({object}, {SIZE})"));
    assert_eq!(block_on(room.result(&hoard)), "64");
    let most: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let crowd = Arc::new(parking_lot::Mutex::new(Crowd::new()));
    let crowded = Arc::clone(&crowd);
    on_second(&room, move || crowded.lock().grow(most / 2));
    assert_eq!(block_on(room.result(&scribble)), sum(&pattern(SIZE)).to_string());
    assert!(maps() > most / 2 && maps() < most);
    // Some room is left by what was counted before.
    let refused = (0..1_000).any(|_| block_on(room.result(&hoard)) == "0");
    assert!(refused, "{} mappings", maps());
    assert_eq!(block_on(room.result(&format!("try-at({object}, 131072, {MIB}, 0)"))), refused::TOO_MANY.to_string());
    *crowd.lock() = Crowd::new();
    while block_on(room.result(&hoard)) != "64" {
        std::thread::yield_now();
    }
}

/// Does something when a guest asks for bytes for the second time.
fn on_second(room: &Room, hook: impl Fn() + Send + Sync + 'static) {
    let asked = AtomicUsize::new(0);
    room.shelf.on_bytes(move || {
        if asked.fetch_add(1, Relaxed) == 1 {
            hook();
        }
    });
}

/// Many mappings: memories of WebAssembly, each readable pages between pages that are not.
struct Crowd(Store<StoreLimits>);

impl Crowd {
    fn new() -> Self {
        let mut config = Config::new();
        config.memory_reservation(65_536).memory_guard_size(65_536).memory_reservation_for_growth(0);
        let mut store = Store::new(&Engine::new(&config).unwrap(), StoreLimitsBuilder::new().memories(1 << 20).build());
        store.limiter(|limits| limits);
        Self(store)
    }

    fn grow(&mut self, wanted: usize) {
        while maps() <= wanted {
            for _ in 0..1_000 {
                Memory::new(&mut self.0, MemoryType::new(1, Some(1))).unwrap();
            }
        }
    }
}

/// The memory would be the next guest's with the object in it, so the process ends instead.
#[test]
fn a_window_that_cannot_be_undone_ends_the_process() {
    const ABORT: i32 = 6;
    let Some(output) = alone("windows::a_window_that_cannot_be_undone_ends_the_process") else {
        let room = block_on(Room::new(0, Files::Sealed));
        let object = room.shelf.add("list<u8>", &pattern(SIZE));
        on_second(&room, || {
            println!("there is a window");
            refuse_fixed_mappings();
        });
        block_on(room.result(&format!("scribble({object}, {SIZE})")));
        println!("the window is gone");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(ABORT), "{said}");
    assert!(said.contains("there is a window") && !said.contains("the window is gone"), "{said}");
}

/// From here on the kernel refuses to map anything at a fixed place, for this thread.
fn refuse_fixed_mappings() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
    const MMAP: i64 = 9;
    const FLAGS: u8 = 3;
    const FIXED: u64 = 0x10;
    const ENOMEM: u32 = 12;
    let fixed = SeccompCondition::new(FLAGS, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(FIXED), FIXED).unwrap();
    let rules = [(MMAP, vec![SeccompRule::new(vec![fixed]).unwrap()])].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(ENOMEM), arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
