//! Sums up flight delays per carrier: a map step over ranges of a CSV file that lies in the store, and a reduce step. The contract is
//! `wit/world.wit`.

use std::{collections::BTreeMap, io::Read, str};

use csv::{ByteRecord, ReaderBuilder};

rwasm::generate!({
    with: { "rwasm:core/objects@0.1.0": ::rwasm::bindings::objects },
    additional_derives: [PartialEq],
});

/// Who arrives later than this is late.
const LATE_MINUTES: i64 = 30;

struct Flights;

impl Guest for Flights {
    fn summarise(csv: Object, start: u64, end: u64) -> Vec<CarrierStats> {
        let file = rwasm::Object::from_handle(csv);
        // A file that is no table is a mistake of whoever put it there, not a result that a reduce step could use.
        lines_of(&file, start, end).unwrap_or_else(|error| panic!("{error}"))
    }

    fn merge(parts: Vec<Vec<CarrierStats>>) -> Vec<CarrierStats> {
        let mut sums = Sums::default();
        for part in parts.into_iter().flatten() {
            let sum = sums.of(part.carrier.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            sum.flights += part.flights;
            sum.arrivals += part.arrivals;
            sum.delay_minutes += part.delay_minutes;
            sum.late += part.late;
        }
        sums.finish()
    }
}

export!(Flights);

/// The longest line. A line that begins in a range is read to its end.
const LINE_BYTES_MAX: u64 = 64 << 10;

fn lines_of(file: &rwasm::Object<Vec<u8>>, start: u64, end: u64) -> Result<Vec<CarrierStats>, String> {
    let told = |error: rwasm::object::Error| error.to_string();
    let size = file.info().map_err(told)?.size;
    let head = file.range(0, size.min(LINE_BYTES_MAX)).map_err(told)?;
    let header = line_end(&head, 0, head.len() as u64 == size)?;
    // From the byte before: a line begins at `start` if that is the end of another.
    let (from, end) = (start.max(header as u64).saturating_sub(1), end.min(size));
    if end <= from + 1 {
        return summarise(&head[..header]);
    }
    let until = (end + LINE_BYTES_MAX).min(size);
    let bytes = file.range(from, until - from).map_err(told)?;
    let first = line_end(&bytes, 0, until == size)?;
    // The line that begins before `end` is the last.
    let last = line_end(&bytes, (end - from - 1) as usize, until == size)?;
    summarise(head[..header].chain(bytes.get(first..last).unwrap_or_default()))
}

/// Where the line ends that goes on at a place. The last of the file needs no line break.
fn line_end(bytes: &[u8], place: usize, is_last: bool) -> Result<usize, String> {
    match bytes.iter().skip(place).position(|byte| *byte == b'\n') {
        Some(at) => Ok(place + at + 1),
        None if is_last => Ok(bytes.len()),
        None => Err(format!("a line is longer than {LINE_BYTES_MAX} bytes")),
    }
}

fn summarise(csv: impl Read) -> Result<Vec<CarrierStats>, String> {
    let mut reader = ReaderBuilder::new().from_reader(csv);
    let header = reader.byte_headers().map_err(|error| error.to_string())?;
    let column = |name: &str| {
        // Some programs begin a CSV file with a byte-order mark, which becomes a part of the first column's name.
        let found = header.iter().position(|field| field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field) == name.as_bytes());
        found.ok_or_else(|| format!("the header line has no column `{name}`"))
    };
    let (carrier, delay) = (column("carrier")?, column("arr_delay")?);

    let mut sums = Sums::default();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
        let at_line = |error| format!("line {}: {error}", record.position().map_or(0, csv::Position::line));
        // The reader has checked that every record has as many fields as the header.
        let sum = sums.of(&record[carrier]).map_err(at_line)?;
        sum.flights += 1;
        if let Some(minutes) = minutes(&record[delay]).map_err(at_line)? {
            sum.arrivals += 1;
            sum.delay_minutes += minutes;
            sum.late += u64::from(minutes > LATE_MINUTES);
        }
    }
    Ok(sums.finish())
}

/// A delay; none if it is not known.
fn minutes(field: &[u8]) -> Result<Option<i64>, String> {
    match field.trim_ascii() {
        b"" | b"NA" => Ok(None),
        // 32 bits, so that the sums of a whole file cannot overflow.
        number => match str::from_utf8(number).ok().and_then(|number| number.parse::<i32>().ok()) {
            Some(minutes) => Ok(Some(minutes.into())),
            None => Err(format!("arr_delay is `{}`, which is neither whole minutes nor NA", String::from_utf8_lossy(number))),
        },
    }
}

