//! Copies of a journal, made while it is open and while it is not.

use rwasm_journal::{Change, Journal, Snapshot, Table};
use rwasm_types::Code;

use crate::golden;

fn put(key: &str) -> Vec<Change> {
    vec![Change::Put { table: Table::Tags, key: key.to_owned(), value: key.as_bytes().to_vec() }]
}

#[tokio::test]
async fn a_journal_is_copied_while_it_is_open_and_written() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(Snapshot::read(dir.path()).unwrap_err().code(), Code::NOT_FOUND);
    let journal = Journal::open(dir.path()).unwrap();
    journal.commit(put("first")).await.unwrap();
    let snapshot = Snapshot::read(dir.path()).unwrap();
    journal.commit(put("second")).await.unwrap();
    assert_eq!((snapshot.records(Table::Tags), snapshot.bytes()), (1, 10));
    snapshot.write(copies.path()).unwrap();
    let copy = Journal::open(copies.path()).unwrap();
    assert_eq!(copy.scan(Table::Tags, "").unwrap(), [("first".to_owned(), b"first".to_vec())]);
    let all = golden::all(&journal);
    drop(journal);
    let later = Snapshot::read(dir.path()).unwrap();
    assert_eq!(later.records(Table::Tags), 2);
    assert_eq!(golden::all(&Journal::open(dir.path()).unwrap()), all);
}
