//! From create to delete: what is seen of an object, and by whom, and what is left of it.

use rwasm_objects::{Config, ObjectState, Store, may_wait};
use rwasm_types::{Code, api::Tally};

use crate::{PAGE, code, id, pages, put, store, tenant};

#[test]
fn an_object_is_what_was_written_and_knows_what_it_was_sealed_with() {
    let store = store(100);
    let mut writer = store.create(&tenant("a"), id(1), 10).unwrap();
    writer.write(b"hello").unwrap();
    assert_eq!(code(store.get(&tenant("a"), id(1))), Code::NO_SUCH_OBJECT, "nobody sees it before it is sealed");
    writer.write(b"world").unwrap();
    let pin = writer.seal([7; 32], vec![id(5), id(6)]).unwrap();
    assert_eq!((&pin[..], pin.size(), pin.id()), (&b"helloworld"[..], 10, id(1)));
    let again = store.get(&tenant("a"), id(1)).unwrap();
    assert_eq!((again.type_hash(), again.refs()), ([7; 32], &[id(5), id(6)][..]));
    assert_eq!(again.checksum().0, *blake3::hash(b"helloworld").as_bytes());
    assert_eq!(again.as_ptr(), pin.as_ptr(), "two readers, one memory");
    let info = store.info(&tenant("a"), id(1)).unwrap();
    assert_eq!((info.size, info.state, info.checksum), (10, ObjectState::Pinned, Some(pin.checksum())));
}

#[test]
fn another_tenant_finds_nothing() {
    let store = store(100);
    put(&store, "a", 1, b"secret").unwrap();
    for result in [store.get(&tenant("b"), id(1)).map(drop), store.info(&tenant("b"), id(1)).map(drop)] {
        let theirs = result.unwrap_err();
        let absent = store.get(&tenant("b"), id(2)).unwrap_err();
        assert_eq!(theirs.code(), Code::NO_SUCH_OBJECT);
        assert_eq!(theirs.message().replace("o1-1-1-0", "o1-1-2-0"), absent.message(), "nothing tells them apart");
    }
    assert_eq!(store.list(Some(&tenant("b")), None, 10), []);
    assert_eq!(store.list(Some(&tenant("a")), None, 10).len(), 1);
}

#[test]
fn a_producer_that_is_gone_leaves_nothing() {
    let store = store(100);
    let mut writer = store.create(&tenant("a"), id(1), 5 * PAGE).unwrap();
    writer.write(b"half").unwrap();
    assert_eq!(store.usage().tenants[&tenant("a")].creating, Tally { objects: 1, bytes: 5 * PAGE });
    drop(writer);
    assert_eq!((store.usage().used_bytes, store.list(None, None, 10)), (0, Vec::new()));
    let short = store.create(&tenant("a"), id(1), 10).unwrap();
    assert_eq!(code(short.seal([0; 32], Vec::new())), Code::OBJECT_UNFINISHED);
    assert_eq!(store.usage().used_bytes, 0);
    let mut long = store.create(&tenant("a"), id(1), 3).unwrap();
    assert_eq!(code(long.write(b"four")), Code::OBJECT_UNFINISHED);
    long.write(b"two").unwrap();
    assert_eq!(&long.seal([0; 32], Vec::new()).unwrap()[..], b"two", "what did not fit was not written");
}

#[test]
fn the_first_to_seal_an_id_is_right() {
    let store = store(100);
    let mut first = store.create(&tenant("a"), id(1), 1).unwrap();
    let mut second = store.create(&tenant("a"), id(1), 1).unwrap();
    second.write(b"2").unwrap();
    first.write(b"1").unwrap();
    let pin = second.seal([0; 32], Vec::new()).unwrap();
    assert_eq!(code(first.seal([0; 32], Vec::new())), Code::OBJECT_EXISTS);
    assert_eq!(code(store.create(&tenant("a"), id(1), 1)), Code::OBJECT_EXISTS);
    assert_eq!((&pin[..], store.usage().used_bytes), (&b"2"[..], PAGE));
    assert!(store.delete(id(1)) && !store.delete(id(1)));
    assert_eq!(&put(&store, "a", 1, b"3").unwrap()[..], b"3", "the id is free again");
    assert_eq!(&pin[..], b"2");
}

#[test]
fn an_extent_is_not_used_again_while_somebody_reads_it() {
    let store = store(3);
    let pin = put(&store, "a", 1, &[7; PAGE as usize]).unwrap();
    let clone = pin.clone();
    drop(pin);
    store.delete(id(1));
    assert_eq!(code(store.get(&tenant("a"), id(1))), Code::NO_SUCH_OBJECT);
    assert_eq!(
        store.usage().tenants[&tenant("a")].pinned,
        Tally { objects: 1, bytes: PAGE },
        "deleted and read, it still takes its memory"
    );
    let others: Vec<_> = (2..4).map(|sequence| put(&store, "a", sequence, &[9; PAGE as usize]).unwrap()).collect();
    let error = put(&store, "a", 4, b"x").unwrap_err();
    assert!(error.code() == Code::STORE_FULL && may_wait(&error), "{error}");
    assert_eq!((error.field("pinned"), error.field("capacity")), (Some("12288"), Some("12288")));
    assert_eq!(clone[..], [7; PAGE as usize]);
    drop(clone);
    assert_eq!(&put(&store, "a", 4, b"x").unwrap()[..], b"x");
    drop(others);
}

