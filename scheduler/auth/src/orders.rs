//! What admins may change. Each method checks an order against the directory as it is and answers with the edits that carry it out; it
//! changes nothing itself, so that the edits can be written down first.

use rwasm_types::{
    Code, Error, Policy, Result, Role, Tenant, TokenId, UserToken,
    api::{NewToken, UnixMs},
};

use crate::{Directory, Edit, TenantEntry, TokenEntry, directory::no_tenant};

/// The most tenants of a cluster, deleted ones included.
pub const TENANTS_MAX: usize = 10_000;
/// The most tokens of a cluster, those that open nothing any more included.
pub const TOKENS_MAX: usize = 5_000;
/// How long a token that expired or was revoked is remembered, so that whoever shows it is told so.
pub const DEAD_KEPT_MS: UnixMs = 30 * 24 * 3_600_000;

impl Directory {
    /// What the first start of a cluster needs: the default tenant, and an admin's token for it. Nothing, if both are known.
    pub fn found(&self, admin: &UserToken, now: UnixMs) -> Vec<Edit> {
        let tenant = Tenant::default();
        let mut edits = Vec::new();
        if !self.tenants.contains_key(&tenant) {
            edits.push(Edit::Tenant(TenantEntry { name: tenant.clone(), created_ms: now, deleted_ms: None }));
            edits.push(Edit::Policy { tenant: tenant.clone(), policy: Policy::open() });
        }
        if !self.tokens.contains_key(&admin.id()) {
            edits.push(Edit::Token(TokenEntry {
                id: admin.id(),
                hash: admin.hash(),
                tenant,
                role: Role::Admin,
                name: None,
                created_ms: now,
                expires_ms: None,
                revoked_ms: None,
            }));
        }
        edits
    }

    /// Creates a tenant, whose guests may be granted nothing until a policy says so.
    ///
    /// # Errors
    ///
    /// [`Code::NAME_TAKEN`] or [`Code::LIMIT`].
    pub fn create_tenant(&self, name: &Tenant, now: UnixMs) -> Result<Vec<Edit>> {
        match self.tenants.get(name) {
            Some(TenantEntry { deleted_ms: None, .. }) => {
                Err(Error::new(Code::NAME_TAKEN, format!("there is a tenant `{name}` already")).hint("`rwasm tenant list` shows them"))
            }
            Some(_) => Err(Error::new(Code::NAME_TAKEN, format!("a tenant `{name}` was deleted, and names are not given twice"))
                .hint("choose another name")),
            None if self.tenants.len() >= TENANTS_MAX => {
                Err(Error::new(Code::LIMIT, format!("the cluster has had {TENANTS_MAX} tenants, which is the limit")))
            }
            None => Ok(vec![Edit::Tenant(TenantEntry { name: name.clone(), created_ms: now, deleted_ms: None })]),
        }
    }

    /// Deletes a tenant with its tokens and its policy. What it has on nodes is for the caller to end.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`]; [`Code::INVALID_ARGUMENT`] for the default tenant, which always is; [`Code::LAST_ADMIN`].
    pub fn delete_tenant(&self, name: &Tenant, now: UnixMs) -> Result<Vec<Edit>> {
        let entry = self.tenant(name)?;
        if *name == Tenant::default() {
            return Err(Error::new(Code::INVALID_ARGUMENT, format!("the tenant `{name}` cannot be deleted")));
        }
        if !self.admins(now).any(|admin| admin.tenant != *name) {
            return Err(last_admin(format_args!("tenant `{name}` has the last token of an admin")));
        }
        let mut tokens: Vec<TokenId> = self.tokens.values().filter(|token| token.tenant == *name).map(|token| token.id).collect();
        tokens.sort();
        let mut edits = vec![Edit::Tenant(TenantEntry { deleted_ms: Some(now), ..entry.clone() })];
        edits.extend(tokens.into_iter().map(|token| Edit::Forget { tenant: name.clone(), token }));
        Ok(edits)
    }

