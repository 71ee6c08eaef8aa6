//! What outlives its owner's process, or the head's, and what nodes offer.

use rwasm_types::{Access, Needs};

use super::*;

fn held(owner: u32, on: u32, slots: u32) -> Held {
    Held {
        owner: node(owner),
        node: node(on),
        job: JobId { owner: node(owner), session: 0 },
        tenant: Tenant::default(),
        shape: ResourceSet::cpus(1),
        slots,
        priority: Priority::default(),
        retryable: true,
    }
}

fn told(lease: u64, held: Held) -> Event {
    Event::LeaseHeld { lease: LeaseId(lease), held }
}

fn holds(number: u32, cpus: u32) -> Event {
    Event::NodeHolds { node: node(number), foreign: ResourceSet::cpus(cpus) }
}

fn slots(actions: &[Action]) -> Vec<u32> {
    grants(actions).into_iter().map(|(_, slots)| slots).collect()
}

/// A head of a later life, to which node 1 came back.
fn begun_anew() -> Sut {
    let mut sut = Sut { core: Core::resuming(LeaseId(1_000), 0), now_ms: 0 };
    sut.step(join(1, ResourceSet::default(), &[]));
    sut
}

#[test]
fn what_ran_before_the_head_began_is_not_granted_again() {
    let mut sut = begun_anew();
    sut.want(1, want(1, 9));
    sut.step(holds(2, 3));
    let granted = sut.step(join(2, ResourceSet::cpus(4), &[]));
    assert!(matches!(granted[..], [Action::Grant { lease: LeaseId(1_000), slots: 1, .. }]), "{granted:?}");
    // Its owner tells of the lease of two of them, from the head's life before.
    assert_eq!(sut.step(told(7, held(1, 2, 2))), []);
    assert_eq!(sut.step(told(7, held(1, 2, 2))), [], "said twice");
    assert_eq!(sut.core.nodes().last().unwrap().leased, ResourceSet::cpus(3));
    // The third has ended, which had no lease.
    assert_eq!(slots(&sut.step(holds(2, 2))), [1]);
    assert_eq!(sut.step(holds(2, 4)), []);
    assert_eq!(slots(&sut.return_lease(LeaseId(7))), [2]);
}

#[test]
fn what_a_lost_owner_left_counts_until_its_node_says_that_it_ended() {
    let mut sut = Sut::with(&[2]);
    sut.step(join(3, ResourceSet::default(), &[]));
    assert_eq!(slots(&sut.step(Event::Wanted { key: key(3, 1), demand: want(1, 2) })), [2]);
    sut.step(Event::NodeLost { node: node(3) });
    assert_eq!(sut.want(1, want(1, 2)), []);
    assert_eq!(sut.step(holds(2, 2)), []);
    assert_eq!(slots(&sut.step(holds(2, 1))), [1]);
    assert_eq!(sut.step(holds(2, 2)), [], "one is on the new lease");
    sut.want(1, want(1, 5));
    assert_eq!(slots(&sut.step(holds(2, 1))), [1]);
}

#[test]
fn an_owner_that_lost_its_process_takes_its_leases_up_again() {
    let mut sut = Sut::with(&[2]);
    sut.want(1, want(1, 2));
    let leases = sut.leases();
    sut.step(Event::NodeLost { node: node(1) });
    assert_eq!(sut.core.nodes().next().unwrap().unleased, ResourceSet::cpus(2));
    sut.step(join(1, ResourceSet::default(), &[]));
    assert_eq!(sut.step(told(leases[0].0, held(1, 2, 2))), []);
    let node = sut.core.nodes().last().unwrap();
    assert_eq!((sut.leases(), node.leased.clone(), node.unleased.clone()), (leases, ResourceSet::cpus(2), ResourceSet::default()));
}

#[test]
fn a_lease_that_runs_counts_although_its_node_has_no_room_for_it() {
    let mut sut = begun_anew();
    sut.step(join(2, ResourceSet::cpus(2), &[]));
    assert_eq!(grants(&sut.want(1, want(1, 1))), [(2, 1)]);
    assert_eq!(sut.step(told(7, held(1, 2, 2))), []);
    assert_eq!(sut.want(2, want(1, 1)), []);
    assert_eq!(sut.return_lease(LeaseId(1_000)), [], "two of two are in use");
    assert_eq!(grants(&sut.return_lease(LeaseId(7))), [(2, 1)]);
}

