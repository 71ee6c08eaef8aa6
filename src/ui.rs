//! How things are shown: data on standard output, everything else on standard error, colours only where someone looks.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rwasm_types::{Code, Error, Result};
use serde::Serialize;

/// The error of an output that nobody reads any more; it ends the command with success.
pub(crate) fn broken_pipe() -> Error {
    Error::new(Code::IO, "nobody reads the output any more")
}

/// Writes data to standard output.
pub(crate) fn out(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => broken_pipe(),
        io::ErrorKind::StorageFull => Error::new(Code::DISK_FULL, "standard output takes no more: its disk is full"),
        _ => Error::new(Code::IO, format!("cannot write to standard output: {error}")),
    })
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    out(format!("{text}\n").as_bytes())
}

/// Writes a value as JSON, for people who read it and machines alike.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::internal(format!("an answer has no JSON: {error}")))?;
    line(&text)
}

/// Writes to standard error; if nobody reads that, there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes bytes to standard error as they are.
pub(crate) fn err(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Whether standard error is looked at, and colours are welcome there.
pub(crate) fn fancy() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints an error in one line: its code, its cause, the next step.
pub(crate) fn error(error: &Error, json: bool) {
    if json {
        note(&serde_json::json!({ "error": error }).to_string());
        return;
    }
    let (start, end) = if fancy() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    note(&format!("{start}error[{}]{end}: {}", error.code(), printable(&error.to_string())));
    if let Some(frames) = error.field("frames") {
        for frame in frames.lines() {
            note(&format!("    at {}", printable(frame)));
        }
    }
}

/// A text without control characters: what comes from guests must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Lines without control characters, each with its line break.
pub(crate) fn printable_lines(lines: &[String]) -> String {
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// A table without lines, as `kubectl` prints them.
pub(crate) fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text: String = table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect();
    out(text.as_bytes())
}

/// A bar over so many steps, on standard error if it is a terminal. It has no colours.
pub(crate) fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let template = "{bar:32} {pos}/{len} {msg} {per_sec} eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A spinner with a text, on standard error if it is a terminal.
pub(crate) fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Milliseconds since 1970 as UTC, to the second.
pub(crate) fn time(ms: u64) -> String {
    rwasm_types::format_time(ms)
}

/// How long ago, in the largest unit that fits: `12s`, `3m`, `5h`, `2d`.
pub(crate) fn age(from_ms: u64, to_ms: u64) -> String {
    let seconds = to_ms.saturating_sub(from_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