    /// Creates a token for a tenant. Tokens that have opened nothing for long are forgotten on this occasion.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`], [`Code::NAME_TAKEN`], [`Code::INVALID_ARGUMENT`] or [`Code::LIMIT`].
    pub fn create_token(&self, new: &NewToken, tenant: &Tenant, now: UnixMs) -> Result<Vec<Edit>> {
        self.tenant(tenant)?;
        if new.expires_ms.is_some_and(|expires| expires <= now) {
            return Err(Error::new(Code::INVALID_ARGUMENT, "the token would have expired already").hint("check both machines' clocks"));
        }
        if self.tokens.contains_key(&new.id) {
            return Err(Error::new(Code::NAME_TAKEN, format!("there is a token {} already", new.id)));
        }
        let forgotten = |token: &&TokenEntry| token.dead_since(now).is_some_and(|since| since.saturating_add(DEAD_KEPT_MS) <= now);
        let mut edits: Vec<Edit> =
            self.tokens.values().filter(forgotten).map(|token| Edit::Forget { tenant: token.tenant.clone(), token: token.id }).collect();
        if self.tokens.len() - edits.len() >= TOKENS_MAX {
            return Err(Error::new(Code::LIMIT, format!("the cluster has {TOKENS_MAX} tokens, which is the limit")));
        }
        edits.push(Edit::Token(TokenEntry {
            id: new.id,
            hash: new.hash,
            tenant: tenant.clone(),
            role: new.role,
            name: new.name.clone(),
            created_ms: now,
            expires_ms: new.expires_ms,
            revoked_ms: None,
        }));
        Ok(edits)
    }

    /// Revokes a token; one that was revoked stays so.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`]; [`Code::LAST_ADMIN`] if nobody could manage the cluster any more.
    pub fn revoke_token(&self, id: TokenId, now: UnixMs) -> Result<Vec<Edit>> {
        let unknown = || Error::new(Code::NOT_FOUND, format!("there is no token {id}")).hint("`rwasm token list` shows them");
        let entry = self.tokens.get(&id).ok_or_else(unknown)?;
        if entry.revoked_ms.is_some() {
            return Ok(Vec::new());
        }
        let is_admin = entry.role == Role::Admin && entry.dead_since(now).is_none();
        if is_admin && !self.admins(now).any(|admin| admin.id != id) {
            return Err(last_admin(format_args!("token {id} is the last one of an admin")));
        }
        Ok(vec![Edit::Token(TokenEntry { revoked_ms: Some(now), ..entry.clone() })])
    }

    /// Sets what a tenant's guests may be granted.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] or [`Code::LIMIT`].
    pub fn set_policy(&self, tenant: &Tenant, policy: Policy) -> Result<Vec<Edit>> {
        self.tenants.get(tenant).filter(|entry| entry.deleted_ms.is_none()).ok_or_else(|| no_tenant(tenant))?;
        policy.check()?;
        Ok(vec![Edit::Policy { tenant: tenant.clone(), policy }])
    }

    /// Admins' tokens that open something.
    fn admins(&self, now: UnixMs) -> impl Iterator<Item = &TokenEntry> {
        self.tokens.values().filter(move |token| token.role == Role::Admin && token.dead_since(now).is_none())
    }
}

