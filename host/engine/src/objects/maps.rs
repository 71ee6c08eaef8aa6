//! How many mappings this process has. The kernel allows so many, `vm.max_map_count`, and beyond that even the undoing of a window fails; so
//! windows are refused long before.

use std::{
    fs::File,
    io::{self, Read},
    sync::OnceLock,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// What a kernel allows that does not say otherwise.
const MAPS_MAX_DEFAULT: usize = 65_530;

/// A window splits the mapping that it lies in into three.
const MAPS_PER_WINDOW: usize = 2;

/// For how long a count that was too high stands: counting takes milliseconds where there are many.
const REFUSED_FOR: Duration = Duration::from_millis(100);

/// The process's mappings, as far as they are known.
pub(super) struct Maps {
    /// Half of what the kernel allows; read when first needed.
    limit: OnceLock<usize>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last count, with all that may have been added since.
    at_most: Option<usize>,
    /// When the count was last too high.
    refused: Option<Instant>,
}

/// Those of this process.
pub(super) static MAPS: Maps = Maps { limit: OnceLock::new(), seen: Mutex::new(Seen { at_most: None, refused: None }) };

impl Maps {
    /// Whether there is room for one more window, which is then counted.
    pub(super) fn admit(&self) -> bool {
        let limit = *self.limit.get_or_init(|| allowed() / 2);
        self.seen.lock().admit(limit, Instant::now(), || count().unwrap_or(usize::MAX))
    }
}

impl Seen {
    /// Counts mappings anew only where those that were made since the last count may have used up the room; most of them are gone by then.
    fn admit(&mut self, limit: usize, now: Instant, count: impl FnOnce() -> usize) -> bool {
        let wanted = |at_most: usize| at_most.saturating_add(MAPS_PER_WINDOW);
        if let Some(at_most) = self.at_most.map(wanted).filter(|at_most| *at_most <= limit) {
            self.at_most = Some(at_most);
            return true;
        }
        if self.refused.is_some_and(|refused| now.duration_since(refused) < REFUSED_FOR) {
            return false;
        }
        let at_most = wanted(count());
        let room = at_most <= limit;
        self.at_most = room.then_some(at_most);
        self.refused = (!room).then_some(now);
        room
    }
}

fn allowed() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(MAPS_MAX_DEFAULT)
}

/// A line for each mapping.
fn count() -> io::Result<usize> {
    let mut maps = File::open("/proc/self/maps")?;
    let mut buffer = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match maps.read(&mut buffer)? {
            0 => return Ok(lines),
            read => lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_counted_when_the_room_may_be_used_up() {
        let now = Instant::now();
        let mut seen = Seen::default();
        let unread = || panic!("there is room by what is known");
        assert!(seen.admit(10, now, || 4));
        assert!(seen.admit(10, now, unread));
        assert!(seen.admit(10, now, unread));
        // 4 and 3 windows: they may all be there still.
        assert!(!seen.admit(10, now, || 10));
        // Too high; for a moment nobody looks again.
        assert!(!seen.admit(10, now, unread));
        assert!(seen.admit(10, now + REFUSED_FOR, || 5));
        assert!(seen.admit(10, now + REFUSED_FOR, unread));
        // Whoever cannot count refuses.
        assert!(!seen.admit(10, now + REFUSED_FOR, || usize::MAX));
    }

    #[test]
    fn the_kernel_is_asked() {
        assert!(allowed() >= 1000);
        assert!(count().unwrap() > 10);
    }
}
