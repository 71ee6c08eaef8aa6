//! Files that a journal must not open, and directories that two must not share.

use std::fs;

use rwasm_journal::{Change, FILE, Journal, Table};
use rwasm_types::{Code, Result};
use tempfile::TempDir;

use crate::golden;

/// A directory with this file as its journal.
fn dir_with(journal: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), journal).unwrap();
    dir
}

fn code_of(opened: Result<Journal>) -> Code {
    let error = opened.unwrap_err();
    assert!(error.next_step().is_some(), "{error} has no next step");
    error.code()
}

#[tokio::test]
async fn a_journal_is_made_where_there_is_none_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.scan(Table::Keys, "").unwrap().len(), n);
        journal.commit(vec![Change::Put { table: Table::Keys, key: n.to_string(), value: Vec::new() }]).await.unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(Journal::open(&dir.path().join("not-there")).is_err());
}

#[test]
fn a_journal_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(code_of(Journal::open(dir.path())), Code::STATE_LOCKED);
    let clone = journal.clone();
    drop(journal);
    assert_eq!(code_of(Journal::open(dir.path())), Code::STATE_LOCKED);
    drop(clone);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let other = tempfile::tempdir().unwrap();
    let database = redb::Database::create(other.path().join("theirs")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let theirs = fs::read(other.path().join("theirs")).unwrap();
    for foreign in [&b"SQLite format 3\0"[..], &[0; 100_000], b"x", &theirs] {
        let dir = dir_with(foreign);
        assert_eq!(code_of(Journal::open(dir.path())), Code::FOREIGN_JOURNAL);
        if foreign != theirs {
            assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), foreign);
        }
    }
}

#[test]
fn a_newer_file_is_refused() {
    let dir = dir_with(golden::JOURNAL);
    let database = redb::Database::open(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("rwasm-journal")).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(code_of(Journal::open(dir.path())), Code::NEWER_STATE);
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    for length in (0..golden::JOURNAL.len()).step_by(1021) {
        let dir = dir_with(&golden::JOURNAL[..length]);
        let code = code_of(Journal::open(dir.path()));
        assert!([Code::DAMAGED_JOURNAL, Code::FOREIGN_JOURNAL].contains(&code), "{length} bytes: {code}");
        assert!(length < 4096 || code == Code::DAMAGED_JOURNAL, "{length} bytes: {code}");
    }
}

#[test]
fn a_changed_byte_is_found_or_does_not_matter() {
    let expected = golden::records();
    for at in (0..golden::JOURNAL.len()).step_by(2039) {
        let mut changed = golden::JOURNAL.to_vec();
        changed[at] ^= 0x5a;
        let dir = dir_with(&changed);
        match Journal::open(dir.path()) {
            Ok(journal) => assert_eq!(golden::all(&journal), expected, "byte {at}"),
            Err(error) => {
                let known = [Code::DAMAGED_JOURNAL, Code::FOREIGN_JOURNAL, Code::NEWER_STATE];
                assert!(known.contains(&error.code()), "byte {at}: {error}");
            }
        }
    }
}
