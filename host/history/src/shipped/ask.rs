//! Lists over the past of several owners that are not there: newest first, without reading more of it than is shown.

use std::collections::{BTreeMap, HashSet, VecDeque};

use rwasm_types::{
    Code, Error, JobId, JobState, NodeId, Result, SessionId, Tenant,
    api::{JobRecord, TaskRecord, UnixMs},
    format_time,
    view::{Cursor, JobsWanted, Span, Summary, TasksWanted},
};

use super::{Note, Shipped};
use crate::{
    index::{self, Entry, Totals},
    view::{Budget, Found, Kept, View},
};

/// Entries that are read of an owner at once.
const AHEAD: usize = 64;

/// An owner that does not answer for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Which.
    pub owner: NodeId,
    /// Since when it is lost, so that its unfinished jobs are; absent while it may be back in a moment.
    pub lost_ms: Option<UnixMs>,
}

impl Absent {
    /// A job as it is shown: one that did not end is lost with its owner.
    pub fn shown(&self, kept: &Kept) -> JobRecord {
        let mut record = kept.record().clone();
        if let (Kept::Began(_), Some(lost_ms)) = (kept, self.lost_ms) {
            record.state = JobState::Failed;
            record.ended_ms = Some(lost_ms);
            let message = format!("node {} was lost before the job ended", self.owner);
            let hint = "the job goes on if the node is started again where it was";
            record.error = Some(Error::new(Code::NODE_LOST, message).hint(hint).with("node", self.owner));
        }
        record
    }

    /// The states in the index that are shown as this one.
    fn states(&self, state: Option<JobState>) -> Vec<JobState> {
        let shown = |known: JobState| if known == JobState::Running && self.lost_ms.is_some() { JobState::Failed } else { known };
        JobState::ALL.into_iter().filter(|known| state.is_none_or(|state| state == shown(*known))).collect()
    }
}

/// The jobs of one owner, newest first.
struct Feed<'a> {
    absent: Absent,
    view: View<'a>,
    /// Read and not given.
    ahead: VecDeque<(JobId, Entry)>,
    /// The last one that was looked at.
    before: Option<SessionId>,
    over: bool,
}

impl Feed<'_> {
    fn next(&mut self, tenant: &Tenant, wanted: &dyn Fn(&Absent, &Entry) -> bool) -> Result<Option<(JobId, Entry)>> {
        if self.ahead.is_empty() && !self.over {
            let mut looked = None;
            let (ahead, absent) = (&mut self.ahead, self.absent);
            self.view.index.newest_before(tenant, absent.owner, self.before, |job, entry| {
                looked = Some(job.session);
                if wanted(&absent, &entry) {
                    ahead.push_back((job, entry));
                }
                ahead.len() < AHEAD
            })?;
            self.over = self.ahead.len() < AHEAD;
            self.before = looked.or(self.before);
        }
        Ok(self.ahead.pop_front())
    }
}

impl Shipped {
    /// Owners of which something is known here.
    pub fn owners(&self) -> Vec<NodeId> {
        self.owners.read().keys().copied().collect()
    }

    /// When an owner was lost, if it is known to be; else when something of it came last.
    pub fn last_seen_ms(&self, owner: NodeId) -> (Option<UnixMs>, UnixMs) {
        let owners = self.owners.read();
        owners.get(&owner).map_or((None, 0), |known| (known.note.lost.map(|lost| lost.at_ms), known.note.heard_ms))
    }

    /// What of an owner that is not there is not known, a line each.
    pub fn missing(&self, owner: NodeId) -> Vec<String> {
        self.owners.read().get(&owner).map(|known| missing(owner, &known.note)).unwrap_or_default()
    }

