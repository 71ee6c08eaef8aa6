//! Memory runs short: what nobody reads goes to disk, comes back as it was, and nobody waits for ever.

use std::{
    future::Future,
    pin::Pin as Pinned,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rwasm_objects::{Config, Directory, Fetched, Fetching, ObjectState, Spill, Store};
use rwasm_types::{Code, api::Tally};

use crate::{PAGE, Shelf, bytes, code, id, put, store, tenant};

/// Makes room until there is nothing left to do.
fn relieve(store: &Store) -> usize {
    let mut steps = 0;
    while store.relieve().unwrap() {
        steps += 1;
    }
    steps
}

fn state(store: &Store, sequence: u64) -> ObjectState {
    store.info(&tenant("a"), id(sequence)).unwrap().state
}

fn poll(fetching: &mut Fetching) -> Option<rwasm_types::Result<Fetched>> {
    match Pinned::new(fetching).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[test]
fn what_was_not_read_for_longest_goes_first_and_comes_back_as_it_was() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    // Larger than half of what shares a file, so each goes alone.
    for sequence in 1..=9 {
        put(&store, "a", sequence, &bytes(sequence, PAGE)).unwrap();
    }
    drop(store.get(&tenant("a"), id(1)).unwrap());
    let held = store.get(&tenant("a"), id(2)).unwrap();
    assert_eq!(relieve(&store), 1, "small objects share a file");
    assert_eq!((shelf.count(), state(&store, 2)), (1, ObjectState::Pinned), "what is read stays");
    let usage = store.usage();
    assert_eq!(usage.tenants[&tenant("a")].spilled, Tally { objects: 8, bytes: 8 * PAGE });
    assert_eq!((usage.used_bytes, usage.disk_bytes), (PAGE, 8 * PAGE));
    for sequence in (1..=9).rev() {
        assert!(store.get(&tenant("a"), id(sequence)).unwrap()[..] == bytes(sequence, PAGE), "{sequence}");
    }
    assert_eq!(held[..], bytes(2, PAGE));
    assert_eq!((relieve(&store), shelf.count()), (0, 1), "what was on disk already is let go of without writing");
    assert_eq!(store.usage().used_bytes, 8 * PAGE, "down to the threshold");
}

#[test]
fn a_file_goes_when_nothing_is_left_in_it() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    for sequence in 1..=9 {
        put(&store, "a", sequence, &bytes(sequence, PAGE)).unwrap();
    }
    relieve(&store);
    (1..=8).for_each(|sequence| assert!(store.delete(id(sequence))));
    assert_eq!((relieve(&store), shelf.count()), (0, 1));
    let restored = store.get(&tenant("a"), id(9)).unwrap();
    store.delete(id(9));
    assert_eq!(relieve(&store), 0, "it is read, and on disk");
    drop(restored);
    assert_eq!((relieve(&store), shelf.count()), (1, 0));
    assert_eq!((store.usage().disk_bytes, store.usage().used_bytes), (0, 0));
}

#[test]
fn whoever_waits_for_room_gets_that_of_what_goes_to_disk() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    drop(put(&store, "a", 1, &bytes(1, 8 * PAGE)).unwrap());
    assert_eq!(relieve(&store), 0, "not over the threshold");
    let waiting = store.reserve(&tenant("b"), id(2), 10 * PAGE).unwrap();
    assert_eq!(relieve(&store), 1);
    let mut writer = waiting.wait(Duration::ZERO).unwrap();
    writer.write(&bytes(2, 10 * PAGE)).unwrap();
    drop(writer.seal([0; 32], Vec::new()).unwrap());
    let mut fetching = store.fetch(&tenant("a"), id(1));
    assert!(poll(&mut fetching).is_none(), "no room to come back to");
    assert_eq!(code(store.get(&tenant("a"), id(1))), Code::STORE_FULL);
    assert_eq!(fetching.expired().code(), Code::STORE_FULL);
    assert_eq!(relieve(&store), 1);
    let pin = poll(&mut fetching).unwrap().unwrap().into_pin().unwrap();
    assert!(pin[..] == bytes(1, 8 * PAGE) && pin.checksum().0 == *blake3::hash(&pin).as_bytes());
}

#[test]
fn many_readers_of_an_object_on_disk_read_it_once() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    drop(put(&store, "a", 1, &bytes(1, 9 * PAGE)).unwrap());
    relieve(&store);
    let mut fetching: Vec<_> = (0..4).map(|_| store.fetch(&tenant("a"), id(1))).collect();
    let Some(Ok(Fetched::Stored(first))) = poll(&mut fetching[0]) else { unreachable!("there is room") };
    assert!(fetching[1..].iter_mut().all(|fetching| poll(fetching).is_none()), "somebody reads it already");
    drop(first);
    let Some(Ok(Fetched::Stored(second))) = poll(&mut fetching[2]) else { unreachable!("the first gave up") };
    assert!(poll(&mut fetching[1]).is_none());
    let gone = fetching.remove(3);
    drop(gone);
    let pin = second.read().unwrap();
    let Some(Ok(Fetched::Ready(same))) = poll(&mut fetching[1]) else { unreachable!("it is there") };
    assert_eq!(pin.as_ptr(), same.as_ptr());
    store.delete(id(1));
    drop((pin, same, fetching));
    relieve(&store);
    assert_eq!((store.usage().used_bytes, shelf.count()), (0, 0));
}

