//! Orders that are carried out once, however often they come: a table of their keys, which survives the head.
//!
//! An order that changes the journal puts [`Once::remember`] into the same commit, so that its effect and its key are there together or not
//! at all. One that is carried out elsewhere is remembered afterwards; if the head ends in between, it may be carried out twice.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_journal::{Change, Journal, Table, VALUE_BYTES_MAX};
use rwasm_runtime::now_ms;
use rwasm_types::{
    Code, Error, Result, Tenant,
    api::{Order, UnixMs},
};
use rwasm_wire::convert;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

/// Bytes of a key.
const KEY_BYTES: usize = 16;
/// How long a key is remembered: longer than any driver tries again.
const KEPT_MS: u64 = 24 * 3_600_000;
/// The most keys that are remembered, and the most bytes of them and their answers; beyond, the oldest are forgotten.
const KEYS_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;
/// A longer answer is not kept.
const ANSWER_BYTES_MAX: usize = VALUE_BYTES_MAX / 4;

/// An order that was carried out.
#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    /// What was ordered: a hash, for a key is not used for two orders.
    order: String,
    /// What was answered; `None` if that was too long to keep.
    answer: Option<String>,
    made_ms: UnixMs,
}

/// All orders that are remembered.
pub(crate) struct Orders {
    journal: Journal,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What is in the journal, the oldest first.
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Orders that are being carried out. Who sends one again waits for it.
    under_way: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

struct Kept {
    made_ms: UnixMs,
    key: String,
    bytes: usize,
}

/// What is to be done about an order.
pub(crate) enum Begun {
    /// Nothing: it was carried out, and this is what was answered.
    Before(Bytes),
    /// It is to be carried out.
    Now(Once),
}

/// An order that is being carried out.
pub(crate) struct Once {
    journal: Journal,
    state: Arc<Mutex<State>>,
    key: String,
    order: String,
    remembered: AtomicBool,
    _turn: OwnedMutexGuard<()>,
}

impl Orders {
    /// What is remembered from before.
    pub(crate) fn read(journal: Journal) -> Result<Self> {
        let mut kept = Vec::new();
        for (key, value) in journal.scan(Table::Keys, "")? {
            // One that is not understood is forgotten first.
            let made_ms = serde_json::from_slice::<Carried>(&value).map_or(0, |carried| carried.made_ms);
            let bytes = key.len() + value.len();
            kept.push(Kept { made_ms, key, bytes });
        }
        kept.sort_by_key(|kept| kept.made_ms);
        let bytes = kept.iter().map(|kept| kept.bytes).sum();
        let state = State { kept: kept.into(), bytes, under_way: HashMap::new() };
        Ok(Self { journal, state: Arc::new(Mutex::new(state)) })
    }

    /// Looks whether an order was carried out. Waits while it is being carried out.
    ///
    /// # Errors
    ///
    /// [`Code::KEY_REUSED`] if its key was that of another order, [`Code::MALFORMED_MESSAGE`] if it is none, [`Code::LIMIT`] if the order
    /// was carried out and its answer was too long to keep.
    pub(crate) async fn begin(&self, tenant: &Tenant, key: &[u8], order: &Order) -> Result<Begun> {
        if key.len() != KEY_BYTES {
            return Err(convert::malformed(format_args!("an order's key has not {KEY_BYTES} bytes")));
        }
        let hex = key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let key = format!("{tenant}/{hex}");
        let order = serde_json::to_vec(order).map_err(|error| Error::internal(format!("an order has no JSON: {error}")))?;
        let order = blake3::hash(&order).to_hex().to_string();
        let turn = self.state.lock().turn(&key);
        let turn = turn.lock_owned().await;
        let once = Once {
            journal: self.journal.clone(),
            state: Arc::clone(&self.state),
            key,
            order,
            remembered: AtomicBool::new(false),
            _turn: turn,
        };
        match once.before()? {
            Some(answer) => Ok(Begun::Before(answer)),
            None => Ok(Begun::Now(once)),
        }
    }
}

impl Once {
    /// What was answered, if it was carried out.
    fn before(&self) -> Result<Option<Bytes>> {
        let carried = self.journal.get(Table::Keys, &self.key)?;
        let Some(carried) = carried.and_then(|value| serde_json::from_slice::<Carried>(&value).ok()) else { return Ok(None) };
        if now_ms().saturating_sub(carried.made_ms) > KEPT_MS {
            return Ok(None);
        }
        if carried.order != self.order {
            return Err(Error::new(Code::KEY_REUSED, "another order with this key was carried out").hint("draw a new key for each order"));
        }
        let answer = carried.answer.ok_or_else(|| {
            Error::new(Code::LIMIT, "the order was carried out before, and its answer was too long to keep").hint("ask for what it changed")
        })?;
        Ok(Some(answer.into()))
    }

