//! `inspect`: what an artifact offers and needs. It is found out in a limited child process, like everything about unknown
//! bytes; a cluster is asked for what it has stored.

use std::{collections::BTreeSet, process::ExitCode};

use rwasm_runtime::Dirs;
use rwasm_types::{ArtifactDigest, Result, format_bytes};
use rwasm_values::{ArtifactInfo, GrantKind, Need, Role};

use super::{artifact::stored, input};
use crate::{
    args::{EngineArgs, InspectArgs},
    embedded::compile_options,
    target, ui,
};

/// `rwasm inspect`.
pub(crate) async fn inspect(args: &InspectArgs, json: bool) -> Result<ExitCode> {
    let (digest, info) = match args.file.to_str().and_then(stored) {
        Some(name) => {
            let artifact = target::connect(&args.target).await?.stored(&name).await?;
            (artifact.digest(), artifact.info().clone())
        }
        None => {
            let bytes = input::artifact(&args.file)?;
            let digest = ArtifactDigest(*blake3::hash(&bytes).as_bytes());
            (digest, rwasm_engine::inspect(compile_options(&EngineArgs::default(), &Dirs::from_env()), &bytes).await?)
        }
    };
    if json {
        ui::json(&serde_json::json!({ "digest": digest, "grants": grants(&info), "artifact": info }))?;
    } else {
        ui::out(render(digest, &info).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kinds of grants without which some imports do nothing.
fn grants(info: &ArtifactInfo) -> BTreeSet<GrantKind> {
    let kinds = info.imports.iter().filter_map(|import| match import.need {
        Need::Grant(kind) => Some(kind),
        Need::Provided | Need::Missing => None,
    });
    kinds.collect()
}

fn render(digest: ArtifactDigest, info: &ArtifactInfo) -> String {
    let mut lines = vec![
        format!("artifact  {digest}"),
        format!("kind      {}{}, {}", info.kind, if info.text { " (as text)" } else { "" }, format_bytes(info.size_bytes)),
        format!("profile   {}{}", info.profile, if info.may_block() { "" } else { ", never waits" }),
        format!("memory    starts with {}", format_bytes(info.memory_initial_bytes)),
        String::new(),
        "exports".to_owned(),
    ];
    for export in &info.exports {
        let signature = if matches!(export.role, Role::Command) { String::new() } else { format!(": {}", export.signature) };
        lines.push(format!("  {}{signature}", export.name));
        lines.push(format!("      {}", role(&export.role)));
    }
    if info.exports.is_empty() {
        lines.push("  (none)".to_owned());
    }
    lines.extend([String::new(), "imports".to_owned()]);
    for import in &info.imports {
        let need = match import.need {
            Need::Provided => "provided".to_owned(),
            Need::Grant(GrantKind::Directory) => "needs a grant: --dir".to_owned(),
            Need::Grant(GrantKind::Network) => "needs a grant: --allow-net".to_owned(),
            Need::Missing => "MISSING: no host provides it".to_owned(),
        };
        lines.push(format!("  {:<44} {need}", import.name));
    }
    if info.imports.is_empty() {
        lines.push("  (none)".to_owned());
    }
    lines.push(String::new());
    ui::printable_lines(&lines)
}

fn role(role: &Role) -> String {
    match role {
        Role::Task => "task".to_owned(),
        Role::Command => "command".to_owned(),
        Role::ActorCreate { resource } => format!("actor-create ({})", resource.name),
        Role::ActorMethod { resource } => format!("actor-method ({})", resource.name),
        Role::NotCallable { why } => format!("not callable: {why}"),
    }
}
