//! How rwasm's processes talk: protobuf messages over gRPC streams. The only room that names prost and tonic.
//!
//! ```text
//! driver ──Gateway──▶ node (its gateway) ──Head──▶ head
//!                       │
//!                       ├──Peer──▶ node
//!                       ◀──Relay── node
//! ```
//!
//! Other rooms see [`msg`], plain structs; the services, as traits to implement and clients to call, in terms of those structs; and
//! [`rwasm_types::Error`] in both directions, which crosses the wire whole. Whoever receives a message converts it with [`convert`] and
//! gets a typed error for what does not belong there; nothing is guessed.

mod connect;
pub mod convert;
mod door;
mod echo;
mod gateway;
#[expect(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated from proto/"
)]
#[rustfmt::skip]
mod generated;
mod head;
mod io;
mod negotiate;
mod peer;
mod relay;
mod server;
mod status;
mod stream;

pub use connect::Connector;
pub use echo::EchoClient;
pub use gateway::{GatewayClient, GatewayService};
pub use head::{HeadClient, HeadService};
pub use io::{DuplexDialler, DuplexListener, Listener, duplex};
pub use negotiate::{FEATURES, PROTOCOL_MAX, PROTOCOL_MIN, RESUME, accept_hello, hello, read_welcome, same_cluster};
pub use peer::{PeerClient, PeerService};
pub use relay::{RelayClient, RelayService, Tunnel};
pub use server::{Caller, Server};
pub use stream::{Inbound, Outbound, Sender};

/// The most bytes of one message. Anything larger travels in chunks.
pub const MESSAGE_BYTES_MAX: usize = 160 << 20;

/// The bytes of a chunk of something larger.
pub const CHUNK_BYTES: usize = 1 << 20;

/// The messages, as plain structs.
pub mod msg {
    pub use crate::generated::{
        AcknowledgeRemote, Addresses, Answer, ArtifactChunk, Assign, AssignedTask, AttendRequest, Borrow, Borrows, Call, CallDefined,
        CancelRemote, CancelTasks, Certificate, ControlReply, ControlRequest, Copies, DefineCall, DefineFailed, DefineRemote,
        DescribeRequest, Described, Directory, DriverMessage, DropCopy, Error, FetchRequest, FinishJob, ForgetSession, GatewayMessage,
        GetRequest, Gone, Grants, HeadMessage, HeldAttempts, HeldGroup, Hello, HistoryBatch, HistoryPosition, HistoryWanted,
        HistoryWritten, JobEnded, JobId, JobOpened, LeaseGrant, LeaseHeld, LeaseRefusal, LeaseRequest, LeaseReturn, LeaseRevoke, Lent,
        LinkHello, LinkResume, LogsChunk, LogsRequest, Member, Members, NodeMessage, ObjectHead, ObjectMeta, ObjectPart, ObjectWord,
        ObjectWords, OpenJob, Options, Outcome, Outcomes, Output, Outputs, OwnerMessage, Payload, PullChunk, PullHead, PullPart,
        PullRequest, PutHead, PutPart, PutReply, QueryReply, QueryRequest, Question, Range, Register, Registered, RelayAddress, ReleaseJob,
        RemoteOutcomes, RemoteOutputs, Renew, Report, Resources, Resume, RetireActor, Ring, RunnerMessage, Stream, Submit, TaskId,
        TellHello, Telling, Told, TunnelPart, Waiting, Welcome, answer, driver_message, gateway_message, head_message, job_opened,
        node_message, object_word, outcome, owner_message, pull_part, registered, runner_message, telling, tunnel_part,
    };
}
