//! A node's objects against memory that is too small for them.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use rwasm_objects::{Config, refs::Message};
use rwasm_types::{Attempt, Code, TaskId};
use rwasm_values::{Scalar, Type};

use super::*;
use crate::{executor::Item, sessions::Sessions};

const KIB: u64 = 1 << 10;

fn objects(store_bytes: u64) -> Objects {
    let sessions = Arc::new(Mutex::new(Sessions::passing()));
    Objects::new(NodeId::FIRST, Store::open(Config::new(store_bytes)).unwrap(), sessions).unwrap()
}

fn id(sequence: u64) -> ObjectId {
    format!("o1-1-{sequence}-0").parse().unwrap()
}

fn descriptor() -> Bytes {
    Type::list(Scalar::U8.into()).encode().into()
}

async fn begin(objects: &Objects, sequence: u64, size: u64) -> Result<Incoming> {
    Incoming::begin(objects, &Tenant::default(), id(sequence), (descriptor(), Vec::new()), size).await
}

async fn put(objects: &Objects, sequence: u64, size: u64) -> Result<ObjectId> {
    let mut incoming = begin(objects, sequence, size).await?;
    incoming.write(&vec![7; size.try_into().unwrap()])?;
    incoming.seal(objects, Holder::Kept).await
}

fn release(objects: &Objects, sequence: u64) {
    objects.with(|directory| directory.release(id(sequence), Holder::Kept));
}

async fn look(objects: &Objects, sequence: u64) -> Value {
    objects.ready(&Tenant::default(), id(sequence), Duration::ZERO).await.unwrap();
    objects.look(&Tenant::default(), id(sequence)).unwrap().unwrap()
}

async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Much longer than it takes, and half as long as somebody waits for room.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn whoever_waits_for_room_gets_it_when_the_last_reader_or_another_writer_is_gone() {
    let objects = objects(256 * KIB);
    put(&objects, 1, 200 * KIB).await.unwrap();
    let read = look(&objects, 1).await;
    release(&objects, 1);
    let mut second = pin!(begin(&objects, 2, 200 * KIB));
    assert!(is_pending(second.as_mut()).await, "it is still read");
    drop(read);
    let written = tokio::time::timeout(SOON, second).await.unwrap().unwrap();
    let mut third = pin!(put(&objects, 3, 200 * KIB));
    assert!(is_pending(third.as_mut()).await, "it is being written");
    drop(written);
    tokio::time::timeout(SOON, third).await.unwrap().unwrap();
}

#[tokio::test]
async fn small_values_go_to_the_store_when_their_part_is_used_and_rows_are_refused_when_all_is() {
    let objects = objects(16 << 20);
    for sequence in 1..=8 {
        put(&objects, sequence, 100 * KIB).await.unwrap();
        assert_eq!(look(&objects, sequence).await.bytes(), vec![7; 100 << 10]);
    }
    let memory = objects.memory(&Tenant::default());
    assert!(memory.inline.bytes <= 512 * KIB && memory.inline.objects >= 4, "half of a sixteenth: {memory:?}");
    assert_eq!(memory.inline.objects + memory.sealed.objects, 8);
    let mut last = 8;
    let full = loop {
        match put(&objects, last + 1, 0).await {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 2_048, "rows are counted");
    };
    assert_eq!(full.code(), Code::STORE_FULL);
    let coming = begin(&objects, last + 1, 0).await;
    assert_eq!(coming.err().map(|error| error.code()), Some(Code::STORE_FULL));
    release(&objects, last);
    let coming = begin(&objects, last + 1, 0).await.unwrap();
    assert_eq!(put(&objects, last + 2, 0).await.unwrap_err().code(), Code::STORE_FULL, "what is on its way in counts");
    drop(coming);
    put(&objects, last + 2, 0).await.unwrap();
}

#[tokio::test]
async fn a_store_of_size_0_takes_no_object_at_all() {
    assert_eq!(put(&objects(0), 1, 0).await.unwrap_err().code(), Code::OBJECT_TOO_LARGE);
}