    /// The changes that remember the answer, for the commit that carries the order out.
    ///
    /// # Errors
    ///
    /// If the answer is no text, which JSON is.
    pub(crate) fn remember(&self, answer: &Bytes) -> Result<Vec<Change>> {
        let answer = std::str::from_utf8(answer).map_err(|error| Error::internal(format!("an answer is no JSON: {error}")))?;
        let answer = (answer.len() <= ANSWER_BYTES_MAX).then(|| answer.to_owned());
        let carried = Carried { order: self.order.clone(), answer, made_ms: now_ms() };
        let value = serde_json::to_vec(&carried).map_err(|error| Error::internal(format!("a record has no JSON: {error}")))?;
        let mut changes = self.state.lock().keep(&self.key, value.len(), carried.made_ms);
        changes.push(Change::Put { table: Table::Keys, key: self.key.clone(), value });
        self.remembered.store(true, Relaxed);
        Ok(changes)
    }

    /// Remembers an order that was carried out, if that was not done with it.
    pub(crate) async fn done(self, answer: &Bytes) {
        if self.remembered.load(Relaxed) {
            return;
        }
        let outcome = match self.remember(answer) {
            Ok(changes) => self.journal.commit(changes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // It was carried out elsewhere, where nothing is doubled if it comes again.
            tracing::warn!(%error, "an order was carried out and cannot be remembered");
        }
    }
}

impl State {
    /// What whoever carries out the order of a key holds.
    fn turn(&mut self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        // Those that nobody holds or waits for any more, so that the table stays as small as what is under way.
        self.under_way.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(self.under_way.entry(key.to_owned()).or_default())
    }

