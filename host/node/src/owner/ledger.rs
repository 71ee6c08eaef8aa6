//! What this owner writes down: unfinished work before its effect, and the past of jobs that ended.
//!
//! ```text
//! Job ── records ──▶ work log                        before the effect, on the thread that has it
//!  │
//!  └─ began, ended, released ──▶ archive thread ──▶ past, and the job's work is let go
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use rwasm_history::{
    Log, LogKind, Origin, PastStore, Retention,
    log::LogOptions,
    segment::{self, Segment},
    work::{self, Batch, Opened, Outcome, Work},
};
use rwasm_runtime::{create_private_dir, now_ms};
use rwasm_types::{Code, Error, JobId, NodeId, Result, SessionId};
use tokio::sync::Notify;

use super::job::Job;
use crate::logs::outputs;

/// Where the logs are below the state directory.
const WORK_DIR: &str = "work";
const PAST_DIR: &str = "past";
/// Bytes of a segment of unfinished work, and of all of them together.
const WORK_SEGMENT_BYTES: u64 = 64 << 20;
const WORK_BYTES_MAX: u64 = 16 << 30;
/// How many jobs may end between two looks at what is too old or too much.
const RETAIN_EVERY: u32 = 64;

/// An owner's logs.
pub(crate) struct Ledger {
    core: Arc<Core>,
    notes: Mutex<Option<mpsc::Sender<Note>>>,
    archivist: Mutex<Option<JoinHandle<()>>>,
}

struct Core {
    work: Log,
    /// Jobs of which something is still needed, and the segment that each began in.
    open: Mutex<BTreeMap<SessionId, u64>>,
    past: PastStore,
    /// Where jobs' output is, and how much of it is kept.
    outputs: outputs::Kept,
    /// Told when something was added to the past.
    written: Notify,
    /// Whether the last append failed, so that it is said once.
    failing: AtomicBool,
}

/// What the archive thread is told.
enum Note {
    Began(Arc<Job>),
    Ended(Arc<Job>),
    /// The job's driver has everything, or nobody will ask.
    Released(Arc<Job>),
    /// Look at what is not needed.
    Sweep,
}

