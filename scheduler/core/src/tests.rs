//! The core's decisions, one rule at a time. What must hold whatever happens is the simulator's part.

use rwasm_types::{Code, GroupStrategy, JobId, LabelSelector, Placement, Quantity, Strategy, api::GroupState};

use super::{
    limit::{ABSENT_MS, FAIR_AFTER_MS, LEASE_MS, REVOKED_MS, STARVING_AFTER_MS, UNREACHABLE_MS},
    *,
};

fn node(number: u32) -> NodeId {
    NodeId::new(number).unwrap()
}

fn key(owner: u32, request: u64) -> DemandKey {
    DemandKey { owner: node(owner), request }
}

fn want(cpus: u32, slots: u32) -> Demand {
    let job = JobId { owner: node(1), session: 0 };
    Demand { retryable: true, ..Demand::new(job, Tenant::default(), ResourceSet::cpus(cpus), slots, Priority::default()) }
}

fn of(tenant: &str, session: u32, demand: Demand) -> Demand {
    Demand { tenant: Tenant::new(tenant).unwrap(), job: JobId { owner: node(1), session }, ..demand }
}

fn prioritised(priority: i8, demand: Demand) -> Demand {
    Demand { priority: Priority::new(priority).unwrap(), ..demand }
}

fn join(number: u32, capacity: ResourceSet, labels: &[(&str, &str)]) -> Event {
    let labels = labels.iter().map(|(key, value)| (Name::new(key).unwrap(), (*value).to_owned())).collect();
    Event::NodeJoined { node: node(number), capacity, labels, offer: Offer::default() }
}

/// A core and its clock.
#[derive(Default)]
struct Sut {
    core: Core,
    now_ms: u64,
}

impl Sut {
    /// Node 1 has nothing, and owns what is asked for; the others have so many cores, from node 2 on.
    fn with(cpus: &[u32]) -> Self {
        let mut sut = Self::default();
        sut.step(join(1, ResourceSet::default(), &[]));
        for (number, cpus) in (2..).zip(cpus) {
            sut.step(join(number, ResourceSet::cpus(*cpus), &[]));
        }
        sut
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.core.step(self.now_ms, event)
    }

    fn want(&mut self, request: u64, demand: Demand) -> Vec<Action> {
        self.step(Event::Wanted { key: key(1, request), demand })
    }

    fn granted(&mut self, request: u64, demand: Demand) -> Vec<(u32, u32)> {
        grants(&self.want(request, demand))
    }

    fn return_lease(&mut self, lease: LeaseId) -> Vec<Action> {
        self.step(Event::LeaseReturned { owner: node(1), lease, unreachable: false })
    }

    /// Time passes, with reports that name all leases of node 1.
    fn pass(&mut self, ms: u64) -> Vec<Action> {
        self.now_ms += ms;
        let leases = self.core.leases().map(|lease| lease.id).collect();
        let mut actions = self.step(Event::NodeReported { node: node(1), local: ResourceSet::default(), leases });
        actions.extend(self.step(Event::Tick));
        actions
    }

    fn why(&self, request: u64) -> Option<String> {
        self.core.explain(key(1, request), &Tenant::default())
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.core.leases().map(|lease| lease.id).collect()
    }
}

fn grants(actions: &[Action]) -> Vec<(u32, u32)> {
    let grant = |action: &Action| match action {
        Action::Grant { node, slots, .. } => Some((node.get(), *slots)),
        _ => None,
    };
    actions.iter().filter_map(grant).collect()
}

fn retired(actions: &[Action]) -> Vec<LeaseId> {
    let retire = |action: &Action| match action {
        Action::Retire { lease, .. } => Some(*lease),
        _ => None,
    };
    actions.iter().filter_map(retire).collect()
}

