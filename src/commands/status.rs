//! `status`: the cluster at a glance, in the shape that users of `ray status` know.

use std::{fmt::Write, process::ExitCode};

use rwasm_types::{
    Quantity, ResourceSet, Result,
    api::{ClusterStatus, NodeRecord, Query},
    format_bytes,
};

use crate::{args::StatusArgs, target, ui};

/// How many lost nodes are shown.
const LOST_SHOWN: usize = 10;

/// `rwasm status`.
pub(crate) async fn status(args: &StatusArgs, json: bool) -> Result<ExitCode> {
    let client = target::connect(&args.target).await?;
    let status: ClusterStatus = client.query(&Query::Status).await?;
    if json {
        ui::json(&status)?;
    } else {
        ui::out(render(&status, args.verbose).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(status: &ClusterStatus, verbose: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_status(&mut text, status, verbose);
    text
}

fn write_status(out: &mut String, status: &ClusterStatus, verbose: bool) -> std::fmt::Result {
    let rule = "-".repeat(63);
    writeln!(out, "======== Cluster status: {} ========", ui::time(status.now_ms))?;
    writeln!(out, "Cluster {}, version {}, up {}\n", status.cluster, status.version, ui::age(status.started_ms, status.now_ms))?;
    writeln!(out, "Node status\n{rule}\nActive:")?;
    for node in status.nodes.iter().filter(|node| node.alive) {
        let role = if node.head { "head" } else { "node" };
        writeln!(
            out,
            " {} {role} {}: {} running, {} waiting{}",
            node.id,
            ui::printable(node.name.as_str()),
            node.tasks_running,
            node.tasks_queued,
            drain(node, status.now_ms)
        )?;
        if node.clock_is_off() {
            writeln!(out, "   {}", clock(node))?;
        }
    }
    writeln!(out, "Recent failures:")?;
    let lost: Vec<&NodeRecord> = status.nodes.iter().filter(|node| !node.alive).collect();
    for node in lost.iter().rev().take(LOST_SHOWN) {
        let ago = ui::age(node.lost_ms.unwrap_or_default(), status.now_ms);
        writeln!(out, " {} {}: lost {ago} ago", node.id, ui::printable(node.name.as_str()))?;
    }
    if lost.is_empty() {
        writeln!(out, " (no failures)")?;
    }
    writeln!(out, "\nResources\n{rule}\nTotal usage:")?;
    let (mut used, mut capacity) = (ResourceSet::default(), ResourceSet::default());
    for node in status.nodes.iter().filter(|node| node.alive) {
        used.give(&node.used);
        capacity.give(&node.capacity);
    }
    usage(out, &used, &capacity)?;
    writeln!(out, "Pending demands:")?;
    for demand in &status.pending {
        writeln!(out, " {{{}}}: {} waiting tasks", demand.shape, demand.tasks)?;
    }
    if status.pending.is_empty() {
        writeln!(out, " (no resource demands)")?;
    }
    let jobs: Vec<String> = status.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    writeln!(out, "Jobs:\n {}", if jobs.is_empty() { "(none)".to_owned() } else { jobs.join(", ") })?;
    if verbose {
        for node in &status.nodes {
            write_node(out, node, status.now_ms)?;
        }
    }
    Ok(())
}

/// What is to be said of a node whose clock is wrong.
pub(super) fn clock(node: &NodeRecord) -> String {
    let apart = ui::age(0, node.clock_ahead_ms.unsigned_abs());
    let way = if node.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
    format!("its clock is {apart} {way} the head's: set it, or run a time service on both (`rwasm doctor` looks for one)")
}

/// What is to be said of a node that takes no more work, after the rest.
fn drain(node: &NodeRecord, now_ms: u64) -> String {
    match (node.state(), node.drain.and_then(|drain| drain.deadline_ms)) {
        ("draining", Some(deadline)) => format!(" (draining, {} left)", ui::age(now_ms, deadline)),
        (state @ ("draining" | "drained"), _) => format!(" ({state})"),
        _ => String::new(),
    }
}

fn usage(out: &mut String, used: &ResourceSet, capacity: &ResourceSet) -> std::fmt::Result {
    writeln!(out, " {}/{} CPU", used.cpu, capacity.cpu)?;
    if !capacity.gpu.is_zero() {
        writeln!(out, " {}/{} GPU", used.gpu, capacity.gpu)?;
    }
    writeln!(out, " {}/{} memory", format_bytes(used.memory), format_bytes(capacity.memory))?;
    for (name, amount) in &capacity.custom {
        writeln!(out, " {}/{amount} {name}", used.custom.get(name).unwrap_or(&Quantity::ZERO))?;
    }
    Ok(())
}

fn write_node(out: &mut String, node: &NodeRecord, now_ms: u64) -> std::fmt::Result {
    writeln!(out, "\nNode: {} ({})", node.id, ui::printable(node.name.as_str()))?;
    let left = drain(node, now_ms);
    writeln!(out, " State: {}", if left.is_empty() { node.state() } else { left.trim().trim_matches(['(', ')']) })?;
    writeln!(out, " Joined: {} ago", ui::age(node.joined_ms, now_ms))?;
    writeln!(
        out,
        " Addresses: data {}, gateway {}",
        node.data_address.as_deref().unwrap_or("-"),
        node.gateway_address.as_deref().unwrap_or("-")
    )?;
    if !node.labels.is_empty() {
        let labels: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={}", ui::printable(value))).collect();
        writeln!(out, " Labels: {}", labels.join(", "))?;
    }
    writeln!(out, " Daemon memory: {}", format_bytes(node.memory_bytes))?;
    writeln!(out, " Usage:")?;
    usage(out, &node.used, &node.capacity)
}
