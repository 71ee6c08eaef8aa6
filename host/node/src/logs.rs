//! What a job's tasks write, on disk: one file a job, written by one thread of the node, read by whoever follows.
//!
//! ```text
//! guest ─▶ JobLog::write (bounded) ─▶ log thread ─▶ output.log ─▶ LogReader ─▶ driver
//! ```
//!
//! Everyone reads from the file, live or later, so a slow reader holds up nobody and nothing is kept in memory for it. Only the disk can
//! hold up guests. A frame is a fixed header and the bytes:
//!
//! ```text
//! u32 length of bytes | u8 stream | u32 attempt | u64 sequence | u64 milliseconds since 1970 | bytes          (little-endian)
//! ```

mod frames;
pub(crate) mod outputs;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rwasm_engine::Output;
use rwasm_types::{Attempt, Code, Error, Result, Stream, Tenant};
use rwasm_wire::msg;
use tokio::sync::Notify;

use self::frames::Written;

const HEADER_BYTES: usize = 4 + 1 + 4 + 8 + 8;
/// Bytes of one job that wait for the disk.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Bytes that a reader takes at once.
const READ_BYTES: usize = 256 << 10;
/// The most bytes of a frame; longer output becomes several.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// The thread that writes all logs of a node.
pub(crate) struct LogThread {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    dirty: VecDeque<Arc<JobLog>>,
    stopping: bool,
}

