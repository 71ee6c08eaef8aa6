//! What this node lets guests have: named volumes and destinations. A guest's grants are what its submit asks for, as far as its tenant's
//! policy allows it and the node that runs it offers it.
//!
//! ```text
//! submit ─▶ gateway: policy of the tenant ─▶ an offer here, or somewhere? ─▶ the node that runs it: names become directories
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use rwasm_types::{
    Access, Code, Destinations, Error, Grants, Name, Needs, NetGrant, Offer, Placement, Result, Tenant, TokenId, VolumeSource, api::Ask,
};

use crate::node::Shared;

/// A directory of this machine that guests know by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is.
    pub path: PathBuf,
    /// Whether guests may write there.
    pub access: Access,
}

/// What a node offers, with what nobody else needs to know. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct NodeOffer {
    /// Its volumes.
    pub volumes: BTreeMap<Name, Volume>,
    /// Network destinations.
    pub destinations: Vec<Destinations>,
}

impl NodeOffer {
    /// What the head and other nodes are told.
    pub(crate) fn told(&self) -> Offer {
        let volumes = self.volumes.iter().map(|(name, volume)| (name.clone(), volume.access)).collect();
        Offer { volumes, destinations: self.destinations.clone() }
    }
}

impl Shared {
    /// Whether a call of a tenant may have what it asks for, by the tenant's policy and by what nodes offer now.
    ///
    /// # Errors
    ///
    /// [`Code::POLICY_REFUSED`], [`Code::NOT_OFFERED`], [`Code::NOT_ON_CLUSTER`], or that the head does not say.
    pub(crate) async fn may_be_granted(&self, tenant: &Tenant, token: Option<TokenId>, grants: &Grants) -> Result<()> {
        let host = grants.volumes.iter().find_map(|volume| match &volume.source {
            VolumeSource::Host(path) => Some(path),
            VolumeSource::Named(_) => None,
        });
        if let Some(path) = host.filter(|_| !self.embedded) {
            return Err(not_on_cluster(&path.display()));
        }
        self.access.policy(tenant).allows(tenant, grants)?;
        let needs = grants.needs();
        if self.embedded || self.lacks(&needs).is_none() {
            return Ok(());
        }
        self.head.ask(tenant, token, &Ask::Offered { needs }, bytes::Bytes::new()).await.map(drop)
    }

    /// Whether tasks may run on this node at all. Those of a placement group go where the head says, here too.
    pub(crate) fn may_run_here(&self, placement: &Placement) -> bool {
        placement.group.is_none() && placement.allows(self.id, self.head.labels())
    }

    /// The first of what a guest needs of its node that this one does not offer.
    pub(crate) fn lacks(&self, needs: &Needs) -> Option<String> {
        // The driver of an embedded node is its own user: its destinations are offered by being asked for.
        let needs = if self.embedded { &Needs { destinations: Vec::new(), ..needs.clone() } } else { needs };
        self.offer.told().lacks(needs).or_else(|| {
            // A wildcard does not mean the cluster itself, whatever its addresses are.
            let own = |wanted: &&NetGrant| wanted.address().is_some_and(|address| self.engine.reserved().contains(address));
            let unnamed =
                needs.destinations.iter().filter(own).find(|wanted| !self.offer.destinations.iter().any(|offered| offered.name(wanted)));
            unnamed.map(|wanted| format!("connections to {wanted}, which is the cluster's own"))
        })
    }

    /// A submit's grants as this node gives them: names of volumes become directories.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_OFFERED`] if this node does not offer one, [`Code::NOT_ON_CLUSTER`] and [`Code::BAD_DIRECTORY`] for directories of the
    /// submit's own machine.
    pub(crate) fn resolve_grants(&self, mut grants: Grants) -> Result<Grants> {
        if let Some(lacking) = self.lacks(&grants.needs()) {
            return Err(Error::new(Code::NOT_OFFERED, format!("node {} does not offer {lacking}", self.id)).with("refused_by", "node"));
        }
        for volume in &mut grants.volumes {
            match &volume.source {
                VolumeSource::Host(path) if self.embedded => {
                    if !path.is_dir() {
                        let message = format!("the granted directory {} does not exist", path.display());
                        return Err(Error::new(Code::BAD_DIRECTORY, message).hint("make it, or check --dir").with("path", path.display()));
                    }
                    let read_only = volume.access == Access::ReadOnly;
                    tracing::debug!(path = %path.display(), read_only, "a directory was granted");
                }
                VolumeSource::Host(path) => return Err(not_on_cluster(&path.display())),
                VolumeSource::Named(name) => {
                    let offered = self.offer.volumes.get(name).ok_or_else(|| Error::internal("a volume that is offered is not there"))?;
                    volume.source = VolumeSource::Host(offered.path.clone());
                }
            }
        }
        Ok(grants)
    }
}

/// The error of a directory of the submit's own machine.
fn not_on_cluster(path: &dyn std::fmt::Display) -> Error {
    let message = format!("the directory {path} cannot be granted on a cluster: it is not on the nodes");
    Error::new(Code::NOT_ON_CLUSTER, message).hint("use `rwasm run`, or a volume that nodes offer")
}
