//! The one error that crosses rooms and wires: a stable code, one line that names the cause, the next step, and typed fields.
//!
//! Rooms keep their own error enums inside; at their boundary those become an [`Error`], which every transport carries without loss.
//! A code is never reused and never changes its meaning. Each has a page in `docs/errors/`, printed by `rwasm explain CODE`.

use std::{collections::BTreeMap, error, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `Result` with the shared [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act on an error; it decides the exit status of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request was refused or could not be understood; nothing was done. Exit status 2.
    Refused,
    /// The request was accepted and the work failed. Exit status 1.
    Failed,
}

/// What is known of a [`Code`] at compile time.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The code this describes.
    pub code: Code,
    /// The name of the constant, in kebab case: stable, for machines that prefer words to numbers.
    pub name: &'static str,
    /// Who has to act.
    pub class: Class,
    /// One short sentence that says what it means.
    pub title: &'static str,
}

/// A stable, public error code. It is written `RW` and four digits, in JSON too; messages between processes carry its number.
///
/// A peer of a newer version may send a code that this version does not know; it is kept as it is and [`Code::info`] is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

macro_rules! codes {
    ($($name:ident = $number:literal, $class:ident, $title:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($number);)*

            /// Every code of this version, in ascending order.
            pub const ALL: &'static [CodeInfo] = &[
                $(CodeInfo { code: Code::$name, name: stringify!($name), class: Class::$class, title: $title },)*
            ];
        }
    };
}

