//! Placement groups: each is a record of the head, by tenant and name, and a group of the core by a number.

use std::collections::BTreeMap;

use bytes::Bytes;
use rwasm_core::{Action, Event, Group, GroupId};
use rwasm_journal::{Change, Journal, Table};
use rwasm_runtime::now_ms;
use rwasm_types::{
    Code, Error, GroupRef, Name, Result, Tenant,
    api::{BundleRecord, GroupRecord, Listing, NewGroup, UnixMs},
};
use serde::{Deserialize, Serialize};

use super::{Shared, State};
use crate::{ask::json, orders::Once, stored};

/// A group as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    number: u64,
    created_ms: UnixMs,
    group: NewGroup,
}

/// A group that is known.
#[derive(Debug)]
struct Known {
    id: GroupId,
    created_ms: UnixMs,
    /// Why it could not be placed, as the cluster was when the core last said so.
    infeasible: Option<Error>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    known: BTreeMap<(Tenant, Name), Known>,
    last: u64,
}

impl Groups {
    /// Which group of the core is meant; one that is not there has a number that no group has.
    pub(super) fn find(&self, tenant: &Tenant, group: &GroupRef) -> GroupId {
        self.known.get(&(tenant.clone(), group.name.clone())).map_or(GroupId(0), |known| known.id)
    }

    /// What the core says of a group is kept for whoever asks.
    pub(super) fn hear(&mut self, action: &Action) {
        let (group, infeasible) = match action {
            Action::GroupPlaced { group, .. } | Action::GroupRescheduling { group } => (group, None),
            Action::RefuseGroup { group, error } => (group, Some(error.clone())),
            Action::Grant { .. } | Action::Refuse { .. } | Action::Retire { .. } | Action::Revoke { .. } => return,
        };
        if let Some(known) = self.known.values_mut().find(|known| known.id == *group) {
            known.infeasible = infeasible;
        }
    }

    fn insert(&mut self, tenant: &Tenant, name: &Name, number: u64, created_ms: UnixMs) -> GroupId {
        self.last = self.last.max(number);
        self.known.insert((tenant.clone(), name.clone()), Known { id: GroupId(number), created_ms, infeasible: None });
        GroupId(number)
    }
}

fn key(tenant: &Tenant, name: &Name) -> String {
    format!("{tenant}/{name}")
}

fn unknown(name: &Name) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no placement group {name}")).hint("`rwasm placement-group list` shows what there is")
}

fn of_core(tenant: &Tenant, group: &NewGroup) -> Group {
    Group {
        name: group.name.clone(),
        tenant: tenant.clone(),
        priority: group.priority,
        bundles: group.bundles.clone(),
        strategy: group.strategy,
        labels: group.labels.clone(),
    }
}

impl State {
    /// Takes over the groups that were written down; their nodes are not there yet.
    ///
    /// # Errors
    ///
    /// [`Code::DAMAGED_JOURNAL`] if one is not understood.
    pub(super) fn read_groups(&mut self, journal: &Journal) -> Result<()> {
        for (key, stored) in stored::scan::<Stored>(journal, Table::Groups, "")? {
            let tenant = key.split_once('/').and_then(|(tenant, _)| Tenant::new(tenant).ok());
            let tenant = tenant.ok_or_else(|| Error::new(Code::DAMAGED_JOURNAL, format!("placement group {key} is of no tenant")))?;
            let id = self.groups.insert(&tenant, &stored.group.name, stored.number, stored.created_ms);
            self.step(Event::GroupWanted { id, group: of_core(&tenant, &stored.group) });
        }
        Ok(())
    }

    /// Reserves a group, or lets it wait.
    fn want_group(&mut self, tenant: &Tenant, group: &NewGroup) -> Result<GroupRecord> {
        if self.groups.known.contains_key(&(tenant.clone(), group.name.clone())) {
            return Err(Error::new(Code::NAME_TAKEN, format!("there is a placement group {} already", group.name)));
        }
        let wanted = of_core(tenant, group).checked()?;
        let id = self.groups.insert(tenant, &group.name, self.groups.last + 1, now_ms());
        self.step(Event::GroupWanted { id, group: wanted });
        // What the core did not take in has no record.
        let record = self.group_record(tenant, &group.name);
        let refused = match &record {
            Ok(record) => record.infeasible.clone().filter(|_| !group.wait),
            Err(error) => Some(error.clone()),
        };
        if let Some(error) = refused {
            self.drop_group(tenant, &group.name);
            return Err(error);
        }
        record
    }

