//! What a seed stands for: how many nodes of which kind, whose jobs, what goes wrong and when.

use std::collections::BTreeMap;

use rwasm_types::{GroupStrategy, Name, Placement, Priority, Quantity, ResourceSet, Strategy, Tenant};

use crate::rng::Rng;

/// Something that the simulated world does wrong on purpose, to see that the invariants notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The head is told that nodes have twice what they have.
    OversoldNodes,
    /// Owners forget what ran on a lease that was revoked.
    LostTasks,
    /// Owners publish the results of attempts that were given up.
    DoubledTasks,
    /// One of a gang's grants never arrives.
    BrokenGangs,
    /// Owners do not give back what they are asked to.
    DeafOwners,
    /// The head's clock stands still, so that nothing ever expires.
    StoppedClock,
}

/// One call of a job: tasks that need the same.
#[derive(Clone, Debug)]
pub(crate) struct CallPlan {
    pub(crate) shape: ResourceSet,
    pub(crate) placement: Placement,
    pub(crate) gang: bool,
    pub(crate) tasks: u32,
    /// How long each task takes.
    pub(crate) task_ms: (u64, u64),
}

#[derive(Clone, Debug)]
pub(crate) struct JobPlan {
    pub(crate) at_ms: u64,
    /// Which node owns it.
    pub(crate) owner: usize,
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    pub(crate) retryable: bool,
    pub(crate) calls: Vec<CallPlan>,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupPlan {
    pub(crate) at_ms: u64,
    pub(crate) until_ms: u64,
    pub(crate) owner: usize,
    pub(crate) tenant: Tenant,
    pub(crate) strategy: GroupStrategy,
    pub(crate) bundles: Vec<ResourceSet>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A node is gone for good, with all that it owned.
    Crash(usize),
    /// A node does and hears nothing for a while.
    Pause(usize, u64),
    /// A node's process ends, and the next one begins after a while.
    Restart(usize, u64),
    /// The head starts anew and knows nothing.
    HeadRestart,
    /// A node takes no work for a while.
    Drain(usize, u64),
}

/// All of a run but its course.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<(ResourceSet, BTreeMap<Name, String>)>,
    pub(crate) weights: Vec<(Tenant, u32)>,
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) groups: Vec<GroupPlan>,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// The shortest and the longest way of a message, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// One message in so many arrives twice; 0 for none.
    pub(crate) twice_in: u64,
    /// Whether messages between two nodes may overtake each other, as they do where a stream broke and was opened again.
    pub(crate) overtaking: bool,
    /// When the last fault is over; what is left has to be done by [`Scenario::end_ms`].
    pub(crate) quiet_ms: u64,
    /// All tenants have more work than there is room for, so that their shares can be compared.
    pub(crate) saturated: bool,
    pub(crate) mutation: Option<Mutation>,
}

fn name(text: &str) -> Option<Name> {
    Name::new(text).ok()
}

fn tenant(number: u64) -> Tenant {
    Tenant::new(&format!("t{number}")).unwrap_or_default()
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        if seed % 8 == 7 { Self::saturated(seed, &mut rng) } else { Self::mixed(seed, &mut rng) }
    }

    /// A cluster of thousands of nodes for a short while.
    pub fn large(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = rng.range(2_000, 4_000) as usize;
        let mut scenario = Self::mixed(seed, &mut rng);
        let templates = scenario.nodes.clone();
        scenario.nodes = (0..nodes).map(|at| templates[at % templates.len()].clone()).collect();
        scenario.faults = (0..40).map(|_| (rng.range(500, 6_000), Fault::Crash(rng.range(100, nodes as u64 - 1) as usize))).collect();
        scenario
    }

    /// The same with something wrong.
    #[must_use]
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    /// When the run is over and everything must have been done.
    pub fn end_ms(&self) -> u64 {
        self.quiet_ms + if self.saturated { 0 } else { 240_000 }
    }

    fn mixed(seed: u64, rng: &mut Rng) -> Self {
        let count = rng.range(2, 10) as usize;
        let nodes: Vec<_> = (0..count).map(|_| node(rng)).collect();
        let weights = (0..3).map(|number| (tenant(number), rng.range(1, 4) as u32)).collect();
        let jobs = (0..rng.range(2, 7)).map(|_| job(rng, &nodes)).collect();
        let groups = if rng.one_in(3) { (0..rng.range(1, 3)).map(|_| group(rng, &nodes)).collect() } else { Vec::new() };
        let quiet_ms = 15_000;
        let mut faults = Vec::new();
        for _ in 0..rng.range(0, 4) {
            let at = rng.range(500, 10_000);
            // The first node stays, so that there is always somebody to own work.
            let node = rng.range(1, count as u64 - 1) as usize;
            faults.push((
                at,
                match rng.range(0, 4) {
                    0 => Fault::Crash(node),
                    1 => Fault::Pause(node, rng.range(200, 4_000)),
                    2 => Fault::Drain(node, rng.range(500, 4_000)),
                    3 => Fault::Pause(0, rng.range(200, 1_200)),
                    _ => Fault::HeadRestart,
                },
            ));
        }
        let mut scenario = Self {
            seed,
            nodes,
            weights,
            jobs,
            groups,
            faults,
            delay_ms: if rng.one_in(3) { (1, 400) } else { (1, 5) },
            twice_in: if rng.one_in(3) { 10 } else { 0 },
            overtaking: rng.one_in(4),
            quiet_ms,
            saturated: false,
            mutation: None,
        };
        // Drawn last, so that seeds that once found something stand for what they found.
        if rng.one_in(3) {
            scenario.faults.push((rng.range(2_000, 10_000), Fault::Restart(rng.range(0, count as u64 - 1) as usize, rng.range(50, 3_000))));
        }
        if rng.one_in(6) {
            scenario.faults.push((rng.range(2_000, 10_000), Fault::HeadRestart));
        }
        scenario
    }

    /// Equal nodes, equal tasks, and owners without room of their own: what each tenant gets follows from its weight alone.
    fn saturated(seed: u64, rng: &mut Rng) -> Self {
        let cores = rng.range(2, 4) as u32;
        let count = rng.range(6, 12) as usize;
        let mut nodes = vec![(ResourceSet::default(), BTreeMap::new())];
        nodes.extend((0..count).map(|_| (ResourceSet::cpus(cores), BTreeMap::new())));
        let tenants = rng.range(2, 4);
        let weights = (0..tenants).map(|number| (tenant(number), rng.range(1, 3) as u32)).collect();
        let jobs = (0..tenants).map(|number| JobPlan {
            at_ms: rng.range(0, 4_000),
            owner: 0,
            tenant: tenant(number),
            priority: Priority::default(),
            retryable: true,
            calls: vec![CallPlan {
                shape: ResourceSet::cpus(1),
                placement: Placement::default(),
                gang: false,
                tasks: 100_000,
                task_ms: (100, 600),
            }],
        });
        let jobs = jobs.collect();
        Self {
            seed,
            nodes,
            weights,
            jobs,
            groups: Vec::new(),
            faults: Vec::new(),
            delay_ms: (1, 5),
            twice_in: 0,
            overtaking: false,
            quiet_ms: 30_000,
            saturated: true,
            mutation: None,
        }
    }
}

