//! `placement-group`: bundles of resources that are reserved together, for work that is submitted into them.

use std::{process::ExitCode, time::Duration};

use rwasm_client::Client;
use rwasm_types::{
    Code, Error, Name, Result,
    api::{GroupRecord, GroupState, Listing, NewGroup, Order, Query},
};

use super::list::show;
use crate::{
    args::{CreateGroupArgs, GroupCommand, access::ViewArgs},
    target, ui,
};

/// How often a group that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `rwasm placement-group …`.
pub(crate) async fn group(command: GroupCommand, json: bool) -> Result<ExitCode> {
    let record = match command {
        GroupCommand::Create(args) => create(args).await?,
        GroupCommand::List { view } => return list(&view, json).await,
        GroupCommand::Remove { name, target } => {
            let record: GroupRecord = target::connect(&target).await?.order(&Order::RemoveGroup { name }).await?;
            if json {
                ui::json(&record)?;
            } else {
                ui::line(&format!("placement group {} is removed", record.name))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    if json {
        ui::json(&record)?;
    } else {
        ui::line(&format!("placement group {} is {}{}", record.name, record.state, nodes(&record)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows placement groups.
pub(crate) async fn list(view: &ViewArgs, json: bool) -> Result<ExitCode> {
    let listing: Listing<GroupRecord> = target::connect_into(view).await?.query(&Query::Groups).await?;
    show(&listing, json, &["GROUP", "STATE", "STRATEGY", "BUNDLES", "CREATED"], |row| {
        vec![row.name.to_string(), row.state.to_string(), row.strategy.to_string(), bundles(row), ui::time(row.created_ms)]
    })
}

async fn create(args: CreateGroupArgs) -> Result<GroupRecord> {
    let client = target::connect(&args.target).await?;
    let CreateGroupArgs { name, bundle: bundles, strategy, label: labels, priority, wait, .. } = args;
    let record = client.order(&Order::CreateGroup(NewGroup { name, bundles, strategy, labels, priority, wait })).await?;
    if wait { placed(&client, record).await } else { Ok(record) }
}

/// Waits until all bundles of a group have a node.
async fn placed(client: &Client, mut record: GroupRecord) -> Result<GroupRecord> {
    while record.state != GroupState::Placed {
        tokio::time::sleep(LOOK_EVERY).await;
        record = find(client, &record.name).await?;
    }
    Ok(record)
}

async fn find(client: &Client, name: &Name) -> Result<GroupRecord> {
    let groups: Listing<GroupRecord> = client.query(&Query::Groups).await?;
    let gone = || Error::new(Code::GROUP_REMOVED, format!("placement group {name} was removed"));
    groups.rows.into_iter().find(|row| row.name == *name).ok_or_else(gone)
}

fn nodes(record: &GroupRecord) -> String {
    let nodes: Vec<String> = record.bundles.iter().filter_map(|bundle| bundle.node).map(|node| node.to_string()).collect();
    if nodes.is_empty() { String::new() } else { format!(" on {}", nodes.join(", ")) }
}

/// Each bundle with its node, and what is free of it if that is not all.
fn bundles(record: &GroupRecord) -> String {
    let each = record.bundles.iter().map(|bundle| {
        let on = bundle.node.map_or_else(|| "waiting".to_owned(), |node| node.to_string());
        format!("{on}: {}", bundle.reserves)
    });
    each.collect::<Vec<_>>().join("; ")
}