codes! {
    INTERNAL = 1, Failed, "A bug in rwasm.";
    INVALID_ARGUMENT = 2, Refused, "An argument or option does not make sense.";
    NOT_FOUND = 3, Refused, "Nothing of that name or id exists, or it belongs to somebody else.";
    IO = 4, Refused, "A file or directory cannot be read or written.";
    INTERRUPTED = 5, Failed, "The user interrupted the work.";
    NOT_EMBEDDED = 6, Refused, "The embedded cluster cannot do this; it ends with the command.";
    LIMIT = 7, Refused, "A fixed limit of a request was reached.";

    NOT_WASM = 101, Refused, "The file is not WebAssembly.";
    MALFORMED_WASM = 102, Refused, "The WebAssembly is truncated or invalid.";
    EMPTY_FILE = 103, Refused, "The file is empty.";
    ARTIFACT_TOO_LARGE = 104, Refused, "The file is larger than the artifact limit.";
    COMPILE_TIME = 105, Refused, "Compiling took longer than allowed.";
    COMPILE_MEMORY = 106, Refused, "Compiling needed more memory than allowed.";
    COMPILE_FAILED = 107, Refused, "The compile worker failed.";
    USES_THREADS = 108, Refused, "The module needs threads or shared memory.";
    USES_PREVIEW0 = 109, Refused, "The module was built for WASI preview 0.";
    FOREIGN_IMPORTS = 110, Refused, "The core module imports functions that no host provides.";
    NOTHING_TO_CALL = 112, Refused, "The artifact exports nothing that can be called.";
    MALFORMED_TEXT = 113, Refused, "The WebAssembly text does not parse.";
    USES_PROPOSAL = 114, Refused, "The module uses a WebAssembly feature that is turned off.";
    DIGEST_MISMATCH = 115, Refused, "The bytes that arrived are not the bytes that were announced.";
    NO_SUCH_ARTIFACT = 116, Refused, "No artifact of that digest or tag is stored.";

    NO_SUCH_EXPORT = 201, Refused, "The artifact has no export of that name.";
    NOT_CALLABLE = 202, Refused, "The export cannot be called as a task.";
    WRONG_ARITY = 203, Refused, "The call has too many or too few arguments.";
    WRONG_TYPE = 204, Refused, "An argument does not fit its parameter's type.";
    OUT_OF_RANGE = 205, Refused, "A number is out of the range of its type.";
    BAD_INPUT_LINE = 206, Refused, "A line of the input file cannot be used.";
    AMBIGUOUS_EXPORT = 207, Refused, "The name fits more than one export.";
    CALL_SYNTAX = 208, Refused, "The call is not written as WAVE.";
    MALFORMED_VALUE = 209, Refused, "An encoded value does not follow the codec.";
    VALUE_TOO_LARGE = 210, Refused, "A value is larger or deeper than the codec allows.";
    NOT_BYTES = 211, Refused, "The result is neither bytes nor a string.";
    MALFORMED_JSON = 212, Refused, "The text is not JSON.";

    MISSING_IMPORTS = 301, Refused, "The artifact imports what no grant can provide.";
    BAD_DIRECTORY = 302, Refused, "A granted directory does not exist or cannot be opened.";
    BAD_DESTINATION = 303, Refused, "A granted network destination cannot be used.";
    NOT_ON_CLUSTER = 304, Refused, "This grant works on the embedded cluster only.";
    NOT_GRANTED = 305, Refused, "The guest needs a grant that the submit did not give.";

    TRAP = 401, Failed, "The guest trapped.";
    TIMEOUT = 402, Failed, "The task reached its wall-clock deadline.";
    CPU_TIME = 403, Failed, "The task used up its CPU time.";
    MEMORY_LIMIT = 404, Failed, "The task reached its memory limit.";
    STACK_OVERFLOW = 405, Failed, "The guest used up its stack.";
    OUTPUT_LIMIT = 406, Failed, "The task wrote more output than allowed.";
    RESULT_TOO_LARGE = 407, Failed, "The result is larger than allowed.";
    GUEST_EXIT = 408, Failed, "The guest exited with a status other than 0.";
    CANCELLED = 409, Failed, "The task was cancelled.";
    TABLE_LIMIT = 410, Failed, "The guest's tables reached their limit.";
    APPLICATION = 411, Failed, "The function returned its error case.";
    INSTANTIATION = 412, Failed, "The artifact could not be instantiated.";
    TASKS_FAILED = 413, Failed, "Some tasks of the job failed.";

    UNREACHABLE = 501, Refused, "Nobody listens at the address.";
    TOKEN_REFUSED = 502, Refused, "The token was not accepted.";
    PROTOCOL_MISMATCH = 503, Refused, "The two sides speak no common version of the protocol.";
    NODE_LOST = 504, Failed, "The node that ran the task was lost.";
    PORT_IN_USE = 505, Refused, "A port that is needed is already in use.";
    CONNECTION_LOST = 506, Failed, "The connection ended before the answer came.";
    ALREADY_RUNNING = 507, Refused, "A cluster already runs here.";
    NOT_RUNNING = 508, Refused, "No cluster runs here.";
    MALFORMED_MESSAGE = 510, Refused, "A message on the wire does not follow the protocol.";
    DEADLINE = 511, Failed, "The other side did not answer in time.";
    START_FAILED = 513, Refused, "A daemon ended before it was ready.";

    TOKEN_MALFORMED = 521, Refused, "What was shown is not a whole user's token.";
    TOKEN_EXPIRED = 522, Refused, "The token has expired.";
    TOKEN_REVOKED = 523, Refused, "The token was revoked.";
    TOKEN_KIND = 524, Refused, "A node's token was shown where a user's is needed, or the other way round.";
    FORBIDDEN = 525, Refused, "The token's role does not allow this.";
    TENANT_DELETED = 526, Failed, "The tenant was deleted.";
    TENANT_BUSY = 527, Refused, "The tenant still has work that runs or waits.";
    NAME_TAKEN = 528, Refused, "The name is taken.";
    LAST_ADMIN = 529, Refused, "Without this token nobody could manage the cluster.";
    POLICY_REFUSED = 531, Refused, "The tenant's policy does not allow a grant that the submit asks for.";
    NOT_OFFERED = 532, Refused, "No node offers a grant that the submit asks for.";

    CA_UNKNOWN = 541, Refused, "The cluster's certificate authority is not known here.";
    CERTIFICATE_FOREIGN = 542, Refused, "A certificate belongs to another cluster.";
    CERTIFICATE_NAME = 543, Refused, "A certificate is not for the address that was dialled.";
    CERTIFICATE_TIME = 544, Refused, "A certificate has expired or is not valid yet, or a clock is wrong.";
    TLS_REQUIRED = 545, Refused, "The address needs TLS.";
    TLS_ABSENT = 546, Refused, "The other side does not speak TLS.";
    TLS_FAILED = 547, Refused, "A TLS connection could not be made.";
    CERTIFICATE_UNUSABLE = 548, Refused, "A certificate or key cannot be used.";
    JOIN_TOKEN_MALFORMED = 549, Refused, "The join token is not whole.";
    JOIN_TOKEN_USED = 550, Refused, "The join token was used already.";
    JOIN_TOKEN_EXPIRED = 551, Refused, "The join token has expired.";
    JOIN_TOKEN_UNKNOWN = 552, Refused, "The cluster made no such join token.";
    NODE_CREDENTIAL = 553, Refused, "The node has nothing to prove with that it belongs to the cluster.";
    NODE_IDENTITY = 554, Refused, "A node says that it is another than it proves to be.";

    DISK_FULL = 601, Failed, "The disk is full.";
    STATE_LOCKED = 603, Refused, "Another process uses the state directory.";
    FOREIGN_JOURNAL = 611, Refused, "The file is not a journal of rwasm.";
    DAMAGED_JOURNAL = 612, Refused, "The journal is truncated or damaged.";
    NEWER_STATE = 613, Refused, "The state was written by a newer version.";
    JOURNAL_FULL = 614, Refused, "The disk of the journal is full.";
    FOREIGN_CLUSTER = 615, Refused, "The other side belongs to another cluster.";
    STALE_INCARNATION = 616, Refused, "A later life of the same node has taken its place.";
    KEY_REUSED = 617, Refused, "The idempotency key was that of another order.";
    DAMAGED_STATE = 618, Refused, "Something in the state directory is missing or damaged.";
    FOREIGN_BACKUP = 619, Refused, "The file is not a backup of rwasm.";
    DAMAGED_BACKUP = 620, Refused, "The backup is truncated or damaged.";
    NOT_EMPTY = 621, Refused, "The directory for a backup is not empty.";
    HISTORY_FOREIGN = 631, Refused, "A file of the history is not one, or not of this node.";
    HISTORY_NEWER = 632, Refused, "A file of the history was written by a newer version.";
    HISTORY_DAMAGED = 633, Failed, "A record of the history is damaged.";
    HISTORY_FULL = 634, Failed, "Unfinished work takes as much of the disk as it may.";
    JOB_GONE = 635, Failed, "The cluster does not know the job any more.";
    RESULT_GONE = 636, Failed, "A task's result was lost on its way to the driver.";
    NOT_HELD = 641, Failed, "The node that ran the task does not have it any more.";
    OWNER_AWAY = 642, Failed, "A node gave the task back, because it lost the connection to the task's owner.";
    HISTORY_REFUSED = 646, Refused, "A part of a node's history is damaged or does not fit what the head has of it.";
    HISTORY_CROWDED = 647, Refused, "The head has no room for more of the history of nodes.";
    ARTIFACTS_FULL = 651, Refused, "The node's store of artifacts is full.";
    ARTIFACT_IN_USE = 652, Refused, "The artifact is in use.";
    NODE_DRAINED = 653, Failed, "The node that ran the task was drained.";
    AMBIGUOUS_DIGEST = 654, Refused, "The digits fit more than one artifact.";
    OUTPUT_GONE = 655, Refused, "The job's output is not kept any more.";

    HOST_REFUSED = 701, Refused, "The dashboard does not answer to the host that was asked.";
    ORIGIN_REFUSED = 702, Refused, "The request comes from a page of another site.";
    METHOD_REFUSED = 703, Refused, "The path does not take this method.";
    BODY_TOO_LARGE = 704, Refused, "The body of the request is too large.";
    UNWELL = 721, Failed, "A daemon runs and does not do its work.";
    NODE_MEMORY = 722, Failed, "The guests of the node have taken up its memory.";

    INFEASIBLE = 801, Refused, "No node of the cluster can ever run this.";
    QUEUE_FULL = 802, Refused, "A queue has reached its limit.";
    NO_CAPACITY = 803, Refused, "The machine is too small for what was asked.";
    PREEMPTED = 821, Failed, "The slots went to work of a higher priority.";
    LEASE_OVER = 822, Failed, "The lease of a task's slots ended while it ran.";
    GROUP_REMOVED = 823, Failed, "The placement group was removed.";
    TASK_DEPTH = 831, Failed, "Tasks start tasks in a chain that is too long.";
    TASKS_STUCK = 832, Failed, "All that runs waits for what cannot start.";
    ACTOR_DIED = 841, Failed, "The actor is dead.";
    ACTOR_RESTARTED = 842, Failed, "The actor ended, and begins anew with a new state.";
    ACTOR_BUSY = 843, Failed, "As many calls of the actor wait as may.";
    ACTOR_CLASS = 844, Refused, "The function is no method of the actor's class.";
    ACTOR_ELSEWHERE = 845, Refused, "The actor belongs to another gateway's node.";

    STORE_FULL = 851, Failed, "A node's object store is full.";
    OBJECT_TOO_LARGE = 852, Refused, "An object can never fit into the store.";
    OBJECT_QUOTA = 853, Failed, "A tenant's objects take as much memory as they may.";
    NO_SUCH_OBJECT = 854, Refused, "No object of that id is there.";
    OBJECT_EXISTS = 855, Refused, "The object is sealed already.";
    OBJECT_UNFINISHED = 856, Failed, "An object was written with more or fewer bytes than it has.";
    OBJECT_DAMAGED = 857, Failed, "The bytes of an object are not those that were sealed.";
    SPILL_FAILED = 858, Failed, "Objects cannot be written to disk or read back.";
    OBJECT_TYPE = 862, Refused, "An object is of another type than is asked for.";
    OBJECT_LOST = 863, Failed, "The object is lost.";
    OBJECT_DEADLINE = 866, Failed, "The object was not ready in time.";
    OBJECTS_ABSENT = 881, Refused, "The node keeps no objects.";
    OBJECT_HANDLES = 882, Failed, "The task holds as many objects as it may.";
}

