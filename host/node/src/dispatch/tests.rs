//! Slots are given out once, in order, and come back.

use proptest::prelude::*;
use rwasm_types::Quantity;

use super::*;

type Sut = Dispatcher<u32, ()>;

const PLACES: Places = Places { fast: 1_000, asynchronous: 1_000 };

fn ready_class(sut: &mut Sut, cpus: &str, priority: i8) -> ClassId {
    let shape = ResourceSet { cpu: cpus.parse().unwrap(), ..ResourceSet::default() };
    let class = sut.add_class(shape, Priority::new(priority).unwrap(), false);
    sut.set_call(class, Arc::new(()), Profile::Fast);
    class
}

fn admitted(sut: &mut Sut) -> Vec<(RunId, Vec<u32>)> {
    let mut out = Vec::new();
    sut.admit(&mut out);
    out.into_iter().map(|admission| (admission.run, admission.tasks)).collect()
}

#[test]
fn what_stays_goes_one_by_one_and_says_nothing_of_the_next() {
    let mut sut = Sut::new(ResourceSet::cpus(8), PLACES);
    let class = ready_class(&mut sut, "0", 0);
    sut.set_stays(class);
    sut.enqueue(class, 0..50).unwrap();
    let runs = admitted(&mut sut);
    assert!(runs.len() == 50 && runs.iter().all(|(_, tasks)| tasks.len() == 1), "{runs:?}");
    let (run, _) = runs[0];
    assert_eq!(sut.class_of(run), Some(class));
    sut.finish(run, 1, Duration::from_micros(1));
    assert_eq!((sut.mean(class), sut.class_of(run)), (None, None));
    // A class that is only named has no queue, and no turn.
    let named = sut.name_class();
    assert_eq!(sut.enqueue(named, [1]), Err(vec![1]));
}

#[test]
fn classes_take_turns_and_priority_goes_first() {
    let mut sut = Sut::new(ResourceSet::cpus(4), PLACES);
    let a = ready_class(&mut sut, "1", 0);
    let b = ready_class(&mut sut, "1", 0);
    let urgent = ready_class(&mut sut, "1", 5);
    sut.enqueue(a, [1, 2, 3, 4]).unwrap();
    sut.enqueue(b, [11, 12]).unwrap();
    sut.enqueue(urgent, [99]).unwrap();
    let order: Vec<u32> = admitted(&mut sut).into_iter().flat_map(|(_, tasks)| tasks).collect();
    assert_eq!(order, [99, 1, 11, 2]);
    assert!(sut.free().cpu.is_zero() && sut.queued() == 3);
}

#[test]
fn a_large_task_is_not_starved_by_small_ones_of_lower_priority() {
    let mut sut = Sut::new(ResourceSet::cpus(2), PLACES);
    let large = ready_class(&mut sut, "2", 1);
    let small = ready_class(&mut sut, "1", 0);
    sut.enqueue(small, [1, 2, 3]).unwrap();
    let runs = admitted(&mut sut);
    assert_eq!(runs.len(), 2);
    sut.enqueue(large, [50]).unwrap();
    sut.finish(runs[0].0, 1, Duration::from_secs(1));
    assert!(admitted(&mut sut).is_empty(), "the freed cpu is kept for the large task");
    sut.finish(runs[1].0, 1, Duration::from_secs(1));
    assert_eq!(admitted(&mut sut)[0].1, [50]);
}

#[test]
fn short_tasks_run_together_but_leave_no_slot_empty() {
    let mut sut = Sut::new(ResourceSet::cpus(2), PLACES);
    let class = ready_class(&mut sut, "1", 0);
    sut.enqueue(class, [0]).unwrap();
    let run = admitted(&mut sut).remove(0).0;
    sut.finish(run, 1, Duration::from_micros(10));
    sut.enqueue(class, 0..1000).unwrap();
    let lengths: Vec<usize> = admitted(&mut sut).into_iter().map(|(_, tasks)| tasks.len()).collect();
    assert_eq!(lengths, [100, 100]);
    assert_eq!(run_length(10_000, 6, 2), 3);
    assert_eq!(run_length(1, 1_000_000, 2), RUN_TASKS_MAX);
    assert_eq!(run_length(5_000_000_000, 10, 2), 1);
}

