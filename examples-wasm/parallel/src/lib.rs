//! Tasks that start tasks: recursion, a fan of which so many are under way, a sort whose parts never pass through the task that
//! arranges it, and calls of another artifact.

use rwasm::{
    Object, Task,
    task::{self, Error, Options},
};

/// A number of Fibonacci's, by as many tasks as it takes: about three times the number, most of which wait for others.
#[rwasm::export]
fn fibonacci(n: u32) -> Result<u64, Error> {
    if n < 2 {
        return Ok(n.into());
    }
    let (before, last) = (fibonacci::submit(n - 2)?, fibonacci::submit(n - 1)?);
    Ok(before.get()?? + last.get()??)
}

/// How many numbers from `from` on, below `to`, are prime.
#[rwasm::export]
fn count_primes(from: u64, to: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|divisor| divisor * divisor <= *n).all(|divisor| !n.is_multiple_of(divisor));
    (from.max(2)..to).filter(is_prime).count() as u64
}

/// How many primes are below a number, counted in so many parts, of which at most 16 are under way. Whichever part ends makes room for the next.
#[rwasm::export]
fn primes_below(end: u64, parts: u64) -> Result<u64, Error> {
    const UNDER_WAY_MAX: usize = 16;
    let length = end.div_ceil(parts.max(1)).max(1);
    let mut left = (0..parts).map(|part| (part * length, end.min((part + 1) * length)));
    let mut under_way: Vec<Task<u64>> = Vec::new();
    let mut count = 0;
    loop {
        for (from, to) in left.by_ref().take(UNDER_WAY_MAX - under_way.len()) {
            under_way.push(count_primes::with(Options::new().spread()).submit(from, to)?);
        }
        if under_way.is_empty() {
            return Ok(count);
        }
        for position in task::wait(&under_way, 1, None)?.into_iter().rev() {
            count += under_way.swap_remove(position).get()?;
        }
    }
}

/// Sorts numbers in memory.
#[rwasm::export]
fn sort_part(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

/// Two sorted lists as one.
#[rwasm::export]
fn merge(left: Vec<i64>, right: Vec<i64>) -> Vec<i64> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if a <= b { left.next() } else { right.next() });
    }
    merged.extend(left.chain(right));
    merged
}

/// Sorts numbers in parts, and merges those, two by two. Each task is given what two others made, by ref: it starts when they have ended, and
/// their results go straight from where they were made.
#[rwasm::export]
fn sort(numbers: &Object<Vec<i64>>, parts: u32) -> Result<Vec<i64>, Error> {
    let numbers = numbers.get()?;
    let length = numbers.len().div_ceil(parts.max(1) as usize).max(1);
    let mut runs = numbers.chunks(length).map(sort_part::submit).collect::<Result<Vec<_>, _>>()?;
    while runs.len() > 1 {
        let odd = if runs.len() % 2 == 1 { runs.pop() } else { None };
        let pairs = runs.chunks(2).map(|pair| merge::submit(&pair[0], &pair[1]));
        let merged = pairs.collect::<Result<Vec<_>, _>>()?;
        runs = merged.into_iter().chain(odd).collect();
    }
    runs.pop().map_or_else(|| Ok(Vec::new()), |run| run.get())
}

/// Numbers to sort, in no order that the eye sees: so many of a sequence that begins anew after 2,147,483,646.
#[rwasm::export]
fn shuffled(count: u32) -> Result<Object<Vec<i64>>, Error> {
    let numbers = std::iter::successors(Some(1_i64), |last| Some(last * 48_271 % 2_147_483_647));
    Ok(Object::put(&numbers.take(count as usize).collect())?)
}

/// Makes numbers, has them sorted, and says whether they are.
#[rwasm::export]
fn sort_shuffled(count: u32, parts: u32) -> Result<bool, Error> {
    let numbers = shuffled::submit(count)?.get()??;
    let sorted = sort::submit(&numbers, parts)?.get()??;
    Ok(sorted.len() == count as usize && sorted.is_sorted())
}

/// What the artifact that is tagged `hello:1` exports, as far as it is called from here: the example `hello`.
mod hello {
    rwasm::import!({
        artifact: "hello:1",
        inline: "
            package example:hello;

            world hello {
                /// Says hello.
                export greet: func(name: string) -> string;
            }
        "
    });
}

/// Has everybody greeted, by tasks of another artifact: `hello:1`, or the one of that tag or digest.
#[rwasm::export]
fn greet_all(names: Vec<String>, by: Option<String>) -> Result<Vec<String>, Error> {
    let options = by.into_iter().fold(Options::new(), Options::artifact);
    let greetings = names.iter().map(|name| hello::greet::with(options.clone()).submit(name)).collect::<Result<Vec<_>, _>>()?;
    greetings.iter().map(Task::get).collect()
}

/// Does nothing: what is left is what it takes to start a task and to wait for it.
#[rwasm::export]
fn do_nothing() {}

/// Starts so many tasks that do nothing, and waits for all of them. Gives how many there were.
#[rwasm::export]
fn fan(count: u32) -> Result<u32, Error> {
    let started = (0..count).map(|_| do_nothing::submit()).collect::<Result<Vec<_>, _>>()?;
    started.iter().try_for_each(Task::get)?;
    Ok(started.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_start_themselves() {
        assert_eq!(fibonacci(10), Ok(55));
    }

    #[test]
    fn a_fan_has_as_many_as_were_asked_for() {
        assert_eq!(fan(5), Ok(5));
    }

    #[test]
    fn parts_are_as_good_as_the_whole() {
        for parts in [1, 7, 40, 2000] {
            assert_eq!(primes_below(1000, parts), Ok(168), "{parts}");
        }
        assert_eq!((primes_below(0, 3), primes_below(10, 0)), (Ok(0), Ok(0)));
    }

    #[test]
    fn numbers_are_sorted_whatever_the_parts() {
        let numbers = shuffled(1000).unwrap();
        let mut sorted = numbers.get().unwrap();
        sorted.sort_unstable();
        for parts in [0, 1, 2, 7, 1000] {
            assert_eq!(sort(&numbers, parts).unwrap(), sorted, "{parts}");
        }
        assert_eq!(sort(&Object::put(&vec![]).unwrap(), 4), Ok(vec![]));
        assert_eq!(sort_shuffled(100, 3), Ok(true));
    }

    #[test]
    fn others_have_a_stand_in() {
        assert_eq!(greet_all(vec!["Ada".to_owned()], None).unwrap_err().code(), Some("RW0201"));
        hello::greet::answer(|name| format!("Hi, {name}"));
        assert_eq!(greet_all(vec!["Ada".to_owned(), "Bo".to_owned()], None), Ok(vec!["Hi, Ada".to_owned(), "Hi, Bo".to_owned()]));
    }
}
