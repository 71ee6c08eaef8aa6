//! Getting an artifact from the node that asks to run it.

use std::sync::Arc;

use rwasm_types::{ArtifactDigest, NodeId, Result, Tenant};
use rwasm_wire::PeerClient;

use crate::node::Shared;

/// Fetches an artifact and finds out what it offers. It is checked against its digest like one that a driver uploads.
pub(crate) async fn fetch(shared: &Arc<Shared>, owner: NodeId, address: &str, tenant: &Tenant, digest: ArtifactDigest) -> Result<()> {
    let mut client = PeerClient::connect(&shared.head.proof().to_node(owner, address)?, shared.head.proof().token()).await?;
    let chunks = client.fetch(tenant, digest).await?;
    let received = shared.artifacts.receive(tenant, chunks).await?;
    shared.store(received).await?;
    tracing::info!(%tenant, artifact = %digest.short(), from = address, "fetched an artifact");
    Ok(())
}
