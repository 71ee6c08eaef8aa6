//! Tenants, tokens and policies at the head: who may ask what, and the orders of admins.
//!
//! ```text
//! order ─▶ Directory ─▶ edits ─▶ written down ─▶ the directory here ─▶ each node's copy
//! ```
//!
//! One order is carried out at a time, so what it was checked against is still so when it takes effect.

use parking_lot::RwLock;
use rwasm_auth::{Directory, Door, Edit, TokenEntry};
use rwasm_journal::Journal;
use rwasm_runtime::now_ms;
use rwasm_types::{
    Code, Error, Identity, NodeId, Result, Role, Tenant, TokenId, UserToken,
    api::{Ask, Listing, Order, PolicyRecord, Query, TenantDeleted, TenantRecord, TenantUse, TokenRecord},
};
use rwasm_wire::{convert, msg};

use crate::{
    ask::{self, json},
    records,
    state::Shared,
};

/// The directory, and the right to change it.
pub(crate) struct Access {
    pub(crate) directory: RwLock<Directory>,
    /// Held from the check of an order until its effect.
    order: tokio::sync::Mutex<()>,
}

impl Access {
    /// The directory as it was written down.
    pub(crate) fn read(journal: &Journal) -> Result<Self> {
        Ok(Self { directory: RwLock::new(records::directory(journal)?), order: tokio::sync::Mutex::default() })
    }

    /// What a node is told when it joins. Only gateways take users in, so only they get what tokens are checked against.
    pub(crate) fn whole(&self, gateway: bool) -> Result<msg::Directory> {
        let directory = self.directory.read();
        word(&if gateway { directory.edits() } else { directory.tenants_edits() }, true)
    }

    /// What a node is told of changes; nothing where they are no concern of its.
    pub(crate) fn news(edits: &[Edit], gateway: bool) -> Result<Option<msg::Directory>> {
        let concerns = |edit: &&Edit| gateway || matches!(edit, Edit::Tenant(_) | Edit::Policy { .. });
        let edits: Vec<Edit> = edits.iter().filter(concerns).cloned().collect();
        if edits.is_empty() { Ok(None) } else { word(&edits, false).map(Some) }
    }

    /// Applies changes that were written down.
    pub(crate) fn apply(&self, edits: Vec<Edit>) {
        let mut directory = self.directory.write();
        edits.into_iter().for_each(|edit| directory.apply(edit));
    }

    /// Checks that whoever a gateway speaks for may ask this, by the directory as it is now, which may be newer than the gateway's.
    fn check(&self, tenant: &Tenant, token: &str, ask: &Ask) -> Result<Identity> {
        if token.is_empty() {
            return self.check_node(tenant, ask);
        }
        let token: TokenId = token.parse().map_err(convert::malformed)?;
        let directory = self.directory.read();
        let unknown = || Error::new(Code::TOKEN_REVOKED, format!("token {token} was revoked")).with("token", token);
        let entry = directory.tokens().find(|entry| entry.id == token).ok_or_else(unknown)?;
        let identity = Identity { tenant: entry.tenant.clone(), role: entry.role, token: Some(token) };
        directory.still_admits(&identity, now_ms())?;
        Door::Ask(ask).enter(&identity, Some(tenant), &directory)?;
        Ok(identity)
    }

    /// What a node may ask on its own: the tags of what it stores, so that it keeps that, the artifact of a name, for what tasks start, where other nodes are, and what it waits for.
    fn check_node(&self, tenant: &Tenant, ask: &Ask) -> Result<Identity> {
        match ask {
            Ask::Query(Query::Tags { .. } | Query::Artifact { .. }) => self.directory.read().tenant(tenant).map(|_entry| ())?,
            // The core tells a tenant of its own requests only.
            Ask::Query(Query::Nodes) | Ask::Demand { .. } | Ask::NameActor { .. } | Ask::UnnameActor { .. } => {}
            _ => return Err(convert::malformed("a question without a token is none of a node's own")),
        }
        Ok(Identity { tenant: tenant.clone(), role: Role::Viewer, token: None })
    }
}

fn word(edits: &[Edit], whole: bool) -> Result<msg::Directory> {
    Ok(msg::Directory { whole, edits: json(&edits)?, clock_ms: now_ms() })
}

impl Shared {
    /// Makes sure that the cluster has its first tenant and this admin.
    pub(crate) async fn found(&self, admin: &UserToken) -> Result<()> {
        let _one_at_a_time = self.access.order.lock().await;
        let plan = self.plan(|directory| Ok(directory.found(admin, now_ms())))?;
        self.commit(plan).await
    }