fn refusal(actions: &[Action]) -> Error {
    match actions {
        [Action::Refuse { error, .. } | Action::RefuseGroup { error, .. }] => error.clone(),
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn nodes_are_filled_to_half_one_after_the_other_and_then_evenly() {
    let mut sut = Sut::with(&[4, 4, 4]);
    assert_eq!(sut.granted(1, want(1, 1)), [(2, 1)]);
    assert_eq!(sut.granted(2, want(1, 1)), [(2, 1)]);
    assert_eq!(sut.granted(3, want(1, 4)), [(3, 2), (4, 2)]);
    assert_eq!(sut.granted(4, want(1, 3)), [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(sut.granted(5, want(1, 9)), [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(sut.core.waiting().map(|waiting| waiting.slots).collect::<Vec<_>>(), [6]);
}

#[test]
fn what_asks_for_it_is_spread_from_the_beginning() {
    let mut sut = Sut::with(&[4, 4, 4]);
    let spread = |slots| Demand { placement: Placement { strategy: Strategy::Spread, ..Placement::default() }, ..want(1, slots) };
    assert_eq!(sut.granted(1, spread(3)), [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(sut.granted(2, spread(7)), [(2, 3), (3, 2), (4, 2)]);
}

#[test]
fn work_without_gpus_leaves_the_nodes_that_have_them_alone() {
    let mut sut = Sut::with(&[]);
    let gpu = ResourceSet { gpu: Quantity::whole(2), ..ResourceSet::cpus(8) };
    sut.step(join(2, gpu, &[]));
    sut.step(join(3, ResourceSet::cpus(1), &[]));
    assert_eq!(sut.granted(1, want(1, 1)), [(3, 1)]);
    assert_eq!(sut.granted(2, want(1, 1)), [(2, 1)]);
    let half = ResourceSet { gpu: "0.5".parse().unwrap(), ..ResourceSet::default() };
    assert_eq!(sut.granted(3, Demand { shape: half, ..want(1, 5) }), [(2, 4)]);
}

#[test]
fn labels_nodes_and_bytes_decide_where_work_goes() {
    let mut sut = Sut::with(&[]);
    for (number, zone) in [(2, "a"), (3, "b"), (4, "b"), (5, "c")] {
        sut.step(join(number, ResourceSet::cpus(4), &[("zone", zone)]));
    }
    let select = |text: &str| vec![text.parse::<LabelSelector>().unwrap()];
    let place = |placement| Demand { placement, ..want(1, 1) };
    let hard = Placement { labels: select("zone in (b, c)"), ..Placement::default() };
    assert_eq!(sut.granted(1, place(hard)), [(3, 1)]);
    let soft = Placement { prefer_labels: select("zone=c"), ..Placement::default() };
    assert_eq!(sut.granted(2, place(soft.clone())), [(5, 1)]);
    assert_eq!(sut.granted(3, Demand { slots: 5, ..place(soft) }), [(5, 3), (3, 1), (2, 1)]);
    assert_eq!(sut.granted(4, place(Placement { node: Some(node(4)), ..Placement::default() })), [(4, 1)]);
    assert_eq!(sut.granted(5, place(Placement { prefer_node: Some(node(4)), ..Placement::default() })), [(4, 1)]);
    assert_eq!(sut.granted(6, Demand { near: vec![(node(2), 10), (node(4), 20), (node(5), 30)], ..want(1, 1) }), [(4, 1)]);
    let nowhere = sut.want(7, place(Placement { labels: select("zone=d"), ..Placement::default() }));
    assert_eq!(refusal(&nowhere).message(), "no node has the labels zone=d");
    let gone = sut.want(8, place(Placement { node: Some(node(77)), ..Placement::default() }));
    assert_eq!((refusal(&gone).code(), refusal(&gone).message()), (Code::INFEASIBLE, "there is no node n77"));
}

#[test]
fn custom_resources_are_found_without_looking_everywhere() {
    let mut sut = Sut::with(&[4; 9]);
    let license = |count| BTreeMap::from([(Name::new("license").unwrap(), Quantity::whole(count))]);
    sut.step(join(20, ResourceSet { custom: license(2), ..ResourceSet::cpus(4) }, &[]));
    let demand = Demand { shape: ResourceSet { custom: license(1), ..ResourceSet::cpus(1) }, ..want(1, 3) };
    assert_eq!(sut.granted(1, demand), [(20, 2)]);
    let lease = sut.leases()[0];
    assert_eq!(grants(&sut.return_lease(lease)), [(20, 1)]);
}

#[test]
fn a_lost_node_ends_its_leases_and_its_wishes() {
    let mut sut = Sut::with(&[1]);
    assert_eq!(sut.granted(1, want(1, 3)), [(2, 1)]);
    let revoked = sut.step(Event::NodeLost { node: node(2) });
    assert!(matches!(&revoked[..], [Action::Revoke { owner, error, .. }] if owner.get() == 1 && error.code() == Code::NODE_LOST));
    assert_eq!(sut.pass(ABSENT_MS - 1), [], "it may have been silent for a moment only");
    assert_eq!(refusal(&sut.pass(1)).code(), Code::INFEASIBLE);
    // The rest of the wish is still there and is met by a node that joins later.
    assert_eq!(grants(&sut.step(join(3, ResourceSet::cpus(9), &[]))), [(3, 2)]);
    sut.step(Event::NodeLost { node: node(1) });
    assert_eq!((sut.core.lease_count(), sut.core.tenants().count()), (0, 0));
}

#[test]
fn what_no_node_has_is_refused_once_and_met_when_one_joins() {
    let mut sut = Sut::with(&[1]);
    let gpu = ResourceSet { gpu: Quantity::ONE, ..ResourceSet::default() };
    let refused = sut.want(1, Demand { shape: gpu.clone(), ..want(1, 1) });
    assert_eq!((refusal(&refused).code(), refusal(&refused).message()), (Code::INFEASIBLE, "no node has gpu 1"));
    assert_eq!(sut.pass(300), []);
    assert_eq!(sut.why(1).unwrap(), "waits for gpu 1: no node has that, and it waits for one that does");
    assert_eq!(grants(&sut.step(join(3, gpu, &[]))), [(3, 1)]);
}

#[test]
fn what_an_owner_does_not_ask_for_again_when_it_is_back_is_not_wanted() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, want(1, 2));
    assert_eq!(sut.step(join(1, ResourceSet::default(), &[])), []);
    assert_eq!((sut.core.waiting().count(), sut.core.lease_count()), (0, 1));
}

#[test]
fn an_unreachable_node_is_left_alone_for_a_while() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, want(1, 1));
    let lease = sut.leases()[0];
    assert_eq!(sut.step(Event::LeaseReturned { owner: node(1), lease, unreachable: true }), []);
    assert_eq!(sut.want(1, want(1, 1)), []);
    assert!(sut.why(1).unwrap().contains("could not reach"));
    assert_eq!(sut.pass(UNREACHABLE_MS - 1), []);
    assert_eq!(grants(&sut.pass(1)), [(2, 1)]);
}

#[test]
fn priorities_go_first_and_then_whoever_has_least() {
    let mut sut = Sut::with(&[6]);
    sut.want(1, of("a", 1, want(1, 6)));
    for (request, demand) in [
        (2, of("a", 1, want(1, 2))),
        (3, of("b", 2, want(1, 2))),
        (4, of("b", 3, want(1, 2))),
        (5, prioritised(-1, of("c", 4, want(1, 9)))),
    ] {
        assert_eq!(sut.granted(request, demand), []);
    }
    let first = sut.leases()[0];
    let met: Vec<u64> = sut
        .return_lease(first)
        .iter()
        .flat_map(|action| match action {
            Action::Grant { key, slots, .. } => vec![key.request; *slots as usize],
            _ => vec![],
        })
        .collect();
    // Two tenants with nothing take turns; of the second one's jobs, the one with less. The lower priority gets nothing.
    let mut counts = [0; 6];
    met.iter().for_each(|request| counts[*request as usize] += 1);
    assert_eq!(counts, [0, 0, 2, 2, 2, 0], "{met:?}");
}

#[test]
fn weights_decide_how_much_each_tenant_gets() {
    let mut sut = Sut::with(&[12]);
    sut.step(Event::TenantWeighed { tenant: Tenant::new("b").unwrap(), weight: 3 });
    sut.want(1, of("x", 1, want(12, 1)));
    sut.want(2, of("a", 2, want(1, 12)));
    sut.want(3, of("b", 3, want(1, 12)));
    let lease = sut.leases()[0];
    let mut slots = [0; 4];
    for action in sut.return_lease(lease) {
        if let Action::Grant { key, slots: granted, .. } = action {
            slots[key.request as usize] += granted;
        }
    }
    assert_eq!(slots, [0, 0, 3, 9]);
}

#[test]
fn shares_are_evened_out_after_a_second() {
    let mut sut = Sut::with(&[1; 8]);
    assert_eq!(sut.granted(1, of("a", 1, want(1, 20))).len(), 8);
    assert_eq!(sut.granted(2, of("b", 2, want(1, 8))), []);
    assert_eq!(retired(&sut.pass(FAIR_AFTER_MS - 1)), []);
    let back = retired(&sut.pass(1));
    assert_eq!(back.len(), 3, "until one more would give the second more than the first");
    assert_eq!(retired(&sut.pass(250)), [], "what was asked back is not asked again");
    for lease in back {
        let granted = sut.return_lease(lease);
        assert!(matches!(&granted[..], [Action::Grant { key, .. }] if key.request == 2), "{granted:?}");
    }
}

#[test]
fn a_higher_priority_takes_slots_back_from_work_that_can_run_again() {
    let mut sut = Sut::with(&[2]);
    sut.want(1, Demand { retryable: false, ..want(1, 1) });
    sut.want(2, want(1, 1));
    let urgent = sut.want(3, prioritised(5, want(1, 1)));
    assert!(matches!(&urgent[..], [Action::Revoke { lease, error, .. }] if lease.0 == 2 && error.code() == Code::PREEMPTED), "{urgent:?}");
    // Nobody else gets what is being freed.
    assert_eq!(sut.granted(4, want(1, 1)), []);
    let granted = sut.return_lease(LeaseId(2));
    assert!(matches!(&granted[..], [Action::Grant { key, .. }] if key.request == 3));
    let more = sut.want(5, prioritised(5, want(1, 1)));
    assert_eq!(more, [], "what cannot run again is not taken back at once");
    assert_eq!(retired(&sut.pass(250)), [LeaseId(1)]);
}

#[test]
fn a_revoked_lease_is_free_after_a_while_even_if_nobody_confirms() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, want(1, 1));
    sut.want(2, prioritised(1, want(1, 1)));
    assert_eq!(grants(&sut.pass(REVOKED_MS - 1)), []);
    assert_eq!(grants(&sut.pass(1)), [(2, 1)]);
}

#[test]
fn a_large_demand_is_not_starved_by_small_ones() {
    let mut sut = Sut::with(&[4]);
    sut.want(1, of("small", 1, want(1, 100)));
    sut.want(2, of("large", 2, want(4, 1)));
    let mut granted = Vec::new();
    for _ in 0..3 * STARVING_AFTER_MS / 250 {
        for lease in retired(&sut.pass(250)) {
            granted.extend(sut.return_lease(lease));
        }
    }
    assert!(granted.iter().any(|action| matches!(action, Action::Grant { key, .. } if key.request == 2)), "{granted:?}");
}

#[test]
fn a_gang_gets_all_its_slots_or_none() {
    let mut sut = Sut::with(&[2, 2]);
    sut.want(1, want(1, 1));
    let gang = |slots| Demand { gang: true, ..want(1, slots) };
    assert_eq!(sut.granted(2, gang(4)), []);
    assert_eq!(sut.core.nodes().map(|node| node.leased.cpu.floor()).sum::<u64>(), 1, "a gang that has to wait holds nothing");
    sut.now_ms += 100;
    let lease = sut.leases()[0];
    assert_eq!(grants(&sut.return_lease(lease)).iter().map(|(_, slots)| slots).sum::<u32>(), 4);
    assert_eq!(sut.core.plan(node(1), gang(5)).unwrap().waiting, 5);
}

#[test]
fn two_gangs_do_not_wait_for_each_others_halves() {
    let mut sut = Sut::with(&[1; 4]);
    sut.want(1, of("a", 1, want(1, 4)));
    sut.want(2, of("b", 2, Demand { gang: true, ..want(1, 4) }));
    sut.want(3, of("c", 3, Demand { gang: true, ..want(1, 4) }));
    let (mut met, mut now) = (Vec::new(), 0);
    while met.len() < 2 {
        now += 250;
        assert!(now < 60_000, "one of them starves: {met:?}");
        for lease in retired(&sut.pass(250)) {
            for action in sut.return_lease(lease) {
                if let Action::Grant { key, .. } = action
                    && key.request > 1
                    && !met.contains(&key.request)
                {
                    met.push(key.request);
                }
            }
        }
    }
    assert_eq!(met, [2, 3]);
}

#[test]
fn a_draining_node_gets_no_leases_and_keeps_those_it_has_until_they_are_returned() {
    let mut sut = Sut::with(&[2]);
    sut.want(1, want(1, 1));
    let drain = |number, draining| Event::NodeDraining { node: node(number), draining };
    assert_eq!(retired(&sut.step(drain(2, true))), [LeaseId(1)]);
    assert_eq!(sut.step(drain(2, true)), [], "said once");
    assert_eq!(sut.want(2, want(1, 1)), [], "it waits: the node may be of use again");
    assert_eq!(sut.why(2).unwrap(), "waits for cpu 1: node n2 alone has it, and is being drained");
    assert_eq!((sut.core.lease_count(), sut.return_lease(LeaseId(1))), (1, vec![]));
    assert_eq!(grants(&sut.step(drain(2, false))), [(2, 1)]);
    assert_eq!(sut.step(drain(9, true)), [], "a node that is not there");
}

#[test]
fn a_lease_that_nobody_names_is_over() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, want(1, 1));
    sut.now_ms += LEASE_MS - 1;
    assert_eq!(sut.step(Event::Tick), []);
    sut.now_ms += 1;
    let over = sut.step(Event::Tick);
    assert!(matches!(&over[..], [Action::Revoke { error, .. }] if error.code() == Code::LEASE_OVER));
    let unknown = sut.step(Event::NodeReported { node: node(1), local: ResourceSet::default(), leases: vec![LeaseId(1)] });
    assert_eq!((unknown, sut.core.lease_count()), (vec![], 0), "what a lease is, its owner has to say");
}

