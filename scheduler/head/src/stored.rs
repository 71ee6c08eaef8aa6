//! Records in the journal, as JSON.

use rwasm_journal::{Change, Journal, Table};
use rwasm_types::{Code, Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// The change that makes a record or replaces it.
pub(crate) fn put<T: Serialize>(table: Table, key: String, record: &T) -> Result<Change> {
    let value = serde_json::to_vec(record).map_err(|error| Error::internal(format!("a record has no JSON: {error}")))?;
    Ok(Change::Put { table, key, value })
}

/// The records whose keys begin with `prefix`, with the rest of their keys.
///
/// # Errors
///
/// [`Code::DAMAGED_JOURNAL`] if one of them is not understood.
pub(crate) fn scan<T: DeserializeOwned>(journal: &Journal, table: Table, prefix: &str) -> Result<Vec<(String, T)>> {
    let rest = |key: &str| key.strip_prefix(prefix).unwrap_or(key).to_owned();
    let records = journal.scan(table, prefix)?.into_iter();
    records.map(|(key, value)| Ok((rest(&key), read(table, &key, &value)?))).collect()
}

/// A record.
///
/// # Errors
///
/// [`Code::DAMAGED_JOURNAL`] if it is not understood.
pub(crate) fn get<T: DeserializeOwned>(journal: &Journal, table: Table, key: &str) -> Result<Option<T>> {
    journal.get(table, key)?.map(|value| read(table, key, &value)).transpose()
}

/// Reads a record.
///
/// # Errors
///
/// [`Code::DAMAGED_JOURNAL`] if it is not understood.
pub(crate) fn read<T: DeserializeOwned>(table: Table, key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| {
        Error::new(Code::DAMAGED_JOURNAL, format!("the record {key} of table {} is not understood: {error}", table.name()))
            .hint("start the version that wrote it, or put a backup back with `rwasm state restore`")
    })
}