fn node(rng: &mut Rng) -> (ResourceSet, BTreeMap<Name, String>) {
    let mut capacity = ResourceSet { memory: rng.range(1, 8) << 30, ..ResourceSet::cpus(rng.range(1, 8) as u32) };
    if rng.one_in(4) {
        capacity.gpu = Quantity::whole(rng.range(1, 2) as u32);
    }
    let mut labels = BTreeMap::new();
    if let Some(zone) = name("zone") {
        labels.insert(zone, if rng.one_in(2) { "a" } else { "b" }.to_owned());
    }
    if let Some(license) = name("license").filter(|_| rng.one_in(4)) {
        capacity.custom.insert(license, Quantity::whole(rng.range(1, 2) as u32));
    }
    (capacity, labels)
}

fn job(rng: &mut Rng, nodes: &[(ResourceSet, BTreeMap<Name, String>)]) -> JobPlan {
    let calls = (0..rng.range(1, 2)).map(|_| call(rng, nodes)).collect();
    JobPlan {
        at_ms: rng.range(0, 8_000),
        owner: rng.range(0, nodes.len() as u64 - 1) as usize,
        tenant: tenant(rng.range(0, 2)),
        priority: Priority::new(if rng.one_in(4) { rng.range(0, 2) as i8 } else { 0 }).unwrap_or_default(),
        retryable: !rng.one_in(4),
        calls,
    }
}

fn call(rng: &mut Rng, nodes: &[(ResourceSet, BTreeMap<Name, String>)]) -> CallPlan {
    let parts = *rng.pick(&[2_500, 5_000, 10_000, 10_000, 10_000, 20_000, 40_000]).unwrap_or(&10_000);
    let mut shape = ResourceSet { cpu: Quantity::from_parts(parts).unwrap_or_default(), memory: 64 << 20, ..ResourceSet::default() };
    if rng.one_in(6) {
        shape.gpu = Quantity::from_parts(5_000).unwrap_or_default();
    }
    if let Some(license) = name("license").filter(|_| rng.one_in(8)) {
        shape.custom.insert(license, Quantity::ONE);
    }
    let mut placement = Placement::default();
    if rng.one_in(4) {
        placement.strategy = Strategy::Spread;
    }
    let zone = || "zone=a".parse().ok();
    if rng.one_in(6) {
        placement.labels.extend(zone());
    } else if rng.one_in(6) {
        placement.prefer_labels.extend(zone());
    }
    let gang = rng.one_in(6) && nodes.len() > 2;
    let tasks = if gang { rng.range(2, 4) } else { rng.range(1, 30) } as u32;
    CallPlan { shape, placement, gang, tasks, task_ms: (5, rng.range(10, 2_000)) }
}

fn group(rng: &mut Rng, nodes: &[(ResourceSet, BTreeMap<Name, String>)]) -> GroupPlan {
    let strategies = [GroupStrategy::Pack, GroupStrategy::Spread, GroupStrategy::StrictPack, GroupStrategy::StrictSpread];
    let at_ms = rng.range(0, 8_000);
    GroupPlan {
        at_ms,
        until_ms: at_ms + rng.range(1_000, 12_000),
        owner: rng.range(0, nodes.len() as u64 - 1) as usize,
        tenant: tenant(rng.range(0, 2)),
        strategy: *rng.pick(&strategies).unwrap_or(&GroupStrategy::Pack),
        bundles: (0..rng.range(1, 3)).map(|_| ResourceSet::cpus(rng.range(1, 2) as u32)).collect(),
    }
}