#[test]
fn nothing_starts_before_its_artifact_or_while_paused() {
    let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
    let class = sut.add_class(ResourceSet::cpus(1), Priority::default(), true);
    sut.enqueue(class, [1]).unwrap();
    assert!(admitted(&mut sut).is_empty());
    sut.set_paused(class, true);
    sut.set_call(class, Arc::new(()), Profile::Fast);
    assert!(admitted(&mut sut).is_empty() && sut.take(class, 1).is_empty());
    sut.set_paused(class, false);
    assert_eq!(admitted(&mut sut).len(), 1);
}

#[test]
fn a_draining_node_starts_nothing_and_gives_up_nothing() {
    let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
    let class = ready_class(&mut sut, "1", 0);
    sut.enqueue(class, [1, 2, 3]).unwrap();
    let run = admitted(&mut sut).remove(0).0;
    sut.set_draining(true);
    assert_eq!((sut.runs(), sut.slots(&ResourceSet::cpus(1))), (vec![(run, class)], 0));
    sut.finish(run, 1, Duration::from_secs(1));
    assert!(admitted(&mut sut).is_empty());
    assert_eq!(sut.take(class, 1), [3], "others may have what waits");
    sut.set_draining(false);
    assert_eq!(admitted(&mut sut)[0].1, [2]);
}

#[test]
fn what_may_not_run_here_waits_for_other_nodes_and_holds_up_nobody() {
    let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
    let (away, here) = (ready_class(&mut sut, "1", 5), ready_class(&mut sut, "1", 0));
    sut.send_away(away);
    sut.enqueue(away, [1, 2]).unwrap();
    sut.enqueue(here, [11]).unwrap();
    assert_eq!(admitted(&mut sut)[0].1, [11]);
    assert_eq!((sut.may_run_here(away), sut.may_run_here(here), sut.take(away, 2)), (false, true, vec![1, 2]));
}

#[test]
fn tasks_wait_for_a_place_in_the_engine() {
    let mut sut = Sut::new(ResourceSet::cpus(4), Places { fast: 2, asynchronous: 1 });
    let (many, other) = (ready_class(&mut sut, "0.1", 0), ready_class(&mut sut, "0.1", 0));
    sut.set_call(other, Arc::new(()), Profile::Async);
    sut.enqueue(many, [1, 2, 3]).unwrap();
    sut.enqueue(other, [11, 12]).unwrap();
    let runs = admitted(&mut sut);
    assert_eq!(runs.iter().map(|(_, tasks)| tasks[0]).collect::<Vec<_>>(), [1, 11, 2]);
    sut.finish(runs[0].0, 1, Duration::from_secs(1));
    assert_eq!(admitted(&mut sut)[0].1, [3]);
    sut.finish(runs[1].0, 1, Duration::from_secs(1));
    assert_eq!(admitted(&mut sut)[0].1, [12]);
}

#[test]
fn who_waits_for_others_lends_its_slot_and_has_it_back_first() {
    let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
    let class = ready_class(&mut sut, "1", 0);
    sut.enqueue(class, [0]).unwrap();
    let first = admitted(&mut sut).remove(0).0;
    sut.finish(first, 1, Duration::from_micros(1));
    sut.enqueue(class, 1..=4).unwrap();
    let (parent, tasks) = admitted(&mut sut).remove(0);
    assert_eq!(tasks, [1, 2, 3, 4]);
    assert!(sut.block(parent, vec![2, 3, 4]).is_empty());
    let (child, tasks) = admitted(&mut sut).remove(0);
    assert_eq!((tasks[0], sut.used().cpu), (2, Quantity::ONE));
    assert_eq!(sut.stuck(), None);
    assert!(sut.block(child, tasks[1..].to_vec()).is_empty());
    let (leaf, tasks) = admitted(&mut sut).remove(0);
    // Both go on, and the slot is taken: the first of them has it before anybody else.
    sut.resume(child);
    sut.resume(parent);
    sut.finish(leaf, tasks.len(), Duration::from_secs(1));
    assert!(admitted(&mut sut).is_empty() && sut.used() == ResourceSet::cpus(1));
    sut.finish(child, 1, Duration::from_secs(1));
    sut.finish(parent, 1, Duration::from_secs(1));
    assert_eq!((sut.free(), sut.running()), (&ResourceSet::cpus(1), 0));
}

