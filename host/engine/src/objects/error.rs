//! The errors that guests are told: `error` of `rwasm:core/objects`.

use rwasm_types::{Code, Error};
use wasmtime::component::{ComponentType, Lower, ResourceTableError};

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
            code => Self::Other(format!("{code}: {}", error.message())),
        }
    }
}

impl From<ResourceTableError> for Refusal {
    fn from(_: ResourceTableError) -> Self {
        Self::TooMany
    }
}
