//! Tenants, users' tokens and policies, as admins see them, and the tokens that let nodes in.

use serde::{Deserialize, Serialize};

use super::UnixMs;
use crate::{Name, Policy, Role, Tenant, TokenHash, TokenId};

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRecord {
    /// Its id.
    pub id: TokenId,
    /// When it ends.
    pub expires_ms: UnixMs,
    /// How many nodes it still lets in.
    pub nodes: u32,
    /// When a node joined with it last.
    #[serde(default)]
    pub used_ms: Option<UnixMs>,
}

/// A node may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Which join token it is.
    pub id: TokenId,
    /// When it ends.
    pub expires_ms: UnixMs,
    /// The fingerprint of the cluster's authority.
    pub authority: String,
}

/// A token that is to be. Whoever asks for it has drawn it, so that its secret stays there: only the hash travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// What is kept of it.
    pub hash: TokenHash,
    /// For which tenant; the caller's own if none is named.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// What it may do.
    pub role: Role,
    /// A name for people.
    #[serde(default)]
    pub name: Option<Name>,
    /// From when on it opens nothing; never without.
    #[serde(default)]
    pub expires_ms: Option<UnixMs>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its name.
    pub name: Tenant,
    /// When it was created.
    pub created_ms: UnixMs,
    /// Its tokens that open something.
    pub tokens: u64,
}

/// A user's token, without what opens anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// What people call it.
    #[serde(default)]
    pub name: Option<Name>,
    /// Whose work it opens.
    pub tenant: Tenant,
    /// What it may do.
    pub role: Role,
    /// When it was created.
    pub created_ms: UnixMs,
    /// From when on it opens nothing.
    #[serde(default)]
    pub expires_ms: Option<UnixMs>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked_ms: Option<UnixMs>,
}

/// What a tenant's guests may be granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Whose.
    pub tenant: Tenant,
    /// The policy.
    pub policy: Policy,
}

/// How much of a tenant's work has not ended at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUse {
    /// Jobs.
    pub jobs: u64,
    /// Tasks that wait or run.
    pub tasks: u64,
}

/// A tenant is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantDeleted {
    /// Which.
    pub tenant: Tenant,
    /// Jobs that were stopped.
    pub jobs_stopped: u64,
    /// Nodes that have not said that they removed what they had of it, one line each; they do so when they are back.
    #[serde(default)]
    pub missing: Vec<String>,
}