#[test]
fn what_was_there_before_never_shows() {
    let store = Store::open(Config { idle_bytes: 4 * PAGE, ..Config::new(4 * PAGE) }).unwrap();
    let secret = [0xAA; 3 * PAGE as usize];
    put(&store, "a", 1, &secret).unwrap();
    store.delete(id(1));
    let pin = put(&store, "a", 2, &[1; PAGE as usize + 1]).unwrap();
    let seen = pages(&pin);
    assert!(seen[..=PAGE as usize].iter().all(|byte| *byte == 1) && seen[PAGE as usize + 1..].iter().all(|byte| *byte == 0));
    drop(pin);
    store.delete(id(2));
    let mut writer = store.create(&tenant("a"), id(3), 2 * PAGE + 5).unwrap();
    writer.write(b"begun").unwrap();
    let bytes = writer.bytes_mut();
    assert!(bytes.starts_with(b"begun") && bytes[5..].iter().all(|byte| *byte == 0), "its producer does not see it either");
    let pin = writer.seal([0; 32], Vec::new()).unwrap();
    assert!(pages(&pin)[5..].iter().all(|byte| *byte == 0));
    drop(pin);
    store.delete(id(3));
    let empty = put(&store, "a", 4, b"").unwrap();
    assert_eq!((empty.len(), empty.region().length, pages(&empty)), (0, 0, vec![0; PAGE as usize]), "an empty object has a page, of zeros");
    assert_eq!(store.usage().held_bytes, 3 * PAGE, "all of this was in the same memory");
}

#[test]
fn what_can_never_fit_is_refused_with_numbers() {
    let store = store(10);
    for size in [10 * PAGE + 1, 1 << 40, u64::MAX - PAGE, u64::MAX] {
        let error = store.create(&tenant("a"), id(1), size).unwrap_err();
        assert!(error.code() == Code::OBJECT_TOO_LARGE && !may_wait(&error), "{size}: {error}");
        assert_eq!(error.field("most"), Some("40960"));
    }
    let none = Store::open(Config::new(0)).unwrap();
    assert_eq!(code(put(&none, "a", 1, b"")), Code::OBJECT_TOO_LARGE);
    assert_eq!(none.usage().capacity_bytes, 0);
}

#[test]
fn a_tenant_at_its_quota_waits_for_itself_alone() {
    let store = Store::open(Config { tenant_bytes: 2 * PAGE, ..Config::new(10 * PAGE) }).unwrap();
    let pins = [put(&store, "a", 1, b"x").unwrap(), put(&store, "a", 2, b"x").unwrap()];
    let error = put(&store, "a", 3, b"x").unwrap_err();
    assert!(error.code() == Code::OBJECT_QUOTA && may_wait(&error), "{error}");
    assert_eq!(error.field("tenant"), Some("a"));
    assert_eq!(code(store.create(&tenant("b"), id(4), 3 * PAGE)), Code::OBJECT_TOO_LARGE);
    put(&store, "b", 4, &[0; 2 * PAGE as usize]).unwrap();
    drop(pins);
    store.delete(id(1));
    put(&store, "a", 3, b"x").unwrap();
}

#[test]
fn an_object_larger_than_a_segment_is_one_piece() {
    let store = Store::open(Config { segment_bytes: 4 * PAGE, ..Config::new(100 * PAGE) }).unwrap();
    let bytes: Vec<u8> = (0..30 * PAGE).map(|at| (at / 7) as u8).collect();
    let pin = put(&store, "a", 1, &bytes).unwrap();
    assert_eq!((pin[..] == bytes[..], pin.region().offset, store.usage().segments), (true, 0, 1));
    assert_eq!(pages(&pin), bytes);
}

#[test]
fn lists_come_in_pages_in_the_order_of_ids() {
    let store = store(100);
    for sequence in [5, 3, 9, 1] {
        put(&store, if sequence == 3 { "b" } else { "a" }, sequence, b"x").unwrap();
    }
    let ids = |tenant: Option<&str>, after: Option<u64>, max| {
        let tenant = tenant.map(crate::tenant);
        store.list(tenant.as_ref(), after.map(id), max).into_iter().map(|info| info.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, 10), [1, 3, 5, 9].map(id));
    assert_eq!(ids(None, Some(1), 2), [3, 5].map(id));
    assert_eq!(ids(Some("a"), None, 10), [1, 5, 9].map(id));
    let usage = store.usage();
    assert_eq!(usage.tenants[&tenant("a")].sealed, Tally { objects: 3, bytes: 3 * PAGE });
    assert_eq!((usage.used_bytes, usage.segments), (4 * PAGE, 2));
}

#[test]
fn chunks_are_the_object_and_carry_their_checksums() {
    let store = store(1_000);
    let bytes: Vec<u8> = (0..2 * rwasm_objects::CHUNK_BYTES + 77).map(|at| (at / 5) as u8).collect();
    let pin = put(&store, "a", 1, &bytes).unwrap();
    let joined: Vec<u8> = (0..pin.chunks()).flat_map(|index| pin.chunk(index).unwrap().bytes.to_vec()).collect();
    assert!(joined == bytes && pin.chunks() == 3 && pin.chunk(3).is_none());
    assert_ne!(pin.chunk(0).unwrap().checksum, pin.chunk(1).unwrap().checksum);
}
