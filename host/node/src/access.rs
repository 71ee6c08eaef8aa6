//! Who may do what at this node's gateway: a copy of the head's directory, and callers who were let in by it.
//!
//! The copy is as old as the head's last word. While the head is away, tokens expire on time, and what was revoked meanwhile is learnt
//! when the head is back. The time is the head's: a node whose clock is wrong neither turns good tokens away nor takes expired ones.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use rwasm_auth::{Admitted, Directory, Door, Edit};
use rwasm_runtime::now_ms;
use rwasm_types::{Code, Error, Identity, Policy, Result, Role, Tenant, api::UnixMs};
use rwasm_wire::{Caller, convert, msg};
use tokio::sync::watch;

use crate::node::Shared;

/// The longest sleep until a token expires; then it is looked at again, for clocks are set.
const LOOK_AT_LATEST: Duration = Duration::from_secs(60);

/// The copy.
pub(crate) struct Access {
    directory: RwLock<Directory>,
    /// Counts the head's words; 0 before the first.
    version: watch::Sender<u64>,
    /// What the head's clock showed when it spoke last.
    clock: RwLock<Option<(UnixMs, Instant)>>,
}

impl Access {
    pub(crate) fn new() -> Self {
        Self { directory: RwLock::default(), version: watch::Sender::new(0), clock: RwLock::default() }
    }

    /// The time by the head's clock; by this machine's as long as the head has said nothing.
    fn now_ms(&self) -> UnixMs {
        let (said, at) = self.clock.read().unwrap_or_else(|| (now_ms(), Instant::now()));
        said.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Takes the head's word; gives the tenants that are gone by now.
    ///
    /// # Errors
    ///
    /// If it is not understood.
    pub(crate) fn hear(&self, word: &msg::Directory) -> Result<Vec<Tenant>> {
        let edits: Vec<Edit> = serde_json::from_slice(&word.edits)
            .map_err(|error| convert::malformed(format_args!("the directory is not understood: {error}")))?;
        let deleted = |edit: &Edit| match edit {
            Edit::Tenant(entry) if entry.deleted_ms.is_some() => Some(entry.name.clone()),
            _ => None,
        };
        if word.clock_ms > 0 {
            *self.clock.write() = Some((word.clock_ms, Instant::now()));
        }
        let gone = edits.iter().filter_map(deleted).collect();
        {
            let mut directory = self.directory.write();
            if word.whole {
                *directory = Directory::default();
            }
            edits.into_iter().for_each(|edit| directory.apply(edit));
        }
        self.version.send_modify(|version| *version += 1);
        Ok(gone)
    }

    /// Waits until the head has said who there is.
    pub(crate) async fn known(&self) {
        // The sender is ours, so this ends well.
        let _ = self.version.subscribe().wait_for(|version| *version > 0).await;
    }

    /// Who calls.
    ///
    /// # Errors
    ///
    /// Why its token is not good; see [`Directory::admit`].
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Admitted> {
        self.directory.read().admit(caller.token.as_deref(), self.now_ms())
    }

    /// Lets a caller in by a door.
    ///
    /// # Errors
    ///
    /// Why not; see [`Directory::admit`] and [`Door::enter`].
    pub(crate) fn enter(&self, caller: &Caller, door: Door<'_>) -> Result<Visitor> {
        // Before the look at the directory, so that no change in between is missed.
        let version = self.version.subscribe();
        let directory = self.directory.read();
        let Admitted { identity, expires_ms } = directory.admit(caller.token.as_deref(), self.now_ms())?;
        let named = caller.tenant.as_deref().map(|name| Tenant::new(name).map_err(convert::malformed)).transpose()?;
        let tenant = door.enter(&identity, named.as_ref(), &directory)?;
        Ok(Visitor { tenant, identity, expires_ms, version })
    }

    /// Whether a tenant is there.
    ///
    /// # Errors
    ///
    /// [`Code::TENANT_DELETED`].
    pub(crate) fn there(&self, tenant: &Tenant) -> Result<()> {
        self.still_admits(&Identity { tenant: tenant.clone(), role: Role::Viewer, token: None })
    }

    /// What a tenant's guests may be granted.
    pub(crate) fn policy(&self, tenant: &Tenant) -> Policy {
        self.directory.read().policy(tenant)
    }

    fn still_admits(&self, identity: &Identity) -> Result<()> {
        self.directory.read().still_admits(identity, self.now_ms())
    }
}

/// What a node knows of users' tokens, for other doors to the cluster in the same process.
#[derive(Clone)]
pub struct Tokens(pub(crate) Weak<Shared>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tokens").finish()
    }
}

impl Tokens {
    /// Whose a token is.
    ///
    /// # Errors
    ///
    /// Why it is not good; [`Code::CONNECTION_LOST`] once the node has ended.
    pub fn identify(&self, token: &str) -> Result<Identity> {
        let shared = self.0.upgrade().ok_or_else(|| Error::new(Code::CONNECTION_LOST, "this node is shutting down"))?;
        let caller = Caller { token: Some(token.to_owned()), ..Caller::default() };
        shared.access.admit(&caller).map(|admitted| admitted.identity)
    }
}

/// A caller who was let in, for as long as its token is good.
pub(crate) struct Visitor {
    /// Whose belongings it deals with.
    pub(crate) tenant: Tenant,
    pub(crate) identity: Identity,
    expires_ms: Option<UnixMs>,
    version: watch::Receiver<u64>,
}

