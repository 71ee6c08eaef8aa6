//! What the head has of an owner, whoever dies when.

use std::collections::HashSet;

use proptest::prelude::*;
use rwasm_types::{
    Code, JobState, Tenant,
    api::{JobRecord, TaskCounts},
    view::{JobsWanted, Span, TaskPage, TasksWanted},
};

use super::*;
use crate::{
    Found, PastStore,
    segment::HEADER_BYTES,
    store::tests::{RETENTION, end_job, id, origin, record},
};

/// An owner and a head, on a disk.
struct Pair {
    dir: tempfile::TempDir,
    owner: Option<PastStore>,
    head: Option<Shipped>,
}

const OWNER: NodeId = NodeId::FIRST;

fn everybody(_: NodeId) -> bool {
    true
}

fn nobody(_: NodeId) -> bool {
    false
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { dir: tempfile::tempdir().unwrap(), owner: None, head: None };
        pair.open_owner(RETENTION);
        pair.open_head(RETENTION);
        pair
    }

    fn open_owner(&mut self, retention: Retention) {
        self.owner = None;
        self.owner = Some(PastStore::open(&self.dir.path().join("past"), origin(), retention, 5).unwrap());
        self.owner().shipped(Position::default());
    }

    fn open_head(&mut self, retention: Retention) {
        self.head = None;
        self.head = Some(Shipped::open(&self.shipped(), "c", retention).unwrap());
    }

    fn shipped(&self) -> PathBuf {
        self.dir.path().join("shipped")
    }

    fn owner(&self) -> &PastStore {
        self.owner.as_ref().unwrap()
    }

    fn head(&self) -> &Shipped {
        self.head.as_ref().unwrap()
    }

    fn next(&self, bytes: usize) -> PastBatch {
        self.owner().batch(self.head().had(OWNER), bytes, 5).unwrap()
    }

    fn pull(&self, bytes: usize) -> Position {
        let had = self.head().accept(OWNER, &self.next(bytes), &everybody, 7_000).unwrap();
        assert_eq!(had, self.head().had(OWNER));
        self.owner().shipped(had);
        had
    }

    fn pull_all(&self, bytes: usize) {
        let mut had = self.head().had(OWNER);
        while had < self.owner().written() {
            let now = self.pull(bytes);
            assert!(now > had, "{now} after {had}");
            had = now;
        }
    }

    fn jobs(&self, limit: usize) -> Found<JobRecord> {
        self.head().jobs(&Tenant::default(), JobsWanted::newest(None), limit, &[absent(None)]).unwrap()
    }

    /// The head answers as the owner does.
    fn agree(&self) {
        let tenant = Tenant::default();
        let (none, there) = (HashSet::new(), [absent(None)]);
        let jobs = self.owner().view().jobs(&tenant, JobsWanted::newest(None), 1_000, &none).unwrap();
        assert_eq!(self.jobs(1_000), jobs);
        let tasks = self.owner().view().tasks(&tenant, TasksWanted::newest(None), 100, &none).unwrap();
        assert_eq!(self.head().tasks(&tenant, TasksWanted::newest(None), 100, &there).unwrap(), tasks);
        let after = |number: usize| tasks.rows.get(number).map(|row| row.cursor());
        for page in [
            TaskPage { after: after(tasks.rows.len() / 2), ..TaskPage::default() },
            TaskPage { code: Some(Code::TRAP), ..TaskPage::default() },
            TaskPage { export: Some("F".to_owned()), after: after(1), ..TaskPage::default() },
        ] {
            let wanted = TasksWanted { state: None, page: &page };
            let told = self.owner().view().tasks(&tenant, wanted, 7, &none).unwrap();
            assert_eq!(self.head().tasks(&tenant, wanted, 7, &there).unwrap(), told, "{page:?}");
        }
        let spans = self.owner().view().spans(&tenant, 0, u64::MAX, 9, &none).unwrap();
        let mut told = self.head().spans(&tenant, 0, u64::MAX, 9, &there).unwrap();
        Span::keep_longest(&mut told.rows, u64::MAX, 9);
        assert_eq!(told, spans);
    }

    fn gaps(&self) -> usize {
        self.head().owners.read().get(&OWNER).map_or(0, |owner| owner.note.gaps.len())
    }
}

fn absent(lost_ms: Option<UnixMs>) -> Absent {
    Absent { owner: OWNER, lost_ms }
}

fn begin(store: &PastStore, session: u32) {
    store.began(&record(session, TaskCounts::default(), JobState::Running), 5).unwrap();
}