    /// Counts a key in; gives the changes that make room for it.
    fn keep(&mut self, key: &str, value_bytes: usize, made_ms: UnixMs) -> Vec<Change> {
        let bytes = key.len() + value_bytes;
        let mut changes = Vec::new();
        while let Some(oldest) = self.kept.front() {
            let full = self.kept.len() >= KEYS_MAX || self.bytes + bytes > BYTES_MAX;
            if !full && made_ms.saturating_sub(oldest.made_ms) <= KEPT_MS || changes.len() >= rwasm_journal::CHANGES_MAX / 2 {
                break;
            }
            let Some(Kept { key, bytes, .. }) = self.kept.pop_front() else { break };
            self.bytes -= bytes;
            changes.push(Change::Delete { table: Table::Keys, key });
        }
        self.kept.push_back(Kept { made_ms, key: key.to_owned(), bytes });
        self.bytes += bytes;
        changes
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::JobId;

    use super::*;

    fn stop(session: u32) -> Order {
        Order::StopJob { job: JobId { owner: rwasm_types::NodeId::new(1).unwrap(), session } }
    }

    async fn begin(orders: &Orders, key: u8, order: &Order) -> Result<Begun> {
        orders.begin(&Tenant::default(), &[key; KEY_BYTES], order).await
    }

    fn before(begun: Result<Begun>) -> Option<Bytes> {
        match begun.unwrap() {
            Begun::Before(answer) => Some(answer),
            Begun::Now(_) => None,
        }
    }

    async fn carry_out(orders: &Orders, key: u8, order: &Order, answer: &'static str) {
        let Begun::Now(once) = begin(orders, key, order).await.unwrap() else { panic!("it was not carried out before") };
        once.done(&Bytes::from_static(answer.as_bytes())).await;
    }

    #[tokio::test]
    async fn an_order_is_carried_out_once_also_across_a_restart() {
        let journal = Journal::in_memory().unwrap();
        let orders = Orders::read(journal.clone()).unwrap();
        carry_out(&orders, 1, &stop(1), r#"{"a":1}"#).await;
        for orders in [orders, Orders::read(journal).unwrap()] {
            assert_eq!(before(begin(&orders, 1, &stop(1)).await).unwrap(), r#"{"a":1}"#);
            assert_eq!(begin(&orders, 1, &stop(2)).await.err().unwrap().code(), Code::KEY_REUSED);
            assert!(before(begin(&orders, 2, &stop(1)).await).is_none());
            let other = Tenant::new("other").unwrap();
            assert!(before(orders.begin(&other, &[1; KEY_BYTES], &stop(2)).await).is_none());
            assert_eq!(orders.begin(&other, &[1; 15], &stop(2)).await.err().unwrap().code(), Code::MALFORMED_MESSAGE);
        }
    }

    #[tokio::test]
    async fn the_key_is_written_with_what_the_order_changes() {
        let journal = Journal::in_memory().unwrap();
        let orders = Orders::read(journal.clone()).unwrap();
        let Begun::Now(once) = begin(&orders, 1, &stop(1)).await.unwrap() else { panic!("nothing was carried out") };
        let answer = Bytes::from_static(b"{}");
        let mut changes = once.remember(&answer).unwrap();
        changes.push(Change::Put { table: Table::Tags, key: "default/a".to_owned(), value: Vec::new() });
        journal.commit(changes).await.unwrap();
        // The head ends here.
        drop(once);
        assert!(before(begin(&Orders::read(journal).unwrap(), 1, &stop(1)).await).is_some());
    }

    #[tokio::test]
    async fn who_sends_an_order_again_waits_for_it_and_one_that_failed_is_tried_again() {
        let orders = Orders::read(Journal::in_memory().unwrap()).unwrap();
        let Begun::Now(first) = begin(&orders, 1, &stop(1)).await.unwrap() else { panic!("nothing was carried out") };
        let order = stop(1);
        let again = begin(&orders, 1, &order);
        tokio::pin!(again);
        assert!(futures_are_pending(again.as_mut()).await);
        drop(first);
        let Begun::Now(second) = again.await.unwrap() else { panic!("the first failed") };
        let third = begin(&orders, 1, &order);
        let answer = Bytes::from_static(b"1");
        let (third, ()) = tokio::join!(third, second.done(&answer));
        assert_eq!(before(third).unwrap(), "1");
        drop(begin(&orders, 2, &stop(2)).await);
        assert_eq!(orders.state.lock().under_way.len(), 1, "what is over is forgotten");
    }

    async fn futures_are_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn old_keys_make_room_for_new_ones() {
        let mut state = State::default();
        for n in 0..KEYS_MAX {
            assert_eq!(state.keep(&n.to_string(), 10, 0), []);
        }
        let forgotten = |changes: Vec<Change>| changes.len();
        assert_eq!(forgotten(state.keep("one more", 10, 0)), 1);
        assert!(forgotten(state.keep("large", BYTES_MAX - state.bytes + 100, 0)) > 1);
        let all = state.kept.len();
        assert_eq!(forgotten(state.keep("a day later", 10, KEPT_MS + 1)), all.min(rwasm_journal::CHANGES_MAX / 2));
        assert!(state.bytes <= BYTES_MAX && state.kept.len() <= KEYS_MAX);
    }
}
