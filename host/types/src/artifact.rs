//! How artifacts are named: by a tag that people choose, or by the first digits of a digest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ArtifactDigest, Name, ParseNameError};

/// A text that names no artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseArtifactError {
    /// It has not the form of a tag.
    #[error("`{0}` is not a tag, which looks like hello:1")]
    Form(String),
    /// A part of a tag is no name.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// `b3:` begins digests.
    #[error("`{0}` is not a digest: write b3: and {min} to {max} digits of 0-9 and a-f", min = DigestPrefix::DIGITS_MIN, max = DigestPrefix::DIGITS_MAX)]
    Digest(String),
}

/// A name for an artifact that its tenant chooses and can move: `NAME:VERSION`, two [`Name`]s, of which the first is not `b3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    name: Name,
    version: Name,
}

impl FromStr for Tag {
    type Err = ParseArtifactError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactError> {
        let (name, version) = text.split_once(':').ok_or_else(|| ParseArtifactError::Form(shown(text)))?;
        if name == DigestPrefix::SCHEME {
            return Err(ParseArtifactError::Form(shown(text)));
        }
        Ok(Self { name: Name::new(name)?, version: Name::new(version)? })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// The first digits of a digest, as lists show them: `b3:9f2c01ab34cd`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DigestPrefix(String);

impl DigestPrefix {
    /// What digests begin with, before the colon.
    const SCHEME: &str = "b3";
    /// The fewest digits: fewer would soon fit several artifacts.
    pub const DIGITS_MIN: usize = 6;
    /// All of them.
    pub const DIGITS_MAX: usize = 64;

    /// Whether a digest begins so.
    pub fn fits(&self, digest: &ArtifactDigest) -> bool {
        digest.to_string().strip_prefix("b3:").is_some_and(|digits| digits.starts_with(&self.0))
    }

    /// The digest, if all of it is there.
    pub fn whole(&self) -> Option<ArtifactDigest> {
        self.to_string().parse().ok()
    }
}

impl From<ArtifactDigest> for DigestPrefix {
    fn from(digest: ArtifactDigest) -> Self {
        Self(digest.to_string().trim_start_matches("b3:").to_owned())
    }
}

impl FromStr for DigestPrefix {
    type Err = ParseArtifactError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactError> {
        let digits = text.strip_prefix("b3:").filter(|digits| {
            (Self::DIGITS_MIN..=Self::DIGITS_MAX).contains(&digits.len())
                && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
        });
        digits.map(|digits| Self(digits.to_owned())).ok_or_else(|| ParseArtifactError::Digest(shown(text)))
    }
}

impl fmt::Display for DigestPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Self::SCHEME, self.0)
    }
}

/// An artifact that a cluster has, as people name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArtifactName {
    /// By a tag.
    Tag(Tag),
    /// By its digest, or the first digits of it.
    Digest(DigestPrefix),
}

impl FromStr for ArtifactName {
    type Err = ParseArtifactError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactError> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        if scheme == Some(DigestPrefix::SCHEME) { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Tag, DigestPrefix, ArtifactName);

/// A text that came from elsewhere, as errors show it.
fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_two_names_and_never_digests() {
        for text in ["hello:1", "team-7.hello:v1.2.3", "a:b3"] {
            assert_eq!(text.parse::<Tag>().unwrap().to_string(), text);
            assert!(matches!(text.parse(), Ok(ArtifactName::Tag(_))), "{text}");
        }
        for text in ["hello", "hello:", ":1", "a:b:c", "a/b:1", "hello:-1", "b3:1", "b3:hello", "a\n:1", "", ":"] {
            assert!(text.parse::<Tag>().is_err(), "{text:?}");
            assert!(text.parse::<ArtifactName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_few_digits_name_a_digest() {
        let digest = ArtifactDigest([0xab; 32]);
        let of = |text: &str| text.parse::<DigestPrefix>().map(|prefix| (prefix.fits(&digest), prefix.whole()));
        assert_eq!(of("b3:ababab").unwrap(), (true, None));
        assert_eq!(of(&digest.short()).unwrap(), (true, None));
        assert_eq!(of(&digest.to_string()).unwrap(), (true, Some(digest)));
        assert_eq!(of("b3:bababa").unwrap(), (false, None));
        for bad in ["b3:abab", "ababab", "b3:ABABAB", "b3:xyzxyz", &format!("{digest}0")] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(DigestPrefix::from(digest).whole(), Some(digest));
    }

    #[test]
    fn json_has_them_as_text() {
        let name: ArtifactName = "hello:1".parse().unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"hello:1\"");
        assert_eq!(serde_json::from_str::<ArtifactName>("\"hello:1\"").unwrap(), name);
        assert!(serde_json::from_str::<Tag>("\"hello\"").is_err());
    }
}