#[test]
fn where_all_wait_for_what_cannot_start_the_newest_is_named() {
    let mut sut = Sut::new(ResourceSet::cpus(1), Places { fast: 2, asynchronous: 1 });
    let class = ready_class(&mut sut, "1", 0);
    let mut last = None;
    for task in 0..2 {
        sut.enqueue(class, [task]).unwrap();
        let run = admitted(&mut sut).remove(0).0;
        assert!(sut.block(run, vec![]).is_empty() && sut.stuck().is_none());
        last = Some(run);
    }
    sut.enqueue(class, [2]).unwrap();
    assert!(admitted(&mut sut).is_empty());
    assert_eq!(sut.stuck(), last);
    // What no run here could ever make room for is another node's to run.
    sut.send_away(class);
    assert_eq!(sut.stuck(), None);
    let large = ready_class(&mut sut, "2", 0);
    sut.enqueue(large, [3]).unwrap();
    assert_eq!(sut.stuck(), None);
}

#[test]
fn tasks_for_elsewhere_come_from_the_end() {
    let mut sut = Sut::new(ResourceSet::cpus(1), PLACES);
    let class = ready_class(&mut sut, "1", 0);
    sut.enqueue(class, 0..10).unwrap();
    assert_eq!(sut.take(class, 3), [7, 8, 9]);
    sut.put_back(class, vec![8, 9]).unwrap();
    assert_eq!(sut.take_if(class, |task| *task < 2), [0, 1]);
    assert_eq!(sut.remove_class(class), [8, 9, 2, 3, 4, 5, 6]);
    assert_eq!((sut.queued(), sut.enqueue(class, [1])), (0, Err(vec![1])));
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(usize, u32),
    Finish(usize),
    Take(usize, usize),
    Pause(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0usize..3, 1u32..20).prop_map(|(class, count)| Step::Enqueue(class, count)),
        (0usize..8).prop_map(Step::Finish),
        (0usize..3, 0usize..4).prop_map(|(class, count)| Step::Take(class, count)),
        (0usize..3, any::<bool>()).prop_map(|(class, paused)| Step::Pause(class, paused)),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn no_slot_is_oversold_and_no_task_lost_or_doubled(steps in steps()) {
        let mut sut = Sut::new(ResourceSet::cpus(3), PLACES);
        let classes = [ready_class(&mut sut, "1", 0), ready_class(&mut sut, "0.5", 0), ready_class(&mut sut, "2", 1)];
        let weight = [10_000, 5_000, 20_000];
        let (mut next, mut held, mut seen) = (0u32, Vec::new(), std::collections::BTreeSet::new());
        for step in steps {
            match step {
                Step::Enqueue(class, count) => {
                    // The class is kept in the task's lowest digit.
                    sut.enqueue(classes[class], (next..next + count).map(|number| number * 10 + class as u32)).unwrap();
                    next += count;
                }
                Step::Finish(index) if index < held.len() => {
                    let (run, tasks): (RunId, Vec<u32>) = held.remove(index);
                    sut.finish(run, tasks.len(), Duration::from_micros(20));
                }
                Step::Finish(_) => {}
                Step::Take(class, count) => {
                    for task in sut.take(classes[class], count) {
                        prop_assert!(seen.insert(task));
                    }
                }
                Step::Pause(class, paused) => sut.set_paused(classes[class], paused),
            }
            for (run, tasks) in admitted(&mut sut) {
                for task in &tasks {
                    prop_assert!(seen.insert(*task));
                }
                held.push((run, tasks));
            }
            let used: u64 = held.iter().map(|(_, tasks)| weight[(tasks[0] % 10) as usize]).sum();
            prop_assert!(used <= 30_000);
            prop_assert_eq!(sut.free().cpu, Quantity::from_parts(30_000 - used).unwrap());
            prop_assert_eq!(seen.len() + sut.queued(), next as usize);
            prop_assert_eq!(sut.running(), held.len());
        }
    }
}
