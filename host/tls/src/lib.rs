//! Certificates of a cluster: its authority, what heads, gateways and nodes show, and who believes whom. The only room that names rustls
//! and rcgen.
//!
//! ```text
//! Authority ── issues ──▶ Identity of the head and its gateway   head.rwasm.internal, and the names that it is reached by
//!           ── issues ──▶ Identity of a node                     n3.rwasm.internal, node.rwasm.internal
//!
//! Connector: dials a name, believes what Trust says, may show an Identity
//! Acceptor:  shows an Identity, and tells which node the other side proved to be
//! ```
//!
//! TLS 1.3 and nothing else: both sides are ours, or a browser of today. Within is HTTP/2, for browsers HTTP/1.1. An authority belongs to one cluster, so a certificate of it proves the cluster,
//! and the name in it proves who of the cluster it is. Nothing here opens sockets or files.

mod acceptor;
mod authority;
mod clock;
mod connector;
mod fault;
mod fingerprint;
mod identity;
mod join_token;
mod trust;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rwasm_types::NodeId;

pub use self::{
    acceptor::{Acceptor, Clients, HANDSHAKE_TIMEOUT, ServerStream},
    authority::{Authority, LIFE_DEFAULT, Validity},
    connector::{ClientStream, Connector},
    fingerprint::Fingerprint,
    identity::{Identity, Key},
    join_token::JoinToken,
    trust::Trust,
};

/// What names of the cluster's own end with; no resolver knows it.
const INTERNAL: &str = ".rwasm.internal";

/// The name in a head's certificate, whatever address it is reached by.
pub const HEAD_NAME: &str = "head.rwasm.internal";

/// A name in the certificate of each node, for whoever wants to know no more than that it is one of the cluster's: Prometheus, which
/// asks all of them the same way.
pub const ANY_NODE_NAME: &str = "node.rwasm.internal";

/// The first byte of what a TLS server says to whoever does not speak TLS: the type of an alert.
pub const ALERT_BYTE: u8 = 0x15;

/// The name in a node's certificate.
pub fn node_name(node: NodeId) -> String {
    format!("{node}{INTERNAL}")
}

/// The node of a name in a certificate; `None` if it is no node's.
fn named_node(name: &str) -> Option<NodeId> {
    name.strip_suffix(INTERNAL)?.parse().ok()
}

/// What HTTP/2 is called in a handshake.
fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}

/// Has libraries that bring no cryptography of their own use that of this room, for as long as the process lives.
pub fn serve_all() {
    // One that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
