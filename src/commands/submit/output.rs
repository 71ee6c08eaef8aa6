//! What tasks write, as it comes: as it is where one task writes, with the task's number before each line where several do.

use std::collections::HashMap;

use rwasm_client::TaskOutput;
use rwasm_types::{Result, Stream};

use crate::ui;

/// The most bytes of a line that are held until its end comes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Prints output.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// Whether standard output of tasks is our data: so for commands. For functions it is the results.
    data: bool,
    /// Whether what was last written to our standard error ended in the middle of a line.
    mid_line: bool,
    /// Lines that have not ended, where several tasks are mixed.
    partial: Option<HashMap<(u64, Stream), Vec<u8>>>,
}

impl Outputs {
    pub(crate) fn new(data: bool, mixed: bool) -> Self {
        Self { data, mid_line: false, partial: mixed.then(HashMap::new) }
    }

    pub(crate) fn write(&mut self, pieces: Vec<TaskOutput>) -> Result<()> {
        for TaskOutput { sequence, stream, bytes, .. } in pieces {
            match &mut self.partial {
                None => {
                    if stream == Stream::Stderr || !self.data {
                        self.mid_line = bytes.last().is_some_and(|last| *last != b'\n');
                    }
                    print(self.data, stream, &bytes)?;
                }
                Some(partial) => {
                    let held = partial.entry((sequence, stream)).or_default();
                    held.extend_from_slice(&bytes);
                    let end = held.iter().rposition(|byte| *byte == b'\n').map(|position| position + 1);
                    let end = if held.len() > LINE_BYTES_MAX { Some(held.len()) } else { end };
                    if let Some(end) = end {
                        let lines: Vec<u8> = held.drain(..end).collect();
                        print(self.data, stream, &prefixed(sequence, &lines))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a line that a guest left open, so that what we say begins a line of its own.
    pub(crate) fn end_line(&mut self) {
        if std::mem::take(&mut self.mid_line) {
            ui::err(b"\n");
        }
    }

    /// Prints what did not end in a line break.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut rest: Vec<_> = self.partial.iter_mut().flat_map(HashMap::drain).filter(|(_, held)| !held.is_empty()).collect();
        rest.sort();
        for ((sequence, stream), held) in rest {
            print(self.data, stream, &prefixed(sequence, &held))?;
        }
        Ok(())
    }
}

fn print(data: bool, stream: Stream, bytes: &[u8]) -> Result<()> {
    match stream {
        Stream::Stdout if data => ui::out(bytes),
        Stream::Stdout | Stream::Stderr => {
            ui::err(bytes);
            Ok(())
        }
    }
}

fn prefixed(sequence: u64, lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + 16);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(format!("[{sequence}] ").as_bytes());
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_whose_it_is() {
        assert_eq!(prefixed(7, b"a\nb\n"), b"[7] a\n[7] b\n");
        assert_eq!(prefixed(7, b"a"), b"[7] a\n");
    }
}
