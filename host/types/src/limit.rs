//! What a running guest may use. Every limit has a default and is enforced; reaching one ends that task alone, with its own error code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of one task. They are ceilings; what admission counts is the task's reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskLimits {
    /// Bytes of all linear memories of the guest together. Default 512 MiB, at most 4 GiB.
    pub memory_bytes: u64,
    /// Wall-clock time from the start of an attempt to its end. Default one day.
    pub wall: Duration,
    /// Processor time of an attempt: instantiation, the call, destructors and host work done for it. Default one day.
    pub cpu: Duration,
    /// Elements of all tables of the guest together. Default 100,000.
    pub table_elements: u64,
    /// Bytes of standard output. Default 16 MiB.
    pub stdout_bytes: u64,
    /// Bytes of standard error and of `log` together. Default 16 MiB.
    pub stderr_bytes: u64,
    /// Bytes of the encoded result. Default 128 MiB, at most 4 GiB.
    pub result_bytes: u64,
}

impl TaskLimits {
    /// The most memory a guest can have: the address space of 32-bit WebAssembly.
    pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
    /// The longest time limit that can be asked for.
    pub const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
    /// The most table elements that can be asked for; the pool reserves address space for as many.
    pub const TABLE_ELEMENTS_MAX: u64 = 1_000_000;
    /// The largest output and result that can be asked for.
    pub const BYTES_MAX: u64 = 4 << 30;

    /// These limits, each cut to what can be asked for.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(Self::MEMORY_BYTES_MAX),
            wall: self.wall.min(Self::TIME_MAX),
            cpu: self.cpu.min(Self::TIME_MAX),
            table_elements: self.table_elements.min(Self::TABLE_ELEMENTS_MAX),
            stdout_bytes: self.stdout_bytes.min(Self::BYTES_MAX),
            stderr_bytes: self.stderr_bytes.min(Self::BYTES_MAX),
            result_bytes: self.result_bytes.min(Self::BYTES_MAX),
        }
    }
}

impl Default for TaskLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            memory_bytes: 512 << 20,
            wall: DAY,
            cpu: DAY,
            table_elements: 100_000,
            stdout_bytes: 16 << 20,
            stderr_bytes: 16 << 20,
            result_bytes: 128 << 20,
        }
    }
}
