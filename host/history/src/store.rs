//! The past of one owner: its log, the index of it, and what they answer.

use std::{borrow::Cow, path::Path};

use parking_lot::Mutex;
use rwasm_types::{
    Error, JobId, Result, Tenant,
    api::{JobRecord, UnixMs},
};

use crate::{
    index::{self, Change, Index},
    log::{Log, LogOptions},
    past::{self, Chunk, EndedJob, Past, PastCall, TASKS_PER_RECORD, TaskLine},
    segment::{self, Gap, HEADER_BYTES, LogKind, Origin, Position, Segment},
    ship::{self, PastBatch},
    view::View,
};

/// Bytes of a segment of the past: what is removed at once.
const SEGMENT_BYTES: u64 = 16 << 20;
/// How many jobs may end between two times that the index waits for the disk.
const DURABLE_EVERY: u32 = 256;

/// How long the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose last record is older are removed, in milliseconds.
    pub age_ms: u64,
    /// The oldest segments are removed while all have more bytes than this.
    pub bytes: u64,
}

/// The past of one owner.
#[derive(Debug)]
pub struct PastStore {
    log: Log,
    index: Index,
    retention: Retention,
    /// What could not be read when it was opened.
    gaps: Vec<Gap>,
    /// Jobs that ended since the index was last durable.
    since_durable: Mutex<u32>,
    /// Up to where the head has it, if there is one that wants it.
    shipped: Mutex<Option<Position>>,
}

impl PastStore {
    /// Opens an owner's past, reads what the index has not, and removes what is too old.
    ///
    /// # Errors
    ///
    /// As [`Log::open`].
    pub fn open(dir: &Path, origin: Origin, retention: Retention, now_ms: UnixMs) -> Result<Self> {
        debug_assert_eq!(origin.kind, LogKind::Past);
        let options = LogOptions { segment_bytes: SEGMENT_BYTES.min((retention.bytes / 4).max(64 << 10)), bytes_max: u64::MAX };
        let log = Log::open(dir, origin, options, now_ms)?;
        let index = Index::open(&dir.join("index.redb"))?;
        let mut store = Self { log, index, retention, gaps: Vec::new(), since_durable: Mutex::new(0), shipped: Mutex::new(None) };
        store.gaps = store.catch_up()?;
        Ok(store)
    }

    /// Reads into the index what it has not.
    fn catch_up(&self) -> Result<Vec<Gap>> {
        let owner = self.log.origin().owner;
        let from = self.index.read_to(owner)?;
        let mut gaps = Vec::new();
        for (number, _) in self.log.sealed() {
            let Some(segment) = Segment::open(self.log.dir(), number, self.log.origin())? else { continue };
            if number < from.segment {
                continue;
            }
            let mut changes = Vec::new();
            let mut records = segment.records(if number == from.segment { from.offset } else { 0 });
            for record in records.by_ref() {
                match Past::read(&record) {
                    Ok(past) => changes.extend(change(&past, record.at)),
                    // It was written whole, so those behind it can be trusted.
                    Err(error) => tracing::warn!(%error, "a record of the past is passed over"),
                }
            }
            changes.push(Change::Read { owner, to: records.end() });
            if let Some(gap) = records.gap() {
                tracing::warn!(dir = %self.log.dir().display(), %gap, "the past has a gap");
                gaps.push(gap.clone());
            }
            self.index.apply(&changes, true)?;
        }
        Ok(gaps)
    }

