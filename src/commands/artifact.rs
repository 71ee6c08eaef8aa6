//! `artifact`: what the cluster has stored, its tags, and what may go.

use std::{path::Path, process::ExitCode};

use rwasm_client::Client;
use rwasm_types::{
    ArtifactName, Code, Error, Result, Tag,
    api::{ArtifactRecord, Listing, Order, Query, RemovedArtifact, TagRecord},
    format_bytes, format_duration,
};

use super::{input, list};
use crate::{args::ArtifactCommand, target, ui};

/// `rwasm artifact …`.
pub(crate) async fn artifact(command: ArtifactCommand, json: bool) -> Result<ExitCode> {
    match command {
        ArtifactCommand::List { limit, view } => artifacts(&target::connect_into(&view).await?, limit, json).await,
        ArtifactCommand::Tag { artifact, tag, view } => {
            if let Some(tenant) = view.tenant.as_ref().filter(|_| stored(&artifact).is_none()) {
                let message = format!("{artifact} is a file, and files are sent for the token's own tenant only");
                return Err(Error::new(Code::INVALID_ARGUMENT, message).hint(format!("name what {tenant} has by a tag or digest")));
            }
            set(&target::connect_into(&view).await?, &artifact, tag, json).await
        }
        ArtifactCommand::Rm { artifact, force, view } => {
            let client = target::connect_into(&view).await?;
            match artifact {
                ArtifactName::Tag(tag) => untag(&client, tag, json).await,
                ArtifactName::Digest(artifact) => {
                    let removed: Listing<RemovedArtifact> = client.order(&Order::RemoveArtifact { artifact, force }).await?;
                    show(&removed, "removed", json)
                }
            }
        }
        ArtifactCommand::Gc { unused_for, dry_run, view } => {
            let unused_for_ms = u64::try_from(unused_for.as_millis()).unwrap_or(u64::MAX);
            let order = Order::CollectArtifacts { unused_for_ms, dry_run, keep: Vec::new() };
            let removed: Listing<RemovedArtifact> = target::connect_into(&view).await?.order(&order).await?;
            let code = show(&removed, if dry_run { "would remove" } else { "removed" }, json)?;
            if removed.rows.is_empty() && !json {
                ui::note(&format!("nothing is without a tag and was not used for {}", format_duration(unused_for)));
            }
            Ok(code)
        }
    }
}

/// Lists artifacts.
pub(crate) async fn artifacts(client: &Client, limit: usize, json: bool) -> Result<ExitCode> {
    let listing: Listing<ArtifactRecord> = client.query(&Query::Artifacts { limit, digest: None }).await?;
    list::show(&listing, json, &["ARTIFACT", "TAGS", "SIZE", "COMPILED", "NODES", "JOBS", "STORED", "USED", "TENANT"], |row| {
        let names = |names: Vec<String>| if names.is_empty() { "-".to_owned() } else { names.join(",") };
        vec![
            row.digest.short(),
            names(row.tags.iter().map(ToString::to_string).collect()),
            format_bytes(row.size_bytes),
            if row.code_bytes == 0 { "-".to_owned() } else { format_bytes(row.code_bytes) },
            names(row.nodes.iter().map(ToString::to_string).collect()),
            row.jobs.len().to_string(),
            ui::time(row.stored_ms),
            ui::time(row.used_ms),
            row.tenant.to_string(),
        ]
    })
}

/// Tags what the cluster has, or a file, which is sent first.
async fn set(client: &Client, artifact: &str, tag: Tag, json: bool) -> Result<ExitCode> {
    let artifact = match stored(artifact) {
        Some(name) => name,
        None => {
            let bytes = input::artifact(Path::new(artifact))?;
            ArtifactName::Digest(client.artifact(&bytes).await?.digest().into())
        }
    };
    let record: TagRecord = client.order(&Order::TagArtifact { tag, artifact }).await?;
    if json {
        ui::json(&record)?;
    } else {
        let before = record.before.map(|before| format!(", and no longer {}", before.short())).unwrap_or_default();
        ui::line(&format!("{} is {}{before}", record.tag, record.digest.short()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn untag(client: &Client, tag: Tag, json: bool) -> Result<ExitCode> {
    let record: TagRecord = client.order(&Order::Untag { tag }).await?;
    if json {
        ui::json(&record)?;
    } else {
        ui::line(&format!("removed the tag {} of {}", record.tag, record.digest.short()))?;
        ui::note("the artifact itself stays until `rwasm artifact gc` finds it unused, or `rwasm artifact rm` names its digest");
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what went of artifacts, with a sum.
fn show(removed: &Listing<RemovedArtifact>, what: &str, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(removed)?;
        return Ok(ExitCode::SUCCESS);
    }
    for row in &removed.rows {
        let RemovedArtifact { digest, node, artifact_bytes, code_bytes } = row;
        let code = if *code_bytes == 0 { String::new() } else { format!(" and {} of machine code", format_bytes(*code_bytes)) };
        ui::line(&format!("{what} {} from node {node}: {}{code}", digest.short(), format_bytes(*artifact_bytes)))?;
    }
    if removed.rows.len() > 1 {
        let total: u64 = removed.rows.iter().map(|row| row.artifact_bytes + row.code_bytes).sum();
        ui::line(&format!("{what} {} in all", format_bytes(total)))?;
    }
    for missing in &removed.missing {
        ui::note(&format!("incomplete: {missing}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The artifact of a cluster that a text names, if it has the form of a tag or a digest. Anything else is a file; a file whose name has that
/// form is written with its directory, `./hello:1`.
pub(crate) fn stored(text: &str) -> Option<ArtifactName> {
    text.parse().ok()
}

/// The error of a name that only a cluster knows, where there is none.
pub(crate) fn no_cluster(name: &ArtifactName) -> Error {
    Error::new(Code::NOT_EMBEDDED, format!("{name} is an artifact of a cluster, and none is named"))
        .hint(format!("start one with `rwasm start --head`, or write ./{name} for a file of that name"))
}

/// Reads the digest or tag of an argument.
pub(crate) fn name(text: &str) -> Result<ArtifactName, Error> {
    let hint = "write a tag as hello:1, or a digest as b3: and its first digits; `rwasm artifact list` shows both";
    text.parse().map_err(|error: rwasm_types::ParseArtifactError| Error::new(Code::INVALID_ARGUMENT, error.to_string()).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_form_of_a_name_is_one_and_all_else_is_a_file() {
        for text in ["hello:1", "team.hello:v1.2", "b3:9f2c01ab34cd"] {
            assert_eq!(stored(text).unwrap().to_string(), text);
        }
        for text in ["hello.wasm", "./hello:1", "dir/hello:1", "b3:xyz", "a:b:c", "-", ""] {
            assert!(stored(text).is_none(), "{text}");
        }
        assert_eq!(name("hello").unwrap_err().code(), Code::INVALID_ARGUMENT);
        assert!(matches!(name("b3:9f2c01ab34cd"), Ok(ArtifactName::Digest(_))));
    }
}
