//! How the directory lies in the journal: a record for each tenant, token and policy, as JSON.

use rwasm_auth::{Directory, Edit, TenantEntry, TokenEntry};
use rwasm_journal::{CHANGES_MAX, Change, Journal, Table};
use rwasm_types::{Code, Error, Policy, Result, Tenant, TokenId};

use crate::stored::{self, put};

/// The change that writes an edit down.
pub(crate) fn change(edit: &Edit) -> Result<Change> {
    match edit {
        Edit::Tenant(entry) => put(Table::Tenants, entry.name.to_string(), entry),
        Edit::Policy { tenant, policy } => put(Table::Policies, tenant.to_string(), policy),
        Edit::Token(entry) => put(Table::Tokens, token_key(&entry.tenant, entry.id), entry),
        Edit::Forget { tenant, token } => Ok(Change::Delete { table: Table::Tokens, key: token_key(tenant, *token) }),
    }
}

fn token_key(tenant: &Tenant, token: TokenId) -> String {
    format!("{tenant}/{token}")
}

/// The directory as it was written down.
///
/// # Errors
///
/// [`Code::DAMAGED_JOURNAL`], naming the first record that cannot be read.
pub(crate) fn directory(journal: &Journal) -> Result<Directory> {
    let mut edits: Vec<Edit> =
        stored::scan::<TenantEntry>(journal, Table::Tenants, "")?.into_iter().map(|(_, entry)| Edit::Tenant(entry)).collect();
    for (key, policy) in stored::scan::<Policy>(journal, Table::Policies, "")? {
        edits.push(Edit::Policy {
            tenant: Tenant::new(&key).map_err(|error| Error::new(Code::DAMAGED_JOURNAL, format!("a policy is of no tenant: {error}")))?,
            policy,
        });
    }
    edits.extend(stored::scan::<TokenEntry>(journal, Table::Tokens, "")?.into_iter().map(|(_, entry)| Edit::Token(entry)));
    Ok(edits.into_iter().collect())
}

/// Commits that remove what a tenant has in other tables, each small enough for the journal.
pub(crate) fn leftovers(journal: &Journal, tenant: &Tenant) -> Result<Vec<Vec<Change>>> {
    let mut changes = vec![Change::Delete { table: Table::Policies, key: tenant.to_string() }];
    for table in [Table::Tags, Table::Groups, Table::Actors, Table::Keys] {
        let keys = journal.scan(table, &format!("{tenant}/"))?.into_iter().map(|(key, _)| key);
        changes.extend(keys.map(|key| Change::Delete { table, key }));
    }
    Ok(changes.chunks(CHANGES_MAX).map(<[Change]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use rwasm_types::{Role, UserToken, api::NewToken};

    use super::*;

    type Step<'a> = &'a dyn Fn(&Directory) -> Result<Vec<Edit>>;

    async fn commit(journal: &Journal, edits: &[Edit]) {
        journal.commit(edits.iter().map(change).collect::<Result<_>>().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_is_read_as_it_was_written() {
        let journal = Journal::in_memory().unwrap();
        let (mut known, tenant, user) = (Directory::default(), Tenant::new("acme").unwrap(), UserToken::from_random([2; 8], [2; 32]));
        let new = NewToken { id: user.id(), hash: user.hash(), tenant: None, role: Role::Viewer, name: None, expires_ms: Some(50) };
        let steps: [Step<'_>; 5] = [
            &|known| Ok(known.found(&UserToken::from_random([1; 8], [1; 32]), 1)),
            &|known| known.create_tenant(&tenant, 2),
            &|known| known.create_token(&new, &tenant, 3),
            &|known| known.set_policy(&tenant, Policy::open()),
            &|known| known.delete_tenant(&tenant, 4),
        ];
        for step in steps {
            let edits = step(&known).unwrap();
            commit(&journal, &edits).await;
            edits.into_iter().for_each(|edit| known.apply(edit));
            let read = directory(&journal).unwrap();
            assert_eq!(read.tokens().count(), known.tokens().count());
            assert_eq!(read.tenants().collect::<Vec<_>>(), known.tenants().collect::<Vec<_>>());
        }
        journal.commit(vec![Change::Put { table: Table::Tags, key: "acme/x".into(), value: b"1".to_vec() }]).await.unwrap();
        journal.commit(vec![Change::Put { table: Table::Tags, key: "acme2/x".into(), value: b"1".to_vec() }]).await.unwrap();
        for commit in leftovers(&journal, &tenant).unwrap() {
            journal.commit(commit).await.unwrap();
        }
        assert_eq!(directory(&journal).unwrap(), known);
        assert_eq!(journal.scan(Table::Tags, "").unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_named() {
        let journal = Journal::in_memory().unwrap();
        journal.commit(vec![Change::Put { table: Table::Tokens, key: "default/x".into(), value: b"{".to_vec() }]).await.unwrap();
        let error = directory(&journal).unwrap_err();
        assert_eq!(error.code(), Code::DAMAGED_JOURNAL);
        assert!(error.message().contains("default/x of table tokens"), "{error}");
    }
}
