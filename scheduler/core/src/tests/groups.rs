//! Placement groups: how bundles are laid out, and what comes out of them.

use super::*;

fn group(strategy: GroupStrategy, bundles: &[u32]) -> Group {
    Group {
        name: Name::new("trainer").unwrap(),
        tenant: Tenant::default(),
        priority: Priority::default(),
        bundles: bundles.iter().map(|cpus| ResourceSet::cpus(*cpus)).collect(),
        strategy,
        labels: Vec::new(),
    }
}

const ID: GroupId = GroupId(5);

fn placed(actions: &[Action]) -> Option<Vec<u32>> {
    actions.iter().find_map(|action| match action {
        Action::GroupPlaced { nodes, .. } => Some(nodes.iter().map(|node| node.get()).collect()),
        _ => None,
    })
}

#[test]
fn bundles_are_laid_out_as_the_strategy_says() {
    for (strategy, nodes) in
        [(GroupStrategy::Pack, vec![2, 2, 3]), (GroupStrategy::Spread, vec![2, 3, 4]), (GroupStrategy::StrictSpread, vec![2, 3, 4])]
    {
        let mut sut = Sut::with(&[4, 4, 4]);
        let actions = sut.step(Event::GroupWanted { id: ID, group: group(strategy, &[2, 2, 2]) });
        assert_eq!(placed(&actions), Some(nodes), "{strategy:?}");
    }
    let mut sut = Sut::with(&[4, 8]);
    let actions = sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictPack, &[2, 2, 2]) });
    assert_eq!(placed(&actions), Some(vec![3, 3, 3]));
}

#[test]
fn a_group_gets_all_its_bundles_or_none() {
    let mut sut = Sut::with(&[4, 4]);
    sut.want(1, want(3, 1));
    let actions = sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictSpread, &[3, 3]) });
    assert_eq!(actions, []);
    assert_eq!(sut.core.nodes().map(|node| node.leased.cpu.floor()).sum::<u64>(), 3);
    sut.now_ms += 100;
    let lease = sut.leases()[0];
    assert_eq!(placed(&sut.return_lease(lease)), Some(vec![2, 3]));
    assert_eq!(sut.step(Event::GroupRemoved { id: ID }), []);
    assert_eq!(sut.core.nodes().map(|node| node.leased.cpu.floor()).sum::<u64>(), 0);
}

#[test]
fn demands_come_out_of_bundles_and_end_with_the_group() {
    let mut sut = Sut::with(&[4, 4]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictSpread, &[2, 2]) });
    let inside = |number| Demand { bundle: Some((ID, number)), ..want(1, 3) };
    assert_eq!(sut.granted(1, inside(Some(1))), [(3, 2)]);
    assert_eq!(sut.why(1).unwrap(), "waits for cpu 1: bundle 1 of placement group trainer is in use");
    assert_eq!(sut.granted(2, inside(None)), [(2, 2)]);
    let lease = sut.leases()[0];
    assert_eq!(grants(&sut.return_lease(lease)), [(3, 1), (3, 1)], "one for each");
    let ended = sut.step(Event::GroupRemoved { id: ID });
    assert!(ended.iter().all(|action| match action {
        Action::Revoke { error, .. } | Action::Refuse { error, .. } => error.code() == Code::GROUP_REMOVED,
        _ => false,
    }));
    assert_eq!((sut.core.lease_count(), sut.core.waiting().count()), (0, 0));
    assert_eq!(refusal(&sut.want(3, inside(None))).code(), Code::NOT_FOUND);
}

#[test]
fn a_bundle_that_reserves_no_memory_bounds_none_and_one_that_is_too_small_says_so() {
    let mut sut = Sut::with(&[4]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::Pack, &[2, 1]) });
    let shape = |cpus| ResourceSet { memory: 64 << 20, ..ResourceSet::cpus(cpus) };
    let inside = |number, cpus| Demand { bundle: Some((ID, number)), shape: shape(cpus), ..want(1, 2) };
    assert_eq!(sut.granted(1, inside(Some(0), 1)), [(2, 2)]);
    assert_eq!(sut.granted(2, inside(Some(0), 1)), []);
    let lease = sut.leases()[0];
    assert_eq!(grants(&sut.return_lease(lease)), [(2, 2)]);
    let too_large = sut.want(3, inside(Some(1), 2));
    assert_eq!(refusal(&too_large).message(), "bundle 1 of placement group trainer does not have cpu 2, memory 64MiB");
    assert_eq!(refusal(&sut.want(4, inside(None, 3))).message(), "no bundle of placement group trainer has cpu 3, memory 64MiB");
}

