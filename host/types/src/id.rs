//! Ids. Each is a newtype with one text form, used everywhere: on the command line, in JSON, in logs.
//!
//! ```text
//! n3                 a node of this cluster; it keeps its number over restarts
//! j3-17              the 17th job submitted through node 3, its owner
//! t3-17-42           the 43rd task of that session
//! o3-17-42-0         the first result of that task, an object
//! b3:9f2c…           an artifact, by the BLAKE3 digest of its bytes
//! ```
//!
//! An id is a name and no authority: whoever receives one checks tenant and holder.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}, which looks like `{example}`")]
pub struct ParseIdError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

/// Reads `letter` and then exactly `N` canonical decimal numbers divided by `-`.
fn parse_numbers<const N: usize>(text: &str, letter: char, kind: &'static str, example: &'static str) -> Result<[u64; N], ParseIdError> {
    let error = || ParseIdError { text: text.chars().take(80).collect(), kind, example };
    let mut numbers = [0; N];
    let mut parts = text.strip_prefix(letter).ok_or_else(error)?.split('-');
    for number in &mut numbers {
        let part = parts.next().ok_or_else(error)?;
        let canonical = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        *number = canonical.then(|| part.parse().ok()).flatten().ok_or_else(error)?;
    }
    if parts.next().is_some() { Err(error()) } else { Ok(numbers) }
}

/// Serialises an id as its text form, so that JSON shows what the command line takes.
macro_rules! as_text {
    ($id:ty) => {
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A worker node, numbered by the head at its first join and never reused within a cluster. Zero names no node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// The first node of a cluster: the one that `start --head` runs beside the head.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The node of a number; `None` for zero.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let [number] = parse_numbers(text, 'n', "a node id", "n3")?;
        node_of(number).ok_or_else(|| ParseIdError { text: text.to_owned(), kind: "a node id", example: "n3" })
    }
}
as_text!(NodeId);

fn node_of(number: u64) -> Option<NodeId> {
    u32::try_from(number).ok().and_then(NodeId::new)
}

/// One life of a daemon: a later one is larger, whatever the clock says, and an earlier one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A numbering space of one owner node: a job that came in there, or a job's work that spread there. Never reused.
pub type SessionId = u32;

/// A job: one submission by a driver, owned by the node it came in through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// The owner node.
    pub owner: NodeId,
    /// The session at that owner.
    pub session: SessionId,
}

impl JobId {
    /// The job's task of a number.
    pub fn task(self, sequence: u64) -> TaskId {
        TaskId { owner: self.owner, session: self.session, sequence }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{}-{}", self.owner.get(), self.session)
    }
}

impl FromStr for JobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const KIND: (&str, &str) = ("a job id", "j3-17");
        let [owner, session] = parse_numbers(text, 'j', KIND.0, KIND.1)?;
        let error = || ParseIdError { text: text.to_owned(), kind: KIND.0, example: KIND.1 };
        Ok(Self { owner: node_of(owner).ok_or_else(error)?, session: u32::try_from(session).map_err(|_| error())? })
    }
}
as_text!(JobId);

/// A task: one call, numbered by its driver within a session of its owner. It does not change from attempt to attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The owner node.
    pub owner: NodeId,
    /// The session at that owner.
    pub session: SessionId,
    /// The number within the session.
    pub sequence: u64,
}

impl TaskId {
    /// The session as a job id; for a task that a driver submitted, this is its job.
    pub fn job(self) -> JobId {
        JobId { owner: self.owner, session: self.session }
    }

    /// The task's result of an index.
    pub fn object(self, index: u32) -> ObjectId {
        ObjectId { task: self, index }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}-{}-{}", self.owner.get(), self.session, self.sequence)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const KIND: (&str, &str) = ("a task id", "t3-17-42");
        let [owner, session, sequence] = parse_numbers(text, 't', KIND.0, KIND.1)?;
        let error = || ParseIdError { text: text.to_owned(), kind: KIND.0, example: KIND.1 };
        Ok(Self { owner: node_of(owner).ok_or_else(error)?, session: u32::try_from(session).map_err(|_| error())?, sequence })
    }
}
as_text!(TaskId);

/// An object: a result of a task, or a value put under a number of the same space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The task that makes it, or the number that a put took.
    pub task: TaskId,
    /// Which of the task's results; a put has index 0.
    pub index: u32,
}

impl ObjectId {
    /// The bytes of [`ObjectId::to_bytes`].
    pub const BYTES: usize = 20;

