//! Who may become a node of an encrypted cluster: join tokens, each for one node or a number of them and for a while, and the certificates
//! that nodes get.
//!
//! ```text
//! `token join` ──▶ create ──▶ journal: id, hash of the secret, end, how many nodes
//! a node joins ──▶ redeem ──▶ journal: used ──▶ certificate for the node's number
//! `start --head --join-token-out` ──▶ replace ──▶ journal: the former one is gone, the new one is there
//! ```

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rwasm_journal::{CHANGES_MAX, Change, Journal, Table};
use rwasm_runtime::{now_ms, random_bytes};
use rwasm_tls::{Authority, JoinToken, Validity};
use rwasm_types::{
    Code, Error, NodeId, Result, TokenHash, TokenId,
    api::{Invitation, InvitationRecord, Listing},
};
use rwasm_wire::{convert, msg};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{ask::json, orders::Once, stored};

/// How long a token is kept after it is of no use, so that whoever shows it is told why.
const REMEMBERED_MS: u64 = 7 * 24 * 3_600_000;
/// Tokens that may wait to be used.
const OPEN_MAX: usize = 1_000;
/// The longest that a token may be good for.
const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most nodes that one token may be good for.
const NODES_MAX: u32 = 10_000;

/// What a head needs in order to issue certificates.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The cluster's authority.
    pub authority: Arc<Authority>,
    /// How long certificates of nodes are valid.
    pub life: Duration,
}

/// A token that is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewInvitation {
    pub(crate) id: TokenId,
    pub(crate) hash: TokenHash,
    pub(crate) life: Duration,
    /// How many nodes it is good for.
    pub(crate) nodes: u32,
}

/// A token, without its secret.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    hash: TokenHash,
    expires_ms: u64,
    /// When it was used last.
    #[serde(default)]
    used_ms: Option<u64>,
    /// How many nodes it is still good for. Before there were tokens for several, one that was used was good for none.
    #[serde(default)]
    left: Option<u32>,
}

impl Record {
    fn left(&self) -> u32 {
        self.left.unwrap_or_else(|| u32::from(self.used_ms.is_none()))
    }

    fn shown(&self, id: TokenId) -> InvitationRecord {
        InvitationRecord { id, expires_ms: self.expires_ms, nodes: self.left(), used_ms: self.used_ms }
    }

    fn is_open(&self, now: u64) -> bool {
        self.left() > 0 && self.expires_ms > now
    }

    fn is_forgotten(&self, now: u64) -> bool {
        let last = if self.left() == 0 { self.used_ms.unwrap_or(self.expires_ms) } else { self.expires_ms };
        last.saturating_add(REMEMBERED_MS) < now
    }
}

/// The tokens of a cluster.
#[derive(Debug)]
pub(crate) struct Invitations {
    journal: Journal,
    issuer: Option<Issuer>,
    /// One change at a time, so that no token is used twice.
    order: Mutex<()>,
}

impl Invitations {
    pub(crate) fn new(journal: Journal, issuer: Option<Issuer>) -> Self {
        Self { journal, issuer, order: Mutex::default() }
    }

    fn issuer(&self) -> Result<&Issuer> {
        self.issuer.as_ref().ok_or_else(|| {
            Error::new(Code::TLS_REQUIRED, "this cluster has no TLS, so no node of another machine can join it")
                .hint("start the head with --host IP or --tls; nodes of the same user on the same machine need no token")
        })
    }

    /// Lets nodes join with a token, for so long.
    ///
    /// # Errors
    ///
    /// [`Code::TLS_REQUIRED`] without TLS, [`Code::LIMIT`] if too many wait or it is to be good for too long or too many, [`Code::NAME_TAKEN`]
    /// if there is one with this id, and what the journal says.
    pub(crate) async fn create(&self, new: &NewInvitation, once: &Once) -> Result<Bytes> {
        let fingerprint = self.issuer()?.authority.fingerprint().to_string();
        let _one_at_a_time = self.order.lock().await;
        let (expires_ms, mut changes) = self.plan(new)?;
        let answer = json(&Invitation { id: new.id, expires_ms, authority: fingerprint })?;
        changes.extend(once.remember(&answer)?);
        self.journal.commit(changes).await?;
        Ok(answer)
    }