impl Ledger {
    /// Moves what is below a state directory out of the way of the number that its node has now: the jobs are those of the number that it
    /// had before.
    ///
    /// # Errors
    ///
    /// [`Code::IO`] if it cannot be moved.
    pub(crate) fn set_aside(state_dir: &Path, former: NodeId) -> Result<()> {
        let aside = state_dir.join(format!("former-{former}"));
        let failed = |error| Error::new(Code::IO, format!("cannot use {}: {error}", aside.display()));
        create_private_dir(&aside).map_err(failed)?;
        for name in [WORK_DIR, PAST_DIR] {
            match fs::rename(state_dir.join(name), aside.join(name)) {
                Ok(()) => {
                    tracing::warn!(%former, dir = %aside.join(name).display(), "the node has another number; its jobs of before are kept here")
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Opens the logs of a node below its state directory.
    ///
    /// # Errors
    ///
    /// As [`Log::open`].
    pub(crate) fn open(state_dir: &Path, cluster: &str, owner: NodeId, retention: Retention, outputs: outputs::Kept) -> Result<Self> {
        let origin = |kind| Origin { kind, cluster: cluster.to_owned(), owner };
        let options = LogOptions { segment_bytes: WORK_SEGMENT_BYTES, bytes_max: WORK_BYTES_MAX };
        let work = Log::open(&state_dir.join(WORK_DIR), origin(LogKind::Work), options, now_ms())?;
        let past = PastStore::open(&state_dir.join(PAST_DIR), origin(LogKind::Past), retention, now_ms())?;
        let core = Arc::new(Core { work, open: Mutex::default(), past, outputs, written: Notify::new(), failing: AtomicBool::new(false) });
        // As many notes wait as jobs change, and each is small.
        let (notes, waiting) = mpsc::channel();
        let archivist = thread::Builder::new()
            .name("archivist".to_owned())
            .spawn({
                let core = Arc::clone(&core);
                move || core.archive(&waiting)
            })
            .map_err(|error| Error::new(Code::NO_CAPACITY, format!("the archive's thread does not start: {error}")))?;
        Ok(Self { core, notes: Mutex::new(Some(notes)), archivist: Mutex::new(Some(archivist)) })
    }

    /// What is kept of jobs that ended.
    pub(crate) fn past(&self) -> &PastStore {
        &self.core.past
    }

    /// Told when something was added to the past.
    pub(crate) fn written(&self) -> &Notify {
        &self.core.written
    }

    /// Appends records of one job that must be there before their effect.
    ///
    /// # Errors
    ///
    /// If they cannot be written; nothing of them is there then.
    pub(crate) fn append(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) -> Result<()> {
        self.core.append(fill).map(drop)
    }

    /// Appends records whose effect happens in any case: an attempt that ended has ended. Without them, a kill repeats work.
    ///
    /// Gives whether they are there.
    pub(crate) fn note(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) -> bool {
        let noted = self.append(fill);
        if let Err(error) = &noted
            && !self.core.failing.swap(true, Relaxed)
        {
            tracing::error!(%error, "work cannot be written down; if this process is killed now, some of it is done twice");
        }
        noted.is_ok()
    }

    /// Appends that a job was opened. From now on its records are kept until it is released.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn opened(&self, opened: &Opened) -> Result<()> {
        // Held over the append, so that nobody removes the segment in between.
        let mut open = self.core.open.lock();
        let at = self.core.append(|batch| batch.opened(opened))?;
        open.insert(opened.session, at);
        Ok(())
    }

    /// A job of an earlier life is kept from its segment on.
    pub(crate) fn restored(&self, session: SessionId, segment: u64) {
        self.core.open.lock().insert(session, segment);
    }

    /// All that earlier lives wrote down and that can be read, in order; with the segment that each record is in.
    ///
    /// # Errors
    ///
    /// If a file cannot be read at all.
    pub(crate) fn replay(&self, mut each: impl FnMut(u64, Work)) -> Result<()> {
        let work = &self.core.work;
        for (number, _) in work.sealed() {
            let Some(segment) = Segment::open(work.dir(), number, work.origin())? else { continue };
            let mut records = segment.records(0);
            for record in records.by_ref() {
                match Work::read(&record) {
                    Ok(work) => each(number, work),
                    Err(error) => tracing::error!(at = ?record.at, %error, "a record of unfinished work is passed over"),
                }
            }
            if let Some(gap) = records.gap() {
                tracing::warn!(dir = %work.dir().display(), %gap, "what was being written when the process ended is not there");
            }
        }
        Ok(())
    }

    /// The segments in which records of a job may be, in their order.
    pub(crate) fn segments_of(&self, session: SessionId) -> Vec<u64> {
        let first = self.core.open.lock().get(&session).copied();
        let all = segment::list(self.core.work.dir()).unwrap_or_default();
        all.into_iter().filter(|number| first.is_some_and(|first| *number >= first)).collect()
    }

    /// Reads how attempts of a job ended, from one segment.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn outcomes(&self, session: SessionId, number: u64) -> Result<Vec<Outcome>> {
        let work = &self.core.work;
        let Some(segment) = Segment::open(work.dir(), number, work.origin())? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for record in segment.records(0).filter(|record| work::is_ended_of(record, session)) {
            if let Work::Ended { outcomes, .. } = Work::read(&record)? {
                all.extend(outcomes);
            }
        }
        Ok(all)
    }

    /// Has the archive thread remove what no job needs any more, and what is too old or too much.
    pub(crate) fn sweep(&self) {
        self.tell(Note::Sweep);
    }

    pub(crate) fn job_began(&self, job: &Arc<Job>) {
        self.tell(Note::Began(Arc::clone(job)));
    }

    pub(crate) fn job_ended(&self, job: &Arc<Job>) {
        self.tell(Note::Ended(Arc::clone(job)));
    }

    /// Nobody asks for a job's results any more.
    pub(crate) fn job_released(&self, job: &Arc<Job>) {
        self.tell(Note::Released(Arc::clone(job)));
    }

    fn tell(&self, note: Note) {
        if let Some(notes) = &*self.notes.lock() {
            // The thread ends with the ledger only.
            let _ = notes.send(note);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Without a sender, the thread ends when it has done what it was told.
        self.notes.lock().take();
        if let Some(archivist) = self.archivist.lock().take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = archivist.join();
        }
    }
}

impl Core {
    /// Appends; gives the segment.
    fn append(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) -> Result<u64> {
        let mut batch = Batch::default();
        fill(&mut batch)?;
        let appended = self.work.append(batch.bytes(), now_ms())?;
        self.failing.store(false, Relaxed);
        if appended.rolled {
            self.reclaim();
        }
        Ok(appended.at.segment)
    }

    /// Removes the segments that are older than all that is needed.
    fn reclaim(&self) {
        // One that is being opened has the lock, and looks after itself.
        let Some(open) = self.open.try_lock() else { return };
        let needed = open.values().min().copied().unwrap_or(u64::MAX);
        self.work.remove_through(needed.saturating_sub(1));
    }

    fn archive(&self, waiting: &mpsc::Receiver<Note>) {
        let mut ended = 0_u32;
        // Jobs whose past could not be written, for want of space perhaps: tried again with the next.
        let mut unkept: Vec<Arc<Job>> = Vec::new();
        while let Ok(note) = waiting.recv() {
            match note {
                Note::Began(job) => {
                    if let Err(error) = self.begin(&job) {
                        tracing::warn!(tenant = %job.tenant, job = %job.id, %error, "it cannot be written that a job began");
                    }
                }
                Note::Ended(job) => {
                    ended += 1;
                    unkept.push(job);
                    unkept.retain(|job| match self.keep(job) {
                        Ok(()) => {
                            self.close(job);
                            false
                        }
                        Err(error) => {
                            tracing::error!(tenant = %job.tenant, job = %job.id, %error, "a job's past cannot be written");
                            true
                        }
                    });
                }
                Note::Released(job) => {
                    job.set_released();
                    self.close(&job);
                }
                Note::Sweep => {
                    self.reclaim();
                    self.retain();
                }
            }
            if ended >= RETAIN_EVERY {
                ended = 0;
                self.retain();
            }
        }
    }

    /// Lets go of what was written of a job's work, if its past is kept and nobody asks for its results any more.
    fn close(&self, job: &Job) {
        if job.is_archived() && job.is_released() && self.open.lock().remove(&job.id.session).is_some() {
            if let Err(error) = self.append(|batch| batch.closed(job.id.session)) {
                tracing::warn!(tenant = %job.tenant, job = %job.id, %error, "it cannot be written down that a job is over");
            }
            self.reclaim();
        }
    }

    /// Writes that a job began, unless it ended meanwhile or an earlier life wrote it.
    fn begin(&self, job: &Arc<Job>) -> Result<()> {
        if job.has_ended() || self.past.view().knows(&job.tenant, job.id)? {
            return Ok(());
        }
        self.past.began(&job.record(), now_ms())?;
        self.written.notify_one();
        Ok(())
    }

    /// Writes the past of a job that ended.
    fn keep(&self, job: &Arc<Job>) -> Result<()> {
        let known = self.past.view().job(&job.tenant, job.id)?;
        if !matches!(known, Some(rwasm_history::Kept::Ended(_))) {
            self.past.ended(job.record(), job.past_calls(), |first, count| job.past_lines(first, count), now_ms())?;
            self.written.notify_one();
        }
        job.set_archived();
        Ok(())
    }

    fn retain(&self) {
        match self.past.retain(now_ms()) {
            Ok(forgotten) => forgotten.iter().for_each(|(tenant, job)| self.outputs.remove(tenant, *job)),
            Err(error) => tracing::error!(%error, "the past cannot be cut to what is kept"),
        }
        // Looked at anew for each: jobs are opened meanwhile.
        let goes_on = |job: JobId| self.open.lock().contains_key(&job.session);
        self.outputs.sweep(|tenant, job| goes_on(job) || self.past.view().knows(tenant, job).unwrap_or(true), goes_on);
    }
}