/// The sums so far, by carrier.
#[derive(Default)]
struct Sums(BTreeMap<String, CarrierStats>);

impl Sums {
    fn of(&mut self, carrier: &[u8]) -> Result<&mut CarrierStats, String> {
        let carrier = str::from_utf8(carrier.trim_ascii()).ok().filter(|carrier| !carrier.is_empty());
        let carrier = carrier.ok_or("the carrier's code is missing or is not UTF-8")?;
        // Looked up before it is inserted: there are few carriers and many flights, and only an insertion needs a string of its own.
        if !self.0.contains_key(carrier) {
            let none = CarrierStats { carrier: carrier.to_owned(), flights: 0, arrivals: 0, delay_minutes: 0, late: 0 };
            self.0.insert(carrier.to_owned(), none);
        }
        self.0.get_mut(carrier).ok_or_else(|| "the carrier was not inserted".to_owned())
    }

    fn finish(self) -> Vec<CarrierStats> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(carrier: &str, flights: u64, arrivals: u64, delay_minutes: i64, late: u64) -> CarrierStats {
        CarrierStats { carrier: carrier.to_owned(), flights, arrivals, delay_minutes, late }
    }

    #[test]
    fn sums() {
        let csv = b"flight,arr_delay,carrier\n1,31,UA\n2,30,UA\n3,-5,AA\n4,NA,UA\n5,,AA\n";
        assert_eq!(summarise(&csv[..]).unwrap(), [stats("AA", 2, 1, -5, 0), stats("UA", 3, 2, 61, 1)]);
    }

    #[test]
    fn columns_are_found_by_name_in_any_dialect() {
        let expected = [stats("UA", 1, 1, 40, 1)];
        for csv in [
            &b"carrier,arr_delay\nUA,40"[..],
            b"carrier,arr_delay\r\nUA,40\r\n",
            b"\"arr_delay\",\"name\",\"carrier\"\n\"40\",\"a, \"\"b\"\"\nc\",\"UA\"\n",
            b"\xef\xbb\xbfcarrier,arr_delay\nUA , 40\n",
        ] {
            assert_eq!(summarise(csv).unwrap(), expected, "{}", String::from_utf8_lossy(csv));
        }
        assert_eq!(summarise(&b"carrier,arr_delay\n"[..]).unwrap(), []);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for (csv, expected) in [
            (&b""[..], "carrier"),
            (b"carrier\nUA\n", "arr_delay"),
            (b"carrier,arr_delay\nUA\n", "line: 2"),
            (b"carrier,arr_delay\nUA,1\nUA,soon\n", "line 3: arr_delay is `soon`"),
            (b"carrier,arr_delay\nUA,1.5\n", "`1.5`"),
            (b"carrier,arr_delay\nUA,99999999999\n", "`99999999999`"),
            (b"carrier,arr_delay\n,1\n", "line 2: the carrier"),
        ] {
            let error = summarise(csv).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let long = "x".repeat(2 * LINE_BYTES_MAX as usize);
        for csv in [format!("carrier,arr_delay,note\nUA,1,{long}\nUA,2,\n"), format!("carrier,arr_delay,{long}\nUA,1,\n")] {
            let (size, file) = (csv.len() as u64, rwasm::Object::put(&csv.into_bytes()).unwrap());
            let error = lines_of(&file, 0, 30.min(size)).unwrap_err();
            assert!(error.contains("longer"), "{error}");
        }
    }

    #[test]
    fn merging_ranges_is_summing_the_whole() {
        let csv = "carrier,arr_delay\nUA,31\nAA,NA\nUA,-3\nB6,0\nAA,1000";
        for csv in [csv.to_owned(), format!("{csv}\n")] {
            let (size, file) = (csv.len() as u64, rwasm::Object::put(&csv.clone().into_bytes()).unwrap());
            let whole = summarise(csv.as_bytes()).unwrap();
            assert_eq!(lines_of(&file, 0, size).unwrap(), whole);
            for cut in 0..=size {
                let parts = [(0, cut), (cut, u64::MAX)].map(|(start, end)| lines_of(&file, start, end).unwrap());
                assert_eq!(Flights::merge(parts.into()), whole, "{cut}");
            }
            let each = (0..size).map(|at| lines_of(&file, at, at + 1).unwrap());
            assert_eq!(Flights::merge(each.collect()), whole);
        }
        assert_eq!(Flights::merge(Vec::new()), []);
    }
}
