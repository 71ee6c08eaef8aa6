//! How rows are measured: as Ray's own `timeit` does, so that the two can be compared.
//!
//! A warm-up counts calls; then there are four trials of at least the trial's time, in blocks of a tenth of what the warm-up did. A row is
//! the mean rate of the trials with its population standard deviation.

use std::time::{Duration, Instant};

use rwasm_types::Result;
use serde::Serialize;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The warm-up.
    pub warm_up: Duration,
    /// The least time of one trial.
    pub trial: Duration,
}

impl Method {
    /// Ray's: a warm-up of one second, trials of two.
    pub const FULL: Self = Self { warm_up: Duration::from_secs(1), trial: Duration::from_secs(2) };
    /// Enough to see orders of magnitude.
    pub const QUICK: Self = Self { warm_up: Duration::from_millis(100), trial: Duration::from_millis(200) };
}

const TRIALS: u32 = 4;

/// What one row came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub name: String,
    /// How often in a second, on average.
    pub per_second: f64,
    /// The standard deviation of the trials' rates.
    pub sd: f64,
}

impl Row {
    /// The row of the same run that this one is published as a ratio to.
    pub fn reference(&self) -> Option<&'static str> {
        const BARE: &str = "bare: instantiate and call";
        let name = self.name.as_str();
        match () {
            // What encryption costs.
            () if name == "with TLS: tasks, one at a time" => Some("across processes: tasks, one at a time"),
            () if name.starts_with("with TLS: ") => Some("across processes: tasks, batches of 1,000"),
            () if name == "actors: 1:1 actor calls sync" => Some("transport: stream round trip"),
            () if name.starts_with("across processes") && name.ends_with("one at a time") => Some("transport: stream round trip"),
            () if name.starts_with("scheduler: placements") && !name.ends_with(" 100 nodes") => Some("scheduler: placements, 100 nodes"),
            () if name.starts_with("journal: commit") => Some(crate::journal::BARE),
            () if name.starts_with("work: submit") => Some(crate::work::BARE),
            () if name.starts_with("objects: 1 GiB ") && name != "objects: 1 GiB without a guest" => Some("objects: 1 GiB without a guest"),
            () if name == "objects: put and delete 64 MiB" => Some(crate::objects::BARE),
            () if name.starts_with("bulk: 1 MiB") => Some("bulk: one copy of 1 MiB into new memory"),
            () if name.starts_with("bulk: 64 MiB") => Some("bulk: one copy of 64 MiB into new memory"),
            () if ["engine: ", "node: ", "embedded: ", "across "].iter().any(|layer| name.starts_with(layer)) => Some(BARE),
            () => None,
        }
    }

    /// Seconds that one takes.
    pub fn seconds(&self) -> f64 {
        1.0 / self.per_second
    }
}

/// Rows under way.
pub(crate) struct Suite<'a> {
    method: Method,
    only: Option<String>,
    told: &'a mut (dyn FnMut(&Row) + Send),
    rows: Vec<Row>,
}

impl<'a> Suite<'a> {
    pub(crate) fn new(method: Method, only: Option<String>, told: &'a mut (dyn FnMut(&Row) + Send)) -> Self {
        Self { method, only, told, rows: Vec::new() }
    }

    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// Whether a row is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Measures a call that does `times` of the thing.
    pub(crate) fn time(&mut self, name: &str, times: f64, mut call: impl FnMut() -> Result<()>) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let mut calls = 0u64;
        let begun = Instant::now();
        while begun.elapsed() < self.method.warm_up {
            call()?;
            calls += 1;
        }
        let step = calls / 10 + 1;
        let mut rates = Vec::new();
        for _ in 0..TRIALS {
            let (mut count, begun) = (0u64, Instant::now());
            while begun.elapsed() < self.method.trial {
                for _ in 0..step {
                    call()?;
                }
                count += step;
            }
            rates.push(times * count as f64 / begun.elapsed().as_secs_f64());
        }
        self.add(name, &rates);
        Ok(())
    }

    /// As [`Suite::time`], for a call that waits.
    pub(crate) async fn time_async<F>(&mut self, name: &str, times: f64, mut call: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        if !self.wants(name) {
            return Ok(());
        }
        let mut calls = 0u64;
        let begun = Instant::now();
        while begun.elapsed() < self.method.warm_up {
            call().await?;
            calls += 1;
        }
        let step = calls / 10 + 1;
        let mut rates = Vec::new();
        for _ in 0..TRIALS {
            let (mut count, begun) = (0u64, Instant::now());
            while begun.elapsed() < self.method.trial {
                for _ in 0..step {
                    call().await?;
                }
                count += step;
            }
            rates.push(times * count as f64 / begun.elapsed().as_secs_f64());
        }
        self.add(name, &rates);
        Ok(())
    }

    fn add(&mut self, name: &str, rates: &[f64]) {
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
        let row = Row { name: name.to_owned(), per_second: mean, sd: variance.sqrt() };
        (self.told)(&row);
        self.rows.push(row);
    }
}
