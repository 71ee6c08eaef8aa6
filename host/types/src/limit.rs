//! What a running guest may use. Every limit has a default and is enforced; reaching one ends that task alone, with its own error code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result, format_bytes};

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
    /// Bytes of the encoded result. Default and most 128 MiB: a result is one message.
    pub result_bytes: u64,
}

impl TaskLimits {
    /// The most memory a guest can have: the address space of 32-bit WebAssembly.
    pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
    /// The longest time limit that can be asked for.
    pub const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
    /// The most table elements that can be asked for; the pool reserves address space for as many.
    pub const TABLE_ELEMENTS_MAX: u64 = 1_000_000;
    /// The largest output that can be asked for.
    pub const BYTES_MAX: u64 = 4 << 30;
    /// The largest result that can be asked for; with its message around it, it stays below what peers take.
    pub const RESULT_BYTES_MAX: u64 = 128 << 20;

    /// These limits, if all of them can be asked for.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`], naming the first that is too large.
    pub fn checked(self) -> Result<Self> {
        let most = self.clamped();
        let bytes = [
            ("memory", self.memory_bytes, most.memory_bytes),
            ("standard output", self.stdout_bytes, most.stdout_bytes),
            ("standard error", self.stderr_bytes, most.stderr_bytes),
            ("result", self.result_bytes, most.result_bytes),
        ];
        for (what, asked, most) in bytes {
            if asked > most {
                let message = format!("a task's {what} can be limited to at most {}, not to {}", format_bytes(most), format_bytes(asked));
                return Err(Error::new(Code::LIMIT, message));
            }
        }
        if self.table_elements > most.table_elements {
            let message = format!("a task's tables can have at most {} elements, not {}", most.table_elements, self.table_elements);
            return Err(Error::new(Code::LIMIT, message));
        }
        if self.wall > most.wall || self.cpu > most.cpu {
            return Err(Error::new(Code::LIMIT, "a task's time can be limited to at most 366 days"));
        }
        Ok(self)
    }

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
            result_bytes: self.result_bytes.min(Self::RESULT_BYTES_MAX),
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
            result_bytes: Self::RESULT_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_named() {
        let default = TaskLimits::default();
        assert_eq!(default.checked(), Ok(default));
        let of = |limits: TaskLimits| limits.checked().unwrap_err().message().to_owned();
        assert_eq!(of(TaskLimits { result_bytes: 1 << 30, ..default }), "a task's result can be limited to at most 128MiB, not to 1GiB");
        assert!(of(TaskLimits { memory_bytes: 5 << 30, ..default }).contains("memory"));
        assert!(of(TaskLimits { table_elements: 2_000_000, ..default }).contains("tables"));
        assert!(of(TaskLimits { cpu: Duration::MAX, ..default }).contains("366 days"));
    }
}