impl LogThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the machine gives no more threads.
    pub(crate) fn start() -> Result<Self> {
        let queue = Arc::<Queue>::default();
        let thread = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn({
                let queue = Arc::clone(&queue);
                move || write_all_logs(&queue)
            })
            .map_err(|error| Error::new(Code::NO_CAPACITY, format!("the log thread does not start: {error}")))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// A job's log in a new file; at most `bytes_max` of output are kept.
    pub(crate) fn open(&self, tenant: &Tenant, path: PathBuf, bytes_max: u64) -> Arc<JobLog> {
        self.with(tenant, path, bytes_max, Written::default(), LogState::default())
    }

    /// A job's log that an earlier life of the node began. What was being written when it ended is cut off, so that what follows is whole.
    /// What is in the file of attempts elsewhere may be said again.
    pub(crate) fn reopen(&self, tenant: &Tenant, path: PathBuf, bytes_max: u64, elsewhere: impl Fn(u64, Attempt) -> bool) -> Arc<JobLog> {
        let (written, before) = frames::whole(&path, elsewhere).unwrap_or_default();
        let cut = fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(written));
        if let Err(error) = cut.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }) {
            tracing::error!(%tenant, path = %path.display(), %error, "a job's output cannot be gone on with");
        }
        self.with(tenant, path, bytes_max, before, LogState { accepted: written, written, ..LogState::default() })
    }

    /// The log of a job that has ended, to be read.
    pub(crate) fn ended(&self, tenant: &Tenant, path: PathBuf) -> Arc<JobLog> {
        let (written, none) = frames::whole(&path, |_, _| false).unwrap_or_default();
        self.with(tenant, path, 0, none, LogState { accepted: written, written, closed: true, ..LogState::default() })
    }

    fn with(&self, tenant: &Tenant, path: PathBuf, bytes_max: u64, before: Written, state: LogState) -> Arc<JobLog> {
        Arc::new(JobLog {
            tenant: tenant.clone(),
            path,
            bytes_max,
            before,
            queue: Arc::clone(&self.queue),
            state: Mutex::new(state),
            grown: Notify::new(),
        })
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.queue.state.lock().stopping = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all_logs(queue: &Queue) {
    loop {
        let log = {
            let mut state = queue.state.lock();
            while state.dirty.is_empty() && !state.stopping {
                queue.changed.wait(&mut state);
            }
            state.dirty.pop_front()
        };
        match log {
            Some(log) => log.write_pending(),
            None => return,
        }
    }
}

/// The output of one job.
pub(crate) struct JobLog {
    /// Whose it is.
    tenant: Tenant,
    path: PathBuf,
    bytes_max: u64,
    /// What an earlier life of the node had written of attempts elsewhere.
    before: Written,
    queue: Arc<Queue>,
    state: Mutex<LogState>,
    /// Told when there is more to read, or no more to come.
    grown: Notify,
}

#[derive(Default)]
struct LogState {
    /// Frames that wait for the disk.
    pending: Vec<u8>,
    /// Bytes that were ever taken: those in the file, on their way there, and pending.
    accepted: u64,
    /// Whether the log is in the thread's queue.
    dirty: bool,
    /// Whether the thread is writing what was pending.
    writing: bool,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// Nothing more comes.
    closed: bool,
    /// Output beyond the limit, or that the disk did not take, was dropped.
    cut: bool,
    /// It was kept for long enough and is gone.
    expired: bool,
    /// What was on disk is gone, and nothing is to be there again.
    removed: bool,
    waiting: Vec<Waker>,
}

impl JobLog {
    /// Where an attempt's output goes.
    pub(crate) fn writer(self: &Arc<Self>, sequence: u64, attempt: Attempt) -> Arc<dyn Output> {
        Arc::new(Writer { log: Arc::clone(self), sequence, attempt })
    }

    /// Adds output.
    pub(crate) fn write(self: &Arc<Self>, sequence: u64, attempt: Attempt, stream: Stream, bytes: &[u8]) {
        let mut state = self.state.lock();
        if state.closed || state.cut || state.removed {
            return;
        }
        let before = state.pending.len();
        if state.accepted + bytes.len() as u64 > self.bytes_max {
            state.cut = true;
            let note = format!(
                "\nrwasm: the job's output reached its limit of {}; the rest is dropped\n",
                rwasm_types::format_bytes(self.bytes_max)
            );
            frames::push(&mut state.pending, sequence, attempt, Stream::Stderr, note.as_bytes());
        } else {
            for bytes in bytes.chunks(FRAME_BYTES_MAX) {
                frames::push(&mut state.pending, sequence, attempt, stream, bytes);
            }
        }
        state.accepted += (state.pending.len() - before) as u64;
        if !state.dirty {
            state.dirty = true;
            drop(state);
            self.queue.state.lock().dirty.push_back(Arc::clone(self));
            self.queue.changed.notify_one();
        }
    }

    /// What of an attempt's output, which begins at an offset of the stream, an earlier life of the node had not written.
    pub(crate) fn unwritten<'a>(&self, sequence: u64, attempt: Attempt, stream: Stream, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        self.before.rest(sequence, attempt, stream, offset, bytes)
    }

    /// Waits until all that was added so far is in the file, or will never be.
    pub(crate) async fn settled(&self) {
        let accepted = self.state.lock().accepted;
        loop {
            let grown = self.grown.notified();
            if self.state.lock().has_written(accepted) {
                return;
            }
            grown.await;
        }
    }

    /// How many bytes may be written without waiting for the disk.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.state.lock();
        let room = PENDING_BYTES_MAX.saturating_sub(state.pending.len());
        if room > 0 {
            return Poll::Ready(room);
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        std::future::poll_fn(|cx| self.poll_room(cx)).await;
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.close_file();
        drop(state);
        self.grown.notify_waiters();
    }

    /// Bytes on disk.
    pub(crate) fn written(&self) -> u64 {
        self.state.lock().written
    }

    /// Removes what is on disk, of a job that nobody can ask for any more. Whoever reads it now has it open, and reads on; what still comes is
    /// dropped.
    pub(crate) fn remove(&self) {
        self.state.lock().removed = true;
        self.remove_dir();
    }

    fn remove_dir(&self) {
        let Some(dir) = self.path.parent() else { return };
        if let Err(error) =
            fs::remove_dir_all(dir).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            tracing::warn!(tenant = %self.tenant, path = %dir.display(), %error, "a job's output cannot be removed");
        }
    }

    /// Removes what is on disk, of a job that ended long ago; whoever asks for it is told so.
    pub(crate) fn expire(&self) {
        {
            let mut state = self.state.lock();
            state.expired = true;
            state.written = 0;
        }
        self.remove();
    }

    fn write_pending(&self) {
        let (pending, file) = {
            let mut state = self.state.lock();
            state.dirty = false;
            state.writing = true;
            (std::mem::take(&mut state.pending), state.file.take())
        };
        let removed = self.state.lock().removed && file.is_none();
        let written = match removed {
            true => Err(io::ErrorKind::NotFound.into()),
            false => file.map_or_else(|| create(&self.path), Ok).and_then(|mut file| file.write_all(&pending).map(|()| file)),
        };
        let mut state = self.state.lock();
        state.writing = false;
        match written {
            Ok(file) => {
                state.file = Some(file);
                state.written += pending.len() as u64;
                state.close_file();
            }
            Err(error) => {
                if !state.cut && !state.removed {
                    tracing::error!(tenant = %self.tenant, path = %self.path.display(), %error, "a job's output cannot be written and is dropped");
                }
                // A frame may be in the file in part; nothing is read beyond `written`.
                state.cut = true;
            }
        }
        let waiting = std::mem::take(&mut state.waiting);
        let removed = state.removed;
        drop(state);
        if removed {
            // It may have been made anew between the look and the write.
            self.remove_dir();
        }
        waiting.into_iter().for_each(Waker::wake);
        self.grown.notify_waiters();
    }

    /// What can be read now, and whether that is all that will ever be.
    fn progress(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.written, state.closed && state.is_written())
    }
}