#[test]
fn a_batch_follows_what_is_there_or_is_refused() {
    let at = |segment, offset| Position { segment, offset };
    let rows = [
        (at(0, 0), at(3, 0), Some(Place::Next)),
        (at(0, 0), at(3, 80), None),
        (at(3, 80), at(3, 80), Some(Place::Next)),
        (at(3, 80), at(3, 0), Some(Place::Known)),
        (at(3, 80), at(2, 900), Some(Place::Known)),
        (at(3, 80), at(3, 81), None),
        (at(3, 80), at(4, 0), Some(Place::AfterGap)),
        (at(4, 0), at(4, 0), Some(Place::Next)),
        (at(4, 0), at(6, 0), Some(Place::AfterGap)),
        (at(4, 0), at(6, 80), None),
    ];
    for (had, batch, expected) in rows {
        let placed = place(had, batch).map_err(|error| error.code());
        assert_eq!(placed, expected.ok_or(Code::HISTORY_REFUSED), "{batch} after {had}");
    }
}

#[test]
fn the_head_answers_as_the_owner_did_and_after_a_restart() {
    let mut pair = Pair::new();
    for session in 1..=3 {
        begin(pair.owner(), session);
    }
    end_job(pair.owner(), 1, 10_000);
    end_job(pair.owner(), 2, 2);
    pair.pull_all(1);
    pair.agree();
    pair.open_owner(RETENTION);
    end_job(pair.owner(), 3, 5);
    pair.pull_all(BATCH_BYTES_MAX);
    for _ in 0..2 {
        pair.agree();
        pair.open_head(RETENTION);
    }
    fs::write(pair.shipped().join("index.redb"), "garbage").unwrap();
    pair.open_head(RETENTION);
    pair.agree();
    assert_eq!((pair.gaps(), pair.jobs(2).rows.len(), pair.jobs(0).total), (0, 2, 3));
    let other = Tenant::new("other").unwrap();
    assert_eq!(pair.head().jobs(&other, JobsWanted::newest(None), 9, &[absent(None)]).unwrap().total, 0);
    assert_eq!(pair.head().view(OWNER).job(&other, id(1)).unwrap(), None);
}

#[test]
fn a_job_whose_owner_is_lost_is_lost() {
    let pair = Pair::new();
    begin(pair.owner(), 1);
    end_job(pair.owner(), 2, 3);
    pair.pull_all(1);
    let tenant = Tenant::default();
    let of = |state, lost_ms| {
        let found = pair.head().jobs(&tenant, JobsWanted::newest(Some(state)), 9, &[absent(lost_ms)]).unwrap();
        assert_eq!(found.total, found.rows.len() as u64);
        found.rows.into_iter().map(|row| (row.id.session, row.state, row.ended_ms, row.error.map(|error| error.code()))).collect::<Vec<_>>()
    };
    assert_eq!(of(JobState::Running, None), [(1, JobState::Running, None, None)]);
    assert_eq!(of(JobState::Running, Some(9)), []);
    assert_eq!(of(JobState::Failed, Some(9)), [(1, JobState::Failed, Some(9), Some(Code::NODE_LOST))]);
    assert_eq!(of(JobState::Succeeded, Some(9)).len(), 1);
}

#[test]
fn what_was_removed_before_it_was_sent_is_a_gap() {
    let mut pair = Pair::new();
    let small = Retention { age_ms: 0, bytes: 300 << 10 };
    pair.open_owner(small);
    end_job(pair.owner(), 1, 2_000);
    pair.pull_all(1);
    for session in 2..=60 {
        end_job(pair.owner(), session, 2_000);
    }
    assert!(!pair.owner().retain(UnixMs::MAX).unwrap().is_empty());
    pair.pull_all(BATCH_BYTES_MAX);
    let left = pair.owner().view().jobs(&Tenant::default(), JobsWanted::newest(None), 1_000, &HashSet::new()).unwrap().rows;
    let rows = pair.jobs(1_000).rows;
    assert_eq!((&rows[..left.len()], rows.last().unwrap().id), (&left[..], id(1)), "what was sent stays, what is sent comes");
    assert_eq!(pair.gaps(), 1);
    assert!(pair.head().missing(OWNER)[0].contains("was removed before the head had it"), "{:?}", pair.head().missing(OWNER));
    pair.open_head(RETENTION);
    assert_eq!(pair.gaps(), 1);
}

