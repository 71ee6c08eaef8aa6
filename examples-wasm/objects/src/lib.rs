//! Values in shared memory: made piece by piece, looked at through windows, passed on by handle.

use std::io::{self, BufRead, Write};

use rwasm::{
    Object,
    object::{Error, Writer},
};

/// Makes a table of so many lines, each the number of the line and its square. Only a part of it is in memory at a time.
#[rwasm::export]
fn squares(lines: u64) -> Result<Object<Vec<u8>>, io::Error> {
    let size = (0..lines).map(|line| digits(line) + digits(line * line) + 2).sum();
    let mut table = io::BufWriter::new(Object::<Vec<u8>>::writer(size)?);
    for line in 0..lines {
        writeln!(table, "{line},{}", line * line)?;
    }
    let table: Writer<Vec<u8>> = table.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(table.seal()?)
}

fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

/// Counts the lines of a file, through a window if it is large.
#[rwasm::export]
fn count_lines(file: &Object<Vec<u8>>) -> Result<u64, Error> {
    Ok(file.bytes()?.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// The last line of a file. However large it is, only its end is looked at.
#[rwasm::export]
fn last_line(file: &Object<Vec<u8>>) -> Result<String, Error> {
    const LINE_BYTES_MAX: u64 = 4096;
    let size = file.info()?.size;
    let end = file.range(size.saturating_sub(LINE_BYTES_MAX), size.min(LINE_BYTES_MAX))?;
    let line = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// The longest line of a file, read from start to end.
#[rwasm::export]
fn longest_line(file: &Object<Vec<u8>>) -> Result<u64, io::Error> {
    let mut reader = file.reader()?;
    let (mut longest, mut line) = (0, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        longest = longest.max(line.trim_ascii_end().len() as u64);
        line.clear();
    }
    Ok(longest)
}

/// One object of several, one after the other.
#[rwasm::export]
fn join(parts: Vec<Object<Vec<u8>>>) -> Result<Object<Vec<u8>>, Error> {
    let mut size = 0;
    for part in &parts {
        size += part.info()?.size;
    }
    let mut whole = Object::writer(size)?;
    for part in &parts {
        whole.append(&part.bytes()?)?;
    }
    whole.seal()
}

/// The mean of a list of numbers.
#[rwasm::export]
fn mean(numbers: &Object<Vec<f64>>) -> Result<f64, Error> {
    let numbers = numbers.get()?;
    Ok(numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// Numbers for it.
#[rwasm::export]
fn numbers(count: u32) -> Result<Object<Vec<f64>>, Error> {
    Object::put(&(0..count).map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_and_read() {
        let table = squares(12).unwrap();
        assert_eq!(count_lines(&table), Ok(12));
        assert_eq!(last_line(&table).unwrap(), "11,121");
        assert_eq!(longest_line(&table).unwrap(), 6);
        let twice = join(vec![table.duplicate().unwrap(), table]).unwrap();
        assert_eq!(count_lines(&twice), Ok(24));
        assert_eq!(twice.info().unwrap().value_type, "list<u8>");
        assert_eq!(last_line(&squares(0).unwrap()).unwrap(), "");
    }

    #[test]
    fn numbers_come_back_as_they_are() {
        assert_eq!(mean(&numbers(5).unwrap()), Ok(2.0));
        let bytes = Object::put(&b"8 bytes!".to_vec()).unwrap();
        assert_eq!(mean(&Object::from_handle(bytes.into_handle())), Err(Error::Malformed));
    }
}