    /// Tokens that still let nodes in, those that end last first.
    ///
    /// # Errors
    ///
    /// What the journal says.
    pub(crate) fn list(&self) -> Result<Listing<InvitationRecord>> {
        let now = now_ms();
        let known = stored::scan::<Record>(&self.journal, Table::JoinTokens, "")?;
        let open = known.into_iter().filter(|(_, record)| record.is_open(now));
        let mut rows: Vec<InvitationRecord> = open.filter_map(|(key, record)| Some(record.shown(key.parse().ok()?))).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.expires_ms), row.id));
        Ok(Listing { total: rows.len() as u64, rows, missing: Vec::new() })
    }

    /// Calls a token back: it lets nobody in from now on. Nodes that joined with it stay.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such token that is open, and what the journal says.
    pub(crate) async fn revoke(&self, id: TokenId) -> Result<Bytes> {
        let _one_at_a_time = self.order.lock().await;
        let known = stored::get::<Record>(&self.journal, Table::JoinTokens, &id.to_string())?.filter(|record| record.is_open(now_ms()));
        let record = known.ok_or_else(|| Error::new(Code::NOT_FOUND, format!("there is no open join token {id}")))?;
        self.journal.commit(vec![Change::Delete { table: Table::JoinTokens, key: id.to_string() }]).await?;
        json(&record.shown(id))
    }

    /// Makes a token in place of a former one, which is good for nothing from then on.
    ///
    /// # Errors
    ///
    /// As [`Self::create`].
    pub(crate) async fn replace(&self, former: Option<TokenId>, life: Duration, nodes: u32) -> Result<JoinToken> {
        let no_numbers = |error| Error::internal(format!("no random numbers: {error}"));
        let id = TokenId::from_random(random_bytes().map_err(no_numbers)?);
        let token = JoinToken::from_random(id, random_bytes().map_err(no_numbers)?, self.issuer()?.authority.fingerprint());
        let _one_at_a_time = self.order.lock().await;
        let (_, mut changes) = self.plan(&NewInvitation { id, hash: token.hash(), life, nodes })?;
        changes.extend(former.map(|former| Change::Delete { table: Table::JoinTokens, key: former.to_string() }));
        self.journal.commit(changes).await?;
        Ok(token)
    }

    /// When a new token ends, and the changes that make it and forget old ones.
    fn plan(&self, new: &NewInvitation) -> Result<(u64, Vec<Change>)> {
        if new.life.is_zero() || new.life > LIFE_MAX {
            return Err(Error::new(Code::LIMIT, "a join token can be good for up to 30 days"));
        }
        if new.nodes == 0 || new.nodes > NODES_MAX {
            return Err(Error::new(Code::LIMIT, format!("a join token can be good for 1 to {NODES_MAX} nodes")));
        }
        let now = now_ms();
        let known = stored::scan::<Record>(&self.journal, Table::JoinTokens, "")?;
        if known.iter().any(|(key, _)| *key == new.id.to_string()) {
            return Err(Error::new(Code::NAME_TAKEN, format!("there is a join token {} already", new.id)));
        }
        if known.iter().filter(|(_, record)| record.is_open(now)).count() >= OPEN_MAX {
            return Err(Error::new(Code::LIMIT, format!("{OPEN_MAX} join tokens wait to be used, which is the limit")));
        }
        let expires_ms = now.saturating_add(u64::try_from(new.life.as_millis()).unwrap_or(u64::MAX));
        let forgotten = known.into_iter().filter(|(_, record)| record.is_forgotten(now)).take(CHANGES_MAX / 2);
        let mut changes: Vec<Change> = forgotten.map(|(key, _)| Change::Delete { table: Table::JoinTokens, key }).collect();
        let record = Record { hash: new.hash, expires_ms, used_ms: None, left: Some(new.nodes) };
        changes.push(stored::put(Table::JoinTokens, new.id.to_string(), &record)?);
        Ok((expires_ms, changes))
    }

    /// Uses a token for one node.
    ///
    /// # Errors
    ///
    /// [`Code::JOIN_TOKEN_UNKNOWN`], [`Code::JOIN_TOKEN_USED`], [`Code::JOIN_TOKEN_EXPIRED`], and what the journal says.
    pub(crate) async fn redeem(&self, token: &JoinToken) -> Result<()> {
        self.issuer()?;
        let _one_at_a_time = self.order.lock().await;
        let now = now_ms();
        let known = stored::get::<Record>(&self.journal, Table::JoinTokens, &token.id().to_string())?;
        // Hashes are compared, so the time it takes tells nothing of the secret.
        let Some(record) = known.filter(|record| record.hash == token.hash()) else {
            return Err(
                Error::new(Code::JOIN_TOKEN_UNKNOWN, "this cluster made no such join token").hint("make one with `rwasm token join`")
            );
        };
        if record.left() == 0 {
            return Err(Error::new(Code::JOIN_TOKEN_USED, "the join token was used already, by as many nodes as it is good for")
                .hint("make another with `rwasm token join`; a node that has joined needs none"));
        }
        if record.expires_ms <= now {
            return Err(Error::new(Code::JOIN_TOKEN_EXPIRED, "the join token has expired").hint("make another with `rwasm token join`"));
        }
        let used = Record { used_ms: Some(now), left: Some(record.left() - 1), ..record };
        self.journal.commit(vec![stored::put(Table::JoinTokens, token.id().to_string(), &used)?]).await
    }

    /// Uses a token up for a certificate of a node that has one already, which may have expired, for the same number and public key. Whether it
    /// has the key shows when it joins by what it gets.
    ///
    /// # Errors
    ///
    /// [`Code::NODE_IDENTITY`] if what it has is not of this cluster, and as [`Self::redeem`] and [`Self::issue`].
    pub(crate) async fn issue_again(
        &self,
        token: &JoinToken,
        former: &[u8],
        public_key: &[u8],
    ) -> Result<(NodeId, Option<msg::Certificate>)> {
        let node = self.issuer()?.authority.former_node(former, public_key)?;
        self.redeem(token).await?;
        tracing::info!(%node, token = %token.id(), "a node that was away gets a certificate again");
        Ok((node, self.issue(node, public_key)?))
    }

    /// A node's certificate for its public key; `None` in a cluster without TLS.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_MESSAGE`] for what is no public key.
    pub(crate) fn issue(&self, node: NodeId, public_key: &[u8]) -> Result<Option<msg::Certificate>> {
        let Some(Issuer { authority, life }) = &self.issuer else { return Ok(None) };
        let chain = authority.node(node, &[], public_key, Validity::starting(SystemTime::now(), *life))?;
        Ok(Some(msg::Certificate {
            chain: chain.into_iter().map(Bytes::from).collect(),
            authority: authority.pem().to_owned(),
            life_ns: convert::nanos(*life),
        }))
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::{Tenant, api::Order};

    use super::*;
    use crate::orders::{Begun, Orders};

    fn of(issuer: bool, journal: &Journal) -> Invitations {
        let authority = Arc::new(Authority::create("c", SystemTime::now()).unwrap().0);
        Invitations::new(journal.clone(), issuer.then(|| Issuer { authority, life: Duration::from_secs(60) }))
    }

    /// Makes a token, whose bytes are all `byte`.
    async fn make_for(nodes: u32, invitations: &Invitations, byte: u8, life: Duration) -> Result<JoinToken> {
        let authority = Authority::create("c", SystemTime::now()).unwrap().0.fingerprint();
        let token = JoinToken::from_random(TokenId::from_random([byte; 8]), [byte; 32], authority);
        let orders = Orders::read(invitations.journal.clone()).unwrap();
        let order = Order::InviteNode { id: token.id(), hash: token.hash(), life_ms: 1, nodes };
        let Begun::Now(once) = orders.begin(&Tenant::default(), &[byte; 16], &order).await? else { panic!("it was made before") };
        invitations.create(&NewInvitation { id: token.id(), hash: token.hash(), life, nodes }, &once).await.map(|_| token)
    }

    async fn make(invitations: &Invitations, byte: u8, life: Duration) -> Result<JoinToken> {
        make_for(1, invitations, byte, life).await
    }

    #[tokio::test]
    async fn a_token_for_several_nodes_is_good_for_as_many_and_one_that_was_replaced_for_none() {
        let journal = Journal::in_memory().unwrap();
        let invitations = of(true, &journal);
        let hour = Duration::from_secs(3600);
        let two = make_for(2, &invitations, 1, hour).await.unwrap();
        invitations.redeem(&two).await.unwrap();
        // Also in the head's next life.
        of(true, &journal).redeem(&two).await.unwrap();
        assert_eq!(invitations.redeem(&two).await.unwrap_err().code(), Code::JOIN_TOKEN_USED);
        for nodes in [0, NODES_MAX + 1] {
            assert_eq!(make_for(nodes, &invitations, 2, hour).await.unwrap_err().code(), Code::LIMIT);
        }
        let first = invitations.replace(None, hour, 9).await.unwrap();
        invitations.redeem(&first).await.unwrap();
        let second = invitations.replace(Some(first.id()), hour, 9).await.unwrap();
        assert_eq!(invitations.redeem(&first).await.unwrap_err().code(), Code::JOIN_TOKEN_UNKNOWN);
        invitations.redeem(&second).await.unwrap();
        assert_eq!(of(false, &journal).replace(None, hour, 1).await.unwrap_err().code(), Code::TLS_REQUIRED);
    }

    #[test]
    fn records_of_before_there_were_tokens_for_several_nodes_are_understood() {
        let hash = serde_json::to_value(TokenHash::of_join(TokenId::from_random([1; 8]), &[1; 32])).unwrap();
        let record = |used: serde_json::Value| -> Record {
            serde_json::from_value(serde_json::json!({ "hash": hash, "expires_ms": 10, "used_ms": used })).unwrap()
        };
        assert!(record(serde_json::Value::Null).is_open(5) && !record(serde_json::Value::Null).is_open(10));
        assert!(!record(3.into()).is_open(5) && record(3.into()).is_forgotten(4 + REMEMBERED_MS));
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_for_a_while_and_for_its_cluster() {
        let journal = Journal::in_memory().unwrap();
        let invitations = of(true, &journal);
        let hour = Duration::from_secs(3600);
        let made = make(&invitations, 1, hour).await.unwrap();
        let wrong = JoinToken::from_random(made.id(), [9; 32], made.authority);
        assert_eq!(invitations.redeem(&wrong).await.unwrap_err().code(), Code::JOIN_TOKEN_UNKNOWN);
        invitations.redeem(&made).await.unwrap();
        // Also in the head's next life.
        assert_eq!(of(true, &journal).redeem(&made).await.unwrap_err().code(), Code::JOIN_TOKEN_USED);
        let short = make(&invitations, 2, Duration::from_millis(1)).await.unwrap();
        let end = stored::get::<Record>(&journal, Table::JoinTokens, &short.id().to_string()).unwrap().unwrap().expires_ms;
        while now_ms() <= end {
            tokio::task::yield_now().await;
        }
        assert_eq!(invitations.redeem(&short).await.unwrap_err().code(), Code::JOIN_TOKEN_EXPIRED);
        let foreign = make(&of(true, &Journal::in_memory().unwrap()), 3, hour).await.unwrap();
        assert_eq!(invitations.redeem(&foreign).await.unwrap_err().code(), Code::JOIN_TOKEN_UNKNOWN);
        let stored = journal.scan(Table::JoinTokens, "").unwrap();
        let secret = "01".repeat(32);
        assert!(stored.iter().all(|(_, value)| !String::from_utf8_lossy(value).contains(&secret)), "secrets are not stored");
    }

    #[tokio::test]
    async fn without_tls_there_are_no_tokens() {
        let journal = Journal::in_memory().unwrap();
        let invitations = of(false, &journal);
        assert_eq!(make(&invitations, 1, Duration::from_secs(1)).await.unwrap_err().code(), Code::TLS_REQUIRED);
        assert!(invitations.issue(NodeId::new(1).unwrap(), &[]).unwrap().is_none());
        let limit = make(&of(true, &journal), 2, Duration::from_secs(31 * 24 * 3600)).await.unwrap_err();
        assert_eq!(limit.code(), Code::LIMIT);
    }
}
