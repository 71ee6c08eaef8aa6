//! An actor: a counter that keeps its value between calls. The contract is `wit/world.wit`.
//!
//! The resource is the class, and what Rust keeps behind it is the state. Calls come one after the other, so a `Cell` is lock enough.

use std::cell::{Cell, RefCell};

rwasm::generate!();

use exports::example::counter::counters::{self, Guest, GuestCounter};

struct Counters;

impl Guest for Counters {
    type Counter = Counter;
}

export!(Counters);

/// The state of one actor.
struct Counter {
    value: Cell<i64>,
    history: RefCell<Vec<i64>>,
}

impl Counter {
    fn set(&self, value: i64) -> i64 {
        self.value.set(value);
        self.history.borrow_mut().push(value);
        value
    }
}

impl GuestCounter for Counter {
    fn new(start: i64) -> Self {
        Self { value: Cell::new(start), history: RefCell::default() }
    }

    fn parse(text: String) -> Result<counters::Counter, String> {
        let start = text.trim().parse().map_err(|error| format!("`{text}` is no number: {error}"))?;
        Ok(counters::Counter::new(Self::new(start)))
    }

    fn increment(&self, by: i64) -> i64 {
        self.set(self.value.get().wrapping_add(by))
    }

    fn value(&self) -> i64 {
        self.value.get()
    }

    fn divide(&self, by: i64) -> Result<i64, String> {
        let quotient = self.value.get().checked_div(by).ok_or_else(|| format!("{} cannot be divided by {by}", self.value.get()))?;
        Ok(self.set(quotient))
    }

    fn history(&self) -> Vec<i64> {
        self.history.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_keeps_its_value() {
        let counter = Counter::new(5);
        assert_eq!((counter.increment(2), counter.increment(-10), counter.value()), (7, -3, -3));
        assert!(counter.divide(0).unwrap_err().contains("-3"));
        assert_eq!((counter.divide(3), counter.history()), (Ok(-1), vec![7, -3, -1]));
    }
}
