//! Sizes and durations as people write them, and back.

use std::time::Duration;

/// A text that is no size or duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}, which looks like {examples}")]
pub struct ParseUnitError {
    text: String,
    kind: &'static str,
    examples: &'static str,
}

/// Reads a size in bytes: `4096`, `64MiB`, `1.5G`. Units count in powers of 1,024, with or without the `i`, as `docker` and `ray` do.
///
/// # Errors
///
/// If the text is no size.
pub fn parse_bytes(text: &str) -> Result<u64, ParseUnitError> {
    let error = || ParseUnitError { text: text.chars().take(80).collect(), kind: "a size", examples: "4096, 64MiB or 1.5G" };
    parse_size::Config::new().with_binary().parse_size(text.trim()).map_err(|_| error())
}

/// Writes a size with at most one decimal: `512B`, `64MiB`, `1.5GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (63 - bytes.max(1).leading_zeros()) / 10;
    // Tenths, rounded to nearest without leaving the integers, so that no size is shown as its neighbour.
    let unit = 1u128 << (10 * power);
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    let name = UNITS[power as usize];
    if tenths.is_multiple_of(10) { format!("{}{name}", tenths / 10) } else { format!("{}.{}{name}", tenths / 10, tenths % 10) }
}

/// Reads a duration: `250ms`, `3s`, `1h 30m`.
///
/// # Errors
///
/// If the text is no duration.
pub fn parse_duration(text: &str) -> Result<Duration, ParseUnitError> {
    let error = || ParseUnitError { text: text.chars().take(80).collect(), kind: "a duration", examples: "250ms, 3s or 1h30m" };
    humantime::parse_duration(text.trim()).map_err(|_| error())
}

/// Writes a duration as people do, to three units at most: `1.2ms`, `3.4s`, `1h 30m`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{:.1}µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", nanos as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1}s", nanos as f64 / 1e9),
        _ => humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    }
}

/// Writes milliseconds since 1970 as UTC, to the second.
pub fn format_time(ms: u64) -> String {
    // Beyond the year 9999 there is no such text; a clock that says so is wrong.
    const LAST_SECOND: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs((ms / 1_000).min(LAST_SECOND))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("64M", 64 << 20), ("1.5G", 3 << 29), (" 1 KiB ", 1024)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1Q", "1e400"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (64 << 20, "64MiB"), (u64::MAX, "16EiB")] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("3").is_err() && parse_duration("-1s").is_err() && parse_duration("").is_err());
        assert_eq!(format_duration(Duration::from_micros(1234)), "1.2ms");
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h 30m");
    }
}