#[test]
fn what_is_damaged_at_the_owner_is_a_gap_and_the_rest_comes() {
    let mut pair = Pair::new();
    end_job(pair.owner(), 1, 10);
    end_job(pair.owner(), 2, 10);
    let path = segment::path(&pair.dir.path().join("past"), 1);
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"x", length - 2).unwrap();
    pair.open_owner(RETENTION);
    end_job(pair.owner(), 3, 10);
    pair.pull_all(BATCH_BYTES_MAX);
    assert_eq!(pair.jobs(9).rows.iter().map(|row| row.id.session).collect::<Vec<_>>(), [3, 1]);
    assert!(pair.head().missing(OWNER)[0].contains("it is damaged"));
}

#[test]
fn an_owner_that_lost_what_it_sent_goes_on_behind_it() {
    let mut pair = Pair::new();
    end_job(pair.owner(), 1, 10);
    pair.pull_all(1);
    pair.owner = None;
    fs::remove_dir_all(pair.dir.path().join("past")).unwrap();
    pair.open_owner(RETENTION);
    pair.pull(1);
    end_job(pair.owner(), 2, 10);
    pair.pull_all(1);
    assert_eq!(pair.jobs(9).rows.iter().map(|row| row.id.session).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn what_an_owner_had_not_sent_when_it_was_lost_is_missing() {
    let mut pair = Pair::new();
    end_job(pair.owner(), 1, 1);
    pair.pull_all(1);
    let missing = |pair: &Pair| pair.head().missing(OWNER);
    assert!(missing(&pair)[0].contains("n1 is not there"), "nobody knows what it did since: {:?}", missing(&pair));
    pair.head().lost(OWNER, pair.owner().written(), 9_000).unwrap();
    assert_eq!(missing(&pair), [""; 0], "it had sent everything");
    end_job(pair.owner(), 2, 1);
    pair.head().lost(OWNER, pair.owner().written(), 9_000).unwrap();
    pair.open_head(RETENTION);
    let expected = "node n1 is lost since 1970-01-01T00:00:09Z: what it wrote down after 1970-01-01T00:00:07Z is not known here";
    assert_eq!(missing(&pair), [expected]);
    pair.head().back(OWNER).unwrap();
    pair.pull_all(1);
    pair.head().lost(OWNER, pair.owner().written(), 9_000).unwrap();
    assert_eq!(missing(&pair), [""; 0]);
}

#[test]
fn whoever_has_most_loses_its_oldest_first() {
    let mut pair = Pair::new();
    // Two segments of the owner, which goes on in its last one, and the other's.
    let small = Retention { age_ms: u64::MAX, bytes: 650 << 10 };
    pair.open_owner(Retention { bytes: 1 << 20, ..small });
    pair.open_head(small);
    // Another one, with little.
    let quiet = NodeId::new(2).unwrap();
    let header = segment::header(&Origin { owner: quiet, ..origin() }, 1, 5).to_vec();
    let batch = PastBatch { at: Position { segment: 1, offset: 0 }, records: header.into(), ..PastBatch::default() };
    assert_eq!(pair.head().accept(quiet, &batch, &nobody, 6).unwrap(), Position { segment: 1, offset: HEADER_BYTES });
    for session in 1..=120 {
        end_job(pair.owner(), session, 2_000);
        pair.pull_all(BATCH_BYTES_MAX);
        assert!(pair.head().weight.load(Relaxed) <= small.bytes);
    }
    assert_eq!(pair.head().owners(), [OWNER, quiet]);
    let weighs = |shipped: &Shipped| shipped.weight.load(Relaxed);
    let before = weighs(pair.head());
    pair.open_head(small);
    assert_eq!(weighs(pair.head()), before);
    let rows = pair.jobs(1_000).rows;
    assert!(rows.len() < 120 && rows[0].id == id(120) && pair.gaps() == 0, "{}", rows.len());
}

#[test]
fn an_owner_that_is_gone_is_forgotten_when_all_of_it_is_old() {
    let mut pair = Pair::new();
    pair.open_head(Retention { age_ms: 0, ..RETENTION });
    end_job(pair.owner(), 1, 1);
    pair.pull_all(1);
    pair.head().retain(&everybody, UnixMs::MAX).unwrap();
    assert_eq!(pair.jobs(1).total, 1, "an owner that is there goes on in its last segment");
    pair.head().retain(&nobody, UnixMs::MAX).unwrap();
    assert_eq!((pair.jobs(1).total, pair.head().owners()), (0, vec![]));
    pair.pull_all(1);
    assert_eq!(pair.jobs(1).total, 1, "one that is back begins anew");
}

#[test]
fn there_is_no_room_for_what_does_not_fit_alone() {
    let mut pair = Pair::new();
    pair.open_head(Retention { bytes: 10, ..RETENTION });
    end_job(pair.owner(), 1, 1);
    let error = pair.head().accept(OWNER, &pair.next(1), &everybody, 7).unwrap_err();
    assert_eq!((error.code(), pair.head().had(OWNER)), (Code::HISTORY_CROWDED, Position::default()));
}

#[test]
fn what_is_of_another_owner_or_cluster_is_refused() {
    let pair = Pair::new();
    end_job(pair.owner(), 1, 1);
    let batch = pair.next(BATCH_BYTES_MAX);
    let refused = |batch: &PastBatch, origin: Origin| batch.read(&origin).unwrap_err().code() == Code::HISTORY_REFUSED;
    assert!(batch.read(&origin()).is_ok());
    assert!(refused(&batch, Origin { owner: NodeId::new(2).unwrap(), ..origin() }));
    assert!(refused(&batch, Origin { cluster: "other".into(), ..origin() }));
    // A good header, and records of another's jobs.
    let two = Origin { owner: NodeId::new(2).unwrap(), ..origin() };
    let header = segment::header(&two, 1, 5);
    let records = [&header[..], &batch.records[HEADER_BYTES as usize..]].concat().into();
    assert!(refused(&PastBatch { records, ..batch }, two));
}

/// What happens to a head and an owner.
#[derive(Clone, Debug)]
enum Step {
    Job(u64),
    Pull(usize),
    /// The owner starts anew.
    Owner,
    /// The head is killed before the last batches were indexed.
    Head,
    /// The same in the middle of an append.
    Torn,
    /// The index is lost.
    Index,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..3_000).prop_map(Step::Job),
        6 => (0_usize..60_000).prop_map(Step::Pull),
        1 => Just(Step::Owner),
        2 => Just(Step::Head),
        2 => Just(Step::Torn),
        1 => Just(Step::Index),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_doubled_or_lost_whoever_dies_when(steps in proptest::collection::vec(step(), 1..24)) {
        let mut pair = Pair::new();
        let mut session = 0;
        let saved = pair.dir.path().join("saved.redb");
        let index = pair.shipped().join("index.redb");
        for step in steps {
            match step {
                Step::Job(tasks) => {
                    session += 1;
                    begin(pair.owner(), session);
                    if tasks > 0 {
                        end_job(pair.owner(), session, tasks);
                    }
                }
                Step::Pull(bytes) => {
                    pair.pull(bytes);
                }
                Step::Owner => pair.open_owner(RETENTION),
                Step::Head | Step::Torn => {
                    pair.head = None;
                    fs::copy(&index, &saved).unwrap();
                    pair.open_head(RETENTION);
                    pair.pull(10_000);
                    pair.pull(10_000);
                    let had = pair.head().had(OWNER);
                    pair.head = None;
                    fs::copy(&saved, &index).unwrap();
                    let path = segment::path(&pair.shipped().join("n1"), had.segment);
                    if matches!(step, Step::Torn) && had.offset > 0 {
                        OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[7; 100], had.offset).unwrap();
                    }
                    pair.open_head(RETENTION);
                }
                Step::Index => {
                    pair.head = None;
                    fs::remove_file(&index).unwrap();
                    pair.open_head(RETENTION);
                }
            }
        }
        pair.pull_all(100_000);
        pair.agree();
        prop_assert_eq!(pair.gaps(), 0);
    }

    #[test]
    fn a_batch_that_was_changed_is_refused_and_leaves_nothing(place in any::<prop::sample::Index>(), damage in 1_u8..) {
        let pair = Pair::new();
        begin(pair.owner(), 1);
        end_job(pair.owner(), 1, 5);
        let good = pair.next(BATCH_BYTES_MAX);
        let mut bytes = good.records.to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= damage;
        let bad = PastBatch { records: bytes.into(), ..good };
        // Nothing looks at when a segment was begun but its checksum.
        prop_assert_eq!(pair.head().accept(OWNER, &bad, &everybody, 7).unwrap_err().code(), Code::HISTORY_REFUSED);
        prop_assert_eq!((pair.head().had(OWNER), pair.jobs(9).total), (Position::default(), 0));
        prop_assert_eq!(pair.head().accept(OWNER, &good, &everybody, 7).unwrap(), pair.owner().written());
    }
}
