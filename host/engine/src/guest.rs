//! The imports `context` and `log` of `rwasm:core`: what a guest may ask about itself, and lines for people.
//!
//! None of these functions blocks, so a guest that imports nothing else runs without a fiber.

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker};

use self::bindings::rwasm::core::{context, log};
use crate::store::Host;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/core",
        // Objects are linked by hand.
        inline: "
            package rwasm:host;
            world host {
                import rwasm:core/context@0.1.0;
                import rwasm:core/log@0.1.0;
            }
        ",
        world: "rwasm:host/host",
    });
}

/// Adds the two interfaces to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    context::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    log::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

impl context::Host for Host {
    fn task_id(&mut self) -> String {
        self.identity.task.to_string()
    }

    fn job_id(&mut self) -> String {
        self.identity.job.to_string()
    }

    fn attempt(&mut self) -> u32 {
        self.identity.attempt.0
    }

    fn node_id(&mut self) -> String {
        self.identity.node.to_string()
    }

    fn tenant(&mut self) -> String {
        self.identity.tenant.to_string()
    }

    fn deadline_ms(&mut self) -> u64 {
        let left = self.budget.left();
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }

    fn cancelled(&mut self) -> bool {
        self.budget.control.is_asked()
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Trace => "TRACE",
            log::Level::Debug => "DEBUG",
            log::Level::Info => "INFO",
            log::Level::Warn => "WARN",
            log::Level::Error => "ERROR",
        };
        self.write_log_line(level, &message);
    }
}

impl Host {
    /// Writes a line if there is room; a guest of this interface cannot wait, so lines beyond are counted instead.
    fn write_log_line(&mut self, level: &str, message: &str) {
        if !self.stderr.has_room() {
            self.log_lines_dropped += 1;
            return;
        }
        let mut line = String::with_capacity(message.len() + 64);
        if self.log_lines_dropped > 0 {
            line.push_str(&format!("rwasm: {} lines were dropped, nobody read them fast enough\n", self.log_lines_dropped));
            self.log_lines_dropped = 0;
        }
        line.push_str(level);
        line.push(' ');
        for c in message.chars() {
            if steers(c) { line.extend(c.escape_default()) } else { line.push(c) }
        }
        line.push('\n');
        if let Err(reached) = self.stderr.write(Bytes::from(line)) {
            self.budget.trip(reached);
        }
    }
}

/// Whether a character changes how others are shown: control codes, ends of lines, and marks that turn the direction of text.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && c != '\t'
}