impl Visitor {
    /// Whether its token is still good. Costs next to nothing while nothing changes.
    ///
    /// # Errors
    ///
    /// Why it is not; see [`Directory::still_admits`].
    pub(crate) fn check(&mut self, access: &Access) -> Result<()> {
        let changed = self.version.has_changed().unwrap_or(true);
        if changed || self.expires_ms.is_some_and(|expires| expires <= access.now_ms()) {
            self.version.mark_unchanged();
            return access.still_admits(&self.identity);
        }
        Ok(())
    }

    /// Waits until its token is good no more; gives the reason. Nothing is lost if this is dropped early.
    pub(crate) async fn ended(&mut self, access: &Access) -> Error {
        loop {
            let changed = match self.expires_ms {
                // No timer: sessions wait here once for each message.
                None => self.version.changed().await.is_ok(),
                Some(expires) => {
                    let left = Duration::from_millis(expires.saturating_sub(access.now_ms()));
                    tokio::select! {
                        changed = self.version.changed() => changed.is_ok(),
                        () = tokio::time::sleep(left.min(LOOK_AT_LATEST)) => true,
                    }
                }
            };
            if !changed {
                return Error::new(Code::CONNECTION_LOST, "this node is shutting down");
            }
            if let Err(error) = access.still_admits(&self.identity) {
                return error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::{UserToken, api::NewToken};

    use super::*;

    fn word(edits: &[Edit], whole: bool) -> msg::Directory {
        msg::Directory { whole, edits: serde_json::to_vec(edits).unwrap().into(), clock_ms: 0 }
    }

    fn caller(token: &UserToken, tenant: Option<&str>) -> Caller {
        Caller { token: Some(token.reveal()), tenant: tenant.map(str::to_owned), ..Caller::default() }
    }

    #[tokio::test]
    async fn a_visitor_hears_when_its_token_ends() {
        let (admin, user) = (UserToken::from_random([1; 8], [1; 32]), UserToken::from_random([2; 8], [2; 32]));
        let access = Access::new();
        assert_eq!(access.enter(&caller(&admin, None), Door::Attach).err().map(|error| error.code()), Some(Code::TOKEN_REFUSED));
        let mut directory = Directory::default();
        let mut say = |edits: Vec<Edit>, whole| {
            access.hear(&word(&edits, whole)).unwrap();
            edits.into_iter().for_each(|edit| directory.apply(edit));
            directory.clone()
        };
        let directory = say(Directory::default().found(&admin, 1), true);
        access.known().await;
        let new = NewToken { id: user.id(), hash: user.hash(), tenant: None, role: Role::Submitter, name: None, expires_ms: None };
        let directory = say(directory.create_token(&new, &Tenant::default(), 1).unwrap(), false);
        let mut visitor = access.enter(&caller(&user, None), Door::Attach).unwrap();
        visitor.check(&access).unwrap();
        let foreign = access.enter(&caller(&user, Some("other")), Door::Logs).err().map(|error| error.code());
        assert_eq!(foreign, Some(Code::NOT_FOUND));
        let edits = directory.revoke_token(user.id(), 2).unwrap();
        let (error, ()) = tokio::join!(visitor.ended(&access), async { drop(access.hear(&word(&edits, false)).unwrap()) });
        assert_eq!(error.code(), Code::TOKEN_REVOKED);
        let mut admitted = access.enter(&caller(&admin, None), Door::Attach).unwrap();
        access.hear(&word(&directory.edits(), true)).unwrap();
        admitted.check(&access).unwrap();
    }

    #[tokio::test]
    async fn a_token_expires_by_itself() {
        let user = UserToken::from_random([2; 8], [2; 32]);
        let access = Access::new();
        let mut directory: Directory = Directory::default().found(&UserToken::from_random([1; 8], [1; 32]), 1).into_iter().collect();
        let expires_ms = Some(now_ms() + 50);
        let new = NewToken { id: user.id(), hash: user.hash(), tenant: None, role: Role::Viewer, name: None, expires_ms };
        directory.create_token(&new, &Tenant::default(), 1).unwrap().into_iter().for_each(|edit| directory.apply(edit));
        access.hear(&word(&directory.edits(), true)).unwrap();
        let mut visitor = access.enter(&caller(&user, None), Door::Logs).unwrap();
        assert_eq!(visitor.ended(&access).await.code(), Code::TOKEN_EXPIRED);
        assert_eq!(visitor.check(&access).unwrap_err().code(), Code::TOKEN_EXPIRED);
    }
    #[test]
    fn the_heads_clock_decides_whatever_this_one_shows() {
        let user = UserToken::from_random([2; 8], [2; 32]);
        let mut directory: Directory = Directory::default().found(&UserToken::from_random([1; 8], [1; 32]), 1).into_iter().collect();
        let expires_ms = Some(1_000_000);
        let new = NewToken { id: user.id(), hash: user.hash(), tenant: None, role: Role::Viewer, name: None, expires_ms };
        directory.create_token(&new, &Tenant::default(), 1).unwrap().into_iter().for_each(|edit| directory.apply(edit));
        let access = Access::new();
        let said_at = |clock_ms| {
            access.hear(&msg::Directory { clock_ms, ..word(&directory.edits(), true) }).unwrap();
            access.admit(&caller(&user, None)).map(drop).map_err(|error| error.code())
        };
        assert_eq!(said_at(1), Ok(()));
        assert_eq!(said_at(1_000_000), Err(Code::TOKEN_EXPIRED));
        assert_eq!(said_at(900_000), Ok(()), "a clock that was put right");
    }
}