    /// What could not be read when it was opened.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// A job was opened.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn began(&self, record: &JobRecord, now_ms: UnixMs) -> Result<()> {
        let mut out = Vec::new();
        past::push_began(&mut out, record)?;
        let appended = self.log.append(&out, now_ms)?;
        let job = record.id;
        let began = Change::Began { tenant: record.tenant.clone(), job, at: appended.at };
        self.index.apply(&[began, Change::Read { owner: job.owner, to: end(appended.at, &out) }], appended.rolled)
    }

    /// A job ended. `lines` gives the lines of so many tasks from a number on; it is called until the last.
    ///
    /// # Errors
    ///
    /// If it cannot be written. What was written of it is then ignored by readers.
    pub fn ended(
        &self,
        record: JobRecord,
        calls: Vec<PastCall>,
        mut lines: impl FnMut(u64, usize) -> Vec<TaskLine>,
        now_ms: UnixMs,
    ) -> Result<()> {
        let job = record.id;
        let mut chunks = Vec::new();
        let mut first = 0;
        let mut out = Vec::new();
        // Small jobs are one append, large ones one for each record.
        while first < record.tasks.total() {
            let lines = lines(first, TASKS_PER_RECORD);
            if lines.is_empty() {
                return Err(Error::internal(format!("job {job} has fewer tasks than it counts")));
            }
            let taken = past::push_tasks(&mut out, job.session, first, &lines)?;
            let at = self.log.append(&out, now_ms)?.at;
            out.clear();
            chunks.push(Chunk { at, first, counts: past::count(&lines[..taken]) });
            first += taken as u64;
        }
        let ended = EndedJob { record, calls, chunks };
        past::push_ended(&mut out, &ended)?;
        let appended = self.log.append(&out, now_ms)?;
        let durable = {
            let mut since = self.since_durable.lock();
            *since += 1;
            let durable = appended.rolled || *since >= DURABLE_EVERY;
            *since = if durable { 0 } else { *since };
            durable
        };
        let changes = [index_end(&ended, appended.at), Change::Read { owner: job.owner, to: end(appended.at, &out) }];
        self.index.apply(&changes, durable)
    }

    /// Jobs that began and whose end was never written.
    ///
    /// # Errors
    ///
    /// If the index cannot be read; so for all others.
    pub fn open_jobs(&self) -> Result<Vec<(Tenant, JobId)>> {
        self.index.open_jobs(self.log.origin().owner)
    }

    /// Up to where records were written; a segment without any does not count.
    pub fn written(&self) -> Position {
        let end = self.log.end();
        if end.offset > HEADER_BYTES { end } else { Position { offset: 0, ..end } }
    }

    /// The head has what stands before this. From the first time on, segments that it has not got are kept for as long as there is room.
    pub fn shipped(&self, to: Position) {
        *self.shipped.lock() = Some(to);
    }

    /// Whether the head has everything, or there is none that wants it.
    pub fn shipped_all(&self) -> bool {
        let written = self.written();
        self.shipped.lock().is_none_or(|to| to >= written || written <= Position { segment: 1, offset: 0 })
    }

    /// Whole records from a position on, about so many bytes, for the head.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn batch(&self, from: Position, bytes_max: usize, now_ms: UnixMs) -> Result<PastBatch> {
        if from > self.log.end() {
            // What was here is gone, as after a restore; what is written from now on comes behind what the head has.
            self.log.advance(from.segment.saturating_add(1), now_ms)?;
        }
        let (sealed, end) = self.log.extent();
        ship::batch(self.log.dir(), self.log.origin(), &sealed, end, from, bytes_max)
    }

    /// What is answered of it.
    pub fn view(&self) -> View<'_> {
        View { index: &self.index, dir: Cow::Borrowed(self.log.dir()), origin: Cow::Borrowed(self.log.origin()) }
    }

    /// Removes the oldest segments that are too old or too much, as long as all their jobs have ended; gives the jobs that are forgotten.
    /// What the head wants and has not got goes for want of room only.
    ///
    /// # Errors
    ///
    /// If the index cannot be written.
    pub fn retain(&self, now_ms: UnixMs) -> Result<Vec<(Tenant, JobId)>> {
        let owner = self.log.origin().owner;
        let (sealed, shipped) = (self.log.sealed(), *self.shipped.lock());
        let mut bytes: u64 = sealed.iter().map(|(_, bytes)| bytes).sum();
        let mut forgotten = Vec::new();
        for (number, length) in sealed {
            let path = segment::path(self.log.dir(), number);
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            let modified = modified
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or(now_ms, |since| UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX));
            let old = now_ms.saturating_sub(modified) > self.retention.age_ms;
            let shipped = shipped.is_none_or(|to| to.segment > number);
            if !(old && shipped || bytes > self.retention.bytes) || self.index.holds_open(owner, number)? {
                break;
            }
            if !shipped {
                tracing::warn!(segment = number, "a part of the past is removed before the head has it: there is no room");
            }
            forgotten.extend(self.index.forget(owner, number)?);
            self.log.remove_through(number);
            bytes -= length;
        }
        Ok(forgotten)
    }
}

fn end(at: Position, appended: &[u8]) -> Position {
    Position { offset: at.offset + appended.len() as u64, ..at }
}

fn index_end(job: &EndedJob, at: Position) -> Change {
    let first = job.chunks.first().map_or(at.segment, |chunk| chunk.at.segment);
    index::ended(&job.record, at, first)
}

