//! Turns a task's limits into wasmtime's questions, and remembers which limit said no.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{Code, Error, TaskLimits, format_bytes, format_duration};
use wasmtime::ResourceLimiter;

use crate::memory::Share;

/// A limit that a guest reached, carried through wasmtime as the cause of the trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// All linear memories together would have exceeded this many bytes.
    Memory { wanted: u64, limit: u64 },
    /// Within its own limit, but all guests of the node together would have exceeded this many bytes.
    NodeMemory { wanted: u64, capacity: u64 },
    /// All tables together would have exceeded this many elements.
    Table { wanted: u64, limit: u64 },
    /// The wall-clock deadline.
    Wall { limit: Duration },
    /// The processor time.
    Cpu { limit: Duration },
    /// Bytes of standard output.
    Stdout { limit: u64 },
    /// Bytes of standard error.
    Stderr { limit: u64 },
    /// Somebody cancelled the attempt.
    Cancelled,
    /// What it waits for can never start.
    Stuck,
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { wanted, limit } => {
                write!(f, "the task needs {} of memory, but is limited to {}", format_bytes(*wanted), format_bytes(*limit))
            }
            Self::NodeMemory { wanted, capacity } => write!(
                f,
                "the task needs {} of memory, more than it reserved, and the guests of this node have taken up the {} that it gives",
                format_bytes(*wanted),
                format_bytes(*capacity)
            ),
            Self::Table { wanted, limit } => write!(f, "the task needs {wanted} table elements, but is limited to {limit}"),
            Self::Wall { limit } => write!(f, "the task ran longer than {}", format_duration(*limit)),
            Self::Cpu { limit } => write!(f, "the task used more than {} of processor time", format_duration(*limit)),
            Self::Stdout { limit } => write!(f, "the task wrote more than {} to standard output", format_bytes(*limit)),
            Self::Stderr { limit } => write!(f, "the task wrote more than {} to standard error", format_bytes(*limit)),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Stuck => f.write_str("the task waits for tasks that cannot start, because all that runs here waits as well"),
        }
    }
}

impl std::error::Error for Reached {}