#[test]
fn a_node_that_is_not_back_is_waited_for_and_what_makes_no_sense_is_revoked() {
    let mut sut = begun_anew();
    assert!(matches!(&sut.step(told(1 << 50, held(1, 2, 1)))[..], [Action::Revoke { .. }]), "no life gave that out");
    assert!(matches!(&sut.step(told(8, held(1, 2, 0)))[..], [Action::Revoke { .. }]), "no slots");
    assert_eq!((sut.step(told(9, held(1, 3, 1))), sut.step(told(10, held(1, 4, 1)))), (vec![], vec![]));
    assert!(matches!(&sut.step(told(9, held(3, 3, 1)))[..], [Action::Revoke { owner, .. }] if owner.get() == 3), "another's");
    sut.step(join(3, ResourceSet::cpus(1), &[]));
    assert_eq!(sut.core.nodes().last().unwrap().leased, ResourceSet::cpus(1));
    let given_up = sut.pass(ABSENT_MS);
    assert!(matches!(&given_up[..], [Action::Revoke { lease: LeaseId(10), error, .. }] if error.code() == Code::NODE_LOST), "{given_up:?}");
    assert_eq!(sut.leases(), [LeaseId(9)]);
}

#[test]
fn a_lease_that_is_told_of_on_a_draining_node_is_retired() {
    let mut sut = begun_anew();
    sut.step(join(2, ResourceSet::cpus(1), &[]));
    sut.step(Event::NodeDraining { node: node(2), draining: true });
    assert_eq!(retired(&sut.step(told(7, held(1, 2, 1)))), [LeaseId(7)]);
}

#[test]
fn a_node_that_comes_back_is_tried_again_by_whoever_could_not_reach_it() {
    let mut sut = Sut::with(&[1]);
    sut.want(1, want(1, 1));
    sut.step(Event::LeaseReturned { owner: node(1), lease: LeaseId(1), unreachable: true });
    assert_eq!(sut.want(2, want(1, 1)), []);
    sut.step(Event::NodeLost { node: node(2) });
    assert_eq!(grants(&sut.step(join(2, ResourceSet::cpus(1), &[]))), [(2, 1)]);
}

#[test]
fn only_nodes_that_offer_what_is_needed_are_chosen() {
    let mut sut = Sut::with(&[8]);
    let data = Name::new("data").unwrap();
    let needs = Needs { volumes: [(data.clone(), Access::ReadOnly)].into(), ..Needs::default() };
    let demand = Demand { needs, ..want(1, 1) };
    let refused = sut.want(1, demand.clone());
    assert_eq!(refusal(&refused).message(), "no node that offers what is asked for has cpu 1");
    let plan = sut.core.plan(node(1), demand).unwrap();
    assert_eq!(plan.turned.last().unwrap().why, "it does not offer volume `data`");
    let offer = Offer { volumes: [(data, Access::ReadOnly)].into(), ..Offer::default() };
    let capacity = ResourceSet::cpus(1);
    assert_eq!(grants(&sut.step(Event::NodeJoined { node: node(3), capacity, labels: BTreeMap::new(), offer })), [(3, 1)]);
    assert_eq!(sut.core.waiting().count(), 0);
}

#[test]
fn a_head_that_begins_anew_waits_for_its_nodes_before_it_says_that_something_can_never_run() {
    let mut sut = begun_anew();
    let gang = |slots| Demand { gang: true, ..want(1, slots) };
    for (request, demand) in [(1, want(2, 1)), (2, want(9, 1)), (3, gang(3)), (4, gang(9))] {
        assert_eq!(sut.want(request, demand), [], "its node may be on its way");
    }
    assert_eq!(sut.core.plan(node(1), want(9, 1)).unwrap().infeasible, None);
    assert_eq!(grants(&sut.step(join(3, ResourceSet::cpus(4), &[]))), [(3, 1)]);
    let lease = sut.leases()[0];
    sut.now_ms += 100;
    assert_eq!(slots(&sut.return_lease(lease)).iter().sum::<u32>(), 3);
    assert_eq!(sut.pass(ABSENT_MS - 101), []);
    let refused = sut.pass(1);
    let which = |action: &Action| if let Action::Refuse { key, .. } = action { key.request } else { 0 };
    assert_eq!(refused.iter().map(which).collect::<Vec<u64>>(), [2, 4], "{refused:?}");
    assert_eq!(refusal(&sut.want(5, want(7, 1))).code(), Code::INFEASIBLE);
}

#[test]
fn a_node_that_was_silent_for_a_moment_counts_as_if_it_were_there() {
    let mut sut = Sut::with(&[4]);
    sut.step(Event::NodeLost { node: node(2) });
    assert_eq!(sut.want(1, want(4, 1)), []);
    assert_eq!(refusal(&sut.want(2, want(5, 1))).code(), Code::INFEASIBLE);
    assert_eq!(sut.pass(ABSENT_MS / 2), []);
    assert_eq!(grants(&sut.step(join(2, ResourceSet::cpus(4), &[]))), [(2, 1)]);
    sut.step(Event::NodeLost { node: node(2) });
    assert_eq!(sut.want(3, want(4, 1)), []);
    assert_eq!(refusal(&sut.pass(ABSENT_MS)).code(), Code::INFEASIBLE);
}
