//! What a node proves with that it is itself: on loopback without TLS the token that all nodes share, with TLS a certificate for its number.
//!
//! ```text
//! STATE/certificate.json    key and certificate of a node with TLS, and the authority that it believes, 0600
//! ```
//!
//! The first join makes the key, which never leaves the machine, and the head signs its public part. From then on the certificate is all
//! that the node needs, and it has the head renew it after two thirds of its life. A node that was away for longer shows what it had beside a
//! new join token, and gets a certificate for the same number and key.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::RwLock;
use rwasm_runtime::{now_ms, write_private};
use rwasm_tls::{Acceptor, Clients, Fingerprint, HEAD_NAME, Identity, JoinToken, Key, Trust, node_name};
use rwasm_types::{Code, Error, NodeId, Result};
use rwasm_wire::{Caller, Connector};
use serde::{Deserialize, Serialize};

const FILE: &str = "certificate.json";

/// With what a node joins.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The token that nodes of a cluster without TLS share.
    Shared(String),
    /// The same, in the process of a head with TLS: it gets a certificate all the same, for the nodes that it speaks with.
    InProcess(String),
    /// What the state directory has of an earlier join, else a join token, good once.
    Join(Option<JoinToken>),
}

impl Credential {
    /// Whether a state directory has what a node with TLS keeps of its join.
    pub fn is_kept(state_dir: &Path) -> bool {
        state_dir.join(FILE).exists()
    }
}

/// What is kept of a join.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// The authority, PEM.
    authority: String,
    /// The node's key, PEM.
    key: String,
    /// The node's certificate and those behind it, DER.
    chain: Vec<Vec<u8>>,
    /// When it was received and for how long it is valid, by this machine's clock.
    received_ms: u64,
    life_ms: u64,
}

/// A certificate as the head issued it.
pub(crate) struct Issued {
    pub(crate) chain: Vec<Vec<u8>>,
    /// The authority, PEM.
    pub(crate) authority: String,
    pub(crate) life: Duration,
}

/// What a node proves with, while it runs.
pub(crate) struct Proof {
    /// What it shows beside its certificate, or instead of one.
    token: String,
    shared: Option<Token>,
    /// `None` without TLS.
    certificate: Option<Certificate>,
}

struct Certificate {
    /// Where it is kept; `None` for one that a head makes anew at each start.
    file: Option<PathBuf>,
    key: Key,
    /// Whom it believes before it has a certificate.
    trust: Trust,
    /// The certificate of before, DER, if that has expired.
    former: Option<Vec<u8>>,
    current: RwLock<Option<(Kept, Identity)>>,
}

impl Proof {
    /// Reads what the state directory has, or begins anew.
    ///
    /// # Errors
    ///
    /// [`Code::NODE_CREDENTIAL`] if there is neither a token nor an earlier join; [`Code::CERTIFICATE_UNUSABLE`] if what was kept is damaged.
    pub(crate) fn open(credential: &Credential, state_dir: &Path) -> Result<Self> {
        let fresh =
            |file, trust| Ok::<_, Error>(Certificate { file, key: Key::generate()?, trust, former: None, current: RwLock::default() });
        let file = state_dir.join(FILE);
        match credential {
            Credential::Shared(token) => Ok(Self { token: token.clone(), shared: Some(Token::new(token)), certificate: None }),
            Credential::InProcess(token) => Ok(Self { token: token.clone(), shared: None, certificate: Some(fresh(None, Trust::Nobody)?) }),
            // Where the node is part of the token's cluster already, the token may have been left where it was.
            Credential::Join(Some(token)) if !Kept::read(&file).is_ok_and(|kept| kept.is_of(token) && kept.is_valid()) => {
                let mut certificate = fresh(Some(file.clone()), Trust::Pinned(token.authority))?;
                if let Some(kept) = Kept::read(&file).ok().filter(|kept| kept.is_of(token)) {
                    certificate.key = Key::from_pem(&kept.key)?;
                    certificate.former = kept.chain.into_iter().next();
                }
                Ok(Self { token: token.reveal(), shared: None, certificate: Some(certificate) })
            }
            Credential::Join(_) => {
                let kept = Kept::read(&file)?;
                let key = Key::from_pem(&kept.key)?;
                let identity = Identity::new(&kept.chain, &key)?;
                let trust = Trust::Authorities(kept.authority.clone());
                let certificate = Certificate { file: Some(file), key, trust, former: None, current: RwLock::new(Some((kept, identity))) };
                Ok(Self { token: String::new(), shared: None, certificate: Some(certificate) })
            }
        }
    }

    /// What is shown to heads, and to nodes without TLS.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The public key that the head is to sign; empty without TLS.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if the key is none.
    pub(crate) fn public_key(&self) -> Result<Vec<u8>> {
        self.certificate.as_ref().map_or_else(|| Ok(Vec::new()), |certificate| certificate.key.public())
    }

    /// The certificate that the node had before, DER, while it has no other.
    pub(crate) fn former(&self) -> Option<&[u8]> {
        let certificate = self.certificate.as_ref()?;
        if certificate.current.read().is_some() {
            return None;
        }
        certificate.former.as_deref()
    }

    fn identity(&self) -> Option<Identity> {
        self.certificate.as_ref()?.current.read().as_ref().map(|(_, identity)| identity.clone())
    }