mod groups;
mod held;

#[test]
fn asking_again_loses_no_place_and_limits_are_told() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, of("a", 1, want(1, 1)));
    sut.want(2, of("b", 2, want(1, 1)));
    sut.want(3, of("b", 2, want(1, 1)));
    sut.want(2, of("b", 2, want(1, 7)));
    let lease = sut.leases()[0];
    assert!(matches!(&sut.return_lease(lease)[..], [Action::Grant { key, .. }] if key.request == 2));
    let many = sut.want(4, want(1, limit::SLOTS_MAX + 1));
    assert_eq!(refusal(&many).code(), Code::LIMIT);
    for request in 10..10 + limit::DEMANDS_PER_OWNER_MAX as u64 - 2 {
        assert_eq!(sut.want(request, want(1, 1)), []);
    }
    assert_eq!(refusal(&sut.want(9, want(1, 1))).code(), Code::QUEUE_FULL);
    sut.want(10, want(1, 0));
    assert_eq!(sut.want(9, want(1, 1)), [], "a withdrawal makes room");
}

#[test]
fn a_waiting_demand_is_explained_in_one_line() {
    let mut sut = Sut::with(&[]);
    let gpu = ResourceSet { gpu: Quantity::ONE, ..ResourceSet::default() };
    for number in 2..=3 {
        sut.step(join(number, gpu.clone(), &[]));
    }
    let demand = |slots| Demand { shape: gpu.clone(), ..want(1, slots) };
    sut.want(1, of("default", 7, demand(2)));
    sut.want(2, demand(1));
    sut.want(3, demand(1));
    assert_eq!(
        sut.why(2).unwrap(),
        "waits for gpu 1: 2 nodes have it, both leased to job j1-7 until given back, or for 10.0s if not renewed"
    );
    assert!(sut.why(3).unwrap().ends_with("; 1 requests like it go first"));
    assert_eq!((sut.why(99), sut.core.explain(key(1, 2), &Tenant::new("a").unwrap())), (None, None));
    sut.want(4, of("a", 8, demand(1)));
    assert!(sut.core.explain(key(1, 4), &Tenant::new("a").unwrap()).unwrap().contains("leased to other tenants until"));
}