impl Code {
    /// The number, as it travels on the wire.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The code of a number that came from elsewhere; unknown numbers are kept.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// What this version knows of the code; `None` for a code of a newer version.
    pub fn info(self) -> Option<&'static CodeInfo> {
        Self::ALL.binary_search_by_key(&self, |info| info.code).ok().map(|i| &Self::ALL[i])
    }

    /// Who has to act; a code of a newer version counts as failed work.
    pub fn class(self) -> Class {
        self.info().map_or(Class::Failed, |info| info.class)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RW{:04}", self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Code {
    type Err = Error;

    /// Reads `RW0101`, in either case, or the bare number of up to four digits.
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("RW").or_else(|| text.strip_prefix("rw")).unwrap_or(text);
        let is_number = digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| digits.parse().ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| Error::new(Self::INVALID_ARGUMENT, format!("`{text}` is not an error code")).hint("write it as in RW0101"))
    }
}

/// An error as a user, a driver or another process sees it.
///
/// It is one pointer wide, so that results stay small on the paths that do not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Body>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    code: Code,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
}

impl Error {
    /// The most bytes a message, a hint or a field keeps; what a guest makes longer is cut.
    pub const TEXT_BYTES_MAX: usize = 4096;

    /// The most fields an error keeps; further ones are dropped.
    pub const FIELDS_MAX: usize = 16;

