//! What a commit is made of: tables, keys, values, and how large they may be.

use rwasm_types::{Code, Error, Result};

/// The most bytes of a key; the longest are made of a tenant and two names.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most bytes of a value; records are small, and each is written whole.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most changes of one commit.
pub const CHANGES_MAX: usize = 10_000;

/// Records of one kind. Their names on disk never change, and a table that a later version added is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What there is once: the cluster's id, the head's incarnation, counters.
    Cluster,
    /// Nodes by their numbers.
    Nodes,
    /// Tenants by their names.
    Tenants,
    /// Users' tokens by their ids.
    Tokens,
    /// Tokens that nodes join with, by their ids.
    JoinTokens,
    /// What tenants may grant.
    Policies,
    /// Names of artifacts.
    Tags,
    /// Nodes that take no more work, by their numbers.
    Drains,
    /// Placement groups.
    Groups,
    /// Names of actors.
    Actors,
    /// Orders that were carried out, by their idempotency keys.
    Keys,
}

impl Table {
    /// Every table.
    pub const ALL: &'static [Self] = &[
        Self::Cluster,
        Self::Nodes,
        Self::Tenants,
        Self::Tokens,
        Self::JoinTokens,
        Self::Policies,
        Self::Tags,
        Self::Drains,
        Self::Groups,
        Self::Actors,
        Self::Keys,
    ];

    /// Its name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Nodes => "nodes",
            Self::Tenants => "tenants",
            Self::Tokens => "tokens",
            Self::JoinTokens => "join-tokens",
            Self::Policies => "policies",
            Self::Tags => "tags",
            Self::Drains => "drains",
            Self::Groups => "groups",
            Self::Actors => "actors",
            Self::Keys => "keys",
        }
    }
}

/// One change of a commit. Values are JSON by custom; the journal does not look at them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a record or replaces it.
    Put {
        /// Where.
        table: Table,
        /// Begins with `TENANT/` where the record belongs to one. 1 to [`KEY_BYTES_MAX`] bytes.
        key: String,
        /// Up to [`VALUE_BYTES_MAX`] bytes.
        value: Vec<u8>,
    },
    /// Removes a record, if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Which.
        key: String,
    },
}

impl Change {
    /// The table and key that it is about.
    pub(crate) fn place(&self) -> (Table, &str) {
        match self {
            Self::Put { table, key, .. } | Self::Delete { table, key } => (*table, key),
        }
    }
}

/// Refuses a commit that is too large, whatever is in the journal.
pub(crate) fn check(changes: &[Change]) -> Result<()> {
    if changes.len() > CHANGES_MAX {
        return Err(limit(format!("a commit of {} changes is more than the limit of {CHANGES_MAX}", changes.len())));
    }
    for change in changes {
        let (table, key) = change.place();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(limit(format!("a key of {} bytes in table {} is not one of 1 to {KEY_BYTES_MAX}", key.len(), table.name())));
        }
        if let Change::Put { value, .. } = change
            && value.len() > VALUE_BYTES_MAX
        {
            return Err(limit(format!("the record {key} of table {} has more than {VALUE_BYTES_MAX} bytes", table.name())));
        }
    }
    Ok(())
}

pub(crate) fn limit(message: String) -> Error {
    Error::new(Code::LIMIT, message)
}
