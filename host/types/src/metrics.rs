//! What a process counts and measures, in the shape that Prometheus knows: families of samples with labels.
//!
//! Labels have few values, fixed when the program is written or started; of the names that users choose, tenants alone are ever one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a family's samples change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow, and begin at 0 with the process.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are the parts of a [`Histogram`].
    Histogram,
}

impl Kind {
    /// The kind's name in the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name, with the unit last.
    pub name: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// How it changes.
    pub kind: Kind,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What follows the family's name; empty but for parts of histograms.
    pub suffix: &'static str,
    /// Labels: name and value.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Family {
    /// A gauge without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: vec![Sample::new(value)] }
    }

    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: Kind::Counter, samples: vec![Sample::new(value)] }
    }

    /// Samples that differ by one label.
    pub fn labelled<V: ToString>(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: impl IntoIterator<Item = (V, f64)>,
    ) -> Self {
        let samples = samples.into_iter().map(|(value, number)| Sample::new(number).with(label, value)).collect();
        Self { name, help, kind, samples }
    }
}

impl Sample {
    /// A sample without labels.
    pub fn new(value: f64) -> Self {
        Self { suffix: "", labels: Vec::new(), value }
    }

    /// Adds a label.
    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl ToString) -> Self {
        self.labels.push((label, value.to_string()));
        self
    }
}

/// Seconds at which the buckets of durations end, from a short task to a long one.
pub const DURATION_BUCKETS_S: [f64; 14] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

/// How often durations fell where. Threads count in it at once, without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bucket, and one for what is longer than all of them; not cumulative.
    buckets: [AtomicU64; DURATION_BUCKETS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: std::time::Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS_S.partition_point(|end| *end < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The family, as it is now.
    pub fn family(&self, name: &'static str, help: &'static str) -> Family {
        let mut below = 0;
        let mut samples = Vec::with_capacity(self.buckets.len() + 2);
        let ends = DURATION_BUCKETS_S.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bucket, end) in self.buckets.iter().zip(ends) {
            below += bucket.load(Relaxed);
            samples.push(Sample { suffix: "_bucket", ..Sample::new(below as f64) }.with("le", end));
        }
        let sum = std::time::Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64();
        samples.push(Sample { suffix: "_sum", ..Sample::new(sum) });
        samples.push(Sample { suffix: "_count", ..Sample::new(below as f64) });
        Family { name, help, kind: Kind::Histogram, samples }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn buckets_hold_what_is_not_longer_than_their_end() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 7_200_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let family = histogram.family("d_seconds", "Durations.");
        let of = |end: &str| family.samples.iter().find(|sample| sample.labels.iter().any(|(_, value)| value == end)).unwrap().value;
        assert_eq!((of("0.0001"), of("0.001"), of("0.005"), of("3600"), of("+Inf")), (1.0, 2.0, 3.0, 3.0, 4.0));
        let last = |suffix: &str| family.samples.iter().find(|sample| sample.suffix == suffix).unwrap().value;
        assert_eq!((last("_sum"), last("_count")), (7200.003, 4.0));
    }
}