fn last_admin(why: std::fmt::Arguments<'_>) -> Error {
    Error::new(Code::LAST_ADMIN, why.to_string()).hint("create another first: `rwasm token create --role admin`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The token of a number; its secret is known to nobody else.
    fn token(number: u8) -> UserToken {
        UserToken::from_random([number; 8], [number ^ 0x5a; 32])
    }

    fn tenant(number: u8) -> Tenant {
        Tenant::new(&format!("t{number}")).unwrap()
    }

    fn new(number: u8, role: Role, expires_ms: Option<UnixMs>) -> NewToken {
        NewToken { id: token(number).id(), hash: token(number).hash(), tenant: None, role, name: None, expires_ms }
    }

    /// A cluster that was started for the first time at 0; token 0 is its admin's.
    fn founded() -> Directory {
        Directory::default().found(&token(0), 0).into_iter().collect()
    }

    fn code<T>(result: Result<T>) -> Code {
        result.map(drop).unwrap_err().code()
    }

    fn admitted(directory: &Directory, number: u8, now: UnixMs) -> Result<Role> {
        directory.admit(Some(&token(number).reveal()), now).map(|admitted| admitted.identity.role)
    }

    trait Change {
        fn change(&mut self, edits: Result<Vec<Edit>>);
    }

    impl Change for Directory {
        fn change(&mut self, edits: Result<Vec<Edit>>) {
            edits.unwrap().into_iter().for_each(|edit| self.apply(edit));
        }
    }

    #[test]
    fn the_first_start_makes_an_admin_and_the_second_none() {
        let mut directory = founded();
        assert_eq!(admitted(&directory, 0, 1), Ok(Role::Admin));
        assert!(directory.policy(&Tenant::default()).open);
        assert_eq!(directory.found(&token(0), 5), []);
        // Whoever lost the file starts with another token, which is taken in as well.
        directory.change(Ok(directory.found(&token(1), 5)));
        assert_eq!(admitted(&directory, 1, 6), Ok(Role::Admin));
    }

    #[test]
    fn a_token_opens_until_it_expires_or_is_revoked() {
        let mut directory = founded();
        directory.change(directory.create_token(&new(1, Role::Viewer, Some(100)), &Tenant::default(), 10));
        let identity = directory.admit(Some(&token(1).reveal()), 99).unwrap().identity;
        assert_eq!(code(admitted(&directory, 1, 100)), Code::TOKEN_EXPIRED);
        assert_eq!(code(directory.still_admits(&identity, 100)), Code::TOKEN_EXPIRED);
        directory.still_admits(&identity, 99).unwrap();
        directory.change(directory.revoke_token(token(1).id(), 50));
        assert_eq!(code(admitted(&directory, 1, 60)), Code::TOKEN_REVOKED);
        assert_eq!(code(directory.still_admits(&identity, 60)), Code::TOKEN_REVOKED);
        assert_eq!(directory.revoke_token(token(1).id(), 70).unwrap(), []);
        // Whoever knows the id and not the secret learns nothing of it.
        let guess = UserToken::from_random([1; 8], [0; 32]).reveal();
        assert_eq!(code(directory.admit(Some(&guess), 60)), Code::TOKEN_REFUSED);
        assert_eq!(code(directory.admit(Some(&token(9).reveal()), 60)), Code::TOKEN_REFUSED);
        assert_eq!(code(directory.admit(None, 60)), Code::TOKEN_REFUSED);
        // After a month it is forgotten, when the next one is created.
        directory.change(directory.create_token(&new(2, Role::Viewer, None), &Tenant::default(), 50 + DEAD_KEPT_MS));
        assert_eq!(code(admitted(&directory, 1, 60)), Code::TOKEN_REFUSED);
        assert_eq!(code(directory.still_admits(&identity, 60)), Code::TOKEN_REVOKED);
    }

    #[test]
    fn a_deleted_tenant_takes_its_tokens_along_and_leaves_its_name() {
        let mut directory = founded();
        directory.change(directory.create_tenant(&tenant(1), 1));
        directory.change(directory.create_token(&new(1, Role::Submitter, None), &tenant(1), 1));
        directory.change(directory.set_policy(&tenant(1), Policy::open()));
        let identity = directory.admit(Some(&token(1).reveal()), 2).unwrap().identity;
        directory.change(directory.delete_tenant(&tenant(1), 3));
        assert_eq!(code(admitted(&directory, 1, 4)), Code::TOKEN_REFUSED);
        assert_eq!(code(directory.still_admits(&identity, 4)), Code::TENANT_DELETED);
        assert_eq!(code(directory.create_tenant(&tenant(1), 4)), Code::NAME_TAKEN);
        assert_eq!(code(directory.create_token(&new(2, Role::Viewer, None), &tenant(1), 4)), Code::NOT_FOUND);
        assert_eq!(code(directory.delete_tenant(&tenant(1), 4)), Code::NOT_FOUND);
        assert_eq!(code(directory.set_policy(&tenant(1), Policy::open())), Code::NOT_FOUND);
        assert_eq!(directory.policy(&tenant(1)), Policy::default());
    }

    #[test]
    fn somebody_can_always_manage_the_cluster() {
        let mut directory = founded();
        assert_eq!(code(directory.revoke_token(token(0).id(), 1)), Code::LAST_ADMIN);
        directory.change(directory.create_tenant(&tenant(1), 1));
        directory.change(directory.create_token(&new(1, Role::Admin, Some(100)), &tenant(1), 1));
        assert_eq!(code(directory.revoke_token(token(0).id(), 100)), Code::LAST_ADMIN, "the other one has expired");
        directory.change(directory.revoke_token(token(0).id(), 50));
        assert_eq!(code(directory.delete_tenant(&tenant(1), 60)), Code::LAST_ADMIN);
        assert_eq!(code(directory.delete_tenant(&Tenant::default(), 60)), Code::INVALID_ARGUMENT);
    }

    #[test]
    fn what_is_taken_or_past_is_refused() {
        let directory = founded();
        assert_eq!(code(directory.create_tenant(&Tenant::default(), 1)), Code::NAME_TAKEN);
        assert_eq!(code(directory.create_token(&new(0, Role::Viewer, None), &Tenant::default(), 1)), Code::NAME_TAKEN);
        assert_eq!(code(directory.create_token(&new(1, Role::Viewer, Some(1)), &Tenant::default(), 1)), Code::INVALID_ARGUMENT);
        assert_eq!(code(directory.revoke_token(token(9).id(), 1)), Code::NOT_FOUND);
    }

    #[derive(Clone, Debug)]
    enum Order {
        CreateTenant(u8),
        DeleteTenant(u8),
        CreateToken(u8, u8, Role, Option<UnixMs>),
        RevokeToken(u8),
        Wait(UnixMs),
    }

    fn orders() -> impl Strategy<Value = Vec<Order>> {
        let role = proptest::sample::select(&Role::ALL[..]);
        let order = prop_oneof![
            (0u8..4).prop_map(Order::CreateTenant),
            (0u8..4).prop_map(Order::DeleteTenant),
            (0u8..8, 0u8..4, role, proptest::option::of(1u64..500))
                .prop_map(|(t, of, role, expires)| Order::CreateToken(t, of, role, expires)),
            (0u8..8).prop_map(Order::RevokeToken),
            (1u64..200).prop_map(Order::Wait),
        ];
        proptest::collection::vec(order, 0..80)
    }

    proptest! {
        /// Whatever is ordered: exactly those tokens open the cluster that were created, are not revoked and not expired, and whose tenant is
        /// there; an admin is always among them; and a copy that hears the edits as JSON is the same directory.
        #[test]
        fn only_living_tokens_open_and_copies_agree(orders in orders()) {
            let mut directory = founded();
            let mut copy: Directory = directory.edits().into_iter().collect();
            let mut now = 1;
            // The living: tenant, role, expiry.
            let mut living: BTreeMap<u8, (Tenant, Role, Option<UnixMs>)> = BTreeMap::new();
            living.insert(0, (Tenant::default(), Role::Admin, None));
            for order in orders {
                let edits = match &order {
                    Order::CreateTenant(number) => directory.create_tenant(&tenant(*number), now),
                    Order::DeleteTenant(number) => directory.delete_tenant(&tenant(*number), now),
                    Order::CreateToken(number, of, role, expires) => {
                        directory.create_token(&new(*number, *role, expires.map(|after| now + after)), &tenant(*of), now)
                    }
                    Order::RevokeToken(number) => directory.revoke_token(token(*number).id(), now),
                    Order::Wait(time) => {
                        now += time;
                        Ok(Vec::new())
                    }
                };
                let Ok(edits) = edits else { continue };
                for edit in edits {
                    let json = serde_json::to_string(&edit).unwrap();
                    prop_assert!(!json.contains("rwu_"));
                    copy.apply(serde_json::from_str(&json).unwrap());
                    directory.apply(edit);
                }
                match order {
                    Order::DeleteTenant(number) => living.retain(|_, (of, ..)| *of != tenant(number)),
                    Order::CreateToken(number, of, role, expires) => drop(living.insert(number, (tenant(of), role, expires.map(|after| now + after)))),
                    Order::RevokeToken(number) => drop(living.remove(&number)),
                    Order::CreateTenant(_) | Order::Wait(_) => {}
                }
                living.retain(|_, (_, _, expires)| expires.is_none_or(|expires| expires > now));
                for number in 0..8 {
                    let found = directory.admit(Some(&token(number).reveal()), now).ok().map(|found| (found.identity.tenant, found.identity.role, found.expires_ms));
                    prop_assert_eq!(found.as_ref(), living.get(&number), "token {} at {}", number, now);
                }
                prop_assert_eq!(&copy, &directory);
                prop_assert_eq!(&directory.edits().into_iter().collect::<Directory>(), &directory);
            }
        }
    }
}