/// What a record changes in the index.
pub(crate) fn change(past: &Past, at: Position) -> Option<Change> {
    match past {
        Past::Began(record) => Some(Change::Began { tenant: record.tenant.clone(), job: record.id, at }),
        Past::Ended(job) => Some(index_end(job, at)),
        Past::Tasks { .. } => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use rwasm_types::{
        ArtifactDigest, Attempt, Code, JobState, NodeId, TaskState,
        api::TaskCounts,
        view::{JobsWanted, TasksWanted},
    };

    use super::*;
    use crate::view::{Found, Kept};

    pub(crate) const RETENTION: Retention = Retention { age_ms: u64::MAX, bytes: 1 << 30 };

    pub(crate) fn origin() -> Origin {
        Origin { kind: LogKind::Past, cluster: "c".into(), owner: NodeId::FIRST }
    }

    pub(crate) fn id(session: u32) -> JobId {
        JobId { owner: NodeId::FIRST, session }
    }

    pub(crate) fn record(session: u32, tasks: TaskCounts, state: JobState) -> JobRecord {
        JobRecord {
            id: id(session),
            parent: None,
            name: format!("job {session}"),
            tenant: Tenant::default(),
            state,
            tasks,
            detached: false,
            artifacts: vec![ArtifactDigest([1; 32])],
            submitted_ms: 1_000 + u64::from(session),
            ended_ms: state.is_final().then_some(2_000),
            error: None,
        }
    }

    fn line(sequence: u64) -> TaskLine {
        let failed = sequence % 10 == 3;
        TaskLine {
            state: if failed { TaskState::Failed } else { TaskState::Succeeded },
            call: 0,
            attempt: Attempt(1),
            node: Some(NodeId::FIRST),
            queued_ms: 1,
            started_ms: 2,
            ended_ms: 3,
            cpu_us: 4,
            error: failed.then(|| if sequence == 3 { Ok(Error::new(Code::TRAP, "whole")) } else { Err(Code::TRAP) }),
        }
    }

    pub(crate) fn end_job(store: &PastStore, session: u32, count: u64) {
        let failed = (0..count).filter(|sequence| sequence % 10 == 3).count() as u64;
        let counts = TaskCounts { succeeded: count - failed, failed, ..TaskCounts::default() };
        let calls = vec![PastCall { export: "add".into(), artifact: ArtifactDigest([1; 32]) }];
        let state = if failed > 0 { JobState::Failed } else { JobState::Succeeded };
        let lines = |first: u64, most: usize| (first..count).take(most).map(line).collect();
        store.ended(record(session, counts, state), calls, lines, 5).unwrap();
    }

    fn check(store: &PastStore, tenant: &Tenant) {
        let none = HashSet::new();
        let jobs = store.view().jobs(tenant, JobsWanted::newest(None), 10, &none).unwrap();
        assert_eq!((jobs.rows.iter().map(|job| job.id.session).collect::<Vec<_>>(), jobs.total), (vec![3, 2, 1], 3));
        let failed = store.view().jobs(tenant, JobsWanted::newest(Some(JobState::Failed)), 10, &none).unwrap();
        assert_eq!((failed.rows.len(), failed.total), (1, 1));
        assert_eq!(store.view().jobs(tenant, JobsWanted::newest(None), 1, &HashSet::from([id(3)])).unwrap().total, 2);
        let Kept::Ended(job) = store.view().job(tenant, id(1)).unwrap().unwrap() else { panic!("it ended") };
        let Found { rows, total, .. } = store.view().tasks_of(&job, TasksWanted::newest(Some(TaskState::Failed)), 3).unwrap();
        assert_eq!((rows.iter().map(|row| row.id.sequence).collect::<Vec<_>>(), total), (vec![9_993, 9_983, 9_973], 1_000));
        let whole = store.view().task_of(&job, 3).unwrap().unwrap();
        assert_eq!((whole.error.unwrap().message(), whole.export.as_str(), whole.queued_ms), ("whole", "add", 1_002));
        assert_eq!(store.view().task_of(&job, 5_000).unwrap().unwrap().id, id(1).task(5_000));
        assert_eq!(store.view().task_of(&job, 10_000).unwrap(), None);
        let Found { rows, total, .. } = store.view().tasks(tenant, TasksWanted::newest(None), 3, &none).unwrap();
        assert_eq!(
            (rows.iter().map(|row| row.id).collect::<Vec<_>>(), total),
            (vec![id(2).task(1), id(2).task(0), id(1).task(9_999)], 10_002)
        );
        assert_eq!(store.open_jobs().unwrap(), [(tenant.clone(), id(3))]);
        assert_eq!(store.view().job(&Tenant::new("other").unwrap(), id(1)).unwrap(), None);
    }

    #[test]
    fn what_ended_is_answered_also_after_a_restart_and_without_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = Tenant::default();
        let store = PastStore::open(dir.path(), origin(), RETENTION, 5).unwrap();
        for session in 1..=3 {
            store.began(&record(session, TaskCounts::default(), JobState::Running), 5).unwrap();
        }
        end_job(&store, 1, 10_000);
        end_job(&store, 2, 2);
        check(&store, &tenant);
        drop(store);
        check(&PastStore::open(dir.path(), origin(), RETENTION, 6).unwrap(), &tenant);
        std::fs::write(dir.path().join("index.redb"), "garbage").unwrap();
        check(&PastStore::open(dir.path(), origin(), RETENTION, 7).unwrap(), &tenant);
    }

    #[test]
    fn the_oldest_segments_go_first_and_none_with_a_job_that_has_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = Tenant::default();
        let store = PastStore::open(dir.path(), origin(), Retention { bytes: 300 << 10, ..RETENTION }, 5).unwrap();
        for session in 1..=40 {
            end_job(&store, session, 2_000);
        }
        let forgotten = store.retain(6).unwrap();
        assert!(forgotten.iter().any(|(_, job)| *job == id(1)) && forgotten.len() < 40, "{forgotten:?}");
        let total = store.view().jobs(&tenant, JobsWanted::newest(None), 0, &HashSet::new()).unwrap().total;
        let tasks = store.view().tasks(&tenant, TasksWanted::newest(None), 0, &HashSet::new()).unwrap().total;
        assert_eq!((total, tasks), (40 - forgotten.len() as u64, total * 2_000));
        assert_eq!(store.view().job(&tenant, id(1)).unwrap(), None);

        store.began(&record(99, TaskCounts::default(), JobState::Running), 5).unwrap();
        for session in 100..=140 {
            end_job(&store, session, 2_000);
        }
        let forgotten = store.retain(6).unwrap();
        assert!(!forgotten.contains(&(tenant.clone(), id(99))) && store.view().job(&tenant, id(99)).unwrap().is_some());
    }

    #[test]
    fn a_torn_tail_is_a_gap_and_what_stands_before_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = PastStore::open(dir.path(), origin(), RETENTION, 5).unwrap();
        end_job(&store, 1, 10);
        end_job(&store, 2, 10);
        drop(store);
        let path = segment::path(dir.path(), 1);
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        std::fs::remove_file(dir.path().join("index.redb")).unwrap();
        let store = PastStore::open(dir.path(), origin(), RETENTION, 6).unwrap();
        assert_eq!(store.gaps().len(), 1);
        let jobs = store.view().jobs(&Tenant::default(), JobsWanted::newest(None), 10, &HashSet::new()).unwrap().rows;
        assert_eq!(jobs.iter().map(|job| job.id.session).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_the_head_has_not_got_is_kept_until_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = PastStore::open(dir.path(), origin(), Retention { age_ms: 0, bytes: 300 << 10 }, 5).unwrap();
        store.shipped(Position::default());
        for session in 1..=8 {
            end_job(&store, session, 2_000);
        }
        let later = UnixMs::MAX;
        assert_eq!(store.retain(later).unwrap(), [], "it is old, and the head has not got it");
        assert!(!store.shipped_all());
        store.shipped(Position { segment: 2, offset: 0 });
        let forgotten = store.retain(later).unwrap();
        assert!(forgotten.iter().any(|(_, job)| *job == id(1)) && !forgotten.iter().any(|(_, job)| *job == id(8)), "{forgotten:?}");
        for session in 9..=60 {
            end_job(&store, session, 2_000);
        }
        assert!(store.retain(later).unwrap().len() > 10, "there is no room for more");
        store.shipped(store.written());
        assert!(store.shipped_all());
    }

    #[test]
    fn segments_are_numbered_without_holes_over_many_lives() {
        let dir = tempfile::tempdir().unwrap();
        for life in 1..=6 {
            let store = PastStore::open(dir.path(), origin(), RETENTION, 5).unwrap();
            if life % 2 == 0 {
                end_job(&store, life, 1);
            }
        }
        let store = PastStore::open(dir.path(), origin(), RETENTION, 5).unwrap();
        assert_eq!((segment::list(dir.path()).unwrap(), store.written()), (vec![1, 2, 3, 4], Position { segment: 4, offset: 0 }));
    }
}
