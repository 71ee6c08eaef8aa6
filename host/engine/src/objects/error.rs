//! The errors that guests are told: `error` of `rwasm:core/objects`.

use rwasm_types::{Code, Error};
use wasmtime::component::{ComponentType, Lower, ResourceTableError};

/// `rwasm:core/objects.failure`.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Failure {
    code: String,
    message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: error.code().to_string(), message: error.message().to_owned() }
    }
}

/// `rwasm:core/objects.error`, case by case.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Refusal {
    #[component(name = "lost")]
    Lost,
    #[component(name = "quota")]
    Quota,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "unfinished")]
    Unfinished,
    #[component(name = "out-of-range")]
    OutOfRange,
    #[component(name = "not-aligned")]
    NotAligned,
    #[component(name = "not-grown")]
    NotGrown,
    #[component(name = "overlapping")]
    Overlapping,
    #[component(name = "too-many")]
    TooMany,
    #[component(name = "malformed")]
    Malformed,
    #[component(name = "deadline")]
    Deadline,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "failed")]
    Failed(Failure),
    #[component(name = "other")]
    Other(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.code() {
            Code::NOT_FOUND | Code::NO_SUCH_OBJECT | Code::OBJECT_LOST | Code::OBJECT_DAMAGED => Self::Lost,
            Code::STORE_FULL | Code::OBJECT_QUOTA => Self::Quota,
            Code::VALUE_TOO_LARGE | Code::OBJECT_TOO_LARGE => Self::TooLarge,
            Code::OBJECT_UNFINISHED => Self::Unfinished,
            Code::MALFORMED_VALUE | Code::WRONG_TYPE | Code::OBJECT_TYPE | Code::INVALID_ARGUMENT => Self::Malformed,
            Code::OBJECT_HANDLES => Self::TooMany,
            Code::DEADLINE | Code::OBJECT_DEADLINE => Self::Deadline,
            Code::OBJECTS_ABSENT => Self::Unavailable,
            // The store's own failures are named above; what is left is why the task that was to make the object did not.
            Code::SPILL_FAILED | Code::INTERNAL | Code::IO | Code::CONNECTION_LOST | Code::UNREACHABLE => {
                Self::Other(format!("{}: {}", error.code(), error.message()))
            }
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<ResourceTableError> for Refusal {
    fn from(_: ResourceTableError) -> Self {
        Self::TooMany
    }
}
