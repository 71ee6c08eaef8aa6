//! Which role opens which door, in one table, and whose belongings lie behind it.

use rwasm_types::{
    Code, Error, Identity, Result, Role, Tenant,
    api::{Ask, Order, Query},
};

use crate::{Directory, directory::no_tenant};

/// What a caller wants of a gateway.
#[derive(Clone, Copy, Debug)]
pub enum Door<'a> {
    /// A session: jobs, tasks, results.
    Attach,
    /// What an artifact offers.
    Describe,
    /// To store an artifact.
    Upload,
    /// To read what a job's tasks wrote.
    Logs,
    /// To store an object.
    Put,
    /// To read an object.
    Get,
    /// A question or an order.
    Ask(&'a Ask),
}

impl Door<'_> {
    /// The role that opens it to what is the caller's own tenant's, and the role that opens it elsewhere; none does without the second.
    fn roles(self) -> (Role, Option<Role>) {
        match self {
            Door::Attach | Door::Describe | Door::Upload | Door::Put => (Role::Submitter, None),
            Door::Logs | Door::Get => (Role::Viewer, Some(Role::Operator)),
            Door::Ask(Ask::Query(query)) => match query {
                Query::Status
                | Query::Nodes
                | Query::Jobs { .. }
                | Query::Job { .. }
                | Query::Tasks { .. }
                | Query::Task { .. }
                | Query::Timeline { .. }
                | Query::Summary
                | Query::Why { .. }
                | Query::Artifacts { .. }
                | Query::Artifact { .. }
                | Query::Tags { .. }
                | Query::Groups
                | Query::Policy
                | Query::Objects { .. }
                | Query::Object { .. }
                | Query::Actors { .. }
                | Query::Actor { .. }
                | Query::NamedActor { .. }
                | Query::Memory => (Role::Viewer, Some(Role::Operator)),
                Query::Plan { .. } => (Role::Submitter, None),
                Query::Tenants => (Role::Operator, Some(Role::Operator)),
                Query::Tokens { .. } | Query::Invitations => (Role::Admin, Some(Role::Admin)),
            },
            Door::Ask(Ask::Order(order)) => match order {
                Order::StopJob { .. }
                | Order::TagArtifact { .. }
                | Order::Untag { .. }
                | Order::RemoveArtifact { .. }
                | Order::ReleaseObject { .. }
                | Order::EndActor { .. }
                | Order::CreateGroup(_)
                | Order::RemoveGroup { .. } => (Role::Submitter, Some(Role::Admin)),
                Order::CollectArtifacts { .. } | Order::DrainNode { .. } | Order::UndrainNode { .. } => {
                    (Role::Operator, Some(Role::Operator))
                }
                Order::CreateTenant { .. }
                | Order::DeleteTenant { .. }
                | Order::CreateToken { .. }
                | Order::RevokeToken { .. }
                | Order::SetPolicy { .. }
                | Order::RevokeInvitation { .. }
                | Order::InviteNode { .. } => (Role::Admin, Some(Role::Admin)),
            },
            // A part of a submit.
            Door::Ask(Ask::Offered { .. } | Ask::Place(_)) => (Role::Submitter, None),
            // Asked by nodes of each other, never by callers.
            Door::Ask(Ask::TenantUse | Ask::Demand { .. } | Ask::NameActor { .. } | Ask::UnnameActor { .. }) => (Role::Admin, None),
        }
    }

    /// Lets a caller in: says whose belongings it deals with, its own tenant's or those of the one it names.
    ///
    /// # Errors
    ///
    /// [`Code::FORBIDDEN`] if its role is too low; [`Code::NOT_FOUND`] if it names a tenant that is not there or not its to look into,
    /// which are the same to it.
    pub fn enter(self, identity: &Identity, named: Option<&Tenant>, directory: &Directory) -> Result<Tenant> {
        let (own, elsewhere) = self.roles();
        if identity.role < own {
            let message = format!("this takes the role {own}, and the token has {}", identity.role);
            return Err(Error::new(Code::FORBIDDEN, message).hint("ask an admin for a token that may"));
        }
        match named.filter(|named| **named != identity.tenant) {
            None => Ok(identity.tenant.clone()),
            Some(named) if elsewhere.is_some_and(|role| identity.role >= role) => directory.tenant(named).map(|entry| entry.name.clone()),
            Some(named) => Err(no_tenant(named)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::UserToken;

    use super::*;

    #[test]
    fn roles_open_what_is_theirs_and_operators_look_elsewhere() {
        let acme = Tenant::new("acme").unwrap();
        let mut directory: Directory = Directory::default().found(&UserToken::from_random([1; 8], [1; 32]), 1).into_iter().collect();
        directory.create_tenant(&acme, 1).unwrap().into_iter().for_each(|edit| directory.apply(edit));
        let gone = Tenant::new("gone").unwrap();
        let list = Ask::Query(Query::Artifacts { limit: 1, digest: None });
        let stop = Ask::Order(Order::CreateTenant { tenant: gone.clone() });
        let enter = |role, door: Door<'_>, named: Option<&Tenant>| {
            let identity = Identity { tenant: Tenant::default(), role, token: None };
            door.enter(&identity, named, &directory).map(|tenant| tenant.to_string()).map_err(|error| error.code())
        };
        assert_eq!(enter(Role::Viewer, Door::Ask(&list), None), Ok("default".into()));
        assert_eq!(enter(Role::Viewer, Door::Ask(&list), Some(&Tenant::default())), Ok("default".into()));
        assert_eq!(enter(Role::Viewer, Door::Attach, None), Err(Code::FORBIDDEN));
        assert_eq!(enter(Role::Submitter, Door::Ask(&list), Some(&acme)), Err(Code::NOT_FOUND));
        assert_eq!(enter(Role::Operator, Door::Ask(&list), Some(&acme)), Ok("acme".into()));
        assert_eq!(enter(Role::Operator, Door::Ask(&list), Some(&gone)), Err(Code::NOT_FOUND));
        assert_eq!(enter(Role::Admin, Door::Attach, Some(&acme)), Err(Code::NOT_FOUND));
        assert_eq!(enter(Role::Operator, Door::Ask(&stop), None), Err(Code::FORBIDDEN));
        assert_eq!(enter(Role::Admin, Door::Ask(&stop), None), Ok("default".into()));
    }
}
