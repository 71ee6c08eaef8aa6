//! Whom a client believes: an authority that it has, or one whose fingerprint it was told.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rwasm_types::{Code, Error, Result};

use crate::{Fingerprint, fault, identity::certificates};

/// Whom a client believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Nobody: every handshake fails, and the error shows the fingerprint that was met.
    Nobody,
    /// The authority with this fingerprint, if the other side shows it.
    Pinned(Fingerprint),
    /// These authorities, as PEM.
    Authorities(String),
}

impl Trust {
    /// Reads `sha256:…` or the PEM text of certificates.
    ///
    /// # Errors
    ///
    /// [`Code::INVALID_ARGUMENT`] or [`Code::CERTIFICATE_UNUSABLE`] if it is neither.
    pub fn read(text: &str) -> Result<Self> {
        if Fingerprint::is_meant_by(text) {
            return text.parse().map(Self::Pinned);
        }
        certificates(text).map(|_| Self::Authorities(text.to_owned()))
    }

    /// The certificates that are roots for this chain.
    fn roots(&self, shown: &[&CertificateDer<'_>]) -> Result<RootCertStore> {
        let met = shown.last().map(|last| Fingerprint::of(last));
        let mut roots = RootCertStore::empty();
        let unusable = |error| Error::new(Code::CERTIFICATE_UNUSABLE, format!("an authority cannot be used: {error}"));
        match self {
            Self::Nobody => return Err(fault::unknown(met)),
            Self::Pinned(pinned) => {
                let found = shown.iter().find(|certificate| Fingerprint::of(certificate) == *pinned);
                let found = found.ok_or_else(|| fault::not_pinned(*pinned, met))?;
                roots.add((*found).clone().into_owned()).map_err(unusable)?;
            }
            Self::Authorities(pem) => {
                for certificate in certificates(pem)? {
                    roots.add(certificate).map_err(unusable)?;
                }
            }
        }
        Ok(roots)
    }
}

/// The check of what a server shows.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) trust: Trust,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown: Vec<&CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).collect();
        let roots = self.trust.roots(&shown).map_err(carried)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(|error| match error {
            rustls::Error::InvalidCertificate(error) => {
                carried(fault::certificate(&error, server_name, shown.last().map(|last| Fingerprint::of(last))))
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Our error inside of rustls's, which hands it back as it is.
fn carried(error: Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