#[test]
fn what_came_back_wrong_or_not_at_all_is_told_and_takes_no_memory() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    drop(put(&store, "a", 1, &bytes(1, 9 * PAGE)).unwrap());
    relieve(&store);
    *shelf.unreadable.lock() = true;
    assert_eq!(code(store.get(&tenant("a"), id(1))), Code::SPILL_FAILED);
    *shelf.unreadable.lock() = false;
    for file in shelf.files.lock().values_mut() {
        file[17] ^= 1;
    }
    assert_eq!(code(store.get(&tenant("a"), id(1))), Code::OBJECT_DAMAGED);
    assert_eq!(store.usage().used_bytes, 0);
    for file in shelf.files.lock().values_mut() {
        file[17] ^= 1;
    }
    assert!(store.get(&tenant("a"), id(1)).unwrap()[..] == bytes(1, 9 * PAGE));
}

#[test]
fn a_disk_that_refuses_leaves_objects_where_they_are() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 1 << 30);
    drop(put(&store, "a", 1, &bytes(1, 9 * PAGE)).unwrap());
    *shelf.full.lock() = true;
    assert_eq!(code(store.relieve()), Code::SPILL_FAILED);
    assert_eq!((state(&store, 1), store.usage().disk_bytes), (ObjectState::Sealed, 0));
    *shelf.full.lock() = false;
    assert_eq!((relieve(&store), state(&store, 1)), (1, ObjectState::Spilled));
}

#[test]
fn both_full_is_an_error_of_whoever_waited_and_passes_when_something_goes() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 10 * PAGE);
    drop(put(&store, "a", 1, &bytes(1, 10 * PAGE)).unwrap());
    assert_eq!(relieve(&store), 1);
    drop(put(&store, "a", 2, &bytes(2, 10 * PAGE)).unwrap());
    assert_eq!(relieve(&store), 0, "the disk is full");
    let creating = store.reserve(&tenant("a"), id(3), PAGE).unwrap();
    assert_eq!(creating.expired().code(), Code::STORE_FULL);
    let mut fetching = store.fetch(&tenant("a"), id(1));
    assert!(poll(&mut fetching).is_none());
    drop(creating);
    store.delete(id(2));
    let pin = poll(&mut fetching).unwrap().unwrap().into_pin().unwrap();
    assert!(pin[..] == bytes(1, 10 * PAGE));
    let waiting = store.reserve(&tenant("a"), id(4), PAGE).unwrap();
    assert_eq!(relieve(&store), 0, "it is read");
    drop(pin);
    relieve(&store);
    drop(waiting.wait(Duration::ZERO).unwrap());
}

#[test]
fn copies_on_disk_give_way_to_what_is_not_there() {
    let shelf = Arc::new(Shelf::default());
    let store = shelf.store(10, 10 * PAGE);
    drop(put(&store, "a", 1, &bytes(1, 9 * PAGE)).unwrap());
    relieve(&store);
    let pin = store.get(&tenant("a"), id(1)).unwrap();
    drop(put(&store, "a", 2, &bytes(2, PAGE)).unwrap());
    drop(put(&store, "b", 3, &[]).err());
    assert!(relieve(&store) >= 1);
    assert_eq!(state(&store, 2), ObjectState::Spilled);
    let waiting = store.reserve(&tenant("a"), id(4), PAGE).unwrap();
    drop(waiting.wait(Duration::ZERO).unwrap());
    assert!(pin[..] == bytes(1, 9 * PAGE));
    drop(pin);
}

#[test]
fn what_is_read_or_deleted_while_it_is_written_is_right_all_the_same() {
    use std::sync::mpsc;

    /// Waits in the middle of a write until it is told to go on.
    #[derive(Debug)]
    struct Slow(Shelf, parking_lot::Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>);

    impl rwasm_objects::SpillTarget for Slow {
        fn put(&self, file: u64, parts: &[&[u8]]) -> std::io::Result<()> {
            let hold = self.1.lock();
            hold.0.send(()).unwrap();
            hold.1.recv().unwrap();
            self.0.put(file, parts)
        }

        fn get(&self, file: u64, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
            self.0.get(file, offset, into)
        }

        fn delete(&self, file: u64) -> std::io::Result<()> {
            self.0.delete(file)
        }
    }

    let (begun, begins) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let target = Arc::new(Slow(Shelf::default(), parking_lot::Mutex::new((begun, goes))));
    let spill = Spill { target: target.clone(), most_bytes: 1 << 30, threshold_percent: 0 };
    let store = Store::open(Config { spill: Some(spill), ..Config::new(10 * PAGE) }).unwrap();
    for sequence in 1..=3 {
        drop(put(&store, "a", sequence, &bytes(sequence, PAGE)).unwrap());
    }
    let writer = std::thread::spawn({
        let store = store.clone();
        move || store.relieve().unwrap()
    });
    begins.recv().unwrap();
    let read = store.get(&tenant("a"), id(1)).unwrap();
    store.delete(id(2));
    assert_eq!(store.usage().used_bytes, 3 * PAGE, "what is being written keeps its memory");
    go.send(()).unwrap();
    assert!(writer.join().unwrap());
    assert_eq!((state(&store, 1), state(&store, 3)), (ObjectState::Pinned, ObjectState::Spilled));
    assert_eq!((&read[..], store.usage().used_bytes), (&bytes(1, PAGE)[..], PAGE));
    assert_eq!(code(store.get(&tenant("a"), id(2))), Code::NO_SUCH_OBJECT);
    drop(read);
    [1, 3].iter().for_each(|sequence| assert!(store.delete(id(*sequence))));
    relieve(&store);
    assert_eq!((target.0.count(), store.usage().used_bytes), (0, 0));
}