    fn drop_group(&mut self, tenant: &Tenant, name: &Name) {
        if let Some(known) = self.groups.known.remove(&(tenant.clone(), name.clone())) {
            self.step(Event::GroupRemoved { id: known.id });
        }
    }

    fn group_record(&self, tenant: &Tenant, name: &Name) -> Result<GroupRecord> {
        let known = self.groups.known.get(&(tenant.clone(), name.clone())).ok_or_else(|| unknown(name))?;
        let view = self.scheduler.core.group(known.id).ok_or_else(|| known.infeasible.clone().unwrap_or_else(|| unknown(name)))?;
        let bundles = view.group.bundles.iter().zip(view.bundles);
        Ok(GroupRecord {
            name: name.clone(),
            tenant: tenant.clone(),
            state: view.state,
            strategy: view.group.strategy,
            labels: view.group.labels.clone(),
            priority: view.group.priority,
            bundles: bundles.map(|(reserves, (node, free))| BundleRecord { reserves: reserves.clone(), node, free }).collect(),
            created_ms: known.created_ms,
            // What was true when it was refused may have changed with the nodes since.
            infeasible: known.infeasible.as_ref().and_then(|_| self.scheduler.core.group_infeasible(known.id)),
        })
    }
}

impl Shared {
    /// Creates a placement group; answers with its record, whether it has its nodes yet or not.
    ///
    /// # Errors
    ///
    /// [`Code::NAME_TAKEN`]; [`Code::INFEASIBLE`] if the cluster could never hold it as it is, unless the order says that it waits;
    /// [`Code::LIMIT`] and [`Code::QUEUE_FULL`]; what the journal says.
    pub(crate) async fn create_group(&self, tenant: &Tenant, group: &NewGroup, once: &Once) -> Result<Bytes> {
        let (record, number) = {
            let mut state = self.state.lock();
            let record = state.want_group(tenant, group)?;
            (record, state.groups.last)
        };
        let written = async {
            let answer = json(&record)?;
            let mut changes = once.remember(&answer)?;
            let stored = Stored { number, created_ms: record.created_ms, group: group.clone() };
            changes.push(stored::put(Table::Groups, key(tenant, &group.name), &stored)?);
            self.journal.commit(changes).await.map(|()| answer)
        };
        let answer = written.await.inspect_err(|_error| self.state.lock().drop_group(tenant, &group.name))?;
        tracing::info!(%tenant, group = %group.name, bundles = group.bundles.len(), "a placement group was created");
        Ok(answer)
    }

    /// Removes a placement group and ends what runs in it; answers with its last record.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is none; what the journal says.
    pub(crate) async fn remove_group(&self, tenant: &Tenant, name: &Name, once: &Once) -> Result<Bytes> {
        let answer = json(&self.state.lock().group_record(tenant, name)?)?;
        let mut changes = once.remember(&answer)?;
        changes.push(Change::Delete { table: Table::Groups, key: key(tenant, name) });
        self.journal.commit(changes).await?;
        self.state.lock().drop_group(tenant, name);
        tracing::info!(%tenant, group = %name, "a placement group was removed");
        Ok(answer)
    }

    /// A tenant's placement groups, by name.
    pub(crate) fn groups(&self, tenant: &Tenant) -> Listing<GroupRecord> {
        let state = self.state.lock();
        let names = state.groups.known.keys().filter(|(of, _)| of == tenant).map(|(_, name)| name);
        let rows: Vec<GroupRecord> = names.filter_map(|name| state.group_record(tenant, name).ok()).collect();
        Listing { total: rows.len() as u64, rows, missing: Vec::new() }
    }

    /// A tenant was deleted: what is reserved for it is free. Its records go with the tenant's others.
    pub(crate) fn forget_groups(&self, tenant: &Tenant) {
        let mut state = self.state.lock();
        let names: Vec<Name> = state.groups.known.keys().filter(|(of, _)| of == tenant).map(|(_, name)| name.clone()).collect();
        names.iter().for_each(|name| state.drop_group(tenant, name));
    }
}
