//! The journal of the first version, `tests/golden/journal-1.redb`: later versions must open and read it. It is never made anew; a later
//! format gets a file of its own. `RWASM_BLESS` makes one that is missing.

use std::{collections::BTreeMap, fs, path::Path};

use rwasm_journal::{Change, FILE, Journal, Table};

pub(crate) const JOURNAL: &[u8] = include_bytes!("../golden/journal-1.redb");

/// The tables of the first version.
const TABLES: &[Table] =
    &[Table::Cluster, Table::Nodes, Table::Tenants, Table::Tokens, Table::JoinTokens, Table::Policies, Table::Tags, Table::Keys];

type Records = BTreeMap<(&'static str, String), Vec<u8>>;

/// What the first version put into it: a record or more in each table, and enough nodes for more than one page.
fn written() -> Vec<Change> {
    let mut changes = Vec::new();
    for &table in TABLES {
        let value = format!(r#"{{"table":"{}","later":"is ignored"}}"#, table.name()).into_bytes();
        changes.push(Change::Put { table, key: format!("default/{}", table.name()), value });
    }
    for node in 1..=200 {
        let value = format!(r#"{{"name":"worker-{node}","incarnation":{}}}"#, node * 7).into_bytes();
        changes.push(Change::Put { table: Table::Nodes, key: format!("{node:010}"), value });
    }
    changes
}

/// All records of a journal.
pub(crate) fn all(journal: &Journal) -> Records {
    let records = |table: Table| journal.scan(table, "").unwrap().into_iter().map(move |(key, value)| ((table.name(), key), value));
    Table::ALL.iter().flat_map(|&table| records(table)).collect()
}

/// All records that the golden file must have.
pub(crate) fn records() -> Records {
    let record = |change| match change {
        Change::Put { table, key, value } => ((table.name(), key), value),
        Change::Delete { .. } => unreachable!("nothing is removed"),
    };
    written().into_iter().map(record).collect()
}

#[tokio::test]
async fn the_journal_of_the_first_version_is_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-1.redb");
    if std::env::var_os("RWASM_BLESS").is_some() && JOURNAL.is_empty() {
        Journal::open(dir.path()).unwrap().commit(written()).await.unwrap();
        fs::copy(dir.path().join(FILE), golden).unwrap();
        return;
    }
    fs::write(dir.path().join(FILE), JOURNAL).unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(all(&journal), records());
    journal.commit(vec![Change::Delete { table: Table::Tags, key: "default/tags".to_owned() }]).await.unwrap();
    drop(journal);
    assert_eq!(all(&Journal::open(dir.path()).unwrap()).len(), records().len() - 1);
}