    /// A tenant's jobs at owners that are not there, newest first.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn jobs(&self, tenant: &Tenant, wanted: JobsWanted<'_>, limit: usize, absent: &[Absent]) -> Result<Found<JobRecord>> {
        let JobsWanted { state, page } = wanted;
        let (mut found, mut budget, mut missing) = (Found::default(), Budget::new(), Vec::new());
        let in_state = |absent: &Absent, entry: &Entry| absent.states(state).contains(&entry.state);
        if page.name.is_some() {
            self.newest(tenant, absent, &in_state, &mut missing, &|_| Ok(None), |absent, _, kept| {
                let record = absent.shown(&kept);
                if !budget.job(record.submitted_ms, &mut found.missing) {
                    return Ok(false);
                }
                if page.names(&record.name) {
                    found.total += 1;
                    if found.rows.len() < limit && page.reaches(record.cursor()) {
                        found.rows.push(record);
                    }
                }
                Ok(true)
            })?;
        } else {
            for at in absent {
                let totals = self.totals(tenant, at)?;
                found.total += at.states(state).into_iter().map(|state| totals.jobs(Some(state))).sum::<u64>();
            }
            let absent = if limit > 0 { absent } else { &[] };
            self.newest(tenant, absent, &in_state, &mut missing, &|view| view.behind(tenant, page.after), |absent, _, kept| {
                found.rows.push(absent.shown(&kept));
                Ok(found.rows.len() < limit)
            })?;
        }
        found.missing.extend(missing);
        Ok(found)
    }

    /// A tenant's tasks at owners that are not there, those of the newest jobs first.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn tasks(&self, tenant: &Tenant, wanted: TasksWanted<'_>, limit: usize, absent: &[Absent]) -> Result<Found<TaskRecord>> {
        let TasksWanted { state, page } = wanted;
        let (mut found, mut budget, mut missing) = (Found::default(), Budget::new(), Vec::new());
        let has_some = |_: &Absent, entry: &Entry| index::tasks_in(entry.tasks, state) > 0;
        if page.is_counted() {
            let mut total = 0;
            for at in absent {
                total += self.totals(tenant, at)?.tasks(state);
            }
            // The job in which the page before ended is not over: it stands before its last task's place.
            let after = page
                .after
                .map(|after| Cursor { at_ms: after.at_ms, id: JobId { session: after.id.session.saturating_add(1), ..after.id.job() } });
            let absent = if limit > 0 { absent } else { &[] };
            self.newest(tenant, absent, &has_some, &mut missing, &|view| view.behind(tenant, after), |_, view, kept| {
                if let Kept::Ended(job) = kept {
                    view.add_tasks(&job, wanted, limit, &mut budget, &mut found)?;
                }
                Ok(found.rows.len() < limit)
            })?;
            found.total = total;
        } else {
            self.newest(tenant, absent, &has_some, &mut missing, &|_| Ok(None), |_, view, kept| {
                let Kept::Ended(job) = kept else { return Ok(true) };
                if !budget.job(job.record.submitted_ms, &mut found.missing) {
                    return Ok(false);
                }
                view.add_tasks(&job, wanted, limit, &mut budget, &mut found)?;
                Ok(true)
            })?;
        }
        found.missing.extend(missing);
        Ok(found)
    }

    /// What ran between two times for owners that are not there, the longest first.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn spans(&self, tenant: &Tenant, from_ms: UnixMs, to_ms: UnixMs, limit: usize, absent: &[Absent]) -> Result<Found<Span>> {
        let (mut found, mut budget, mut missing) = (Found::default(), Budget::new(), Vec::new());
        let has_some = |_: &Absent, entry: &Entry| index::tasks_in(entry.tasks, None) > 0;
        // Nothing that was submitted later can have run by then.
        let begin = |view: &View<'_>| view.first(tenant, |place| place.at_ms <= to_ms).map(Some);
        self.newest(tenant, absent, &has_some, &mut missing, &begin, |_, view, kept| {
            let Kept::Ended(job) = kept else { return Ok(true) };
            if !budget.job(job.record.submitted_ms, &mut found.missing) {
                return Ok(false);
            }
            view.add_spans(&job, from_ms, to_ms, limit, &mut budget, &mut found)?;
            Ok(true)
        })?;
        found.missing.extend(missing);
        Ok(found)
    }

    /// How many jobs and tasks of a tenant there are at owners that are not there, by state.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn summary(&self, tenant: &Tenant, absent: &[Absent]) -> Result<Summary> {
        let mut summary = Summary::default();
        for at in absent {
            let totals = self.totals(tenant, at)?;
            for state in JobState::ALL {
                let count: u64 = at.states(Some(state)).into_iter().map(|kept| totals.jobs(Some(kept))).sum();
                if count > 0 {
                    *summary.jobs.entry(state.to_string()).or_default() += count;
                }
            }
            summary.tasks += totals.ended_tasks();
        }
        Ok(summary)
    }

    fn totals(&self, tenant: &Tenant, at: &Absent) -> Result<Totals> {
        self.index.totals(tenant, at.owner, &HashSet::new())
    }

    /// Gives jobs of several owners from where each is to begin, newest first, as long as `more` says so. What cannot be read is said once for each owner.
    fn newest(
        &self,
        tenant: &Tenant,
        absent: &[Absent],
        wanted: &dyn Fn(&Absent, &Entry) -> bool,
        missing: &mut Vec<String>,
        begin: &dyn Fn(&View<'_>) -> Result<Option<SessionId>>,
        mut more: impl FnMut(&Absent, &View<'_>, Kept) -> Result<bool>,
    ) -> Result<()> {
        let feed = |absent: &Absent| {
            let view = self.view(absent.owner);
            let before = begin(&view)?;
            Ok(Feed { absent: *absent, view, ahead: VecDeque::new(), before, over: false })
        };
        let mut feeds = absent.iter().map(feed).collect::<Result<Vec<Feed<'_>>>>()?;
        let mut broken = |owner: NodeId, error: &Error| {
            let line = format!("node {owner}: a part of its history cannot be read: {}", error.message());
            if missing.last() != Some(&line) {
                missing.push(line);
            }
        };
        let mut newest: BTreeMap<(UnixMs, JobId), (usize, Kept)> = BTreeMap::new();
        let mut refill: Vec<usize> = (0..feeds.len()).collect();
        loop {
            while let Some(place) = refill.pop() {
                let Some(feed) = feeds.get_mut(place) else { continue };
                let Some((job, entry)) = feed.next(tenant, wanted)? else { continue };
                match feed.view.kept(entry.at) {
                    Ok(kept) => drop(newest.insert((kept.record().submitted_ms, job), (place, kept))),
                    Err(error) => {
                        broken(feed.absent.owner, &error);
                        refill.push(place);
                    }
                }
            }
            let Some((_, (place, kept))) = newest.pop_last() else { return Ok(()) };
            let Some(feed) = feeds.get(place) else { continue };
            match more(&feed.absent, &feed.view, kept) {
                Ok(true) => refill.push(place),
                Ok(false) => return Ok(()),
                Err(error) => {
                    broken(feed.absent.owner, &error);
                    refill.push(place);
                }
            }
        }
    }
}

fn missing(owner: NodeId, note: &Note) -> Vec<String> {
    let mut lines: Vec<String> = note.gaps.iter().map(|gap| gap_line(owner, gap)).collect();
    let since = match note.heard_ms {
        0 => String::new(),
        heard_ms => format!(" after {}", format_time(heard_ms)),
    };
    match note.lost {
        Some(lost) if note.had >= lost.written => {}
        Some(lost) => {
            lines.push(format!("node {owner} is lost since {}: what it wrote down{since} is not known here", format_time(lost.at_ms)));
        }
        None => lines.push(format!("node {owner} is not there: what it wrote down{since} is not known here")),
    }
    lines
}

fn gap_line(owner: NodeId, gap: &super::PastGap) -> String {
    let why = if gap.unreadable { "it is damaged" } else { "it was removed before the head had it" };
    let (from, to) = (format_time(gap.from_ms), format_time(gap.to_ms));
    format!("node {owner}: what it wrote down from {from} to {to}, from {} on, is not known: {why}", gap.at)
}