    /// Writes changes down, and only then lets them take effect, here and at the nodes.
    async fn commit(&self, edits: Vec<Edit>) -> Result<()> {
        if edits.is_empty() {
            return Ok(());
        }
        self.journal.commit(edits.iter().map(records::change).collect::<Result<_>>()?).await?;
        self.publish(edits)
    }

    /// Who asks, if it may ask this.
    pub(crate) fn asker(&self, question: &msg::Question, ask: &Ask) -> Result<(Tenant, Identity)> {
        let tenant = Tenant::new(&question.tenant).map_err(convert::malformed)?;
        let identity = self.access.check(&tenant, &question.token, ask)?;
        Ok((tenant, identity))
    }

    /// Tenants that are there.
    pub(crate) fn tenants(&self) -> Listing<TenantRecord> {
        let directory = self.access.directory.read();
        let there = directory.tenants().filter(|entry| entry.deleted_ms.is_none());
        let rows: Vec<TenantRecord> = there.map(|entry| tenant_record(&directory, &entry.name, entry.created_ms)).collect();
        Listing { total: rows.len() as u64, rows, missing: Vec::new() }
    }

    /// Tokens, the newest first.
    pub(crate) fn tokens(&self, tenant: Option<&Tenant>) -> Listing<TokenRecord> {
        let directory = self.access.directory.read();
        let wanted = directory.tokens().filter(|entry| tenant.is_none_or(|tenant| entry.tenant == *tenant));
        let mut rows: Vec<TokenRecord> = wanted.map(token_record).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.created_ms), row.id));
        Listing { total: rows.len() as u64, rows, missing: Vec::new() }
    }

    /// What a tenant's guests may be granted.
    pub(crate) fn policy(&self, tenant: &Tenant) -> PolicyRecord {
        PolicyRecord { tenant: tenant.clone(), policy: self.access.directory.read().policy(tenant) }
    }

    /// The edits that carry an order out, as the directory is now.
    fn plan(&self, plan: impl FnOnce(&Directory) -> Result<Vec<Edit>>) -> Result<Vec<Edit>> {
        plan(&self.access.directory.read())
    }

    /// Carries out an admin's order, and says who gave it.
    pub(crate) async fn manage(&self, identity: &Identity, order: &Order) -> Result<bytes::Bytes> {
        let answer = self.carry_out(identity, order).await?;
        self.log(identity, order);
        Ok(answer)
    }

    async fn carry_out(&self, identity: &Identity, order: &Order) -> Result<bytes::Bytes> {
        let now = now_ms();
        let one_at_a_time = self.access.order.lock().await;
        match order {
            Order::CreateTenant { tenant } => {
                let plan = self.plan(|directory| directory.create_tenant(tenant, now))?;
                self.commit(plan).await?;
                json(&tenant_record(&self.access.directory.read(), tenant, now))
            }
            Order::DeleteTenant { tenant, force } => {
                let plan = self.plan(|directory| directory.delete_tenant(tenant, now))?;
                let jobs_stopped = self.in_use(tenant, *force).await?;
                self.commit(plan).await?;
                for changes in records::leftovers(&self.journal, tenant)? {
                    self.journal.commit(changes).await?;
                }
                self.forget_groups(tenant);
                drop(one_at_a_time);
                json(&TenantDeleted { tenant: tenant.clone(), jobs_stopped, missing: self.gone_from_nodes(tenant).await })
            }
            Order::CreateToken(new) => {
                let tenant = new.tenant.as_ref().unwrap_or(&identity.tenant);
                let plan = self.plan(|directory| directory.create_token(new, tenant, now))?;
                self.commit(plan).await?;
                self.token(new.id)
            }
            Order::RevokeToken { token } => {
                let plan = self.plan(|directory| directory.revoke_token(*token, now))?;
                self.commit(plan).await?;
                self.token(*token)
            }
            Order::SetPolicy { tenant, policy } => {
                let plan = self.plan(|directory| directory.set_policy(tenant, policy.clone()))?;
                self.commit(plan).await?;
                json(&self.policy(tenant))
            }
            Order::StopJob { .. }
            | Order::DrainNode { .. }
            | Order::UndrainNode { .. }
            | Order::TagArtifact { .. }
            | Order::Untag { .. }
            | Order::RemoveArtifact { .. }
            | Order::CollectArtifacts { .. }
            | Order::ReleaseObject { .. }
            | Order::EndActor { .. }
            | Order::RevokeInvitation { .. }
            | Order::CreateGroup(_)
            | Order::RemoveGroup { .. }
            | Order::InviteNode { .. } => Err(Error::internal("an order that is not about tenants came here")),
        }
    }

    /// Whoever reads the log wants to know by whom it was changed who may do what.
    fn log(&self, identity: &Identity, order: &Order) {
        let by = identity.token.map(tracing::field::display);
        match order {
            Order::CreateTenant { tenant } => tracing::info!(%tenant, by, "a tenant was created"),
            Order::DeleteTenant { tenant, force } => tracing::info!(%tenant, force, by, "a tenant was deleted"),
            Order::CreateToken(new) => {
                let tenant = new.tenant.as_ref().unwrap_or(&identity.tenant);
                tracing::info!(%tenant, token = %new.id, role = %new.role, by, "a token was created");
            }
            Order::RevokeToken { token } => {
                let directory = self.access.directory.read();
                let entry = directory.tokens().find(|entry| entry.id == *token);
                tracing::info!(tenant = entry.map(|entry| tracing::field::display(&entry.tenant)), %token, by, "a token was revoked");
            }
            Order::SetPolicy { tenant, .. } => tracing::info!(%tenant, by, "a policy was set"),
            _ => {}
        }
    }

    fn token(&self, id: TokenId) -> Result<bytes::Bytes> {
        let directory = self.access.directory.read();
        let entry = directory.tokens().find(|entry| entry.id == id);
        json(&token_record(entry.ok_or_else(|| Error::internal("a token is gone that was just written"))?))
    }

    /// How many jobs of a tenant have not ended.
    ///
    /// # Errors
    ///
    /// Without `force`, [`Code::TENANT_BUSY`] if there are any, or if a node does not say.
    async fn in_use(&self, tenant: &Tenant, force: bool) -> Result<u64> {
        let (found, missing) = self.use_of(tenant).await?;
        let jobs = found.iter().map(|(_, found)| found.jobs).sum();
        let tasks: u64 = found.iter().map(|(_, found)| found.tasks).sum();
        let refused =
            |message| Error::new(Code::TENANT_BUSY, message).hint("wait, stop it, or delete with --force, which stops and removes all");
        match missing.first() {
            _ if force => Ok(jobs),
            _ if jobs > 0 => Err(refused(format!("tenant `{tenant}` has {jobs} jobs that have not ended, with {tasks} tasks"))
                .with("jobs", jobs)
                .with("tasks", tasks)),
            Some(missing) => Err(refused(format!("whether tenant `{tenant}` has work is not known: {missing}"))),
            None => Ok(0),
        }
    }

    /// Asks every node whether it has let go of a tenant that was deleted; says who has not.
    async fn gone_from_nodes(&self, tenant: &Tenant) -> Vec<String> {
        match self.use_of(tenant).await {
            Ok((found, mut missing)) => {
                missing.extend(found.iter().filter(|(_, found)| found.jobs > 0).map(|(node, _)| format!("node {node} is not done yet")));
                missing
            }
            Err(error) => vec![error.message().to_owned()],
        }
    }

    /// What each node has of a tenant's work, and who did not say.
    async fn use_of(&self, tenant: &Tenant) -> Result<(Vec<(NodeId, TenantUse)>, Vec<String>)> {
        let question = msg::Question { tenant: tenant.to_string(), ask: json(&Ask::TenantUse)?, ..msg::Question::default() };
        let (parts, mut missing) = ask::each(self, &question).await;
        let mut found = Vec::new();
        for (node, part) in parts {
            match serde_json::from_slice(&part) {
                Ok(part) => found.push((node, part)),
                Err(error) => missing.push(format!("node {node} answers in another way: {error}")),
            }
        }
        Ok((found, missing))
    }
}

fn tenant_record(directory: &Directory, tenant: &Tenant, created_ms: u64) -> TenantRecord {
    let now = now_ms();
    let lives = |entry: &&TokenEntry| entry.revoked_ms.is_none() && entry.expires_ms.is_none_or(|expires| expires > now);
    let tokens = directory.tokens().filter(|entry| entry.tenant == *tenant).filter(lives).count() as u64;
    TenantRecord { name: tenant.clone(), created_ms, tokens }
}

fn token_record(entry: &TokenEntry) -> TokenRecord {
    let TokenEntry { id, name, tenant, role, created_ms, expires_ms, revoked_ms, .. } = entry.clone();
    TokenRecord { id, name, tenant, role, created_ms, expires_ms, revoked_ms }
}