impl LogState {
    /// Closes the file when nothing more is written: jobs stay known for long, and descriptors are few.
    fn close_file(&mut self) {
        if self.closed && self.is_written() {
            self.file = None;
        }
    }

    /// Whether all that was taken by then is in the file, or will never be.
    fn has_written(&self, accepted: u64) -> bool {
        self.written >= accepted || self.removed || (self.cut && self.is_written())
    }

    /// Whether nothing is on its way to the file.
    fn is_written(&self) -> bool {
        self.pending.is_empty() && !self.dirty && !self.writing
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path)
}

struct Writer {
    log: Arc<JobLog>,
    sequence: u64,
    attempt: Attempt,
}

impl Output for Writer {
    fn write(&self, stream: Stream, bytes: Bytes) {
        self.log.write(self.sequence, self.attempt, stream, &bytes);
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.log.poll_room(cx)
    }
}

/// Reads a job's output from the beginning, and waits for more.
pub(crate) struct LogReader {
    log: Arc<JobLog>,
    file: Option<File>,
    offset: u64,
    /// Only this task's.
    only: Option<u64>,
    /// Frames to be passed over.
    skip: u64,
}

impl LogReader {
    pub(crate) fn new(log: &Arc<JobLog>, only: Option<u64>) -> Self {
        Self { log: Arc::clone(log), file: None, offset: 0, only, skip: 0 }
    }

    /// Passes over so many frames, which the reader has already.
    pub(crate) fn after(log: &Arc<JobLog>, skip: u64) -> Self {
        Self { skip, ..Self::new(log, None) }
    }

    /// The next frames that are there; none where all that is there was read.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged.
    pub(crate) fn read(&mut self) -> Result<Vec<msg::Output>> {
        if self.file.is_none() && self.log.state.lock().expired {
            return Err(Error::new(Code::OUTPUT_GONE, "the job's output was kept for some time after its end, and is gone")
                .hint("start nodes with a larger --output-age to keep it longer"));
        }
        let (written, _) = self.log.progress();
        let mut outputs = Vec::new();
        while outputs.is_empty() && self.offset < written {
            let chunk = self.chunk(written)?;
            self.parse(&chunk, &mut outputs)?;
        }
        Ok(outputs)
    }