#[test]
fn a_bundle_on_a_node_that_cannot_be_reached_is_left_alone_for_a_while() {
    let mut sut = Sut::with(&[2]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::Pack, &[2]) });
    assert_eq!(sut.granted(1, Demand { bundle: Some((ID, None)), ..want(1, 2) }), [(2, 2)]);
    let lease = sut.leases()[0];
    sut.want(2, Demand { bundle: Some((ID, None)), ..want(1, 1) });
    assert_eq!(sut.step(Event::LeaseReturned { owner: node(1), lease, unreachable: true }), []);
    assert_eq!(grants(&sut.pass(UNREACHABLE_MS)), [(2, 1)]);
}

#[test]
fn a_group_that_loses_a_node_is_placed_again() {
    let mut sut = Sut::with(&[2, 2]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictSpread, &[2, 2]) });
    let lost = sut.step(Event::NodeLost { node: node(3) });
    assert!(matches!(&lost[..], [Action::GroupRescheduling { .. }]), "{lost:?}");
    assert_eq!(sut.core.groups().next().unwrap().state, GroupState::Rescheduling);
    assert!(matches!(&sut.pass(ABSENT_MS)[..], [Action::RefuseGroup { .. }]), "the node is not back");
    sut.now_ms += 100;
    assert_eq!(placed(&sut.step(join(9, ResourceSet::cpus(2), &[]))), Some(vec![2, 9]));
}

#[test]
fn what_is_larger_than_the_cluster_is_said_so() {
    for (strategy, bundles, message) in [
        (GroupStrategy::Pack, vec![5], "a bundle: no node has cpu 5"),
        (GroupStrategy::Pack, vec![4, 4, 4], "the bundles need cpu 12, and all nodes together have cpu 8"),
        (GroupStrategy::StrictPack, vec![3, 3], "all bundles together: no node has cpu 6"),
        (GroupStrategy::StrictSpread, vec![1, 1, 1], "3 bundles need as many nodes, and 2 are large enough"),
    ] {
        let mut sut = Sut::with(&[4, 4]);
        let actions = sut.step(Event::GroupWanted { id: ID, group: group(strategy, &bundles) });
        assert_eq!((refusal(&actions).code(), refusal(&actions).message()), (Code::INFEASIBLE, message));
        assert_eq!(sut.core.group_infeasible(ID), Some(refusal(&actions)));
        // It waits for a node that has more, which may be busy as yet.
        sut.step(join(8, ResourceSet::cpus(12), &[]));
        assert_eq!(sut.core.group_infeasible(ID), None);
    }
    let mut sut = Sut::with(&[4]);
    let none = sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::Pack, &[]) });
    assert_eq!(refusal(&none).code(), Code::LIMIT);
}

/// Lets the core forget needs of which nothing waits any more, by many others.
fn forget_idle_classes(sut: &mut Sut) {
    for cpus in 0..2 * limit::CLASSES_KEPT as u32 {
        sut.want(1_000, want(100 + cpus, 1));
        sut.want(1_000, want(100 + cpus, 0));
    }
}

#[test]
fn removing_a_group_leaves_alone_what_waits_under_the_number_of_a_class_of_it() {
    let mut sut = Sut::with(&[4]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::Pack, &[1]) });
    assert_eq!(sut.granted(1, Demand { bundle: Some((ID, None)), ..want(1, 1) }), [(2, 1)]);
    forget_idle_classes(&mut sut);
    // Many needs, of which one has the number now, and a group.
    sut.want(2, want(3, 1));
    let larger = |request| ResourceSet { cpu: Quantity::from_parts(30_000 + request).unwrap(), ..ResourceSet::default() };
    for request in 3..600 {
        assert_eq!(sut.want(request, Demand { shape: larger(request), ..want(3, 1) }), []);
        let other = group(GroupStrategy::Pack, &[3]);
        assert_eq!(sut.step(Event::GroupWanted { id: GroupId(request + 3), group: other }), []);
    }
    let ended = sut.step(Event::GroupRemoved { id: ID });
    assert!(matches!(ended[..], [Action::Revoke { .. }]), "{ended:?}");
    assert_eq!(sut.core.waiting().count(), 597);
    for request in 3..600 {
        sut.want(request, want(1, 0));
    }
    sut.now_ms += 100;
    let met = sut.step(join(9, ResourceSet::cpus(3 * 597), &[]));
    assert_eq!(met.iter().filter(|action| matches!(action, Action::GroupPlaced { .. })).count(), 597);
}

fn drain(number: u32, draining: bool) -> Event {
    Event::NodeDraining { node: node(number), draining }
}

