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
    let read = |(key, value): (String, Vec<u8>)| {
        let record = serde_json::from_slice(&value).map_err(|error| {
            Error::new(Code::DAMAGED_JOURNAL, format!("the record {key} of table {} is not understood: {error}", table.name()))
        })?;
        Ok((key.strip_prefix(prefix).unwrap_or(&key).to_owned(), record))
    };
    journal.scan(table, prefix)?.into_iter().map(read).collect()
}
