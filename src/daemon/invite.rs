//! Files between a head and what is started beside it, as containers that share volumes: a join token for nodes, and the certificate of the
//! authority for whoever is to believe the cluster.
//!
//! ```text
//! head ── makes the token anew, the former one is good for nothing ──▶ --join-token-out, 0600 ──▶ nodes, the first time
//!      ── the same for the life of the cluster ──▶ --ca-out, 0644 ──▶ drivers, Prometheus
//! ```
//!
//! Whoever reads the token can join as a node. So it is for this user only, good for an hour, and what was copied from it half an hour ago is
//! of no use any more.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rwasm_client::token_in;
use rwasm_head::Head;
use rwasm_runtime::{OnEnd, Scope, write_private};
use rwasm_tls::JoinToken;
use rwasm_types::{Code, Error, Result, TokenId};
use tokio::time::Instant;

use super::security::Security;

/// How long a token in the file is good for, for how many nodes, and how often it is made anew.
const LIFE: Duration = Duration::from_secs(3600);
const NODES: u32 = 1_000;
const RENEW_EVERY: Duration = Duration::from_secs(1800);
/// The pause after one could not be made or written.
const RENEW_AGAIN: Duration = Duration::from_secs(10);
/// How long a node waits for the file, and between two looks.
const WAIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Keeps a good token in the file for as long as the head runs; one is there when this returns.
pub(super) async fn keep(file: &Path, head: &Head, scope: &Scope) -> Result<()> {
    let former = token_in(file).ok().and_then(|text| text.parse::<JoinToken>().ok()).map(|token| token.id());
    let mut last = renew(file, head, former).await?;
    let (file, head) = (PathBuf::from(file), head.clone());
    scope.spawn("join-token", OnEnd::ShutDown, async move {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            pause = match renew(&file, &head, Some(last)).await {
                Ok(id) => {
                    last = id;
                    RENEW_EVERY
                }
                Err(error) => {
                    tracing::error!(%error, "the join token cannot be made anew");
                    RENEW_AGAIN
                }
            };
        }
    });
    Ok(())
}

/// Leaves the authority's certificate in the file.
pub(super) fn tell_authority(file: &Path, security: Option<&Security>) -> Result<()> {
    let security = security.ok_or_else(|| {
        Error::new(Code::TLS_REQUIRED, "without TLS the cluster has no authority").hint("add --tls, or leave out --ca-out")
    })?;
    let bad = |error| Error::new(Code::IO, format!("cannot write the authority's certificate to {}: {error}", file.display()));
    write_private(file, security.all_authorities().as_bytes()).map_err(bad)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).map_err(bad)
}

async fn renew(file: &Path, head: &Head, former: Option<TokenId>) -> Result<TokenId> {
    let token = head.invite(former, LIFE, NODES).await?;
    write_private(file, token.reveal().as_bytes())
        .map_err(|error| Error::new(Code::IO, format!("cannot write the join token to {}: {error}", file.display())))?;
    Ok(token.id())
}

/// The token in the file, once it is there.
///
/// # Errors
///
/// [`Code::DEADLINE`] if it does not come, [`Code::JOIN_TOKEN_MALFORMED`] if it is none.
pub(super) async fn wait(file: &Path) -> Result<JoinToken> {
    let begun = Instant::now();
    loop {
        match token_in(file) {
            Ok(text) => return text.parse(),
            Err(error) if begun.elapsed() >= WAIT => {
                let message = format!("no join token came within {} s: {}", WAIT.as_secs(), error.message());
                return Err(Error::new(Code::DEADLINE, message)
                    .hint("start the head with --join-token-out, and let both see the same directory as the same user"));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
