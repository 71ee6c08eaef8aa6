//! Who waits for room gets it in turn, and who gives up leaves nothing.

use std::{
    future::Future,
    pin::Pin as Pinned,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use rwasm_objects::{Config, Reserving, Store, Writer};
use rwasm_types::{Code, Result};

use crate::{PAGE, bytes, code, id, put, store, tenant};

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(waiting: &mut Reserving) -> Option<Result<Writer>> {
    match Pinned::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn reserve(store: &Store, name: &str, sequence: u64, pages: u64) -> Reserving {
    store.reserve(&tenant(name), id(sequence), pages * PAGE).unwrap()
}

#[test]
fn who_waits_is_woken_in_turn() {
    let store = store(2);
    let pin = put(&store, "a", 1, &bytes(1, 2 * PAGE)).unwrap();
    let (mut first, mut second) = (reserve(&store, "a", 2, 2), reserve(&store, "a", 3, 1));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(Pinned::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(poll(&mut second).is_none());
    assert_eq!(store.usage().waiting, 2);
    assert_eq!(code(store.create(&tenant("a"), id(4), 1)), Code::STORE_FULL, "nobody passes by");
    store.delete(id(1));
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "it is still read");
    drop(pin);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let writer = poll(&mut first).unwrap().unwrap();
    assert!(poll(&mut second).is_none());
    drop(writer);
    assert!(poll(&mut second).unwrap().is_ok());
    assert_eq!(store.usage().waiting, 0);
}

#[test]
fn who_gives_up_lets_the_next_one_pass_and_leaves_nothing() {
    let store = store(2);
    let pin = put(&store, "a", 1, b"x").unwrap();
    let large = reserve(&store, "a", 2, 2);
    let mut small = reserve(&store, "a", 3, 1);
    assert!(poll(&mut small).is_none(), "the one before needs more than there is");
    let error = large.expired();
    assert_eq!((error.code(), error.field("pinned")), (Code::STORE_FULL, Some("4096")));
    drop(large);
    let writer = poll(&mut small).unwrap().unwrap();
    drop((writer, small));
    let granted = reserve(&store, "a", 4, 1);
    drop(granted);
    drop(pin);
    store.delete(id(1));
    assert_eq!(
        (store.usage().used_bytes, store.usage().waiting, store.usage().tenants.values().map(|usage| usage.memory_bytes()).sum()),
        (0, 0, 0u64)
    );
}

#[test]
fn a_tenant_that_wants_everything_holds_up_nobody_else() {
    let store = Store::open(Config { tenant_bytes: 8 * PAGE, ..Config::new(10 * PAGE) }).unwrap();
    let a = put(&store, "a", 1, b"x").unwrap();
    let b = put(&store, "b", 2, &bytes(2, 4 * PAGE)).unwrap();
    let mut greedy = reserve(&store, "a", 3, 7);
    let mut at_quota = reserve(&store, "b", 4, 8);
    assert!(poll(&mut greedy).is_none() && poll(&mut at_quota).is_none());
    assert!(put(&store, "c", 5, b"x").is_ok(), "another tenant passes");
    store.delete(id(5));
    assert_eq!(code(store.create(&tenant("a"), id(6), 1)), Code::STORE_FULL, "its own tenant's do not");
    assert_eq!(code(store.create(&tenant("b"), id(7), 1)), Code::STORE_FULL);
    assert_eq!(at_quota.expired().code(), Code::OBJECT_QUOTA);
    drop(b);
    store.delete(id(2));
    assert!(poll(&mut greedy).unwrap().is_ok());
    drop((a, at_quota));
}

#[test]
fn who_wants_little_is_not_passed_by() {
    let store = store(10);
    let pins: Vec<_> = (1..=8).map(|sequence| put(&store, "a", sequence, b"x").unwrap()).collect();
    let one = put(&store, "b", 9, b"x").unwrap();
    let mut fair = reserve(&store, "b", 10, 3);
    assert!(poll(&mut fair).is_none());
    assert_eq!(code(store.create(&tenant("a"), id(11), 1)), Code::STORE_FULL, "the page that is left is kept for the one before");
    drop(pins);
    (1..=8).for_each(|sequence| assert!(store.delete(id(sequence))));
    assert!(poll(&mut fair).unwrap().is_ok());
    drop(one);
}

#[test]
fn an_id_that_was_sealed_meanwhile_is_told() {
    let store = store(1);
    let writer = store.create(&tenant("a"), id(1), 0).unwrap();
    let mut waiting = reserve(&store, "a", 1, 1);
    assert!(poll(&mut waiting).is_none());
    drop(writer.seal([0; 32], Vec::new()).unwrap());
    assert!(poll(&mut waiting).is_none(), "it needs room still");
    drop(waiting);
    assert_eq!(code(store.reserve(&tenant("a"), id(1), 1)), Code::OBJECT_EXISTS);
}

#[test]
fn threads_wait_for_as_long_as_they_say() {
    let store = store(1);
    let pin = put(&store, "a", 1, b"x").unwrap();
    assert_eq!(code(reserve(&store, "a", 2, 1).wait(Duration::from_millis(1))), Code::STORE_FULL);
    let waiting = reserve(&store, "a", 2, 1);
    let thread = thread::spawn(move || waiting.wait(Duration::from_secs(60)).unwrap().id());
    drop(pin);
    store.delete(id(1));
    assert_eq!(thread.join().unwrap(), id(2));
}
