//! Runs by seed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rwasm_sim::{Report, Scenario, Violation, run};

/// Seeds that every run of the tests goes through.
const SEEDS: u64 = 2_000;

/// What many runs came to: steps of the core, leases, results, and the violation of a seed, if one was found.
#[derive(Default)]
struct Sums {
    steps: u64,
    grants: u64,
    done: u64,
    violation: Option<Violation>,
}

/// Runs seeds on all cores, until one breaks a rule.
fn run_all(count: u64) -> Sums {
    let next = AtomicU64::new(0);
    let work = || {
        let mut sums = Sums::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= count {
                return sums;
            }
            match run(Scenario::of(seed), false) {
                Ok(report) => {
                    sums.steps += report.steps;
                    sums.grants += report.grants;
                    sums.done += report.done;
                }
                Err(found) => {
                    next.store(count, Relaxed);
                    sums.violation = Some(found.0);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts: Vec<Sums> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    parts.into_iter().fold(Sums::default(), |all, part| Sums {
        steps: all.steps + part.steps,
        grants: all.grants + part.grants,
        done: all.done + part.done,
        violation: all.violation.or(part.violation),
    })
}

#[test]
fn whatever_happens_the_rules_hold() {
    let count = std::env::var("SEEDS").ok().map_or(SEEDS, |seeds| seeds.parse().expect("SEEDS is a number"));
    let Sums { steps, grants, done, violation } = run_all(count);
    if let Some(violation) = violation {
        panic!("{violation}");
    }
    println!("{count} seeds: {steps} steps, {grants} leases, {done} results");
    assert!(grants > count && done > count, "the seeds stand for nothing: {grants} leases, {done} results");
}

/// Seeds that found something, and what.
const REGRESSIONS: &[(u64, &str)] = &[
    (5, "work in a group got leases out of bundles on nodes that its conditions exclude"),
    (7, "room that was used was kept all the same, until nothing was left; tenants with equal shares took leases from each other for ever"),
    (8, "a gang larger than all other nodes together waited for ever"),
    (9, "a head that began anew refused work whose node had not joined again"),
    (90, "the bundles of a lost node were placed on that same node again"),
    (144, "leases out of bundles were taken off what their tenant will hold soon when they were asked back"),
    (296, "a request that was withdrawn while the stream was away stayed at the head"),
];

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, found) in REGRESSIONS {
        if let Err(again) = run(Scenario::of(*seed), false) {
            panic!("{found}: {}", again.0);
        }
    }
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("SEED") else { return };
    let seed = seed.parse().expect("SEED is a number");
    let (report, found) = match run(Scenario::of(seed), true) {
        Ok(report) => (report, None),
        Err(found) => (found.1, Some(found.0)),
    };
    report.trace.iter().for_each(|line| println!("{line}"));
    println!("{} steps, {} leases, {} results in {} ms", report.steps, report.grants, report.done, report.end_ms);
    if let Some(violation) = found {
        panic!("{violation}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42, 1_000_003] {
        let once: Vec<Report> = (0..2).map(|_| run(Scenario::of(seed), true).expect("the rules hold")).collect();
        assert!(!once[0].trace.is_empty());
        assert_eq!(once[0], once[1], "seed {seed}");
        assert_ne!(once[0].digest, run(Scenario::of(seed + 1), false).expect("the rules hold").digest);
    }
}

#[test]
fn thousands_of_nodes_follow_the_same_rules() {
    for seed in 0..2 {
        let report = run(Scenario::large(seed), false).unwrap_or_else(|found| panic!("{}", found.0));
        assert!(report.done > 0);
    }
}