#[test]
fn objects_move_together_where_what_is_free_lies_apart() {
    // Without a disk. Segments are of 1,024 pages at first, so four of them are filled, and one page of each stays.
    let store = store(4_096);
    let mut kept = Vec::new();
    for segment in 0..4 {
        kept.push(100 + segment);
        drop(put(&store, "a", 100 + segment, &bytes(segment, PAGE)).unwrap());
        drop(put(&store, "a", segment, &vec![1; 1_023 * PAGE as usize]).unwrap());
    }
    (0..4).for_each(|segment| assert!(store.delete(id(segment))));
    assert_eq!(store.usage().used_bytes, 4 * PAGE);
    let waiting = store.reserve(&tenant("b"), id(1), 2_048 * PAGE).unwrap();
    assert!(relieve(&store) >= 1);
    drop(waiting.wait(Duration::ZERO).unwrap());
    for (segment, sequence) in (0..).zip(kept) {
        assert_eq!(store.get(&tenant("a"), id(sequence)).unwrap()[..], bytes(segment, PAGE));
    }
}

#[test]
fn a_keeper_moves_what_one_tenant_has_out_of_the_way_of_another() {
    let store = store(4_096);
    let keeper = store.keep().unwrap();
    for segment in 0..4 {
        drop(put(&store, "a", 100 + segment, b"x").unwrap());
        drop(put(&store, "a", segment, &vec![1; 1_023 * PAGE as usize]).unwrap());
    }
    (0..4).for_each(|segment| assert!(store.delete(id(segment))));
    let waiting = store.reserve(&tenant("b"), id(1), 2_048 * PAGE).unwrap();
    drop(waiting.wait(Duration::from_secs(60)).unwrap());
    drop(keeper);
}

#[test]
fn what_is_read_does_not_move() {
    let store = store(2_048);
    let mut pins = Vec::new();
    for segment in 0..2 {
        pins.push(put(&store, "a", 100 + segment, b"x").unwrap());
        drop(put(&store, "a", segment, &vec![1; 1_023 * PAGE as usize]).unwrap());
    }
    (0..2).for_each(|segment| assert!(store.delete(id(segment))));
    let before: Vec<_> = pins.iter().map(|pin| pin.as_ptr()).collect();
    let waiting = store.reserve(&tenant("b"), id(1), 1_024 * PAGE).unwrap();
    assert_eq!(relieve(&store), 0);
    assert_eq!(code(waiting.wait(Duration::ZERO)), Code::STORE_FULL);
    assert_eq!(pins.iter().map(|pin| pin.as_ptr()).collect::<Vec<_>>(), before);
}

#[test]
fn a_keeper_makes_room_in_a_directory_while_others_work() {
    let parent = tempfile::tempdir().unwrap();
    let target = Arc::new(Directory::open(parent.path()).unwrap());
    let spill = Spill { target: target.clone(), most_bytes: 1 << 30, threshold_percent: Spill::THRESHOLD_PERCENT };
    let store = Store::open(Config { spill: Some(spill), ..Config::new(64 * PAGE) }).unwrap();
    let keeper = store.keep().unwrap();
    let patience = Duration::from_secs(60);
    let threads = (0..4).map(|thread| {
        let store = store.clone();
        std::thread::spawn(move || {
            for sequence in (thread * 100..).take(50) {
                let size = (sequence % 7 + 1) * PAGE - 5;
                let mut writer = store.reserve(&tenant("a"), id(sequence), size).unwrap().wait(patience).unwrap();
                writer.write(&bytes(sequence, size)).unwrap();
                drop(writer.seal([0; 32], Vec::new()).unwrap());
            }
            for sequence in (thread * 100..).take(50) {
                let pin = store.fetch(&tenant("a"), id(sequence)).wait(patience).unwrap();
                assert!(pin[..] == bytes(sequence, (sequence % 7 + 1) * PAGE - 5)[..], "{sequence}");
                assert!(store.delete(id(sequence)));
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(store.usage().used_bytes, 0);
    drop(keeper);
    relieve(&store);
    assert_eq!((store.usage().disk_bytes, std::fs::read_dir(target.path()).unwrap().count()), (0, 0));
    drop(store);
    drop(target);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}
