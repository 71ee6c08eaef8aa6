//! The text that Prometheus reads, and what the server itself counts.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{http::StatusCode, response::Response};
use rwasm_types::metrics::{Family, Histogram, Kind};

use crate::{Source, Told, reply::with_type};

/// The type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests that were answered.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// By the hundreds of their statuses.
    by_class: [AtomicU64; 6],
    durations: Histogram,
}

impl Served {
    /// Counts an answer; how long a stream goes on is not part of the time.
    pub(crate) fn count(&self, status: StatusCode, took: Duration) {
        if let Some(count) = self.by_class.get(usize::from(status.as_u16() / 100)) {
            count.fetch_add(1, Relaxed);
        }
        self.durations.observe(took);
    }

    fn families(&self) -> [Family; 2] {
        let by = ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(self.by_class.iter().skip(2).map(|count| count.load(Relaxed) as f64));
        [
            Family::labelled(Kind::Counter, "rwasm_http_requests_total", "Requests that were answered, by status.", "status", by),
            self.durations.family("rwasm_http_request_duration_seconds", "How long answers took to begin."),
        ]
    }
}

/// Everything that this process counts and measures.
pub(crate) fn scrape(sources: &[Source], served: &Served, told: &Told) -> Response {
    let version = Family::labelled(Kind::Gauge, "rwasm_build_info", "Always 1.", "version", [(env!("CARGO_PKG_VERSION"), 1.0)]);
    let families = std::iter::once(version).chain(sources.iter().flat_map(|source| source(told))).chain(served.families());
    with_type(TEXT, text(families))
}

fn text(families: impl Iterator<Item = Family>) -> String {
    let mut out = String::new();
    for family in families {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {}", family.name, escaped(family.help), family.name, family.kind.as_str());
        for sample in &family.samples {
            let _ = write!(out, "{}{}", family.name, sample.suffix);
            for (index, (label, value)) in sample.labels.iter().enumerate() {
                let _ = write!(out, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(value).replace('"', "\\\""));
            }
            let _ = writeln!(out, "{} {}", if sample.labels.is_empty() { "" } else { "}" }, sample.value);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use rwasm_types::metrics::Sample;

    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let two = Sample::new(2.5).with("a", "x\"y\\z\n").with("b", 1);
        let families = [
            Family::counter("one_total", "One.", 1.0),
            Family { name: "two", help: "Two.", kind: Kind::Gauge, samples: vec![two] },
            Family { name: "h", help: "H.", kind: Kind::Histogram, samples: vec![Sample { suffix: "_count", ..Sample::new(3.0) }] },
        ];
        let expected = "# HELP one_total One.\n# TYPE one_total counter\none_total 1\n# HELP two Two.\n# TYPE two gauge\n\
                        two{a=\"x\\\"y\\\\z\\n\",b=\"1\"} 2.5\n# HELP h H.\n# TYPE h histogram\nh_count 3\n";
        assert_eq!(text(families.into_iter()), expected);
    }
}
