//! The driver library: what the command line and drivers in other languages stand on.
//!
//! ```text
//! Endpoint (who to speak with) ─▶ Client ─▶ Artifact ─▶ Job ─▶ Call ─▶ submit … ─▶ JobEvent: outcomes, output, end
//! ```
//!
//! A [`Client`] is one connection to a gateway. Calls are checked here against what the artifact offers, before anything is sent; the
//! gateway checks them again.

mod actors;
mod client;
mod endpoint;
mod job;
mod kept;
mod objects;
mod session;

pub use self::{
    actors::Actor,
    client::{Artifact, Client, LogFilter, LogStream},
    endpoint::{Endpoint, host, is_loopback, token_in, with_port},
    job::{Call, Job, JobEvent, JobOptions, Submitter, TaskOutcome, TaskOutput},
    objects::{Hold, ObjectReader},
};
