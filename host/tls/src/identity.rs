//! Keys, and what is shown in a handshake: a certificate that can be replaced while connections are made with it.

use std::sync::Arc;

use parking_lot::RwLock;
use rcgen::{KeyPair, PublicKeyData};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use rwasm_types::{Code, Error, Result};

use crate::{Fingerprint, fault, provider};

/// A private key of ours, as PEM.
#[derive(Clone)]
pub struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys do not belong in logs.
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// A new key, of the curve P-256.
    ///
    /// # Errors
    ///
    /// If the machine has no random numbers.
    pub fn generate() -> Result<Self> {
        KeyPair::generate().map(|pair| Self(pair.serialize_pem())).map_err(|error| fault::unissued(&error))
    }

    /// A key that was kept.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if it is none.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let key = Self(pem.to_owned());
        key.pair().map(|_| key)
    }

    /// The key as PEM, for a file that nobody else can read.
    pub fn to_pem(&self) -> &str {
        &self.0
    }

    /// The public part: an uncompressed point of the curve P-256.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if it is no key.
    pub fn public(&self) -> Result<Vec<u8>> {
        self.pair().map(|pair| pair.der_bytes().to_vec())
    }

    pub(crate) fn pair(&self) -> Result<KeyPair> {
        KeyPair::from_pem(&self.0).map_err(|error| Error::new(Code::CERTIFICATE_UNUSABLE, format!("a key cannot be used: {error}")))
    }
}

/// A certificate with its key, for handshakes. Clones are the same, and all of them change when it is replaced.
#[derive(Clone)]
pub struct Identity(Arc<Shown>);

struct Shown(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Identity {
    /// A chain of certificates, DER, the key's own first.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if the parts do not fit together.
    pub fn new(chain: &[Vec<u8>], key: &Key) -> Result<Self> {
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        certified(chain, key.0.as_bytes()).map(Self::showing)
    }

    /// Certificates and key that somebody else issued, as PEM: the gateway's own first, and the authority that drivers believe behind them.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if one of them cannot be read or used.
    pub fn from_pem(chain: &str, key: &str, authority: &str) -> Result<Self> {
        let mut chain = certificates(chain)?;
        for certificate in certificates(authority)? {
            // Whoever pins the authority looks for it among what is shown.
            if !chain.contains(&certificate) {
                chain.push(certificate);
            }
        }
        certified(chain, key.as_bytes()).map(Self::showing)
    }

    fn showing(certified: CertifiedKey) -> Self {
        Self(Arc::new(Shown(RwLock::new(Arc::new(certified)))))
    }

    /// Shows another from the next handshake on.
    pub fn replace(&self, other: &Self) {
        let new = other.current();
        *self.0.0.write() = new;
    }

    /// The fingerprint of the certificate that is shown now.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.current().cert.first().map(|certificate| Fingerprint::of(certificate))
    }

    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.0.read())
    }

    pub(crate) fn for_clients(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0) as Arc<dyn ResolvesClientCert>
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificates of a PEM text; at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |why: String| Error::new(Code::CERTIFICATE_UNUSABLE, format!("a certificate cannot be used: {why}"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("there is none in the file".to_owned()).hint("certificates are PEM, with `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(found)
}

fn certified(chain: Vec<CertificateDer<'static>>, key_pem: &[u8]) -> Result<CertifiedKey> {
    let unusable =
        |what: &str, why: &dyn std::fmt::Display| Error::new(Code::CERTIFICATE_UNUSABLE, format!("{what} cannot be used: {why}"));
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unusable("a key", &error))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| unusable("a certificate and its key", &error))
}
