//! The server's side of a handshake.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use rwasm_types::{Code, Error, NodeId, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{INTERNAL, Identity, clock::Clock, identity::certificates, named_node, protocols, provider};

/// How long a handshake may take, on either side.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// An encrypted stream of a server.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<S>;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Nodes of the cluster.
    Nodes,
    /// Anybody; nodes show that they are nodes. What others show is up to whoever serves them.
    Anybody,
}

/// How a server makes a stream an encrypted one. Clones are the same.
#[derive(Clone)]
pub struct Acceptor(tokio_rustls::TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Shows `internal` to whoever asks for a name of the cluster's own, `outside` to all others, and takes nodes of the cluster whose
    /// authority this is, as PEM.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if the authority is none.
    pub fn new(internal: &Identity, outside: &Identity, authority: &str, clients: Clients) -> Result<Self> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        let unusable = |why: String| Error::new(Code::CERTIFICATE_UNUSABLE, format!("the cluster's authority cannot be used: {why}"));
        for certificate in certificates(authority)? {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = if clients == Clients::Anybody { verifier.allow_unauthenticated() } else { verifier };
        let verifier = verifier.build().map_err(|error| unusable(error.to_string()))?;
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(Clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName { internal: internal.clone(), outside: outside.clone() }));
        config.alpn_protocols = protocols();
        // Connections live long, and each should prove anew who is there.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(tokio_rustls::TlsAcceptor::from(Arc::new(config))))
    }

    /// Shows `identity` to browsers and other clients of HTTP/1.1, and asks nothing of them.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn for_browsers(identity: &Identity) -> Result<Self> {
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName { internal: identity.clone(), outside: identity.clone() }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(tokio_rustls::TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes a stream an encrypted one, and tells which node the other side proved to be.
    ///
    /// # Errors
    ///
    /// [`Code::TLS_FAILED`], or [`Code::DEADLINE`] if it takes longer than [`HANDSHAKE_TIMEOUT`].
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<(ServerStream<S>, Option<NodeId>)> {
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await;
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Error::new(Code::TLS_FAILED, format!("no TLS connection: {error}"))),
            Err(_) => return Err(Error::new(Code::DEADLINE, "the handshake was not finished in time")),
        };
        let (_, connection) = stream.get_ref();
        let node = connection.peer_certificates().and_then(|shown| proven(shown.first()?));
        Ok((stream, node))
    }
}

/// The node that a certificate is for. Who issued it was checked in the handshake.
fn proven(certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<NodeId> {
    webpki::EndEntityCert::try_from(certificate).ok()?.valid_dns_names().find_map(named_node)
}

/// Which certificate is shown to whom.
#[derive(Debug)]
struct ByName {
    internal: Identity,
    outside: Identity,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let internal = hello.server_name().is_some_and(|name| name.ends_with(INTERNAL));
        Some(if internal { self.internal.current() } else { self.outside.current() })
    }
}
