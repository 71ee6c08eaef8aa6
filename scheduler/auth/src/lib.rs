//! Who may do what: tenants, users' tokens, roles and policies. No IO, clock or randomness; times and random bytes are handed in.
//!
//! ```text
//!  admin's order ─▶ Directory::create_token, … ─▶ edits ─▶ journal ─▶ the head's Directory
//!                                                             └─────▶ each gateway's Directory ◀─ admit(token) ─ callers
//! ```
//!
//! What changes a directory is a list of [`Edit`]s. The head writes them down, applies them, and sends them on; a gateway applies the same
//! edits to a copy and checks tokens there, so no call waits for the head. An edit holds hashes of tokens and never a secret.

mod directory;
mod door;
mod orders;

pub use self::{
    directory::{Admitted, Directory, Edit, TenantEntry, TokenEntry},
    door::Door,
    orders::{DEAD_KEPT_MS, TENANTS_MAX, TOKENS_MAX},
};
