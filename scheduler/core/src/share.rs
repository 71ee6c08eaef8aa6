//! Who holds how much: tenants and jobs, and the share of the cluster that decides whose turn it is.
//!
//! A share is the largest part that somebody holds of any resource of the cluster, divided by the weight (weighted dominant-resource
//! fairness). Whoever has the smallest share is served next: tenants first, then the jobs of a tenant.

use std::collections::BTreeMap;

use rwasm_types::{JobId, ResourceSet, Tenant};

use crate::group::GroupId;

/// A share; smaller is served first. The whole cluster at weight 1 is `WHOLE`.
pub(crate) type Share = u64;

/// The share of whoever holds all of a resource, at weight 1.
pub(crate) const WHOLE: Share = 1 << 42;

#[derive(Debug)]
pub(crate) struct Account {
    /// What leases and groups hold.
    pub(crate) held: ResourceSet,
    /// The same without leases that are on their way back, and with the room that is made for demands: what will be held soon.
    pub(crate) soon: ResourceSet,
    pub(crate) share: Share,
    weight: u32,
    /// Demands, leases and groups that name it.
    uses: u32,
}

impl Account {
    fn new(weight: u32) -> Self {
        Self { held: ResourceSet::default(), soon: ResourceSet::default(), share: 0, weight, uses: 0 }
    }
}

/// A tenant's account, with the classes in which demands of it wait.
#[derive(Debug)]
pub(crate) struct TenantAccount {
    pub(crate) name: Tenant,
    pub(crate) account: Account,
    pub(crate) waiting: BTreeMap<u32, u32>,
}

/// What a tenant holds, as others may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantView<'a> {
    /// Which.
    pub name: &'a Tenant,
    /// What its leases and groups hold.
    pub held: &'a ResourceSet,
    /// The same without leases that are on their way back, and with the room that is made for its demands.
    pub soon: &'a ResourceSet,
    /// Its share of the cluster in millionths, divided by its weight.
    pub share: u64,
}

/// Who holds something for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    Job(JobId),
    /// A placement group, for what nothing came out of yet.
    Group(GroupId),
}

/// A job's account, or a placement group's.
#[derive(Debug)]
struct JobAccount {
    id: Holder,
    account: Account,
}

/// A table whose places are used again.
#[derive(Debug)]
struct Table<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    fn insert(&mut self, row: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.rows[at as usize] = Some(row);
            return at;
        }
        self.rows.push(Some(row));
        (self.rows.len() - 1) as u32
    }

    fn get(&self, at: u32) -> Option<&T> {
        self.rows.get(at as usize)?.as_ref()
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.rows.get_mut(at as usize)?.as_mut()
    }

    fn remove(&mut self, at: u32) -> Option<T> {
        let row = self.rows.get_mut(at as usize)?.take();
        if row.is_some() {
            self.free.push(at);
        }
        row
    }
}

/// What one unit of each resource is of the whole cluster.
#[derive(Clone, Debug, Default)]
struct Scale {
    cpu: u64,
    gpu: u64,
    memory: u64,
    total: ResourceSet,
}

impl Scale {
    fn of(total: &ResourceSet) -> Self {
        let part = |total: u64| if total == 0 { 0 } else { u64::try_from((1u128 << 72) / u128::from(total)).unwrap_or(u64::MAX) };
        Self { cpu: part(total.cpu.parts()), gpu: part(total.gpu.parts()), memory: part(total.memory), total: total.clone() }
    }

    /// Of 2^42 parts.
    fn share(&self, held: &ResourceSet) -> Share {
        let part = |held: u64, unit: u64| ((u128::from(held) * u128::from(unit)) >> 30) as u64;
        let plain = part(held.cpu.parts(), self.cpu).max(part(held.gpu.parts(), self.gpu)).max(part(held.memory, self.memory));
        let custom = held.custom.iter().filter_map(|(name, held)| {
            let total = self.total.custom.get(name)?.parts();
            u64::try_from((u128::from(held.parts()) << 42).checked_div(u128::from(total))?).ok()
        });
        custom.fold(plain, u64::max)
    }
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    tenants: Table<TenantAccount>,
    tenant_of: BTreeMap<Tenant, u32>,
    weights: BTreeMap<Tenant, u32>,
    jobs: Table<JobAccount>,
    job_of: BTreeMap<Holder, u32>,
    scale: Scale,
}

/// A tenant and a job, by their places in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Payer {
    pub(crate) tenant: u32,
    pub(crate) job: u32,
}

impl Accounts {
    /// Opens the accounts of a demand, lease or group, or adds a use to them. [`Accounts::close`] ends the use.
    pub(crate) fn open(&mut self, tenant: &Tenant, job: Holder) -> Payer {
        let tenant = match self.tenant_of.get(tenant) {
            Some(at) => *at,
            None => {
                let account = Account::new(self.weights.get(tenant).copied().unwrap_or(1));
                let at = self.tenants.insert(TenantAccount { name: tenant.clone(), account, waiting: BTreeMap::new() });
                self.tenant_of.insert(tenant.clone(), at);
                at
            }
        };
        let job = match self.job_of.get(&job) {
            Some(at) => *at,
            None => {
                let at = self.jobs.insert(JobAccount { id: job, account: Account::new(1) });
                self.job_of.insert(job, at);
                at
            }
        };
        let payer = Payer { tenant, job };
        self.reopen(payer);
        payer
    }

