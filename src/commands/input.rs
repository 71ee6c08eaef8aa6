//! What is submitted: the artifact's file, and the lines of `--map`.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use bytes::Bytes;
use rwasm_client::Call;
use rwasm_node::{ARTIFACT_BYTES_MAX, too_large};
use rwasm_types::{Code, Error, Result};
use rwasm_values::json;

use super::submit::Files;

/// The most bytes of one line of `--map`.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// The most lines of `--map`; what a job may have under way.
const LINES_MAX: usize = 2_000_000;

/// Reads an artifact's file; one that is larger than artifacts may be is not read.
pub(crate) fn artifact(path: &Path) -> Result<Bytes> {
    let unreadable = |error: io::Error| {
        Error::new(Code::IO, format!("cannot read {}: {error}", path.display())).hint("check the path").with("path", path.display())
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > ARTIFACT_BYTES_MAX {
        return Err(too_large(length).with("path", path.display()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(ARTIFACT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > ARTIFACT_BYTES_MAX {
        return Err(too_large(bytes.len() as u64).with("path", path.display()));
    }
    if bytes.is_empty() {
        return Err(Error::new(Code::EMPTY_FILE, format!("{} is empty", path.display())).hint("check that it was built"));
    }
    Ok(bytes.into())
}

/// Reads the lines of `--map` and encodes each as the arguments of a call. All of them are checked before any is submitted. Gives the
/// numbers of the lines too: empty ones have no call.
///
/// # Errors
///
/// [`Code::BAD_INPUT_LINE`] with the number of the first line that does not fit, and why.
pub(crate) fn map_lines(path: &Path, call: &Call, files: &mut Files) -> Result<(Vec<u32>, Vec<Bytes>)> {
    let unreadable = |error: io::Error| Error::new(Code::IO, format!("cannot read {}: {error}", path.display())).hint("check the path");
    let mut reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin().lock()))
    } else {
        Box::new(BufReader::new(fs::File::open(path).map_err(unreadable)?))
    };
    let (mut numbers, mut all) = (Vec::new(), Vec::new());
    let mut line = Vec::new();
    for number in 1_u32.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        let bad = |why: &Error| {
            let error = Error::new(Code::BAD_INPUT_LINE, format!("line {number} of {}: {}", path.display(), why.message()));
            let error =
                why.fields().fold(error, |error, (key, value)| error.with(key, value)).with("line", number).with("cause", why.code());
            error.hint("each line is a JSON array of arguments, or an object by parameter name; nothing was submitted")
        };
        if read as u64 == LINE_BYTES_MAX {
            return Err(bad(&Error::new(Code::VALUE_TOO_LARGE, "it is too long")));
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if all.len() == LINES_MAX {
            return Err(bad(&Error::new(Code::LIMIT, format!("a job may have {LINES_MAX} lines"))));
        }
        let with_refs = files.in_json(text);
        let text = with_refs.as_deref().unwrap_or(text);
        let args = json::parse_args(text, &call.export().signature, &rwasm_values::Limits::default()).map_err(|error| bad(&error))?;
        numbers.push(number);
        all.push(call.encode(&args).map_err(|error| bad(&error))?);
    }
    Ok((numbers, all))
}
