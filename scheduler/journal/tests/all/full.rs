//! A file system that is really full: a small tmpfs in a mount namespace of the test's own. Where none may be made, the test says so and
//! passes; `src/disk.rs` has the same on a disk that is made up.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use rwasm_journal::{Change, Journal, Table};
use rwasm_types::Code;

/// Names the small file system to the child.
const DIR: &str = "RWASM_TEST_SMALL_DIR";
/// Makes it. Two processes, so that the mount ends with them.
const SCRIPT: &str = "mount -t tmpfs -o size=1m,mode=700 small \"$1\" || exit 77; exec \"$2\" --exact full::child --nocapture";

fn put(key: &str) -> Vec<Change> {
    vec![Change::Put { table: Table::Tokens, key: key.to_owned(), value: vec![7; 10_000] }]
}

/// The child: fills the file system under an open journal, and makes room again.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let journal = Journal::open(dir).unwrap();
    journal.commit(put("before")).await.unwrap();
    let filler = dir.join("filler");
    let mut file = File::create(&filler).unwrap();
    for bytes in [1 << 12, 1] {
        while file.write_all(&vec![0; bytes]).is_ok() {}
    }
    drop(file);
    // There is room within the file for a few.
    let mut more = 0;
    let refused = loop {
        match journal.commit(put(&format!("more-{more}"))).await {
            Ok(()) => more += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), Code::JOURNAL_FULL, "{refused}");
    assert!(journal.get(Table::Tokens, "before").unwrap().is_some());
    assert_eq!(journal.commit(put("during")).await.unwrap_err().code(), Code::JOURNAL_FULL);
    assert_eq!(journal.scan(Table::Tokens, "more-").unwrap().len(), more);
    fs::remove_file(filler).unwrap();
    journal.commit(put("after")).await.unwrap();
    let seen = journal.scan(Table::Tokens, "").unwrap();
    drop(journal);
    assert_eq!(Journal::open(dir).unwrap().scan(Table::Tokens, "").unwrap(), seen);
}

#[test]
fn a_file_system_that_is_full_refuses_changes_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        [SCRIPT.as_ref(), "sh".as_ref(), dir.path().as_os_str(), std::env::current_exe().unwrap().as_os_str()].map(ToOwned::to_owned);
    let output = Command::new("unshare").args(["--mount", "--map-root-user", "sh", "-c"]).args(script).env(DIR, dir.path()).output();
    match output {
        Ok(output) if output.status.success() => assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed")),
        Ok(output) if output.status.code() == Some(101) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        refused => eprintln!("skipped: no file system may be mounted here: {refused:?}"),
    }
}