impl From<Reached> for Error {
    fn from(reached: Reached) -> Self {
        let (code, hint) = match reached {
            Reached::Memory { .. } => (Code::MEMORY_LIMIT, Some("raise it with --memory")),
            Reached::NodeMemory { .. } => (Code::NODE_MEMORY, Some("reserve it with --memory; the task then waits for a node that has it")),
            Reached::Table { .. } => (Code::TABLE_LIMIT, Some("raise it with --max-table-elements")),
            Reached::Wall { .. } => (Code::TIMEOUT, Some("raise it with --timeout")),
            Reached::Cpu { .. } => (Code::CPU_TIME, Some("raise it with --cpu-time")),
            Reached::Stdout { .. } => (Code::OUTPUT_LIMIT, Some("raise it with --max-stdout")),
            Reached::Stderr { .. } => (Code::OUTPUT_LIMIT, Some("raise it with --max-stderr")),
            Reached::Cancelled => (Code::CANCELLED, None),
            Reached::Stuck => (Code::TASKS_STUCK, Some("start fewer tasks that wait, with less memory each, or add nodes")),
        };
        let error = Self::new(code, reached.to_string());
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Core instances, memories and tables of one guest; what a component of any known toolchain needs, many times over.
const CORE_ITEMS_MAX: usize = 1_000;

/// Counts memory and table growth of all of a guest's instances together.
#[derive(Debug)]
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    memory_bytes: u64,
    memory_limit: u64,
    table_elements: u64,
    table_limit: u64,
    /// The largest memory that any instance started with. What a module puts into memory lies below.
    started_with: u64,
    refused: Option<Reached>,
}

impl Limiter {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            memory_bytes: 0,
            memory_limit: budget.limits.memory_bytes,
            table_elements: 0,
            table_limit: budget.limits.table_elements,
            started_with: 0,
            refused: None,
        }
    }

    /// Where the part of memory begins, of any of the guest's memories, that was not there from the start.
    pub(crate) fn started_with(&self) -> u64 {
        self.started_with
    }

    /// Bytes of linear memory; memories never shrink, so this is also the peak.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What was last refused.
    pub(crate) fn refused(&self) -> Option<Reached> {
        self.refused
    }

    fn refuse(&mut self, reached: Reached) -> wasmtime::Result<bool> {
        self.refused = Some(reached);
        Err(reached.into())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.memory_bytes + desired.saturating_sub(current) as u64;
        if wanted > self.memory_limit {
            return self.refuse(Reached::Memory { wanted, limit: self.memory_limit });
        }
        if !self.budget.memory.grow_to(wanted) {
            let capacity = self.budget.memory.capacity();
            return self.refuse(Reached::NodeMemory { wanted, capacity });
        }
        self.memory_bytes = wanted;
        if current == 0 {
            // A new memory, or one that began with nothing and grows for the first time, which looks the same from here.
            self.started_with = self.started_with.max(desired as u64);
        }
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.table_elements + desired.saturating_sub(current) as u64;
        if wanted > self.table_limit {
            return self.refuse(Reached::Table { wanted, limit: self.table_limit });
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn tables(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn memories(&self) -> usize {
        CORE_ITEMS_MAX
    }
}

/// What every host function of a guest may look at without the store.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limits: TaskLimits,
    /// What it takes of the memory of all guests.
    pub(crate) memory: Share,
    /// What the call that runs now may take.
    pub(crate) span: Mutex<Span>,
    pub(crate) cpu: crate::meter::CpuMeter,
    pub(crate) control: Arc<crate::Control>,
    /// A limit that was reached where no trap could be raised.
    pub(crate) tripped: OnceLock<Reached>,
}

/// What one call may take of time; an actor has one after the other.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) started: Instant,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Processor time that calls before it used.
    pub(crate) cpu_before: Duration,
}

impl Budget {
    /// A call begins, which may take so much.
    pub(crate) fn begin(&self, wall: Duration, cpu: Duration) {
        *self.span.lock() = Span { started: Instant::now(), wall, cpu, cpu_before: self.cpu.used() };
    }

    /// How long the call that runs now may still take.
    pub(crate) fn left(&self) -> Duration {
        let span = self.span.lock();
        span.wall.saturating_sub(span.started.elapsed())
    }

    /// Ends the guest, for limits that are reached where no trap can be raised: at its next tick if it computes, at once if it waits.
    pub(crate) fn trip(&self, reached: Reached) {
        let _ = self.tripped.set(reached);
        self.control.wake();
    }

    /// Whether no limit was reached without a trap. A guest may return before its next tick; it has reached its limit all the same.
    pub(crate) fn untripped(&self) -> Result<(), Error> {
        self.tripped.get().map_or(Ok(()), |reached| Err((*reached).into()))
    }

    /// Waits until somebody else ends the guest.
    pub(crate) async fn ended(&self) -> Reached {
        self.control.wait(|| self.end()).await
    }

    fn end(&self) -> Option<Reached> {
        self.tripped.get().copied().or_else(|| {
            let reason = if self.control.is_given_up() { Reached::Stuck } else { Reached::Cancelled };
            self.control.is_cancelled().then_some(reason)
        })
    }

    /// Which limit has been reached by now, if any; asked at every epoch tick.
    pub(crate) fn check(&self) -> Result<(), Reached> {
        if let Some(reached) = self.end() {
            return Err(reached);
        }
        let span = self.span.lock();
        if span.started.elapsed() > span.wall {
            Err(Reached::Wall { limit: span.wall })
        } else if self.cpu.used().saturating_sub(span.cpu_before) > span.cpu {
            Err(Reached::Cpu { limit: span.cpu })
        } else {
            Ok(())
        }
    }
}
