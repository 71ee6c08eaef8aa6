//! The client's side of a handshake.

use std::{io, sync::Arc};

use rustls::{ClientConfig, client::Resumption, pki_types::ServerName, version::TLS13};
use rwasm_types::{Code, Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{HANDSHAKE_TIMEOUT, Identity, Trust, clock::Clock, fault, protocols, provider, trust::Verifier};

/// An encrypted stream of a client.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<S>;

/// How a client makes a stream an encrypted one. Clones are the same.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Dials whoever has a name, a DNS name or an IP address, believes what `trust` says, and shows `identity` where it is asked for one.
    ///
    /// # Errors
    ///
    /// [`Code::INVALID_ARGUMENT`] for what is no name.
    pub fn new(name: &str, trust: &Trust, identity: Option<&Identity>) -> Result<Self> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::new(Code::INVALID_ARGUMENT, format!("`{name}` is not a host that has a certificate")))?;
        let provider = provider();
        let verifier = Verifier { trust: trust.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.for_clients()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols();
        // Connections live long, and each should prove anew who is there.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name: server })
    }

    /// Makes a stream an encrypted one; `what` says in errors who the other side is.
    ///
    /// # Errors
    ///
    /// Why the other side is not believed, or does not speak TLS: [`Code::CA_UNKNOWN`], [`Code::CERTIFICATE_FOREIGN`],
    /// [`Code::CERTIFICATE_NAME`], [`Code::CERTIFICATE_TIME`], [`Code::TLS_ABSENT`], [`Code::TLS_FAILED`]; [`Code::UNREACHABLE`] if it
    /// goes away or takes too long.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, what: &str) -> Result<ClientStream<S>> {
        let handshake = tokio_rustls::TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Self::explain(&error, what)),
            Err(_) => Err(Error::new(Code::UNREACHABLE, format!("{what} does not answer the TLS handshake"))),
        }
    }

    /// What an error of a stream means: a server says only after the handshake what it thinks of the client's certificate.
    pub fn explain(error: &io::Error, what: &str) -> Error {
        fault::of_client(error, what).unwrap_or_else(|| {
            Error::new(Code::UNREACHABLE, format!("{what} ended the TLS handshake: {error}"))
                .hint("check the address, and that `rwasm start` ran there")
        })
    }
}
