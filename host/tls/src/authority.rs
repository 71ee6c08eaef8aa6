//! A cluster's certificate authority: made once, with the power to say who belongs to the cluster.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rwasm_types::{Code, Error, NodeId, Result};

use crate::{ANY_NODE_NAME, Fingerprint, HEAD_NAME, INTERNAL, Identity, Key, clock, fault, named_node, node_name};

/// How long certificates of heads and nodes are valid unless told otherwise. They renew themselves, so a short time costs nothing.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an authority is valid. Its end is the end of its cluster.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far certificates begin in the past, for clocks that are a little slow.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// The most names of a certificate.
const NAMES_MAX: usize = 64;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last.
    pub until: SystemTime,
}

impl Validity {
    /// From now, and a little before for clocks that are slow, for a time.
    pub fn starting(now: SystemTime, life: Duration) -> Self {
        Self { from: now.checked_sub(BACKDATED).unwrap_or(now), until: now.checked_add(life).unwrap_or(now) }
    }
}

/// The authority of one cluster: a key that signs, and the certificate that everyone believes.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of a cluster; gives its key too, for safe-keeping.
    ///
    /// # Errors
    ///
    /// If the machine has no random numbers.
    pub fn create(cluster: &str, now: SystemTime) -> Result<(Self, Key)> {
        let key = Key::generate()?;
        let mut params = params(cluster);
        let Validity { from, until } = Validity::starting(now, AUTHORITY_LIFE);
        (params.not_before, params.not_after) = (from.into(), until.into());
        let pair = key.pair()?;
        let certificate = params.self_signed(&pair).map_err(|error| fault::unissued(&error))?;
        let authority = Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, pair) };
        Ok((authority, key))
    }

    /// The authority of a cluster, from what [`Self::create`] gave.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if it is no certificate, or not that of the key.
    pub fn open(cluster: &str, certificate_pem: &str, key: &Key) -> Result<Self> {
        let unusable = |why: &str| Error::new(Code::CERTIFICATE_UNUSABLE, format!("the cluster's authority cannot be used: {why}"));
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| unusable(&error.to_string()))?;
        let pair = key.pair()?;
        let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|error| unusable(&error.to_string()))?;
        if parsed.subject_public_key_info().as_ref() != pair.subject_public_key_info() {
            return Err(unusable("its key belongs to another certificate").hint("restore both from the same backup"));
        }
        Ok(Self { certificate, pem: certificate_pem.to_owned(), issuer: Issuer::new(params(cluster), pair) })
    }

    /// The certificate, as PEM: what drivers and nodes need in order to believe the cluster. It is no secret.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// What a head and its gateway show: a certificate for [`HEAD_NAME`] and the hosts that it is reached by, IP addresses or names.
    ///
    /// # Errors
    ///
    /// [`Code::INVALID_ARGUMENT`] for what is no name of a host, or too many of them.
    pub fn head(&self, hosts: &[String], validity: Validity) -> Result<Identity> {
        let key = Key::generate()?;
        let certificate = self.issue(&[HEAD_NAME.to_owned()], hosts, &key.public()?, validity)?;
        Identity::new(&[certificate, self.certificate.to_vec()], &key)
    }

    /// A node's certificate for its public key, with the authority's behind it. It is for [`node_name`], for [`ANY_NODE_NAME`], and for the
    /// hosts that its gateway is reached by.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_MESSAGE`] for what is no public key, [`Code::INVALID_ARGUMENT`] for what is no name of a host.
    pub fn node(&self, node: NodeId, hosts: &[String], public_key: &[u8], validity: Validity) -> Result<Vec<Vec<u8>>> {
        let certificate = self.issue(&[node_name(node), ANY_NODE_NAME.to_owned()], hosts, public_key, validity)?;
        Ok(vec![certificate, self.certificate.to_vec()])
    }

    /// The node that a certificate of this authority was for, whether it has expired or not, if it is for this public key.
    ///
    /// That its bearer has the private key, it does not prove.
    ///
    /// # Errors
    ///
    /// [`Code::NODE_IDENTITY`] if the authority did not issue it to a node with this key, [`Code::MALFORMED_MESSAGE`] for what is no public
    /// key.
    pub fn former_node(&self, certificate: &[u8], public_key: &[u8]) -> Result<NodeId> {
        let refused = |why: &dyn std::fmt::Display| {
            Error::new(Code::NODE_IDENTITY, format!("the certificate that the node had before is not believed: {why}"))
        };
        let certificate = CertificateDer::from(certificate);
        let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|error| refused(&error))?;
        let anchor = webpki::anchor_from_trusted_cert(&self.certificate).map_err(|error| refused(&error))?;
        let verify = |at| {
            let usage = webpki::KeyUsage::client_auth();
            parsed.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, std::slice::from_ref(&anchor), &[], at, usage, None, None).map(drop)
        };
        match verify(clock::now()) {
            Err(webpki::Error::CertExpired { not_after, .. }) => verify(not_after),
            outcome => outcome,
        }
        .map_err(|error| refused(&error))?;
        if parsed.subject_public_key_info().as_ref() != PublicKey::read(public_key)?.subject_public_key_info() {
            return Err(refused(&"it is for another key"));
        }
        parsed.valid_dns_names().find_map(named_node).ok_or_else(|| refused(&"it is no node's"))
    }

    fn issue(&self, names: &[String], hosts: &[String], public_key: &[u8], validity: Validity) -> Result<Vec<u8>> {
        if hosts.len() >= NAMES_MAX {
            return Err(Error::new(Code::INVALID_ARGUMENT, format!("a certificate can have {NAMES_MAX} names")));
        }
        // Names of the cluster's own are given by the cluster alone.
        if let Some(host) = hosts.iter().find(|host| !is_host(host) || host.to_ascii_lowercase().ends_with(INTERNAL)) {
            return Err(Error::new(Code::INVALID_ARGUMENT, format!("`{host}` is not a host that a certificate can be for")));
        }
        let mut params =
            CertificateParams::new(hosts.to_vec()).map_err(|error| Error::new(Code::INVALID_ARGUMENT, format!("not a host: {error}")))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            let dns = name.as_str().try_into().map_err(|error| Error::internal(format!("a name is no name: {error}")))?;
            params.subject_alt_names.push(rcgen::SanType::DnsName(dns));
        }
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (validity.from.into(), validity.until.into());
        let issued = params.signed_by(&PublicKey::read(public_key)?, &self.issuer).map_err(|error| fault::unissued(&error))?;
        Ok(issued.der().to_vec())
    }
}

/// Whether a text is an IP address or a DNS name.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !label.starts_with('-')
    };
    text.parse::<std::net::IpAddr>().is_ok() || text.len() <= 253 && text.split('.').all(label)
}

/// What an authority is, but for its times and key: the same whenever it is opened.
fn params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("rwasm cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A public key that somebody else has the private part of: an uncompressed point of the curve P-256.
struct PublicKey([u8; 65]);

impl PublicKey {
    fn read(bytes: &[u8]) -> Result<Self> {
        let point: Option<[u8; 65]> = bytes.try_into().ok();
        point
            .filter(|point| point[0] == 4)
            .map(Self)
            .ok_or_else(|| Error::new(Code::MALFORMED_MESSAGE, "a public key is not 65 bytes of an uncompressed point"))
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