    /// The fixed-width form used inside encoded values: owner, session, sequence and index, little-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.task.owner.get().to_le_bytes());
        bytes[4..8].copy_from_slice(&self.task.session.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.task.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// Reads [`ObjectId::to_bytes`]; `None` where the owner is zero.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [a, b, c, d, rest @ ..] = bytes;
        let [e, f, g, h, rest @ ..] = rest;
        let [s0, s1, s2, s3, s4, s5, s6, s7, i0, i1, i2, i3] = rest;
        Some(Self {
            task: TaskId {
                owner: NodeId::new(u32::from_le_bytes([a, b, c, d]))?,
                session: u32::from_le_bytes([e, f, g, h]),
                sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            },
            index: u32::from_le_bytes([i0, i1, i2, i3]),
        })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskId { owner, session, sequence } = self.task;
        write!(f, "o{}-{session}-{sequence}-{}", owner.get(), self.index)
    }
}

impl FromStr for ObjectId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const KIND: (&str, &str) = ("an object ref", "o3-17-42-0");
        let [owner, session, sequence, index] = parse_numbers(text, 'o', KIND.0, KIND.1)?;
        let error = || ParseIdError { text: text.to_owned(), kind: KIND.0, example: KIND.1 };
        let task = TaskId { owner: node_of(owner).ok_or_else(error)?, session: u32::try_from(session).map_err(|_| error())?, sequence };
        Ok(Self { task, index: u32::try_from(index).map_err(|_| error())? })
    }
}
as_text!(ObjectId);

/// An actor, named by the task that created it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub TaskId);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}-{}-{}", self.0.owner.get(), self.0.session, self.0.sequence)
    }
}

impl FromStr for ActorId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const KIND: (&str, &str) = ("an actor id", "a3-17-42");
        let [owner, session, sequence] = parse_numbers(text, 'a', KIND.0, KIND.1)?;
        let error = || ParseIdError { text: text.to_owned(), kind: KIND.0, example: KIND.1 };
        Ok(Self(TaskId { owner: node_of(owner).ok_or_else(error)?, session: u32::try_from(session).map_err(|_| error())?, sequence }))
    }
}
as_text!(ActorId);

/// A head's grant of slots on a node to an owner, for a time. Never reused within a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

impl FromStr for LeaseId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let [number] = parse_numbers(text, 'l', "a lease id", "l12")?;
        Ok(Self(number))
    }
}
as_text!(LeaseId);

/// Which execution of a task this is, from 1; it fences: only the newest attempt's result is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first execution.
    pub const FIRST: Self = Self(1);

    /// The execution after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The BLAKE3 digest of an artifact's bytes as they were submitted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactDigest(pub [u8; 32]);

impl ArtifactDigest {
    /// The first 12 hexadecimal digits, for tables; never for look-ups that must be exact.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate("b3:".len() + 12);
        text
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("b3:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ArtifactDigest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error =
            || ParseIdError { text: text.chars().take(80).collect(), kind: "an artifact digest", example: "b3:9f2c… (64 digits)" };
        let digits = text.strip_prefix("b3:").ok_or_else(error)?.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return Err(error());
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            });
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(error)?;
        }
        Ok(Self(digest))
    }
}
as_text!(ArtifactDigest);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_text_is_an_id() {
        for text in ["", "n", "n0", "n01", "n+1", "n1-", "j1", "n4294967296", "N1", "n 1", "n1\n"] {
            assert!(text.parse::<NodeId>().is_err(), "{text:?}");
        }
        for text in ["t1-2", "t1-2-3-4", "t0-1-2", "t1--2", "j1-2", "t1-4294967296-0"] {
            assert!(text.parse::<TaskId>().is_err(), "{text:?}");
        }
        assert!("b3:zz".parse::<ArtifactDigest>().is_err());
        assert!(format!("b3:{}", "A".repeat(64)).parse::<ArtifactDigest>().is_err());
    }

    #[test]
    fn the_message_shows_what_an_id_looks_like() {
        let message = "x7".parse::<JobId>().unwrap_err().to_string();
        assert_eq!(message, "`x7` is not a job id, which looks like `j3-17`");
    }

    proptest! {
        #[test]
        fn ids_survive_their_text(owner in 1u32.., session: u32, sequence: u64, index: u32, digest: [u8; 32]) {
            let task = JobId { owner: NodeId::new(owner).unwrap(), session }.task(sequence);
            prop_assert_eq!(task.to_string().parse::<TaskId>().unwrap(), task);
            prop_assert_eq!(task.job().to_string().parse::<JobId>().unwrap(), task.job());
            prop_assert_eq!(ActorId(task).to_string().parse::<ActorId>().unwrap(), ActorId(task));
            let object = task.object(index);
            prop_assert_eq!(object.to_string().parse::<ObjectId>().unwrap(), object);
            prop_assert_eq!(ObjectId::from_bytes(object.to_bytes()), Some(object));
            let digest = ArtifactDigest(digest);
            prop_assert_eq!(digest.to_string().parse::<ArtifactDigest>().unwrap(), digest);
        }
    }
}
