//! Numbers, texts and bytes inside of records: little, and checked where they are read.

use bytes::Bytes;
use rwasm_types::{Code, Error, Result};

/// Adds to a record.
pub(crate) trait Put {
    /// A number, in as many bytes as it needs: seven bits each, the lowest first.
    fn number(&mut self, number: u64);

    /// Bytes and their length.
    fn bytes(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Reads a record from its begin.
#[derive(Clone, Debug)]
pub(crate) struct Take(pub(crate) Bytes);

impl Take {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        let byte = *self.0.first().ok_or_else(|| damaged("it ends early"))?;
        self.0 = self.0.split_off(1);
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index as u32;
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                self.0 = self.0.split_off(index + 1);
                return Ok(number);
            }
        }
        Err(damaged("a number does not end"))
    }

    /// A number of a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T> {
        T::try_from(self.number()?).map_err(|_| damaged("a number is too large"))
    }

    /// How many things follow, each of at least `bytes_min` bytes: so a wrong count reserves no memory.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize> {
        let count: usize = self.small()?;
        if count.saturating_mul(bytes_min.max(1)) > self.0.len() {
            return Err(damaged("it has less than it says"));
        }
        Ok(count)
    }

    /// Bytes and their length; they share the record's memory.
    pub(crate) fn bytes(&mut self) -> Result<Bytes> {
        let length = self.count(1)?;
        Ok(self.0.split_to(length))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        serde_json::from_slice(&self.bytes()?).map_err(|error| damaged(&format!("a part is no JSON of its kind: {error}")))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(damaged("it is longer than its parts")) }
    }
}

/// The error of a record that passed its checksum and still makes no sense: a bug, or a file that somebody made.
pub(crate) fn damaged(why: &str) -> Error {
    Error::new(Code::HISTORY_DAMAGED, format!("a record of the history does not follow its format: {why}"))
}

/// The JSON of what has one by construction.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal(format!("a record has no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_are_read_as_they_were_written(numbers: Vec<u64>, bytes: Vec<u8>) {
            let mut out = Vec::new();
            numbers.iter().for_each(|number| out.number(*number));
            out.bytes(&bytes);
            let mut take = Take(out.into());
            for number in numbers {
                prop_assert_eq!(take.number().unwrap(), number);
            }
            prop_assert_eq!(&take.bytes().unwrap()[..], &bytes[..]);
            prop_assert!(take.end().is_ok());
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let mut take = Take(bytes.into());
            while !take.is_empty() && take.number().and_then(|_| take.bytes()).is_ok() {}
        }
    }

    #[test]
    fn counts_are_held_against_what_is_there() {
        let mut out = Vec::new();
        out.number(u64::MAX);
        out.push(1);
        assert!(Take(out.clone().into()).count(1).is_err() && Take(out.into()).bytes().is_err());
        assert!(Take(vec![0xff; 11].into()).number().is_err());
    }
}