#[tokio::test]
async fn an_object_keeps_nothing_of_the_message_that_its_type_came_in() {
    let objects = objects(1 << 20);
    let mut message = descriptor().to_vec();
    let length = message.len();
    message.resize(1 << 20, 0);
    let message = Bytes::from(message);
    let incoming = Incoming::begin(&objects, &Tenant::default(), id(1), (message.slice(..length), Vec::new()), 0).await.unwrap();
    assert!(message.is_unique(), "nobody else has a part of it");
    incoming.seal(&objects, Holder::Kept).await.unwrap();
}

fn foreign(sequence: u64) -> ObjectId {
    format!("o2-1-{sequence}-0").parse().unwrap()
}

fn lent(objects: &Objects, sequence: u64, number: u64, bytes: usize) {
    let inline = Some(Bytes::from(vec![7; bytes]));
    let meta = Meta { tenant: Tenant::default(), descriptor: descriptor(), size: bytes as u64, refs: Arc::default(), inline };
    let message = Message::Lent { object: foreign(sequence), number, meta, copies: Vec::new() };
    objects.with(|directory| match objects.refuse_lent(directory, &message) {
        None => directory.hear(NodeId::new(2).unwrap(), message),
        Some((_, refusal)) => directory.hear(NodeId::new(2).unwrap(), refusal),
    });
}

#[tokio::test]
async fn an_object_of_another_owner_is_there_once_that_has_lent_it_and_while_it_is_held() {
    let objects = Arc::new(objects(1 << 20));
    let tenant = Tenant::default();
    let other = Tenant::new("other").unwrap();
    let held = objects.hold_while(&tenant, &[foreign(1)]).unwrap();
    assert!(objects.look(&tenant, foreign(1)).unwrap().is_none(), "its owner is asked");
    assert_eq!(objects.hold_while(&other, &[foreign(1)]).err().map(|error| error.code()), Some(Code::NO_SUCH_OBJECT));
    lent(&objects, 1, 1, 10);
    objects.ready(&tenant, foreign(1), Duration::ZERO).await.unwrap();
    assert_eq!(objects.look(&tenant, foreign(1)).unwrap().unwrap().bytes(), [7; 10]);
    drop(held);
    assert_eq!(objects.look(&tenant, foreign(1)).unwrap_err().code(), Code::NO_SUCH_OBJECT);
    assert!(objects.directory.lock().is_empty());
}

#[tokio::test]
async fn what_others_lend_is_bounded_as_what_is_put_is() {
    let objects = Arc::new(objects(1 << 20));
    let tenant = Tenant::default();
    let _held = objects.hold_while(&tenant, &[foreign(1), foreign(2)]).unwrap();
    lent(&objects, 1, 1, 40 << 10);
    lent(&objects, 2, 2, 40 << 10);
    let error = objects.ready(&tenant, foreign(2), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.code(), Code::STORE_FULL, "64 KiB are a sixteenth");
    let many: Vec<ObjectId> = (3..200).map(foreign).collect();
    assert_eq!(objects.hold_while(&tenant, &many).err().map(|error| error.code()), Some(Code::STORE_FULL));
    assert_eq!(objects.directory.lock().len(), 2, "then none of them is held");
}

#[tokio::test]
async fn a_cancel_finds_an_attempt_while_it_waits_or_where_it_goes_then() {
    let objects = objects(0);
    let task: TaskId = "t1-1-5".parse().unwrap();
    let item = || Item::new(task, Attempt::FIRST, Bytes::new());
    let cancelled = objects.waits(&item());
    objects.cancel_waiting(task.job(), Some(&[4]));
    objects.cancel_waiting(task.job(), Some(&[5]));
    assert!(cancelled.await.is_err(), "it hears of it, though it had not begun to wait");
    assert!(objects.waited(item(), drop).is_err(), "it does not go on");
    let _cancelled = objects.waits(&item());
    let gone_on = objects.waited(item(), |_item| assert!(objects.waiting.is_locked(), "no cancel comes between"));
    assert!(gone_on.is_ok());
    assert!(objects.waited(item(), drop).is_err(), "once");
}
