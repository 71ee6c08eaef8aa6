//! A certificate's fingerprint: what people compare and pin.

use std::{fmt, str::FromStr};

use rwasm_types::{Code, Error, Result};

use crate::identity::certificates;

const PREFIX: &str = "sha256:";

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` computes it; written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// The fingerprint of a certificate in PEM.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if it is none.
    pub fn of_pem(pem: &str) -> Result<Self> {
        certificates(pem).map(|found| found.first().map_or(Self([0; 32]), |certificate| Self::of(certificate)))
    }

    /// Whether a text means to be a fingerprint.
    pub fn is_meant_by(text: &str) -> bool {
        text.trim_start().starts_with(PREFIX)
    }

    /// The digits alone, as they stand in a join token.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the digits alone.
    pub fn from_hex(digits: &str) -> Option<Self> {
        read_hex(digits).map(Self)
    }
}

/// Reads 32 bytes of hexadecimal digits.
pub(crate) fn read_hex(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    /// Reads what is displayed, and the same with colons between the bytes, as other tools write it.
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim().strip_prefix(PREFIX).map(|rest| rest.replace(':', ""));
        digits.and_then(|digits| Self::from_hex(&digits)).ok_or_else(|| {
            Error::new(Code::INVALID_ARGUMENT, format!("`{text}` is not the fingerprint of a certificate"))
                .hint("write it as `sha256:` and 64 hexadecimal digits")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Fingerprint::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(
            "sha256:BA:78:16:bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse::<Fingerprint>().unwrap(),
            fingerprint
        );
        for bad in ["", "sha256:", "sha256:ba", "ba7816bf", &text[..70], &format!("{text}0"), &text.replace('b', "g")] {
            assert_eq!(bad.parse::<Fingerprint>().unwrap_err().code(), Code::INVALID_ARGUMENT, "{bad}");
        }
    }
}