    /// Adds a use to accounts that are open.
    pub(crate) fn reopen(&mut self, payer: Payer) {
        if let Some(row) = self.tenants.get_mut(payer.tenant) {
            row.account.uses += 1;
        }
        if let Some(row) = self.jobs.get_mut(payer.job) {
            row.account.uses += 1;
        }
    }

    pub(crate) fn close(&mut self, payer: Payer) {
        if let Some(row) = self.tenants.get_mut(payer.tenant) {
            row.account.uses -= 1;
            if row.account.uses == 0
                && let Some(gone) = self.tenants.remove(payer.tenant)
            {
                self.tenant_of.remove(&gone.name);
            }
        }
        if let Some(row) = self.jobs.get_mut(payer.job) {
            row.account.uses -= 1;
            if row.account.uses == 0
                && let Some(gone) = self.jobs.remove(payer.job)
            {
                self.job_of.remove(&gone.id);
            }
        }
    }

    pub(crate) fn tenant(&self, at: u32) -> Option<&TenantAccount> {
        self.tenants.get(at)
    }

    /// The job of an account, if it is one's.
    pub(crate) fn job(&self, at: u32) -> Option<JobId> {
        match self.jobs.get(at)?.id {
            Holder::Job(job) => Some(job),
            Holder::Group(_) => None,
        }
    }

    /// The shares of a tenant and a job.
    pub(crate) fn shares(&self, payer: Payer) -> (Share, Share) {
        let tenant = self.tenants.get(payer.tenant).map_or(0, |row| row.account.share);
        (tenant, self.jobs.get(payer.job).map_or(0, |row| row.account.share))
    }

    /// What one slot adds to the shares of a tenant and a job.
    pub(crate) fn unit(&self, payer: Payer, shape: &ResourceSet) -> (Share, Share) {
        let share = self.scale.share(shape);
        (share / u64::from(self.tenants.get(payer.tenant).map_or(1, |row| row.account.weight)), share)
    }

    /// Somebody holds more, or less.
    pub(crate) fn charge(&mut self, payer: Payer, amount: &ResourceSet, more: bool) {
        let scale = &self.scale;
        let charge = |account: &mut Account| {
            for held in [&mut account.held, &mut account.soon] {
                if more { held.give(amount) } else { held.take_saturating(amount) }
            }
            account.share = scale.share(&account.held) / u64::from(account.weight);
        };
        if let Some(row) = self.tenants.get_mut(payer.tenant) {
            charge(&mut row.account);
        }
        if let Some(row) = self.jobs.get_mut(payer.job) {
            charge(&mut row.account);
        }
    }

    /// Somebody is about to hold more, or less.
    pub(crate) fn expect(&mut self, payer: Payer, amount: &ResourceSet, more: bool) {
        let tenant = self.tenants.get_mut(payer.tenant).map(|row| &mut row.account);
        let job = self.jobs.get_mut(payer.job).map(|row| &mut row.account);
        for account in tenant.into_iter().chain(job) {
            if more { account.soon.give(amount) } else { account.soon.take_saturating(amount) }
        }
    }

    /// The shares of a tenant and a job as they will be soon.
    pub(crate) fn shares_soon(&self, payer: Payer) -> (Share, Share) {
        let share = |account: &Account| self.scale.share(&account.soon) / u64::from(account.weight);
        let tenant = self.tenants.get(payer.tenant).map_or(0, |row| share(&row.account));
        (tenant, self.jobs.get(payer.job).map_or(0, |row| share(&row.account)))
    }

    /// A demand of a tenant waits in a class, or does so no more.
    pub(crate) fn waits(&mut self, tenant: u32, class: u32, more: bool) {
        let Some(row) = self.tenants.get_mut(tenant) else { return };
        let count = row.waiting.entry(class).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            row.waiting.remove(&class);
        }
    }

    /// Sets a tenant's weight; says whether that changed anything.
    pub(crate) fn weigh(&mut self, tenant: &Tenant, weight: u32) {
        if weight == 1 {
            self.weights.remove(tenant);
        } else {
            self.weights.insert(tenant.clone(), weight);
        }
        if let Some(row) = self.tenant_of.get(tenant).and_then(|at| self.tenants.get_mut(*at)) {
            row.account.weight = weight;
            row.account.share = self.scale.share(&row.account.held) / u64::from(weight);
        }
    }

    /// Takes the size of the cluster over, where it changed by more than an eighth: shares only have to be right in relation to each
    /// other. Says whether it did.
    pub(crate) fn rescale(&mut self, total: &ResourceSet) -> bool {
        let moved = |old: u64, new: u64| old.abs_diff(new) > old / 8;
        let old = &self.scale.total;
        let custom = total.custom.len() != old.custom.len()
            || total.custom.iter().any(|(name, new)| moved(old.custom.get(name).map_or(0, |old| old.parts()), new.parts()));
        let changed = custom
            || moved(old.cpu.parts(), total.cpu.parts())
            || moved(old.gpu.parts(), total.gpu.parts())
            || moved(old.memory, total.memory);
        if changed {
            self.scale = Scale::of(total);
            let accounts = self.tenants.rows.iter_mut().flatten().map(|row| &mut row.account);
            for account in accounts.chain(self.jobs.rows.iter_mut().flatten().map(|row| &mut row.account)) {
                account.share = self.scale.share(&account.held) / u64::from(account.weight);
            }
        }
        changed
    }

    /// Tenants that hold or want something.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &TenantAccount> {
        self.tenants.rows.iter().flatten()
    }
}
