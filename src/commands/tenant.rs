//! `tenant`: create, list, delete, policies.

use std::process::ExitCode;

use rwasm_types::{
    Policy, Result,
    api::{Listing, Order, PolicyRecord, Query, TenantDeleted, TenantRecord},
};

use crate::{
    args::access::{PolicyCommand, TenantCommand, ViewArgs},
    target, ui,
};

/// `rwasm tenant …`.
pub(crate) async fn tenant(command: TenantCommand, json: bool) -> Result<ExitCode> {
    match command {
        TenantCommand::Create { tenant, target } => {
            let record: TenantRecord = target::connect(&target).await?.order(&Order::CreateTenant { tenant }).await?;
            if json {
                ui::json(&record)?;
            } else {
                ui::line(&format!("created tenant {}", record.name))?;
                ui::note(&format!("  let somebody in:       rwasm token create --tenant {}", record.name));
                ui::note(&format!("  let its guests out:    rwasm tenant policy set {} --volume … --allow-net …", record.name));
            }
        }
        TenantCommand::List { target } => {
            let listing: Listing<TenantRecord> = target::connect(&target).await?.query(&Query::Tenants).await?;
            if json {
                ui::json(&listing)?;
            } else {
                let row = |row: &TenantRecord| vec![row.name.to_string(), row.tokens.to_string(), ui::time(row.created_ms)];
                ui::table(&["TENANT", "TOKENS", "CREATED"], listing.rows.iter().map(row))?;
            }
        }
        TenantCommand::Delete { tenant, force, target } => {
            let order = Order::DeleteTenant { tenant, force };
            let deleted: TenantDeleted = target::connect(&target).await?.order(&order).await?;
            if json {
                ui::json(&deleted)?;
            } else {
                let stopped = if deleted.jobs_stopped == 0 { String::new() } else { format!("; jobs stopped: {}", deleted.jobs_stopped) };
                ui::line(&format!("deleted tenant {}{stopped}", deleted.tenant))?;
                for missing in &deleted.missing {
                    ui::note(&format!("removed there when it is back: {missing}"));
                }
            }
        }
        TenantCommand::Policy { command } => policy(command, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn policy(command: PolicyCommand, json: bool) -> Result<()> {
    let record: PolicyRecord = match command {
        PolicyCommand::Set { tenant, volume, allow_net, open, weight, target } => {
            let policy = Policy { open, volumes: volume, destinations: allow_net, weight };
            target::connect(&target).await?.order(&Order::SetPolicy { tenant, policy }).await?
        }
        PolicyCommand::Show { tenant, target } => target::connect_into(&ViewArgs { target, tenant }).await?.query(&Query::Policy).await?,
    };
    if json {
        return ui::json(&record);
    }
    let PolicyRecord { tenant, policy } = record;
    if let Some(weight) = policy.weight {
        ui::line(&format!("{tenant} gets {weight} times what a tenant of weight 1 gets, where there is not enough for all"))?;
    }
    if policy.open {
        return ui::line(&format!("guests of {tenant} may be granted whatever nodes offer"));
    }
    if policy.volumes.is_empty() && policy.destinations.is_empty() {
        return ui::line(&format!("guests of {tenant} may be granted no volumes and no destinations"));
    }
    ui::line(&format!("guests of {tenant} may be granted"))?;
    policy.volumes.iter().try_for_each(|rule| ui::line(&format!("  volume {rule}")))?;
    policy.destinations.iter().try_for_each(|rule| ui::line(&format!("  connections to {rule}")))
}