    /// An error with its code and one line that names the cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Body { code, message: cut(message.into()), hint: None, fields: BTreeMap::new() }))
    }

    /// A bug of ours: something that cannot happen did.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::INTERNAL, message).hint("please report this with the log of the daemon")
    }

    /// Adds the next step for the reader, as a clause without a full stop.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(cut(hint.into()));
        self
    }

    /// Adds a typed field, for machines: `line`, `parameter`, `node`, `exit`, ….
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        if self.0.fields.len() < Self::FIELDS_MAX {
            self.0.fields.insert(key.to_owned(), cut(value.to_string()));
        }
        self
    }

    /// Puts words before the message, as `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = cut(format!("{context}: {}", self.0.message));
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// One line that names the cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The next step, where there is one.
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// A typed field.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.0.fields.get(key).map(String::as_str)
    }

    /// All typed fields, in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.fields.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Cuts a text at a character boundary, so that no guest can make an error as large as it likes.
fn cut(mut text: String) -> String {
    if text.len() > Error::TEXT_BYTES_MAX {
        let end = text.floor_char_boundary(Error::TEXT_BYTES_MAX - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(Code::ALL.iter().all(|info| info.code.info().is_some_and(|found| found.name == info.name)));
    }

    #[test]
    fn a_code_of_a_newer_version_is_kept() {
        let code: Code = "RW9876".parse().unwrap();
        assert_eq!((code.number(), code.to_string().as_str(), code.info().is_none()), (9876, "RW9876", true));
        assert_eq!(["rw0101", "101", "0101"].map(|text| text.parse::<Code>().unwrap().number()), [101; 3]);
        for none in ["RWxyz", "", "RW", "+101", "-1", "RW00101", "65535", " 1"] {
            assert!(none.parse::<Code>().is_err(), "{none}");
        }
    }

    #[test]
    fn json_has_the_code_as_people_write_it() {
        let error = Error::new(Code::BAD_INPUT_LINE, "why").with("line", 7);
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(json, r#"{"code":"RW0206","message":"why","fields":{"line":"7"}}"#);
        assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let error = Error::new(Code::TRAP, "é".repeat(Error::TEXT_BYTES_MAX)).with("name", "x".repeat(10_000));
        assert!(error.message().len() <= Error::TEXT_BYTES_MAX && error.message().ends_with('…'));
        assert!(error.field("name").unwrap().len() <= Error::TEXT_BYTES_MAX);
    }

    #[test]
    fn an_error_is_one_pointer() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}
