//! How a task is run.

use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::imports::tasks;

/// How a task is run. What is left out is as for the task that starts it, but for what it holds: that is one processor.
///
/// ```
/// use std::time::Duration;
///
/// use rwasm::task::Options;
///
/// let options = Options::new().cpus(0.5).memory(64 << 20).resource("licence", 1.0).label("zone=a").timeout(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "options do nothing before a task is started with them"]
pub struct Options {
    artifact: Option<String>,
    cpus: Option<f64>,
    memory: Option<u64>,
    resources: Vec<(String, f64)>,
    labels: Vec<String>,
    spread: bool,
    priority: Option<i8>,
    retries: Option<u32>,
    timeout: Option<Duration>,
}

impl Options {
    /// Those of a task without any.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another artifact than the one that the function was imported of: a tag or a digest, as `rwasm submit` takes them. It has to export the
    /// same.
    pub fn artifact(mut self, artifact: impl Into<String>) -> Self {
        self.artifact = Some(artifact.into());
        self
    }

    /// Processors that it holds while it runs, in steps of 1/10,000. 1 by default.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Bytes of memory: reserved, and the most that it may have. Not more than the starting task may have.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// So much of a custom resource, besides those that were named before.
    pub fn resource(mut self, name: impl Into<String>, amount: f64) -> Self {
        self.resources.push((name.into(), amount));
        self
    }

    /// A condition on the labels of the node, as `rwasm submit --label` takes it, besides those that were named before: `zone=a`.
    pub fn label(mut self, condition: impl Into<String>) -> Self {
        self.labels.push(condition.into());
        self
    }

    /// Tasks of this call go to nodes that are used least, instead of filling one after the other.
    pub fn spread(mut self) -> Self {
        self.spread = true;
        self
    }

    /// From -100 to 100, and not above that of the starting task.
    pub fn priority(mut self, priority: i8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How often it is tried again when its node is lost. 3 by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Wall-clock time of an attempt, in milliseconds at the finest. Not more than the starting task may have.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What is called with these.
    #[cfg(target_family = "wasm")]
    pub(crate) fn target(&self, artifact: Option<&str>, export: &str) -> tasks::Target {
        let artifact = self.artifact.clone().or_else(|| artifact.map(str::to_owned));
        tasks::Target { artifact, export: export.to_owned() }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn told(&self) -> tasks::Options {
        let Self { artifact: _, cpus, memory, resources, labels, spread, priority, retries, timeout } = self.clone();
        tasks::Options { cpus, memory, resources, labels, spread, priority, retries, timeout_ms: timeout.map(milliseconds) }
    }
}

/// A time as the host takes it: none is as short as nothing if it is longer.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