    /// How the head is reached.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn to_head(&self, head: &Connector) -> Result<Connector> {
        match &self.certificate {
            Some(Certificate { file: Some(_), trust, .. }) => {
                Ok(head.clone().with_tls(rwasm_tls::Connector::new(HEAD_NAME, trust, self.identity().as_ref())?))
            }
            _ => Ok(head.clone()),
        }
    }

    /// How another node is reached.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn to_node(&self, node: NodeId, connector: Connector) -> Result<Connector> {
        let Some(certificate) = &self.certificate else { return Ok(connector) };
        let current = certificate.current.read();
        let (kept, identity) = current.as_ref().ok_or_else(|| Error::internal("a node without a certificate speaks with others"))?;
        let trust = Trust::Authorities(kept.authority.clone());
        Ok(connector.with_tls(rwasm_tls::Connector::new(&node_name(node), &trust, Some(identity))?))
    }

    /// How other nodes are let in; `None` without TLS.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn acceptor(&self) -> Result<Option<Acceptor>> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let current = certificate.current.read();
        let Some((kept, identity)) = current.as_ref() else { return Ok(None) };
        Acceptor::new(identity, identity, &kept.authority, Clients::Nodes).map(Some)
    }

    /// How those who read metrics are let in; `None` without TLS.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn for_scrapers(&self) -> Result<Option<Acceptor>> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let current = certificate.current.read();
        current.as_ref().map(|(_, identity)| Acceptor::for_browsers(identity)).transpose()
    }

    /// Makes sure that a caller is a node of the cluster, and the one that it says it is.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_REFUSED`], or [`Code::NODE_IDENTITY`] if its certificate is another node's.
    pub(crate) fn check(&self, caller: &Caller, says: Option<NodeId>) -> Result<()> {
        match (&self.shared, caller.node) {
            (Some(shared), _) => shared.check(caller.token.as_deref()),
            (None, Some(proven)) if says.is_none_or(|says| says == proven) => Ok(()),
            (None, Some(proven)) => {
                let says = says.map_or_else(|| "nobody".to_owned(), |says| says.to_string());
                Err(Error::new(Code::NODE_IDENTITY, format!("a node says that it is {says}, and its certificate that it is {proven}")))
            }
            (None, None) => Err(Error::new(Code::NODE_CREDENTIAL, "the caller showed no node's certificate")),
        }
    }

    /// Takes a certificate that the head issued: it is shown from the next handshake on, and kept.
    ///
    /// # Errors
    ///
    /// [`Code::CERTIFICATE_UNUSABLE`] if it is not for our key; [`Code::IO`] or [`Code::DISK_FULL`] if it cannot be kept.
    pub(crate) fn received(&self, issued: Issued) -> Result<()> {
        let Some(certificate) = &self.certificate else { return Ok(()) };
        let new = Identity::new(&issued.chain, &certificate.key)?;
        let kept = Kept {
            authority: issued.authority,
            key: certificate.key.to_pem().to_owned(),
            chain: issued.chain,
            received_ms: now_ms(),
            life_ms: u64::try_from(issued.life.as_millis()).unwrap_or(u64::MAX),
        };
        if let Some(file) = &certificate.file {
            kept.write(file)?;
        }
        let mut current = certificate.current.write();
        let identity = match current.take() {
            Some((_, shown)) => {
                shown.replace(&new);
                shown
            }
            None => new,
        };
        *current = Some((kept, identity));
        Ok(())
    }

    /// How long until the certificate should be renewed; `None` without TLS.
    pub(crate) fn renew_in(&self) -> Option<Duration> {
        let current = self.certificate.as_ref()?.current.read();
        let (kept, _) = current.as_ref()?;
        let at = kept.received_ms.saturating_add(kept.life_ms / 3 * 2);
        Some(Duration::from_millis(at.saturating_sub(now_ms())))
    }
}

impl Kept {
    /// Whether it is of the cluster that a token is for.
    fn is_of(&self, token: &JoinToken) -> bool {
        Fingerprint::of_pem(&self.authority).is_ok_and(|authority| authority == token.authority)
    }

    /// Whether it has not expired.
    fn is_valid(&self) -> bool {
        self.received_ms.saturating_add(self.life_ms) > now_ms()
    }

    fn read(file: &Path) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| {
            Error::new(Code::CERTIFICATE_UNUSABLE, format!("{} cannot be used: {why}", file.display()))
                .hint("restore it, or join anew with a token of `rwasm token join`")
        };
        match fs::read(file) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| damaged(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(Code::NODE_CREDENTIAL, "there is no join token, and this state directory never joined an encrypted cluster")
                    .hint("run `rwasm token join` on the head's machine, and pass what it prints with --join-token or RWASM_JOIN_TOKEN"))
            }
            Err(error) => Err(damaged(&error)),
        }
    }

    fn write(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|error| Error::internal(format!("a certificate has no JSON: {error}")))?;
        write_private(file, &json).map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", file.display())))
    }
}
/// What nodes show each other, kept as its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(blake3::Hash);

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// Checks a caller's token; comparing hashes takes the same time whatever they hold.
    pub(crate) fn check(&self, given: Option<&str>) -> Result<()> {
        if given.is_some_and(|given| blake3::hash(given.as_bytes()) == self.0) {
            return Ok(());
        }
        Err(Error::new(Code::TOKEN_REFUSED, "the node's token was not accepted").hint("set RWASM_NODE_TOKEN to the cluster's node token"))
    }
}
