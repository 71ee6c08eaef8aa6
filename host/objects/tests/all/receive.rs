//! Objects go from one node's store to another's: chunks in any order, checked one by one and together.

use rwasm_objects::{CHUNK_BYTES, Pin, Receiver, Store, chunks};
use rwasm_types::Code;

use crate::{bytes, code, id, put, store, tenant};

const MIB: u64 = 1 << 20;

fn receiver(store: &Store, sent: &Pin) -> Receiver {
    Receiver::new(store.create(&tenant("a"), sent.id(), sent.size()).unwrap())
}

fn send(sent: &Pin, receiver: &mut Receiver, index: u64) -> rwasm_types::Result<bool> {
    let chunk = sent.chunk(index).unwrap();
    receiver.take(chunk.index, chunk.bytes, chunk.checksum)
}

#[test]
fn chunks_come_in_any_order_and_twice() {
    let (from, to) = (store(4_000), store(4_000));
    for (sequence, size) in [(1, 0), (2, 5), (3, MIB), (4, 3 * MIB + 9)] {
        let sent = put(&from, "a", sequence, &bytes(sequence, size)).unwrap();
        let mut receiver = receiver(&to, &sent);
        assert_eq!(receiver.missing(), chunks(size));
        for index in (0..chunks(size)).rev() {
            assert!(receiver.is_missing(index) && receiver.next_missing(index) == Some(index));
            assert_eq!(send(&sent, &mut receiver, index).unwrap(), index == 0);
            assert!(!receiver.is_missing(index));
            send(&sent, &mut receiver, index).unwrap();
        }
        assert_eq!((receiver.missing(), receiver.next_missing(0)), (0, None));
        let got = receiver.seal(sent.checksum(), [7; 32], vec![id(9)]).unwrap();
        assert!(got[..] == sent[..] && got.checksum() == sent.checksum() && got.refs() == [id(9)]);
        assert!(got.chunk(0).unwrap().checksum == sent.chunk(0).unwrap().checksum, "it can be sent on at once");
    }
}

#[test]
fn a_receiver_goes_on_with_what_is_missing() {
    let (from, to) = (store(4_000), store(4_000));
    let sent = put(&from, "a", 1, &bytes(1, 4 * MIB)).unwrap();
    let mut receiver = receiver(&to, &sent);
    for index in [0, 2] {
        send(&sent, &mut receiver, index).unwrap();
    }
    let mut missing = Vec::new();
    let mut next = 0;
    while let Some(index) = receiver.next_missing(next) {
        missing.push(index);
        next = index + 1;
    }
    assert_eq!(missing, [1, 3]);
    for index in missing {
        send(&sent, &mut receiver, index).unwrap();
    }
    assert!(receiver.seal(sent.checksum(), [0; 32], Vec::new()).unwrap()[..] == sent[..]);
}

#[test]
fn what_is_damaged_is_not_taken_and_leaves_nothing() {
    let (from, to) = (store(4_000), store(4_000));
    let sent = put(&from, "a", 1, &bytes(1, 2 * MIB + 1)).unwrap();
    let other = put(&from, "a", 2, &bytes(2, 2 * MIB + 1)).unwrap();
    let mut receiver = receiver(&to, &sent);
    let chunk = sent.chunk(0).unwrap();
    let mut wrong = chunk.bytes.to_vec();
    wrong[123] ^= 1;
    for (index, bytes) in [(0, &wrong[..]), (1, chunk.bytes), (2, chunk.bytes), (3, chunk.bytes), (u64::MAX, b""), (0, &wrong[1..])] {
        assert_eq!(code(receiver.take(index, bytes, chunk.checksum)), Code::OBJECT_DAMAGED, "{index}");
    }
    assert_eq!(receiver.missing(), 3);
    send(&sent, &mut receiver, 0).unwrap();
    send(&other, &mut receiver, 1).unwrap();
    send(&sent, &mut receiver, 2).unwrap();
    assert_eq!(code(receiver.seal(sent.checksum(), [0; 32], Vec::new())), Code::OBJECT_DAMAGED, "a right chunk of another object");
    assert_eq!(code(to.get(&tenant("a"), id(1))), Code::NO_SUCH_OBJECT);
    let mut receiver = self::receiver(&to, &sent);
    send(&sent, &mut receiver, 0).unwrap();
    let error = receiver.seal(sent.checksum(), [0; 32], Vec::new()).unwrap_err();
    assert_eq!(error.code(), Code::OBJECT_UNFINISHED);
    assert_eq!((to.usage().used_bytes, CHUNK_BYTES), (0, MIB));
}

#[test]
fn an_object_that_came_another_way_is_told() {
    let (from, to) = (store(400), store(400));
    let sent = put(&from, "a", 1, &bytes(1, 5)).unwrap();
    let mut receivers = [receiver(&to, &sent), receiver(&to, &sent)].into_iter();
    let mut seal = || {
        let mut receiver = receivers.next().unwrap();
        send(&sent, &mut receiver, 0).unwrap();
        receiver.seal(sent.checksum(), [0; 32], Vec::new())
    };
    let first = seal().unwrap();
    assert_eq!(code(seal()), Code::OBJECT_EXISTS);
    assert_eq!(first[..], sent[..]);
}