    /// Waits for more; `false` when there will never be more.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            let grown = self.log.grown.notified();
            match self.log.progress() {
                (written, _) if self.offset < written => return true,
                (_, true) => return false,
                _ => grown.await,
            }
        }
    }

    fn chunk(&mut self, written: u64) -> Result<Bytes> {
        let unreadable = |error: io::Error| Error::new(Code::IO, format!("the job's output cannot be read: {error}"));
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.log.path).map_err(unreadable)?),
        };
        let mut length = READ_BYTES.min(usize::try_from(written - self.offset).unwrap_or(READ_BYTES));
        let mut header = [0; 4];
        file.read_exact_at(&mut header, self.offset).map_err(unreadable)?;
        let first = HEADER_BYTES + u32::from_le_bytes(header) as usize;
        if first > HEADER_BYTES + FRAME_BYTES_MAX {
            return Err(Error::new(Code::IO, "the job's output is damaged").with("path", self.log.path.display()));
        }
        length = length.max(first);
        let mut chunk = vec![0; length];
        file.read_exact_at(&mut chunk, self.offset).map_err(unreadable)?;
        Ok(chunk.into())
    }

    /// Takes whole frames off a chunk.
    fn parse(&mut self, chunk: &Bytes, outputs: &mut Vec<msg::Output>) -> Result<()> {
        let mut at = 0;
        while let Some(header) = chunk.get(at..at + HEADER_BYTES) {
            let word = |from: usize| header.get(from..from + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
            let length = word(0) as usize;
            let Some(end) = Some(at + HEADER_BYTES + length).filter(|end| *end <= chunk.len()) else { break };
            let sequence = u64::from(word(9)) | u64::from(word(13)) << 32;
            if self.skip > 0 {
                self.skip -= 1;
            } else if self.only.is_none_or(|only| only == sequence) {
                let stream = if header[4] == 1 { msg::Stream::Stdout } else { msg::Stream::Stderr };
                let bytes = chunk.slice(at + HEADER_BYTES..end);
                outputs.push(msg::Output { sequence, attempt: word(5), stream: stream.into(), bytes, offset: 0 });
            }
            at = end;
        }
        self.offset += at as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(outputs: Vec<msg::Output>) -> Vec<(u64, String)> {
        outputs.into_iter().map(|output| (output.sequence, String::from_utf8(output.bytes.to_vec()).unwrap())).collect()
    }

    async fn all(log: &Arc<JobLog>, only: Option<u64>) -> Vec<(u64, String)> {
        let mut reader = LogReader::new(log, only);
        let mut seen = Vec::new();
        while reader.wait().await {
            seen.extend(texts(reader.read().unwrap()));
        }
        seen
    }

    #[tokio::test]
    async fn what_is_written_is_read_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let thread = LogThread::start().unwrap();
        let log = thread.open(&Tenant::default(), dir.path().join("deep/output.log"), 1 << 30);
        let large = "x".repeat(READ_BYTES + 7);
        for text in ["a", &large, "b"] {
            log.write(3, Attempt(1), Stream::Stdout, text.as_bytes());
            log.write(4, Attempt(2), Stream::Stderr, b"!");
        }
        log.close();
        assert_eq!(all(&log, Some(3)).await, [(3, "a".into()), (3, large), (3, "b".into())]);
        assert_eq!(all(&log, Some(4)).await.len(), 3);
    }

    #[tokio::test]
    async fn output_beyond_the_limit_is_cut_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let thread = LogThread::start().unwrap();
        let log = thread.open(&Tenant::default(), dir.path().join("output.log"), 100);
        for _ in 0..10 {
            log.write(0, Attempt(1), Stream::Stdout, &[b'y'; 30]);
        }
        log.close();
        // In how many pieces it is read depends on how fast it was written.
        let text: String = all(&log, None).await.into_iter().map(|(_, text)| text).collect();
        let (kept, note) = text.split_once('\n').unwrap();
        assert_eq!(kept, "y".repeat(60));
        assert!(note.contains("reached its limit of 100B"));
    }

    #[tokio::test]
    async fn output_that_is_too_old_is_gone_and_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let thread = LogThread::start().unwrap();
        let log = thread.open(&Tenant::default(), dir.path().join("j1-1/output.log"), 1 << 30);
        log.write(0, Attempt(1), Stream::Stdout, b"old");
        log.close();
        assert_eq!(all(&log, None).await.len(), 1);
        log.expire();
        assert_eq!((fs::read_dir(dir.path()).unwrap().count(), log.written()), (0, 0));
        assert_eq!(LogReader::new(&log, None).read().unwrap_err().code(), Code::OUTPUT_GONE);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_holds_up_nobody() {
        let thread = LogThread::start().unwrap();
        let log = thread.open(&Tenant::default(), PathBuf::from("/dev/null/output.log"), 1 << 30);
        log.write(0, Attempt(1), Stream::Stdout, b"lost");
        log.close();
        assert!(all(&log, None).await.is_empty());
        log.room().await;
    }
}
