//! `submit --plan`: where the tasks would go, and why not elsewhere. Nothing is submitted.

use std::process::ExitCode;

use rwasm_client::{Artifact, Client};
use rwasm_types::{
    Result,
    api::{PlanRecord, Query},
};

use super::plan::Plan;
use crate::ui;

/// Asks the cluster, and shows its answer. What could never run fails as its submit would.
pub(super) async fn show(client: &Client, artifact: &Artifact, plan: &Plan, json: bool) -> Result<ExitCode> {
    let query = Query::Plan {
        artifact: artifact.digest(),
        options: Box::new(plan.options.clone()),
        needs: plan.grants.needs(),
        tasks: plan.tasks.len() as u64,
    };
    let record: PlanRecord = client.query(&query).await?;
    if json {
        ui::json(&record)?;
    } else {
        let placed = record.placed.iter().map(|placed| vec![placed.node.to_string(), placed.tasks.to_string(), String::new()]);
        let turned = record.turned.iter().map(|turned| vec![turned.node.to_string(), "0".to_owned(), ui::printable(&turned.why)]);
        ui::table(&["NODE", "TASKS", "WHY NOT"], placed.chain(turned))?;
        ui::note(&format!("each task holds {}; {} would wait", record.shape, record.waiting));
    }
    record.infeasible.map_or(Ok(ExitCode::SUCCESS), Err)
}
