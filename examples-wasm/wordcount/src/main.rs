//! A WASI command: counts the words of standard input, or of the files that are named, and prints the most frequent ones.
//!
//! It uses nothing but the standard library and would run anywhere else as it is.

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
};

/// How many words are printed.
const ROWS: usize = 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut counts = Counts::default();
    let mut files = env::args().skip(1).peekable();
    if files.peek().is_none() {
        counts.add(io::stdin().lock()).map_err(|error| format!("standard input: {error}"))?;
    }
    for name in files {
        let file = File::open(&name).map_err(|error| format!("{name}: {error}; grant its directory with --dir"))?;
        counts.add(BufReader::new(file)).map_err(|error| format!("{name}: {error}"))?;
    }
    counts.print(&mut io::stdout().lock()).map_err(|error| error.to_string())
}

/// How often each word was seen.
#[derive(Default)]
struct Counts {
    words: HashMap<String, u64>,
    total: u64,
}

impl Counts {
    /// Counts the words of a text: runs of letters, digits and apostrophes, in lower case. Bytes that are not UTF-8 separate words.
    fn add(&mut self, mut text: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while text.read_until(b'\n', &mut line)? > 0 {
            for word in String::from_utf8_lossy(&line).split(|c: char| !c.is_alphanumeric() && c != '\'') {
                let word = word.trim_matches('\'');
                if !word.is_empty() {
                    *self.words.entry(word.to_lowercase()).or_default() += 1;
                    self.total += 1;
                }
            }
            line.clear();
        }
        Ok(())
    }

    /// Prints the most frequent words, those equally frequent by the alphabet, and the totals.
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut rows: Vec<_> = self.words.iter().collect();
        rows.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
        for (word, count) in rows.iter().take(ROWS) {
            writeln!(out, "{count:>8}  {word}")?;
        }
        writeln!(out, "{:>8}  words, {} different", self.total, rows.len())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&[u8]], expected: &str) {
        let mut counts = Counts::default();
        for text in texts {
            counts.add(*text).unwrap();
        }
        let mut out = Vec::new();
        counts.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn counting() {
        check(&[b""], "       0  words, 0 different\n");
        check(&[b"b a\nA, b;c"], "       2  a\n       2  b\n       1  c\n       5  words, 3 different\n");
        check(&[b"one", b"one"], "       2  one\n       2  words, 1 different\n");
        check(
            &["Größe größe don't 'quoted'".as_bytes()],
            "       2  größe\n       1  don't\n       1  quoted\n       4  words, 3 different\n",
        );
        check(&[b"a\xffb"], "       1  a\n       1  b\n       2  words, 2 different\n");
    }
}
