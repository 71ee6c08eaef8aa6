//! Results of jobs that were submitted through REST. A cluster gives results to the driver that submitted, and for these jobs that is the
//! dashboard: it keeps them for whoever asks, within limits.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rwasm_types::{Code, Error, JobId, Result, Tenant};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cluster::TaskResult;

/// Jobs whose results are kept.
const JOBS_MAX: usize = 256;
/// Results of a job that are kept: the first that came.
const ROWS_MAX: usize = 1_000;
/// The most bytes of one result; of a larger one its size is kept.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most bytes of all results together.
const BYTES_MAX: usize = 64 << 20;

/// The results of all such jobs.
#[derive(Default)]
pub(crate) struct Results(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The job that was submitted first comes first.
    jobs: VecDeque<Kept>,
    bytes: usize,
}

struct Kept {
    job: JobId,
    tenant: Tenant,
    rows: Vec<Row>,
    /// Results that came, kept or not.
    total: u64,
    bytes: usize,
    ended: bool,
}

/// A result, as REST tells it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    task: String,
    attempt: u32,
    /// Whether the task failed; one that returned its error case has a value all the same.
    failed: bool,
    /// The value; absent if there is none, or if it is too large to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    /// The size of a value that was too large, in bytes of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// The results of a job.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    rows: Vec<Row>,
    /// Results that came so far; more than `rows` if there was no room for all.
    total: u64,
    /// Whether no more will come.
    ended: bool,
}

impl Row {
    fn of(job: JobId, result: TaskResult) -> Self {
        let TaskResult { sequence, attempt, value, failed } = result;
        let (value, error) = match value {
            Ok(value) => (value, None),
            Err(error) => (None, Some(error)),
        };
        let large = value.as_ref().map(String::len).filter(|len| *len > VALUE_BYTES_MAX);
        Self {
            task: job.task(sequence).to_string(),
            attempt: attempt.0,
            failed: failed || error.is_some(),
            // What is no JSON was never written by the codec.
            value: value.filter(|_| large.is_none()).and_then(|value| RawValue::from_string(value).ok()),
            left_out_bytes: large.map(|len| len as u64),
            error,
        }
    }

    fn size(&self) -> usize {
        128 + self.value.as_ref().map_or(0, |value| value.get().len())
            + self.error.as_ref().map_or(0, |error| error.message().len() + error.next_step().map_or(0, str::len))
    }
}

impl Results {
    /// Makes room for a job; the oldest that ended is forgotten for it.
    ///
    /// # Errors
    ///
    /// [`Code::QUEUE_FULL`] if all jobs that are kept still run.
    pub(crate) fn make_room(&self) -> Result<()> {
        let mut table = self.0.lock();
        while table.jobs.len() >= JOBS_MAX {
            let Some(ended) = table.jobs.iter().position(|kept| kept.ended) else {
                let message = format!("{JOBS_MAX} jobs that were submitted here have not ended, which is the limit");
                return Err(Error::new(Code::QUEUE_FULL, message).hint("submit with `rwasm submit`, or wait"));
            };
            table.forget(ended);
        }
        Ok(())
    }

    /// Begins to keep a job's results.
    pub(crate) fn open(&self, job: JobId, tenant: Tenant) {
        self.0.lock().jobs.push_back(Kept { job, tenant, rows: Vec::new(), total: 0, bytes: 0, ended: false });
    }

    /// Keeps what came, as far as there is room.
    pub(crate) fn put(&self, job: JobId, results: Vec<TaskResult>) {
        let mut table = self.0.lock();
        let table = &mut *table;
        let Some(kept) = table.jobs.iter_mut().find(|kept| kept.job == job) else { return };
        kept.total += results.len() as u64;
        for result in results.into_iter().take(ROWS_MAX - kept.rows.len()) {
            let row = Row::of(job, result);
            if kept.bytes + row.size() > BYTES_MAX {
                break;
            }
            kept.bytes += row.size();
            table.bytes += row.size();
            kept.rows.push(row);
        }
        // The oldest go first; those that still run may go too, for their results are large.
        while table.bytes > BYTES_MAX && table.jobs.len() > 1 {
            let oldest = table.jobs.iter().position(|kept| kept.job != job).unwrap_or_default();
            table.forget(oldest);
        }
    }

