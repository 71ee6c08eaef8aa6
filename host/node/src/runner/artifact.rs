//! Getting an artifact from the node that asks to run it.

use std::sync::Arc;

use crate::node::Shared;
use rwasm_types::{ArtifactDigest, NodeId, Result, Tenant};

/// Fetches an artifact and finds out what it offers. It is checked against its digest like one that a driver uploads.
pub(crate) async fn fetch(shared: &Arc<Shared>, owner: NodeId, address: &str, tenant: &Tenant, digest: ArtifactDigest) -> Result<()> {
    let mut client = shared.peer(owner, address).await?;
    let chunks = client.fetch(tenant, digest).await?;
    let received = shared.artifacts.receive(tenant, chunks).await?;
    shared.store(received).await?;
    tracing::info!(%tenant, artifact = %digest.short(), from = %owner, "fetched an artifact");
    Ok(())
}
