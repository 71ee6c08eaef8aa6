//! The head's journal: what writing something down costs before it takes effect, beside the bare limit of the same disk.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use rwasm_journal::{CHANGES_MAX, Change, Journal, Table};
use rwasm_types::{Code, Error, Result};

use crate::timing::Suite;

/// The bare limit of the disk.
pub(crate) const BARE: &str = "journal: bare write of 4 KiB and sync";
const OPEN: &str = "journal: open with 20,000 records";
/// Commits that come at the same time.
const TOGETHER: usize = 64;
/// Records of a large cluster, for opening.
const RECORDS: usize = 20_000;
/// About what a node's record has.
const RECORD_BYTES: usize = 100;

fn put(n: usize) -> Change {
    Change::Put { table: Table::Nodes, key: format!("{n:010}"), value: vec![b'x'; RECORD_BYTES] }
}

pub(crate) async fn rows(suite: &mut Suite<'_>) -> Result<()> {
    let broken = |error: io::Error| Error::new(Code::IO, format!("the disk of the journal's rows failed: {error}"));
    let dir = tempfile::tempdir().map_err(broken)?;
    let file = File::create(dir.path().join("bare")).map_err(broken)?;
    suite.time(BARE, 1.0, || file.write_all_at(&[7; 4096], 0).and_then(|()| file.sync_data()).map_err(broken))?;
    let journal = Journal::open(dir.path())?;
    suite.time_async("journal: commit, one at a time", 1.0, || journal.commit(vec![put(0)])).await?;
    let together = TOGETHER as f64;
    suite
        .time_async("journal: commits, 64 at once", together, || async {
            let commits = (0..TOGETHER).map(|n| journal.commit(vec![put(n)]));
            futures_util::future::try_join_all(commits).await.map(drop)
        })
        .await?;
    if !suite.wants(OPEN) {
        return Ok(());
    }
    let all: Vec<Change> = (0..RECORDS).map(put).collect();
    for changes in all.chunks(CHANGES_MAX) {
        journal.commit(changes.to_vec()).await?;
    }
    drop(journal);
    suite.time(OPEN, 1.0, || open(dir.path()))
}

/// What a head does first when it starts.
fn open(dir: &Path) -> Result<()> {
    match Journal::open(dir)?.scan(Table::Nodes, "")?.len() {
        RECORDS => Ok(()),
        found => Err(Error::internal(format!("the journal has {found} records, not {RECORDS}"))),
    }
}
