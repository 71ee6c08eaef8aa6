//! The rules can be broken: a world that does something wrong on purpose is found out.

use rwasm_sim::{Kind, Mutation, Scenario, run};

/// Whether one of the first seeds is found to break a rule.
fn is_found(mutation: Mutation, kinds: &[Kind]) -> bool {
    (0..200).any(|seed| match run(Scenario::of(seed).with(mutation), false) {
        Ok(_) => false,
        Err(found) => {
            assert!(kinds.contains(&found.0.kind), "{mutation:?} breaks another rule: {}", found.0);
            true
        }
    })
}

#[test]
fn what_goes_wrong_on_purpose_is_found() {
    for (mutation, kinds) in [
        (Mutation::OversoldNodes, &[Kind::Oversold][..]),
        (Mutation::LostTasks, &[Kind::LostOrStarved]),
        (Mutation::DoubledTasks, &[Kind::Doubled]),
        (Mutation::BrokenGangs, &[Kind::TornGang]),
        (Mutation::DeafOwners, &[Kind::Unfair, Kind::LostOrStarved, Kind::Books]),
        (Mutation::StoppedClock, &[Kind::Unfair, Kind::LostOrStarved, Kind::Unexpired, Kind::Books]),
    ] {
        assert!(is_found(mutation, kinds), "{mutation:?} goes unnoticed");
    }
}
