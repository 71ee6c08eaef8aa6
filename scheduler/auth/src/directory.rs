//! The directory: what is known of tenants and tokens, and the check of what a caller shows.

use std::collections::{BTreeMap, HashMap};

use rwasm_types::{Code, Error, Identity, Name, Policy, Result, Role, Tenant, TokenHash, TokenId, UserToken, api::UnixMs};
use serde::{Deserialize, Serialize};

/// A tenant. It stays when it was deleted, for its name is not given again: what bears it elsewhere means this tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantEntry {
    /// Its name.
    pub name: Tenant,
    /// When it was created.
    pub created_ms: UnixMs,
    /// When it was deleted.
    #[serde(default)]
    pub deleted_ms: Option<UnixMs>,
}

/// A user's token, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its id.
    pub id: TokenId,
    /// What its text is checked against.
    pub hash: TokenHash,
    /// Whose work it opens.
    pub tenant: Tenant,
    /// What it may do.
    pub role: Role,
    /// What people call it.
    #[serde(default)]
    pub name: Option<Name>,
    /// When it was created.
    pub created_ms: UnixMs,
    /// From when on it opens nothing; never without.
    #[serde(default)]
    pub expires_ms: Option<UnixMs>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked_ms: Option<UnixMs>,
}

impl TokenEntry {
    /// Why it opens nothing at a time; it is well if nothing is wrong.
    fn check(&self, now: UnixMs) -> Result<()> {
        let id = self.id;
        if self.revoked_ms.is_some() {
            return Err(Error::new(Code::TOKEN_REVOKED, format!("token {id} was revoked"))
                .hint("ask an admin for another")
                .with("token", id));
        }
        if self.expires_ms.is_some_and(|expires| expires <= now) {
            return Err(Error::new(Code::TOKEN_EXPIRED, format!("token {id} has expired"))
                .hint("ask an admin for another")
                .with("token", id));
        }
        Ok(())
    }

    /// Since when it opens nothing, if it does not.
    pub(crate) fn dead_since(&self, now: UnixMs) -> Option<UnixMs> {
        self.revoked_ms.into_iter().chain(self.expires_ms.filter(|expires| *expires <= now)).min()
    }
}

/// One change, as it is written down and sent on. Applying it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "kebab-case")]
pub enum Edit {
    /// A tenant is as said.
    Tenant(TenantEntry),
    /// A tenant's policy is as said.
    Policy {
        /// Whose.
        tenant: Tenant,
        /// The policy.
        policy: Policy,
    },
    /// A token is as said.
    Token(TokenEntry),
    /// A token is forgotten.
    Forget {
        /// Whose it was.
        tenant: Tenant,
        /// Which.
        token: TokenId,
    },
}

/// A caller whose token was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub identity: Identity,
    /// Until when, if the token expires.
    pub expires_ms: Option<UnixMs>,
}

/// Tenants, tokens and policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub(crate) tenants: BTreeMap<Tenant, TenantEntry>,
    pub(crate) policies: BTreeMap<Tenant, Policy>,
    pub(crate) tokens: HashMap<TokenId, TokenEntry>,
}

impl FromIterator<Edit> for Directory {
    fn from_iter<I: IntoIterator<Item = Edit>>(edits: I) -> Self {
        let mut directory = Self::default();
        edits.into_iter().for_each(|edit| directory.apply(edit));
        directory
    }
}

impl Directory {
    /// Applies a change. Whether it may be made was decided by the method that made it.
    pub fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Tenant(entry) => {
                if entry.deleted_ms.is_some() {
                    self.policies.remove(&entry.name);
                }
                self.tenants.insert(entry.name.clone(), entry);
            }
            // A deleted tenant's policy can be on disk for a moment longer.
            Edit::Policy { tenant, .. } if self.tenants.get(&tenant).is_some_and(|entry| entry.deleted_ms.is_some()) => {}
            Edit::Policy { tenant, policy } => drop(self.policies.insert(tenant, policy)),
            Edit::Token(entry) => drop(self.tokens.insert(entry.id, entry)),
            Edit::Forget { token, .. } => drop(self.tokens.remove(&token)),
        }
    }

    /// The edits that make this directory.
    pub fn edits(&self) -> Vec<Edit> {
        let mut tokens: Vec<&TokenEntry> = self.tokens.values().collect();
        tokens.sort_by_key(|entry| entry.id);
        let mut edits = self.tenants_edits();
        edits.extend(tokens.into_iter().map(|entry| Edit::Token(entry.clone())));
        edits
    }

    /// The edits that make it but for its tokens: what nodes need that take nobody in.
    pub fn tenants_edits(&self) -> Vec<Edit> {
        let policies = self.policies.iter().map(|(tenant, policy)| Edit::Policy { tenant: tenant.clone(), policy: policy.clone() });
        self.tenants.values().map(|entry| Edit::Tenant(entry.clone())).chain(policies).collect()
    }

    /// Every tenant, deleted ones included.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantEntry> {
        self.tenants.values()
    }

    /// Every token, those that open nothing any more included, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenEntry> {
        self.tokens.values()
    }

    /// A tenant that was not deleted.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`].
    pub fn tenant(&self, name: &Tenant) -> Result<&TenantEntry> {
        self.tenants.get(name).filter(|entry| entry.deleted_ms.is_none()).ok_or_else(|| no_tenant(name))
    }

    /// A tenant's policy; nothing is allowed where none was set.
    pub fn policy(&self, tenant: &Tenant) -> Policy {
        self.policies.get(tenant).cloned().unwrap_or_default()
    }

    /// Who shows this at a time.
    ///
    /// # Errors
    ///
    /// One of the codes for tokens. What is wrong with a token beyond that it is unknown is told only to whoever knows its secret.
    pub fn admit(&self, shown: Option<&str>, now: UnixMs) -> Result<Admitted> {
        let shown = shown.ok_or_else(|| {
            Error::new(Code::TOKEN_REFUSED, "no token was shown").hint("set RWASM_TOKEN to a user's token, which an admin can create")
        })?;
        let token = UserToken::parse(shown)?;
        let hash = token.hash();
        let entry = self.tokens.get(&token.id()).filter(|entry| entry.hash == hash).ok_or_else(|| {
            Error::new(Code::TOKEN_REFUSED, "this cluster knows no such token")
                .hint("check that RWASM_TOKEN and the address belong to one cluster")
        })?;
        entry.check(now)?;
        let identity = Identity { tenant: entry.tenant.clone(), role: entry.role, token: Some(entry.id) };
        Ok(Admitted { identity, expires_ms: entry.expires_ms })
    }

    /// Whether somebody who was admitted still is.
    ///
    /// # Errors
    ///
    /// [`Code::TENANT_DELETED`], [`Code::TOKEN_REVOKED`] or [`Code::TOKEN_EXPIRED`].
    pub fn still_admits(&self, identity: &Identity, now: UnixMs) -> Result<()> {
        if self.tenant(&identity.tenant).is_err() {
            return Err(Error::new(Code::TENANT_DELETED, format!("tenant `{}` was deleted", identity.tenant)));
        }
        let Some(id) = identity.token else { return Ok(()) };
        match self.tokens.get(&id) {
            Some(entry) => entry.check(now),
            None => Err(Error::new(Code::TOKEN_REVOKED, format!("token {id} was revoked")).with("token", id)),
        }
    }
}

pub(crate) fn no_tenant(name: &Tenant) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no tenant `{name}`"))
}
