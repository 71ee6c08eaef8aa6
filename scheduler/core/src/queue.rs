//! The order in which demands of one class wait: priority, then the tenant with the smallest share, then its job with the smallest
//! share, then who came first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rwasm_types::Priority;

use crate::share::{Payer, Share};

/// Where a demand stands among those of all classes; smaller is served first.
pub(crate) type Rank = (Reverse<Priority>, Share, u32, Share, u32, u64);

/// What decides where a demand stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) priority: Priority,
    pub(crate) payer: Payer,
    /// The number of its arrival.
    pub(crate) arrival: u64,
}

#[derive(Debug, Default)]
struct JobLine {
    share: Share,
    /// Demands by their arrival.
    demands: BTreeMap<u64, u32>,
}

#[derive(Debug, Default)]
struct TenantLine {
    share: Share,
    order: BTreeSet<(Share, u32)>,
    jobs: BTreeMap<u32, JobLine>,
}

#[derive(Debug, Default)]
struct Band {
    order: BTreeSet<(Share, u32)>,
    tenants: BTreeMap<u32, TenantLine>,
}

/// Demands of one class.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bands: BTreeMap<Reverse<Priority>, Band>,
    len: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, standing: Standing, shares: (Share, Share), demand: u32) {
        let Standing { priority, payer, arrival } = standing;
        let band = self.bands.entry(Reverse(priority)).or_default();
        let tenant = band.tenants.entry(payer.tenant).or_insert_with(|| {
            band.order.insert((shares.0, payer.tenant));
            TenantLine { share: shares.0, ..TenantLine::default() }
        });
        let job = tenant.jobs.entry(payer.job).or_insert_with(|| {
            tenant.order.insert((shares.1, payer.job));
            JobLine { share: shares.1, ..JobLine::default() }
        });
        self.len += usize::from(job.demands.insert(arrival, demand).is_none());
    }

    pub(crate) fn remove(&mut self, standing: Standing) {
        let Standing { priority, payer, arrival } = standing;
        let Some(band) = self.bands.get_mut(&Reverse(priority)) else { return };
        let Some(tenant) = band.tenants.get_mut(&payer.tenant) else { return };
        let Some(job) = tenant.jobs.get_mut(&payer.job) else { return };
        self.len -= usize::from(job.demands.remove(&arrival).is_some());
        if job.demands.is_empty() {
            tenant.order.remove(&(job.share, payer.job));
            tenant.jobs.remove(&payer.job);
        }
        if tenant.jobs.is_empty() {
            band.order.remove(&(tenant.share, payer.tenant));
            band.tenants.remove(&payer.tenant);
        }
        if band.tenants.is_empty() {
            self.bands.remove(&Reverse(priority));
        }
    }

    /// The shares of a tenant and of one of its jobs changed.
    pub(crate) fn reshare(&mut self, payer: Payer, shares: (Share, Share)) {
        for band in self.bands.values_mut() {
            let Some(tenant) = band.tenants.get_mut(&payer.tenant) else { continue };
            if tenant.share != shares.0 {
                band.order.remove(&(tenant.share, payer.tenant));
                band.order.insert((shares.0, payer.tenant));
                tenant.share = shares.0;
            }
            let Some(job) = tenant.jobs.get_mut(&payer.job) else { continue };
            if job.share != shares.1 {
                tenant.order.remove(&(job.share, payer.job));
                tenant.order.insert((shares.1, payer.job));
                job.share = shares.1;
            }
        }
    }

    /// All shares changed.
    pub(crate) fn reshare_all(&mut self, shares: impl Fn(Payer) -> (Share, Share)) {
        let of_band = |band: &Band| -> Vec<Payer> {
            band.tenants.iter().flat_map(|(tenant, line)| line.jobs.keys().map(|job| Payer { tenant: *tenant, job: *job })).collect()
        };
        let payers: Vec<Payer> = self.bands.values().flat_map(of_band).collect();
        payers.into_iter().for_each(|payer| self.reshare(payer, shares(payer)));
    }

    /// Who is served next, and where it stands among those of other classes.
    pub(crate) fn head(&self) -> Option<(Rank, u32)> {
        let (priority, band) = self.bands.first_key_value()?;
        let (tenant_share, tenant) = *band.order.first()?;
        let line = band.tenants.get(&tenant)?;
        let (job_share, job) = *line.order.first()?;
        let (arrival, demand) = line.jobs.get(&job)?.demands.first_key_value()?;
        Some(((*priority, tenant_share, tenant, job_share, job, *arrival), *demand))
    }

    /// All that wait, in the order in which they would be served if shares stayed as they are.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = u32> {
        let tenants = self.bands.values().flat_map(|band| band.order.iter().filter_map(|(_, tenant)| band.tenants.get(tenant)));
        let jobs = tenants.flat_map(|tenant| tenant.order.iter().filter_map(|(_, job)| tenant.jobs.get(job)));
        jobs.flat_map(|job| job.demands.values().copied())
    }

    /// All that wait, in no order that matters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let jobs = self.bands.values().flat_map(|band| band.tenants.values()).flat_map(|tenant| tenant.jobs.values());
        jobs.flat_map(|job| job.demands.values().copied())
    }
}
