//! `node`: take a node out of use, and back.

use std::{process::ExitCode, time::Duration};

use rwasm_client::Client;
use rwasm_types::{
    NodeId, Result,
    api::{Listing, NodeRecord, Order, Query},
};

use crate::{args::NodeCommand, target, ui};

/// How often a node that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `rwasm node …`.
pub(crate) async fn node(command: NodeCommand, json: bool) -> Result<ExitCode> {
    let record = match command {
        NodeCommand::Drain { node, deadline, wait, target } => {
            let client = target::connect(&target).await?;
            let within_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            let record = client.order(&Order::DrainNode { node, within_ms }).await?;
            if wait { drained(&client, node, record).await? } else { record }
        }
        NodeCommand::Undrain { node, target } => target::connect(&target).await?.order(&Order::UndrainNode { node }).await?,
    };
    if json {
        ui::json(&record)?;
    } else {
        ui::line(&line(&record))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until nothing runs on a node, or it is gone.
async fn drained(client: &Client, node: NodeId, mut record: NodeRecord) -> Result<NodeRecord> {
    while record.state() == "draining" {
        tokio::time::sleep(LOOK_EVERY).await;
        let nodes: Listing<NodeRecord> = client.query(&Query::Nodes).await?;
        let Some(found) = nodes.rows.into_iter().find(|row| row.id == node) else { break };
        record = found;
    }
    Ok(record)
}

fn line(record: &NodeRecord) -> String {
    let (id, running) = (record.id, record.tasks_running);
    let tasks = if running == 1 { "1 task runs".to_owned() } else { format!("{running} tasks run") };
    match (record.state(), record.drain.and_then(|drain| drain.deadline_ms)) {
        ("draining", Some(deadline)) => format!("node {id} takes no more work; {tasks} there, until {} at most", ui::time(deadline)),
        ("drained", _) => format!("node {id} takes no more work, and nothing runs there"),
        ("alive", _) => format!("node {id} takes work; {tasks} there"),
        (state, _) => format!("node {id} is {state}"),
    }
}
