//! Waiting awake for a message that will come at once.
//!
//! A thread that goes to sleep costs whoever wakes it, and itself, more than many a task takes to run: on a virtual machine tens of
//! microseconds. So who waits for an answer that has come quickly before looks for it a moment longer before it sleeps, as
//! `SO_BUSY_POLL` of Linux does below the socket. Everything else that the thread has to do is done meanwhile.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::OnceLock,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

/// How long it stays awake at most, and how quickly an answer must have come to be waited for like that. About what a sleep and the
/// wake-ups of both sides cost, so that a wrong guess doubles the price of a wait and no more.
const AWAKE: Duration = Duration::from_micros(100);
/// After a wrong guess so many quick answers must come before it is tried again; twice as many after each further one, up to the last.
const DISTRUST_FIRST: u32 = 4;
const DISTRUST_LAST: u32 = 1 << 16;

/// One place that waits, and what it has seen.
#[derive(Debug)]
pub struct BusyPoll {
    guess: Guess,
    /// Where there is one core, the other side has none while this one is awake.
    possible: bool,
}

/// Whether the next answer will come at once, by those that came.
#[derive(Debug)]
struct Guess {
    /// Quick answers that are still to come before it is guessed again.
    distrust: u32,
    /// How many it will be after the next wrong guess.
    next: u32,
}

impl BusyPoll {
    /// A place that has not waited yet.
    pub fn new() -> Self {
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| thread::available_parallelism().map_or(1, std::num::NonZero::get));
        Self { guess: Guess::new(), possible: cores > 1 }
    }

    /// Awaits a future, awake for a while if others before it were quick.
    pub async fn wait<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return output;
        }
        let begun = Instant::now();
        if self.possible && self.guess.is_quick() {
            while begun.elapsed() < AWAKE {
                tokio::select! {
                    biased;
                    output = &mut future => {
                        self.guess.was_right();
                        return output;
                    }
                    // The runtime looks at its sockets in between.
                    () = tokio::task::yield_now() => {}
                }
            }
            self.guess.was_wrong();
            return future.await;
        }
        let output = future.await;
        self.guess.slept(begun.elapsed());
        output
    }
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self::new()
    }
}

impl Guess {
    fn new() -> Self {
        Self { distrust: DISTRUST_FIRST, next: DISTRUST_FIRST }
    }

    fn is_quick(&self) -> bool {
        self.distrust == 0
    }

    fn was_right(&mut self) {
        self.next = DISTRUST_FIRST;
    }

    fn was_wrong(&mut self) {
        self.distrust = self.next;
        self.next = (self.next * 2).min(DISTRUST_LAST);
    }

    /// It slept, and the answer took so long.
    fn slept(&mut self, waited: Duration) {
        if waited < AWAKE * 2 {
            self.distrust = self.distrust.saturating_sub(1);
        } else {
            self.distrust = self.distrust.max(DISTRUST_FIRST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(50);
    const SLOW: Duration = Duration::from_millis(5);

    /// How many quick answers it takes until it is guessed again.
    fn until_quick(guess: &mut Guess) -> u32 {
        (0..)
            .find(|_| {
                guess.is_quick() || {
                    guess.slept(QUICK);
                    false
                }
            })
            .unwrap()
    }

    #[test]
    fn quick_answers_are_guessed_after_some_and_slow_ones_never() {
        let mut guess = Guess::new();
        (0..1_000).for_each(|_| guess.slept(SLOW));
        assert!(!guess.is_quick());
        assert_eq!(until_quick(&mut guess), DISTRUST_FIRST);
    }

    #[test]
    fn wrong_guesses_become_rare_and_a_right_one_makes_up_for_them() {
        let mut guess = Guess::new();
        until_quick(&mut guess);
        for expected in [4, 8, 16] {
            guess.was_wrong();
            assert_eq!(until_quick(&mut guess), expected);
        }
        guess.was_right();
        guess.was_wrong();
        assert_eq!(until_quick(&mut guess), DISTRUST_FIRST);
        (0..40).for_each(|_| guess.was_wrong());
        assert_eq!(guess.distrust, DISTRUST_LAST);
    }

    #[tokio::test]
    async fn what_comes_is_given_awake_or_not() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let mut waits = BusyPoll::new();
        let answers = async {
            for number in 0..200 {
                tokio::task::yield_now().await;
                sender.send(number).await.unwrap();
            }
        };
        let questions = async {
            for number in 0..200 {
                assert_eq!(waits.wait(receiver.recv()).await, Some(number));
            }
        };
        tokio::join!(answers, questions);
    }
}
