//! The file: a redb database with a table for each [`Table`], and one that says that it is ours and in which format.
//!
//! A new file is made beside its place and moved there whole, so that one that is empty or half made is always a damaged one.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use parking_lot::RwLock;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, backends::InMemoryBackend,
};
use rwasm_types::Result;

use crate::{
    change::{Change, Table},
    fault::{damaged, failed, fault, foreign, newer},
    view::View,
};

/// The name of a journal's file in its directory.
pub const FILE: &str = "journal.redb";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

/// How a new file is called until it is whole.
const NEW_PREFIX: &str = ".new-journal-";
/// Pages that redb keeps in memory. All records are there already.
const CACHE_BYTES: usize = 4 << 20;

/// Says that a file is ours.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("rwasm-journal");
const ABOUT_FORMAT: &str = "format";

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

/// Opens the file once more.
type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// A journal's file, open or to be opened.
pub(crate) struct Store {
    path: PathBuf,
    /// Makes the file if there is none.
    make: Option<fn(&Path) -> Result<()>>,
    open: Open,
    /// `None` before it is opened, and after a write failed: redb takes no more until it is opened anew.
    database: Option<Database>,
}

impl Store {
    /// The file of a directory.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let open = path.clone();
        Self { path, make: Some(make), open: Box::new(move || on_disk().open(&open)), database: None }
    }

    /// One without a file.
    pub(crate) fn in_memory() -> Self {
        Self::with("in memory", || builder().create_with_backend(InMemoryBackend::new()))
    }

    /// One on any backend, under a name for errors.
    pub(crate) fn with(name: &str, open: impl Fn() -> Result<Database, DatabaseError> + Send + 'static) -> Self {
        Self { path: PathBuf::from(name), make: None, open: Box::new(open), database: None }
    }

    /// Opens the file, and makes it if there is none; returns all that is in it.
    pub(crate) fn load(&mut self) -> Result<View> {
        let (database, view) = self.opened()?;
        self.database = Some(database);
        Ok(view)
    }

    fn opened(&self) -> Result<(Database, View)> {
        if let Some(make) = self.make
            && !self.path.exists()
        {
            make(&self.path)?;
        }
        let database = (self.open)().map_err(|error| fault(&self.path, error))?;
        if self.make.is_none() {
            begin(&database).map_err(|error| fault(&self.path, error))?;
        }
        let view = read(&self.path, &database)?;
        Ok((database, view))
    }

    /// Writes changes to what readers see, durably. After a failure the file is opened anew and made to agree with them first.
    pub(crate) fn write(&mut self, seen: &RwLock<View>, changes: &[&Change]) -> Result<()> {
        // Taken out, and put back if it can be used again.
        let (database, mended) = match self.database.take() {
            Some(database) => (database, Vec::new()),
            None => {
                let (database, there) = self.opened()?;
                (database, seen.read().changes_from(&there))
            }
        };
        transact(&database, mended.iter().chain(changes.iter().copied())).map_err(|error| fault(&self.path, error))?;
        self.database = Some(database);
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Other processes may read a file while one writes it: a backup needs no order to the head.
pub(crate) fn on_disk() -> Builder {
    let mut builder = builder();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// Makes a new file at `path`, unless another process is faster.
fn make(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let told = |error: &std::io::Error| failed(&path.display().to_string(), error);
    let new = tempfile::Builder::new().prefix(NEW_PREFIX).tempfile_in(dir).map_err(|error| told(&error))?;
    let database = on_disk().create(new.path()).map_err(|error| fault(path, error))?;
    begin(&database).map_err(|error| fault(path, error))?;
    database.close().map_err(|error| fault(path, error))?;
    match new.persist_noclobber(path) {
        Ok(file) => file.sync_all().map_err(|error| told(&error))?,
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(told(&error.error)),
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| told(&error))
}

/// Makes the tables of a new file.
pub(crate) fn begin(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        if about.get(ABOUT_FORMAT)?.is_none() {
            about.insert(ABOUT_FORMAT, FORMAT)?;
        }
        for &table in Table::ALL {
            transaction.open_table(definition(table))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// All that is in a file, if it is one of ours.
pub(crate) fn read(path: &Path, database: &impl ReadableDatabase) -> Result<View> {
    let name = path.display().to_string();
    match format(database).map_err(|error| fault(path, error))? {
        None => return Err(foreign(&name)),
        Some(0) => return Err(damaged(&name, "its format has no number")),
        Some(format) if format > FORMAT => return Err(newer(&name, format)),
        Some(_) => {}
    }
    records(database).map_err(|error| fault(path, error))
}

/// The format of a file; `None` if it is somebody else's database.
fn format(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(ABOUT) {
        Ok(about) => Ok(Some(about.get(ABOUT_FORMAT)?.map_or(0, |format| format.value()))),
        Err(redb::TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

fn records(database: &impl ReadableDatabase) -> Result<View, redb::Error> {
    let transaction = database.begin_read()?;
    let mut view = View::default();
    for &table in Table::ALL {
        let records = match transaction.open_table(definition(table)) {
            // An earlier version did not have it.
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            records => records?,
        };
        for record in records.iter()? {
            let (key, value) = record?;
            view.put(table, key.value().to_owned(), value.value().to_vec());
        }
    }
    Ok(view)
}

/// Carries out changes in one transaction. It is on stable storage when this returns.
pub(crate) fn transact<'a>(database: &Database, changes: impl Iterator<Item = &'a Change>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut open = BTreeMap::new();
        for change in changes {
            let (table, _) = change.place();
            let records = match open.entry(table) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => place.insert(transaction.open_table(definition(table))?),
            };
            match change {
                Change::Put { key, value, .. } => drop(records.insert(key.as_str(), value.as_slice())?),
                Change::Delete { key, .. } => drop(records.remove(key.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
