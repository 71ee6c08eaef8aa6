//! The words that every room of rwasm shares: ids, names, resources, limits, grants, states and errors.
//!
//! This room does no IO, spawns nothing, reads no clock and names no async runtime, wire format or engine. Whatever two rooms must
//! agree on without talking to each other belongs here; whatever only one room needs does not.

pub mod api;
mod artifact;
mod error;
mod grant;
mod id;
mod identity;
mod limit;
pub mod metrics;
mod name;
mod options;
mod placement;
mod policy;
mod resource;
mod state;
mod unit;
pub mod view;

pub use artifact::{ArtifactName, DigestPrefix, ParseArtifactError, Tag};
pub use error::{Class, Code, CodeInfo, Error, Result};
pub use grant::{Access, Grants, NetGrant, VolumeGrant, VolumeSource};
pub use id::{ActorId, ArtifactDigest, Attempt, Incarnation, JobId, LeaseId, NodeId, ObjectId, ParseIdError, SessionId, TaskId};
pub use identity::{Identity, Role, TokenHash, TokenId, UserToken};
pub use limit::TaskLimits;
pub use name::{ActorName, Name, ParseNameError, Tenant};
pub use options::{ActorOptions, Priority, PriorityOutOfRange, TaskOptions};
pub use placement::{GroupRef, GroupStrategy, LabelMatch, LabelSelector, Placement, Strategy};
pub use policy::{Destinations, Needs, Offer, Policy, VolumeRule, special_address};
pub use resource::{ParseResourceError, Quantity, ResourceSet};
pub use state::{JobState, ParseStateError, Stream, TaskState};
pub use unit::{ParseUnitError, format_bytes, format_duration, format_time, parse_bytes, parse_duration};
