//! The end of a tenant at this node: its jobs are stopped and forgotten, and what it had on disk is removed.

use std::{collections::BTreeSet, sync::Arc};

use rwasm_types::{Code, Error, Tenant, api::TenantUse};

use crate::{node::Shared, owner::job::Job};

impl Shared {
    /// How much of a tenant's work this node owns that has not ended.
    pub(crate) fn tenant_use(&self, tenant: &Tenant) -> TenantUse {
        let mut found = TenantUse::default();
        for job in self.jobs_of(&BTreeSet::from([tenant])).iter().filter(|job| !job.has_ended()) {
            let counts = job.counts();
            found.jobs += 1;
            found.tasks += counts.total() - counts.finished();
        }
        found
    }

    /// Ends and removes all that is here of tenants that were deleted, now or long ago. Their sessions end by themselves: they hear of it as
    /// this node does.
    pub(crate) fn purge(&self, tenants: &[Tenant]) {
        for job in self.jobs_of(&tenants.iter().collect()) {
            let error = Error::new(Code::TENANT_DELETED, format!("tenant `{}` was deleted", job.tenant));
            tracing::info!(tenant = %job.tenant, job = %job.id, "a deleted tenant's job is removed");
            self.stop(&job, Some(error));
            self.jobs.write().remove(&job.id);
            job.log.remove();
        }
        for tenant in tenants {
            self.artifacts.remove_tenant(tenant);
            self.engine.forget_tenant(tenant);
            self.outputs.remove_tenant(tenant);
            self.objects.purge(tenant);
            self.tally.forget(tenant);
        }
    }

    fn jobs_of(&self, tenants: &BTreeSet<&Tenant>) -> Vec<Arc<Job>> {
        self.jobs.read().values().filter(|job| tenants.contains(&job.tenant)).map(Arc::clone).collect()
    }
}
