//! Lists over the past of several owners that are not there: newest first, without reading more of it than is shown.

use std::collections::{BTreeMap, VecDeque};

use rwasm_types::{
    Code, Error, JobId, JobState, NodeId, Result, SessionId, TaskState, Tenant,
    api::{JobRecord, TaskRecord, UnixMs},
    format_time,
};

use super::{Note, Shipped};
use crate::{
    index::{self, Entry},
    view::{Kept, View},
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

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The newest.
    pub rows: Vec<T>,
    /// How many there are.
    pub total: u64,
    /// What could not be read, a line each.
    pub missing: Vec<String>,
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
    pub fn jobs(&self, tenant: &Tenant, state: Option<JobState>, limit: usize, absent: &[Absent]) -> Result<Found<JobRecord>> {
        let mut found = Found { rows: Vec::new(), total: 0, missing: Vec::new() };
        for at in absent {
            for state in at.states(state) {
                found.total += self.index.jobs_total(tenant, at.owner, Some(state))?;
            }
        }
        let wanted = |absent: &Absent, entry: &Entry| absent.states(state).contains(&entry.state);
        self.newest(tenant, absent, &wanted, &mut found.missing, limit, |absent, _, kept| {
            found.rows.push(absent.shown(&kept));
            Ok(found.rows.len() < limit)
        })?;
        Ok(found)
    }

    /// A tenant's tasks at owners that are not there, those of the newest jobs first.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    pub fn tasks(&self, tenant: &Tenant, state: Option<TaskState>, limit: usize, absent: &[Absent]) -> Result<Found<TaskRecord>> {
        let mut found = Found { rows: Vec::new(), total: 0, missing: Vec::new() };
        for at in absent {
            found.total += self.index.tasks_total(tenant, at.owner, state)?;
        }
        let wanted = |_: &Absent, entry: &Entry| index::tasks_in(entry.tasks, state) > 0;
        self.newest(tenant, absent, &wanted, &mut found.missing, limit, |_, view, kept| {
            if let Kept::Ended(job) = kept {
                found.rows.extend(view.tasks_of(&job, state, limit - found.rows.len())?.0);
            }
            Ok(found.rows.len() < limit)
        })?;
        Ok(found)
    }

    /// Gives jobs of several owners, newest first, as long as `more` says so. What cannot be read is said once for each owner.
    fn newest(
        &self,
        tenant: &Tenant,
        absent: &[Absent],
        wanted: &dyn Fn(&Absent, &Entry) -> bool,
        missing: &mut Vec<String>,
        limit: usize,
        mut more: impl FnMut(&Absent, &View<'_>, Kept) -> Result<bool>,
    ) -> Result<()> {
        let feed = |absent: &Absent| Feed {
            absent: *absent,
            view: self.view(absent.owner),
            ahead: VecDeque::new(),
            before: None,
            over: limit == 0,
        };
        let mut feeds: Vec<Feed<'_>> = absent.iter().map(feed).collect();
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
