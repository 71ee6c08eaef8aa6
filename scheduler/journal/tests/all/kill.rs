//! A process that is killed while it commits: whatever it was told is there afterwards.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use rwasm_journal::{Change, Journal, Snapshot, Table};

/// Names the directory of a child.
const DIR: &str = "RWASM_TEST_JOURNAL_DIR";

/// The child: commits numbers, each with the same one in a second table, and tells those that were acknowledged.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let journal = Journal::open(Path::new(&dir)).unwrap();
    let begin = journal.scan(Table::Keys, "").unwrap().len();
    for n in begin.. {
        let put = |table| Change::Put { table, key: format!("{n:08}"), value: vec![b'x'; n % 5000] };
        journal.commit(vec![put(Table::Keys), put(Table::Tags)]).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let number = |line: String| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<usize>().ok());
        acknowledged = lines.by_ref().filter_map(number).nth(7 * round).expect("the child commits");
        // Read beside it, and never in the middle of a commit.
        let beside = Snapshot::read(dir.path()).unwrap();
        assert!(beside.records(Table::Keys) > acknowledged);
        assert_eq!(beside.records(Table::Keys), beside.records(Table::Tags));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed, and nobody had read yet.
        acknowledged = lines.filter_map(number).last().unwrap_or(acknowledged);
        let journal = Journal::open(dir.path()).unwrap();
        let keys = journal.scan(Table::Keys, "").unwrap();
        assert!(keys.len() > acknowledged, "{acknowledged} was acknowledged, and {} are there", keys.len());
        assert_eq!(keys, journal.scan(Table::Tags, "").unwrap(), "a commit is there whole");
        assert!(keys.iter().enumerate().all(|(n, (key, value))| *key == format!("{n:08}") && value.len() == n % 5000));
    }
    assert!(acknowledged > 35);
}
