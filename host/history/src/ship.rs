//! What of the past travels to the head: whole records, as they lie in their segments.
//!
//! ```text
//! head: I have all before 3/4711, send 256 KiB ──▶ owner
//!                                       ◀── 3/4711: records …            the head appends them at byte 4711 of its own segment 3
//! head: I have all before 3/9000 …        ──▶     nothing was said twice, and nothing twice over does harm: a position is a place
//! ```
//!
//! Segments are numbered without holes. So a number that is passed over is a segment that was removed before the head had it.

use std::path::Path;

use bytes::Bytes;
use rwasm_types::{Code, Error, Result};

use crate::{
    past::Past,
    segment::{self, FRAME_BYTES, HEADER_BYTES, LogKind, Origin, Position, Segment},
};

/// Bytes of records that a head asks for at once; one that is larger travels alone.
pub const BATCH_BYTES: usize = 256 << 10;
/// The longest record that travels, and so about the largest batch. A job's end has two lines for each of its calls at most.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// A part of an owner's past, on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastBatch {
    /// Where its first byte stands; at byte 0 of a segment, it begins with the segment's header.
    pub at: Position,
    /// Whole records.
    pub records: Bytes,
    /// Nothing follows in this segment.
    pub sealed: bool,
    /// Bytes behind them, of a sealed segment, that cannot be read at the owner.
    pub unreadable: u64,
}

/// How a batch continues what the head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The head has it.
    Known,
    /// It is the next.
    Next,
    /// It is the next that there is: what stood between was removed before it was sent.
    AfterGap,
}

/// Looks how a batch continues what stands before a position.
///
/// # Errors
///
/// [`Code::HISTORY_REFUSED`] if it does not.
pub(crate) fn place(had: Position, at: Position) -> Result<Place> {
    match () {
        () if at == had => Ok(Place::Next),
        () if at < had => Ok(Place::Known),
        // Of an owner that is new to the head, nothing is missed.
        () if had == Position::default() && at.offset == 0 => Ok(Place::Next),
        () if at.segment > had.segment && at.offset == 0 => Ok(Place::AfterGap),
        () => Err(refused(format!("it begins at {at}, and what comes next stands at {had}"))),
    }
}

impl PastBatch {
    /// Where the next one begins.
    pub fn end(&self) -> Position {
        if self.sealed {
            return Position { segment: self.at.segment.saturating_add(1), offset: 0 };
        }
        Position { offset: self.at.offset + self.records.len() as u64, ..self.at }
    }

    /// Checks every byte of it; gives what it says, and when its segment was begun if it has the begin. A record of a kind that this version
    /// does not know is passed over.
    ///
    /// # Errors
    ///
    /// [`Code::HISTORY_REFUSED`] if a checksum is wrong, a record is cut, or something is not of this owner.
    pub(crate) fn read(&self, origin: &Origin) -> Result<Vec<(Position, Past)>> {
        let Position { segment, mut offset } = self.at;
        let mut rest = self.records.clone();
        let begins = offset == 0 && !rest.is_empty();
        if self.records.len() > BATCH_BYTES_MAX + HEADER_BYTES as usize || !begins && (1..HEADER_BYTES).contains(&offset) || segment == 0 {
            return Err(refused("its size or place is impossible".to_owned()));
        }
        if begins {
            let header = rest.first_chunk::<{ HEADER_BYTES as usize }>().ok_or_else(|| refused("its segment has no header".to_owned()))?;
            let expected = segment::header(origin, segment, segment::created_ms(header));
            segment::check_header(Path::new("the segment"), header, &expected).map_err(|error| refused(error.message().to_owned()))?;
            rest = rest.split_off(HEADER_BYTES as usize);
            offset = HEADER_BYTES;
        }
        let mut found = Vec::new();
        while !rest.is_empty() {
            let at = Position { segment, offset };
            let (record, bytes) = segment::record(at, &rest).ok_or_else(|| refused(format!("the record at {at} is damaged")))?;
            if let Ok(past) = Past::read(&record) {
                past.check(origin.owner).map_err(|why| refused(format!("the record at {at} {why}")))?;
                found.push((at, past));
            }
            rest = rest.split_off(usize::try_from(bytes).unwrap_or(usize::MAX));
            offset += bytes;
        }
        Ok(found)
    }
}

/// Why a batch is not taken.
pub(crate) fn refused(why: String) -> Error {
    Error::new(Code::HISTORY_REFUSED, format!("a part of the history is refused: {why}"))
}

/// Whole records of a log from a position on, as far as `end`.
///
/// # Errors
///
/// If they cannot be read.
pub(crate) fn batch(
    dir: &Path,
    origin: &Origin,
    sealed: &[(u64, u64)],
    end: Position,
    from: Position,
    bytes_max: usize,
) -> Result<PastBatch> {
    debug_assert_eq!(origin.kind, LogKind::Past);
    let numbers = sealed.iter().map(|(number, _)| *number).chain([end.segment]);
    // The last one there is, if the head is ahead of it.
    let number = numbers.filter(|number| *number >= from.segment).min().unwrap_or(end.segment);
    let at = if number == from.segment { from } else { Position { segment: number, offset: 0 } };
    let nothing = PastBatch { at, ..PastBatch::default() };
    let current = number == end.segment;
    if current && end.offset <= at.offset.max(HEADER_BYTES) {
        return Ok(nothing);
    }
    let Some(mut segment) = Segment::open(dir, number, origin)? else { return Ok(PastBatch { sealed: !current, ..nothing }) };
    if current {
        segment.until(end.offset);
    }
    let mut out = Vec::new();
    if at.offset == 0 {
        out.extend_from_slice(&segment::header(origin, number, segment.created_ms()));
    }
    let first = out.len();
    let mut records = segment.records(at.offset);
    let unreadable = loop {
        let Some(record) = records.next() else { break records.gap().map(|gap| gap.bytes) };
        if record.payload.len() > BATCH_BYTES_MAX - FRAME_BYTES as usize {
            break Some(segment.length() - record.at.offset);
        }
        if out.len() > first && out.len() - first + FRAME_BYTES as usize + record.payload.len() > bytes_max {
            return Ok(PastBatch { records: out.into(), ..nothing });
        }
        segment::push(&mut out, record.kind, |out| {
            out.extend_from_slice(&record.payload);
            Ok(())
        })?;
    };
    Ok(PastBatch { records: out.into(), sealed: !current, unreadable: unreadable.unwrap_or(0), ..nothing })
}
