//! What it costs an owner to write work down before it takes effect: a batch of tasks as it is submitted, beside the bare write of as many
//! bytes. Neither waits for the disk: a killed process loses nothing, and the disk has it within 50 ms.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::Bytes;
use rwasm_history::{Log, LogKind, Origin, log::LogOptions, work::Batch};
use rwasm_runtime::now_ms;
use rwasm_types::{Code, Error, NodeId, Result};

use crate::timing::Suite;

/// The bare limit.
pub(crate) const BARE: &str = "work: bare write of 1,000 tasks' bytes";
const ROW: &str = "work: submit of 1,000 tasks written down";
const TASKS: usize = 1_000;
/// Bytes of a task's arguments: a few numbers or a short name.
const ARGS: &[u8] = &[7; 32];
/// Old segments go, as they do when their jobs are over.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 20, bytes_max: 1 << 30 };

fn batch(args: &[Bytes], first: u64) -> Result<Batch> {
    let mut batch = Batch::default();
    batch.submitted(1, 0, first, now_ms(), args)?;
    Ok(batch)
}

pub(crate) fn rows(suite: &mut Suite<'_>) -> Result<()> {
    if !suite.wants(BARE) && !suite.wants(ROW) {
        return Ok(());
    }
    let broken = |error: io::Error| Error::new(Code::IO, format!("the disk of the work's rows failed: {error}"));
    let dir = tempfile::tempdir().map_err(broken)?;
    let args = vec![Bytes::from_static(ARGS); TASKS];
    let bytes = batch(&args, 0)?.bytes().to_vec();
    let path = dir.path().join("bare");
    let (mut file, mut written) = (File::create(&path).map_err(broken)?, 0);
    suite.time(BARE, 1.0, || {
        if written > OPTIONS.segment_bytes {
            (file, written) = (File::create(&path).map_err(broken)?, 0);
        }
        written += bytes.len() as u64;
        file.write_all(&bytes).map_err(broken)
    })?;
    let origin = Origin { kind: LogKind::Work, cluster: "bench".to_owned(), owner: NodeId::FIRST };
    let log = Log::open(&dir.path().join("work"), origin, OPTIONS, now_ms())?;
    let mut first = 0;
    suite.time(ROW, 1.0, || {
        let appended = log.append(batch(&args, first)?.bytes(), now_ms())?;
        first += TASKS as u64;
        if appended.rolled {
            log.remove_through(appended.at.segment.saturating_sub(1));
        }
        Ok(())
    })
}
