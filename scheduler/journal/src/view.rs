//! All records in memory, as of the last commit: what readers see, and what the file is held against after its disk failed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use crate::change::{Change, Table};

/// The most bytes of all keys and values together: they are kept in memory, and a journal is read whole when its head starts.
pub const JOURNAL_BYTES_MAX: usize = 64 << 20;

/// Records by table and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    tables: BTreeMap<Table, BTreeMap<String, Vec<u8>>>,
    bytes: usize,
}

impl View {
    pub(crate) fn get(&self, table: Table, key: &str) -> Option<&[u8]> {
        self.tables.get(&table)?.get(key).map(Vec::as_slice)
    }

    /// The records whose keys begin with `prefix`, in the order of their keys.
    pub(crate) fn scan<'a>(&'a self, table: Table, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let from = self.tables.get(&table).into_iter().flat_map(move |records| {
            records.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
        });
        from.map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn put(&mut self, table: Table, key: String, value: Vec<u8>) {
        self.bytes += value.len();
        match self.tables.entry(table).or_default().entry(key) {
            Entry::Vacant(place) => {
                self.bytes += place.key().len();
                place.insert(value);
            }
            Entry::Occupied(mut place) => self.bytes -= place.insert(value).len(),
        }
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Put { table, key, value } => self.put(table, key, value),
            Change::Delete { table, key } => {
                if let Some(value) = self.tables.get_mut(&table).and_then(|records| records.remove(&key)) {
                    self.bytes -= key.len() + value.len();
                }
            }
        }
    }

    /// The changes that make this of `other`.
    pub(crate) fn changes_from(&self, other: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for &table in Table::ALL {
            for (key, value) in self.scan(table, "").filter(|(key, value)| other.get(table, key) != Some(value)) {
                changes.push(Change::Put { table, key: key.to_owned(), value: value.to_vec() });
            }
            for (key, _) in other.scan(table, "").filter(|(key, _)| self.get(table, key).is_none()) {
                changes.push(Change::Delete { table, key: key.to_owned() });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view() -> impl Strategy<Value = View> {
        let table = prop::sample::select(Table::ALL);
        prop::collection::vec((table, "[ab]{1,3}", prop::option::of(prop::collection::vec(any::<u8>(), 0..4))), 0..40).prop_map(|steps| {
            let mut view = View::default();
            for (table, key, value) in steps {
                match value {
                    Some(value) => view.apply(Change::Put { table, key, value }),
                    None => view.apply(Change::Delete { table, key }),
                }
            }
            view
        })
    }

    proptest! {
        #[test]
        fn changes_lead_from_any_view_to_any_other(from in view(), to in view()) {
            let mut made = from.clone();
            for change in to.changes_from(&from) {
                made.apply(change);
            }
            for &table in Table::ALL {
                prop_assert!(made.scan(table, "").eq(to.scan(table, "")));
            }
            prop_assert_eq!(made.bytes(), to.bytes());
            let counted: usize = Table::ALL.iter().flat_map(|&table| to.scan(table, "")).map(|(key, value)| key.len() + value.len()).sum();
            prop_assert_eq!(to.bytes(), counted);
        }
    }
}
