//! All records of a journal at one moment: what a backup is made of.

use std::{fs, path::Path};

use redb::DatabaseError;
use rwasm_types::{Code, Error, Result};

use crate::{
    change::Table,
    fault::fault,
    file::{self, FILE, Store},
    view::View,
};

/// Records at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(View);

impl Snapshot {
    /// Reads the journal of a directory, also while another process has it open and writes: what that one committed last is seen whole.
    /// Where nobody has it open, the whole file is checked.
    ///
    /// # Errors
    ///
    /// As [`crate::Journal::open`]; [`Code::NOT_FOUND`] if there is no journal.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Err(Error::new(Code::NOT_FOUND, format!("there is no journal in {}", dir.display())));
        }
        match Store::in_dir(dir).load() {
            Err(error) if error.code() == Code::STATE_LOCKED => {}
            read => return read.map(Self),
        }
        let database = file::on_disk().open_read_only(&path).map_err(|error| match error {
            // The other process has just begun, or is about to end.
            DatabaseError::RepairAborted => {
                Error::new(Code::STATE_LOCKED, format!("{} is being opened by another process", path.display()))
                    .hint("try again in a moment")
            }
            error => fault(&path, error),
        })?;
        file::read(&path, &database).map(Self)
    }

    /// A record.
    pub fn get(&self, table: Table, key: &str) -> Option<&[u8]> {
        self.0.get(table, key)
    }

    /// How many records a table has.
    pub fn records(&self, table: Table) -> usize {
        self.0.scan(table, "").count()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Writes a journal with these records into a directory that has none.
    ///
    /// # Errors
    ///
    /// [`Code::JOURNAL_FULL`] and [`Code::IO`] if it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let database = file::on_disk().create(&path).map_err(|error| fault(&path, error))?;
        file::begin(&database).map_err(|error| fault(&path, error))?;
        file::transact(&database, self.0.changes_from(&View::default()).iter()).map_err(|error| fault(&path, error))?;
        database.close().map_err(|error| fault(&path, error))?;
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| crate::fault::failed(&path.display().to_string(), &error))
    }
}
