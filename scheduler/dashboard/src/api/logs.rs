//! A job's output as lines of JSON. Tasks write in pieces that end anywhere; readers get whole lines, each with its task.

use std::collections::BTreeMap;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rwasm_types::{Attempt, Error, Stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    cluster::{LogLines, Output},
    reply::with_type,
};

/// The most bytes of a line; longer ones are told in parts.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines that were begun and wait for their end; beyond, all are told as they are.
const BEGUN_MAX: usize = 1_024;

#[derive(Serialize)]
struct Line<'a> {
    task: u64,
    attempt: u32,
    stream: Stream,
    text: &'a str,
}

#[derive(Serialize)]
struct Last<'a> {
    error: &'a Error,
}

/// Lines under construction.
struct Assembler {
    begun: BTreeMap<(u64, Attempt, Stream), Vec<u8>>,
    /// Only lines with this text, in lower case.
    search: Option<String>,
}

impl Assembler {
    fn new(search: Option<String>) -> Self {
        Self { begun: BTreeMap::new(), search: search.map(|text| text.to_lowercase()) }
    }

    /// Takes pieces; writes the lines that are whole now.
    fn take(&mut self, outputs: Vec<Output>, out: &mut Vec<u8>) {
        for Output { sequence, attempt, stream, bytes } in outputs {
            let key = (sequence, attempt, stream);
            let mut line = self.begun.remove(&key).unwrap_or_default();
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                let (text, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
                line.extend_from_slice(text);
                while line.len() > LINE_BYTES_MAX {
                    let rest = line.split_off(LINE_BYTES_MAX);
                    self.tell(key, &line, out);
                    line = rest;
                }
                if is_whole {
                    self.tell(key, &line, out);
                    line.clear();
                }
            }
            if !line.is_empty() {
                self.begun.insert(key, line);
            }
            if self.begun.len() > BEGUN_MAX {
                self.end(out);
            }
        }
    }

    /// Writes what was begun as it is.
    fn end(&mut self, out: &mut Vec<u8>) {
        for (key, line) in std::mem::take(&mut self.begun) {
            self.tell(key, &line, out);
        }
    }

    fn tell(&self, (task, attempt, stream): (u64, Attempt, Stream), line: &[u8], out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        if self.search.as_ref().is_none_or(|search| text.to_lowercase().contains(search)) {
            write(&Line { task, attempt: attempt.0, stream, text: text.trim_end_matches('\r') }, out);
        }
    }
}

fn write<T: Serialize>(line: &T, out: &mut Vec<u8>) {
    // A line has no part that JSON does not know.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}

/// The answer: lines as they come.
pub(super) fn lines(outputs: LogLines, search: Option<String>, permit: OwnedSemaphorePermit) -> Response {
    let state = Some((outputs, Assembler::new(search), permit));
    let chunks = stream::unfold(state, |state| async move {
        let (mut outputs, mut assembler, permit) = state?;
        let mut out = Vec::new();
        while out.is_empty() {
            match outputs.next().await {
                Some(Ok(pieces)) => assembler.take(pieces, &mut out),
                end => {
                    assembler.end(&mut out);
                    if let Some(Err(error)) = end {
                        write(&Last { error: &error }, &mut out);
                    }
                    return Some((Ok::<_, std::convert::Infallible>(Bytes::from(out)), None));
                }
            }
        }
        Some((Ok(out.into()), Some((outputs, assembler, permit))))
    });
    with_type("application/x-ndjson", Body::from_stream(chunks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(sequence: u64, bytes: &str) -> Output {
        Output { sequence, attempt: Attempt::FIRST, stream: Stream::Stdout, bytes: Bytes::copy_from_slice(bytes.as_bytes()) }
    }

    fn told(search: Option<&str>, pieces: &[(u64, &str)]) -> Vec<(u64, String)> {
        let mut assembler = Assembler::new(search.map(str::to_owned));
        let mut out = Vec::new();
        for (sequence, bytes) in pieces {
            assembler.take(vec![output(*sequence, bytes)], &mut out);
        }
        assembler.end(&mut out);
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line: &[u8]| {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            (line["task"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())
        };
        lines.map(read).collect()
    }

    #[test]
    fn pieces_become_lines_of_their_tasks() {
        let lines = told(None, &[(0, "a"), (1, "x\ny"), (0, "b\r\n\nc\n"), (1, "z")]);
        let expected = [(1, "x"), (0, "ab"), (0, ""), (0, "c"), (1, "yz")];
        assert_eq!(lines, expected.map(|(task, text)| (task, text.to_owned())));
    }

    #[test]
    fn only_lines_with_the_text_are_told() {
        assert_eq!(told(Some("Err"), &[(0, "an error\nfine\nERR"), (1, "or\n")]), [(0, "an error".into()), (0, "ERR".into())]);
    }

    #[test]
    fn long_lines_and_many_begun_ones_do_not_pile_up() {
        let lines = told(None, &[(0, &"x".repeat(2 * LINE_BYTES_MAX + 1))]);
        assert_eq!(lines.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
        // Also where it came whole, and of no more than that nothing is left to tell.
        for (length, parts) in [(2 * LINE_BYTES_MAX + 1, vec![LINE_BYTES_MAX, LINE_BYTES_MAX, 1]), (LINE_BYTES_MAX, vec![LINE_BYTES_MAX])] {
            let lines = told(None, &[(0, &format!("{}\n", "x".repeat(length)))]);
            assert_eq!(lines.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), parts);
        }
        let mut assembler = Assembler::new(None);
        let mut out = Vec::new();
        assembler.take((0..=BEGUN_MAX as u64).map(|task| output(task, "x")).collect(), &mut out);
        assert!(assembler.begun.is_empty() && !out.is_empty());
    }
}