    /// No more will come.
    pub(crate) fn end(&self, job: JobId) {
        if let Some(kept) = self.0.lock().jobs.iter_mut().find(|kept| kept.job == job) {
            kept.ended = true;
        }
    }

    /// What is kept of a tenant's job; `None` if nothing is.
    pub(crate) fn of(&self, job: JobId, tenant: &Tenant, limit: usize) -> Option<Answer> {
        let table = self.0.lock();
        let kept = table.jobs.iter().find(|kept| kept.job == job && kept.tenant == *tenant)?;
        Some(Answer { rows: kept.rows.iter().take(limit).cloned().collect(), total: kept.total, ended: kept.ended })
    }
}

impl Table {
    fn forget(&mut self, index: usize) {
        if let Some(kept) = self.jobs.remove(index) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::Attempt;

    use super::*;

    fn job(session: u32) -> JobId {
        JobId { owner: rwasm_types::NodeId::FIRST, session }
    }

    fn result(sequence: u64, value: &str) -> TaskResult {
        TaskResult { sequence, attempt: Attempt::FIRST, value: Ok(Some(value.to_owned())), failed: false }
    }

    fn opened(results: &Results, session: u32) -> JobId {
        results.make_room().unwrap();
        results.open(job(session), Tenant::default());
        job(session)
    }

    #[test]
    fn results_belong_to_their_tenant() {
        let results = Results::default();
        let job = opened(&results, 1);
        results.put(job, vec![result(0, "[1]")]);
        results.end(job);
        let answer = results.of(job, &Tenant::default(), 10).unwrap();
        assert_eq!(serde_json::to_string(&answer.rows).unwrap(), r#"[{"task":"t1-1-0","attempt":1,"failed":false,"value":[1]}]"#);
        assert!(answer.ended);
        assert!(results.of(job, &Tenant::new("other").unwrap(), 10).is_none());
    }

    #[test]
    fn rows_and_values_are_bounded_and_counted() {
        let results = Results::default();
        let job = opened(&results, 1);
        results.put(job, (0..ROWS_MAX as u64 + 5).map(|sequence| result(sequence, "1")).collect());
        let answer = results.of(job, &Tenant::default(), usize::MAX).unwrap();
        assert_eq!((answer.rows.len(), answer.total), (ROWS_MAX, ROWS_MAX as u64 + 5));
        let large = opened(&results, 2);
        results.put(large, vec![result(0, &format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX)))]);
        let row = results.of(large, &Tenant::default(), 1).unwrap().rows.remove(0);
        assert_eq!((row.value.is_none(), row.left_out_bytes), (true, Some(VALUE_BYTES_MAX as u64 + 2)));
    }

    #[test]
    fn the_oldest_that_ended_makes_room() {
        let results = Results::default();
        for session in 1..=JOBS_MAX as u32 {
            opened(&results, session);
        }
        assert_eq!(results.make_room().unwrap_err().code(), Code::QUEUE_FULL);
        results.end(job(7));
        results.make_room().unwrap();
        assert!(results.of(job(7), &Tenant::default(), 1).is_none());
        assert!(results.of(job(8), &Tenant::default(), 1).is_some());
    }

    #[test]
    fn all_results_together_are_bounded() {
        let results = Results::default();
        let value = format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX - 2));
        for session in 1..=80 {
            let job = opened(&results, session);
            results.put(job, vec![result(0, &value)]);
            assert!(results.0.lock().bytes <= BYTES_MAX);
        }
        assert!(results.of(job(1), &Tenant::default(), 1).is_none());
        assert!(results.of(job(80), &Tenant::default(), 1).is_some());
    }

    #[test]
    fn one_job_alone_does_not_pass_the_bound_and_what_it_has_more_is_counted() {
        let results = Results::default();
        let (other, large) = (opened(&results, 1), opened(&results, 2));
        let value = format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX - 2));
        results.put(large, (0..100).map(|sequence| result(sequence, &value)).collect());
        assert!(results.0.lock().bytes <= BYTES_MAX);
        let answer = results.of(large, &Tenant::default(), usize::MAX).unwrap();
        assert!(answer.total == 100 && answer.rows.len() < 100 && answer.rows.len() > 50, "{}", answer.rows.len());
        // What had nothing to lose is there still, or gone for good; it is not in the way.
        results.put(other, vec![result(0, "1")]);
        assert!(results.0.lock().bytes <= BYTES_MAX);
    }
}