#[test]
fn a_plan_says_where_work_would_go_and_changes_nothing() {
    let mut sut = Sut::with(&[2, 4]);
    sut.step(join(1, ResourceSet::cpus(2), &[]));
    sut.step(join(4, ResourceSet::cpus(8), &[("zone", "b")]));
    sut.want(1, want(1, 1));
    let placement = Placement { labels: vec!["!zone".parse().unwrap()], ..Placement::default() };
    let demand = Demand { placement, ..want(1, 8) };
    let before: Vec<_> = sut.core.nodes().cloned().collect();
    let plan = sut.core.plan(node(1), demand.clone()).unwrap();
    assert_eq!(plan.placed, [(node(1), 2), (node(2), 1), (node(3), 4)]);
    assert_eq!((plan.waiting, plan.infeasible), (1, None));
    assert_eq!(plan.turned, [Turned { node: node(4), why: "its label zone is `b`, asked for is !zone".to_owned() }]);
    assert_eq!(sut.core.nodes().cloned().collect::<Vec<_>>(), before);
    // What it says is what happens, beside what the owner runs itself.
    assert_eq!(sut.granted(2, Demand { slots: 5, ..demand }), [(3, 4), (2, 1)]);
    let never = sut.core.plan(node(1), want(9, 1)).unwrap();
    assert_eq!((never.placed.len(), never.infeasible.map(|error| error.code())), (0, Some(Code::INFEASIBLE)));
}