#[test]
fn nothing_comes_out_of_a_bundle_while_its_node_is_drained() {
    let mut sut = Sut::with(&[2, 2]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictSpread, &[2, 2]) });
    let first = || Demand { bundle: Some((ID, Some(0))), ..want(1, 2) };
    assert_eq!(sut.granted(1, first()), [(2, 2)]);
    assert_eq!(retired(&sut.step(drain(2, true))), sut.leases());
    sut.want(1, first());
    let lease = sut.leases()[0];
    assert_eq!(sut.return_lease(lease), [], "what came back is free, and not to be had");
    assert_eq!(sut.why(1).unwrap(), "waits for cpu 1: the nodes that placement group trainer has for it are being drained");
    assert_eq!(sut.granted(2, Demand { bundle: Some((ID, None)), ..want(1, 2) }), [(3, 2)]);
    assert_eq!(grants(&sut.step(drain(2, false))), [(2, 2)]);
}

#[test]
fn hard_conditions_hold_inside_a_group_too() {
    let mut sut = Sut::with(&[]);
    sut.step(join(2, ResourceSet::cpus(2), &[("zone", "a")]));
    sut.step(join(3, ResourceSet::cpus(2), &[("zone", "b")]));
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::StrictSpread, &[2, 2]) });
    let inside = |number, placement| Demand { bundle: Some((ID, number)), placement, ..want(1, 1) };
    let on = |number| Placement { node: Some(node(number)), ..Placement::default() };
    let zone = |zone: &str| Placement { labels: vec![format!("zone={zone}").parse().unwrap()], ..Placement::default() };
    assert_eq!(sut.granted(1, inside(None, on(3))), [(3, 1)]);
    assert_eq!(sut.granted(2, inside(None, zone("b"))), [(3, 1)]);
    assert_eq!(sut.granted(3, inside(None, zone("b"))), [], "the other zone has room");
    assert_eq!(sut.granted(4, inside(Some(0), on(3))), []);
    assert_eq!(sut.why(4).unwrap(), "waits for cpu 1 on node n3: bundle 0 of placement group trainer is not on such a node");
    let data = Name::new("data").unwrap();
    let needs = rwasm_types::Needs { volumes: [(data.clone(), rwasm_types::Access::ReadOnly)].into(), ..Default::default() };
    assert_eq!(sut.granted(5, Demand { needs, ..inside(None, Placement::default()) }), []);
    assert_eq!(sut.why(5).unwrap().split(": ").last().unwrap(), "no bundle of placement group trainer is on such a node");
    // A node that joins again may offer more than before, and be in another zone.
    let offer = Offer { volumes: [(data, rwasm_types::Access::ReadOnly)].into(), ..Offer::default() };
    let labels = [(Name::new("zone").unwrap(), "b".to_owned())].into();
    let again = Event::NodeJoined { node: node(2), capacity: ResourceSet::cpus(2), labels, offer };
    assert_eq!(grants(&sut.step(again)), [(2, 1), (2, 1)]);
}

#[test]
fn what_waits_for_a_full_group_does_not_keep_others_from_having_room_made() {
    let mut sut = Sut::with(&[1, 1, 1]);
    sut.step(Event::GroupWanted { id: ID, group: group(GroupStrategy::Pack, &[1]) });
    assert_eq!(sut.granted(1, of("a", 1, want(1, 2))).len(), 2);
    for request in 2..3 + limit::ROOM_PER_TICK as u64 {
        sut.want(request, of("b", 2, prioritised(1, Demand { bundle: Some((ID, None)), ..want(1, 1) })));
    }
    sut.want(1_000, of("c", 3, want(1, 1)));
    assert_eq!(retired(&sut.pass(STARVING_AFTER_MS)).len(), 1);
}

#[test]
fn a_group_names_few_custom_resources_and_reserves_something() {
    let of = |count: u32, amount: u32| {
        let custom = (0..count).map(|at| (Name::new(&format!("c{at}")).unwrap(), Quantity::whole(amount))).collect();
        Group { bundles: vec![ResourceSet { custom, ..ResourceSet::default() }], ..group(GroupStrategy::Pack, &[]) }
    };
    for (group, code) in [(of(33, 1), Code::LIMIT), (of(1, 0), Code::INVALID_ARGUMENT)] {
        assert_eq!(group.clone().checked().unwrap_err().code(), code);
        assert_eq!(refusal(&Sut::with(&[1]).step(Event::GroupWanted { id: ID, group })).code(), code);
    }
    assert!(of(32, 1).checked().is_ok());
}
