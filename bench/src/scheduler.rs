//! The head's decisions without a head: how many leases it grants in a second, by the size of the cluster.
//!
//! The cluster is kept about two thirds full. Each round asks for a slot and gives back the oldest lease, so that a placement is paid
//! for as a whole: a request, a decision, a lease, and its end. Shapes, tenants and jobs vary; nothing is batched.

use std::collections::{BTreeMap, VecDeque};

use rwasm_core::{Action, Core, Demand, DemandKey, Event};
use rwasm_types::{Error, JobId, LeaseId, NodeId, Offer, Priority, Quantity, ResourceSet, Result, Tenant};

use crate::timing::Suite;

/// Cluster sizes that are measured.
const SIZES: [u32; 3] = [100, 1_000, 10_000];
/// Placements of one call.
const BATCH: u64 = 1_000;
/// Cores of a node.
const CORES: u32 = 16;

/// A row for each size of cluster.
pub(crate) fn rows(suite: &mut Suite<'_>) -> Result<()> {
    for nodes in SIZES {
        let name = format!("scheduler: placements, {nodes} nodes");
        if suite.wants(&name) {
            let mut cluster = Cluster::new(nodes)?;
            suite.time(&name, BATCH as f64, || (0..BATCH).try_for_each(|_| cluster.place_one()))?;
        }
    }
    Ok(())
}

/// A core that knows nodes only from what it is told.
struct Cluster {
    core: Core,
    nodes: u32,
    jobs: Vec<(Tenant, JobId)>,
    shapes: Vec<ResourceSet>,
    held: VecDeque<(NodeId, LeaseId)>,
    round: u64,
    actions: Vec<Action>,
}

impl Cluster {
    fn new(nodes: u32) -> Result<Self> {
        let mut core = Core::numbering(LeaseId(1));
        for number in 1..=nodes {
            let capacity = ResourceSet { memory: 64 << 30, ..ResourceSet::cpus(CORES) };
            core.step(0, Event::NodeJoined { node: node(number)?, capacity, labels: BTreeMap::new(), offer: Offer::default() });
        }
        let jobs = (0..64)
            .map(|session| Ok((Tenant::new(&format!("tenant-{}", session % 8)).map_err(wrong)?, JobId { owner: node(1)?, session })));
        let shape = |parts, memory| ResourceSet { cpu: Quantity::from_parts(parts).unwrap_or_default(), memory, ..ResourceSet::default() };
        let shapes = vec![shape(10_000, 64 << 20), shape(20_000, 1 << 30), shape(5_000, 64 << 20), shape(10_000, 4 << 30)];
        let (held, actions) = (VecDeque::new(), Vec::new());
        let mut cluster = Self { core, nodes, jobs: jobs.collect::<Result<_>>()?, shapes, held, round: 0, actions };
        for _ in 0..nodes * CORES * 6 / 10 {
            cluster.ask()?;
        }
        Ok(cluster)
    }

    fn place_one(&mut self) -> Result<()> {
        self.ask()?;
        if let Some((owner, lease)) = self.held.pop_front() {
            self.core.step_into(self.round / 100, Event::LeaseReturned { owner, lease, unreachable: false }, &mut self.actions);
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        self.round += 1;
        let round = self.round;
        let (tenant, job) = self.jobs[(round % 61) as usize].clone();
        let shape = self.shapes[(round % 4) as usize].clone();
        let owner = node((round.wrapping_mul(2_654_435_761) % u64::from(self.nodes)) as u32 + 1)?;
        let demand = Demand::new(job, tenant, shape, 1, Priority::default());
        self.actions.clear();
        self.core.step_into(round / 100, Event::Wanted { key: DemandKey { owner, request: 1 }, demand }, &mut self.actions);
        match self.actions.first() {
            Some(Action::Grant { lease, slots: 1, .. }) => self.held.push_back((owner, *lease)),
            other => return Err(Error::internal(format!("a free cluster did not grant a slot: {other:?}"))),
        }
        Ok(())
    }
}

fn node(number: u32) -> Result<NodeId> {
    NodeId::new(number).ok_or_else(|| Error::internal("a node has no number"))
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
}
