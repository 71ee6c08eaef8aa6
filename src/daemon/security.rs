//! What a head shows to drivers and nodes: the cluster's authority, made at the first start that needs it, and what it issues.
//!
//! ```text
//! STATE/ca.pem        the authority's certificate, which is no secret
//! STATE/ca-key.pem    its key, 0600: whoever has it can be any node, and the head
//! ```

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rwasm_head::Issuer;
use rwasm_runtime::{OnEnd, Scope, write_private};
use rwasm_tls::{Acceptor, Authority, Clients, Identity, Key, Validity};
use rwasm_types::{Code, Error, Result};

use crate::{args::StartArgs, state::State};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
/// The pause after a certificate could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// The head's part of TLS.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    authority: Arc<Authority>,
    /// What nodes are shown.
    head: Identity,
    /// What drivers are shown: the same, or a certificate of the user's own.
    outside: Identity,
    /// Whom drivers have to believe, as PEM.
    pub(crate) outside_ca: String,
    hosts: Vec<String>,
    life: Duration,
}

impl Security {
    /// Makes or opens the authority; `None` where everything stays on loopback and TLS was not asked for.
    pub(crate) fn open(args: &StartArgs, advertised: &[String], state: &State, cluster: &str) -> Result<Option<Self>> {
        let network = &args.network;
        if args.host.is_loopback() && !network.tls && network.tls_cert.is_none() {
            return Ok(None);
        }
        let authority = Arc::new(authority(state.dir(), cluster)?);
        let hosts = hosts(args, advertised);
        let life = network.certificate_life;
        let head = authority.head(&hosts, Validity::starting(SystemTime::now(), life))?;
        let (outside, outside_ca) = match (&network.tls_cert, &network.tls_key, &network.tls_ca) {
            (Some(chain), Some(key), Some(ca)) => {
                let ca = read(ca)?;
                (Identity::from_pem(&read(chain)?, &read(key)?, &ca)?, ca)
            }
            _ => (head.clone(), authority.pem().to_owned()),
        };
        Ok(Some(Self { authority, head, outside, outside_ca, hosts, life }))
    }

    /// What the head needs in order to issue certificates of nodes.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer { authority: Arc::clone(&self.authority), life: self.life }
    }

    /// For the port where nodes join.
    pub(crate) fn for_nodes(&self) -> Result<Acceptor> {
        Acceptor::new(&self.head, &self.head, self.authority.pem(), Clients::Anybody)
    }

    /// For the port where drivers attach.
    pub(crate) fn for_drivers(&self) -> Result<Acceptor> {
        Acceptor::new(&self.head, &self.outside, self.authority.pem(), Clients::Anybody)
    }

    /// For the port of browsers.
    pub(crate) fn for_browsers(&self) -> Result<Acceptor> {
        Acceptor::for_browsers(&self.outside)
    }

    /// Whom to believe, as PEM: the cluster's authority, which issues the nodes' certificates, and that of a certificate of the user's own.
    pub(crate) fn all_authorities(&self) -> String {
        let own = self.authority.pem();
        if self.outside_ca == own { own.to_owned() } else { format!("{}\n{own}", self.outside_ca.trim_end()) }
    }

    /// The names in the head's certificate.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Renews what the head shows for as long as it runs.
    pub(crate) fn keep(&self, scope: &Scope) {
        let security = self.clone();
        scope.spawn("certificate", OnEnd::ShutDown, async move {
            let mut pause = security.life * 2 / 3;
            loop {
                tokio::time::sleep(pause).await;
                pause = match security.authority.head(&security.hosts, Validity::starting(SystemTime::now(), security.life)) {
                    Ok(renewed) => {
                        security.head.replace(&renewed);
                        tracing::info!("the head's certificate was renewed");
                        security.life * 2 / 3
                    }
                    Err(error) => {
                        tracing::error!(%error, "the head's certificate cannot be renewed");
                        RENEW_AGAIN.min(security.life / 10)
                    }
                };
            }
        });
    }
}

/// The names and addresses under which a daemon may be asked for; those in a head's certificate.
pub(super) fn hosts(args: &StartArgs, advertised: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
    let own = (!args.host.is_unspecified()).then(|| args.host.to_string());
    for host in own.into_iter().chain(advertised.iter().cloned()) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn authority(dir: &Path, cluster: &str) -> Result<Authority> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    let bad = |path: &Path, error: &io::Error| Error::new(Code::IO, format!("cannot use {}: {error}", path.display()));
    match (fs::read_to_string(&certificate), fs::read_to_string(&key)) {
        (Ok(pem), Ok(key)) => Authority::open(cluster, &pem, &Key::from_pem(&key)?),
        // The key is written last: without it there never was an authority.
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let (authority, new) = Authority::create(cluster, SystemTime::now())?;
            write_private(&certificate, authority.pem().as_bytes()).map_err(|error| bad(&certificate, &error))?;
            write_private(&key, new.to_pem().as_bytes()).map_err(|error| bad(&key, &error))?;
            tracing::info!(fingerprint = %authority.fingerprint(), "made the cluster's certificate authority");
            Ok(authority)
        }
        (Err(error), _) => Err(bad(&certificate, &error)),
        (_, Err(error)) => Err(bad(&key, &error)),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|error| Error::new(Code::IO, format!("cannot read {}: {error}", path.display())).hint("check the path"))
}
