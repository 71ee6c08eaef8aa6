//! The Rust SDK's side of objects, in an example that `tools/build-guests.sh` has built.

use std::{env, fs, path::PathBuf, sync::Arc, time::Duration};

use rwasm_engine::objects::LocalObjects;
use rwasm_objects::{Config, Store};
use rwasm_types::{NodeId, TaskId, Tenant};

use crate::common::{Task, Way, digest, lab};

/// Tables of a few bytes and of some megabytes, so that both copies and windows are looked at.
#[tokio::test]
async fn objects_of_the_sdk_are_made_read_and_passed_on() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let path = env::var_os("RWASM_GUESTS").map_or(root, PathBuf::from).join("objects.wasm");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; tools/build-guests.sh makes it", path.display()));
    let lab = lab();
    let guest = lab.engine.prepare(&Tenant::default(), digest(&bytes), &bytes).await.unwrap();
    let store = Store::open(Config::new(256 << 20)).unwrap();
    let task = TaskId { owner: NodeId::FIRST, session: 1, sequence: 3 };
    let objects = Arc::new(LocalObjects::new(store.clone(), Tenant::default(), task, Duration::ZERO));
    let call = async |call: String| Task::new(&guest, &call).objects(&objects).run(Way::Fiber).await.wave();
    let made = |wave: String| wave.trim_start_matches("ok(").trim_end_matches(')').to_owned() + ")";
    for (lines, last, longest) in [(12_u64, "11,121", 6), (300_000, "299999,89999400001", 18)] {
        let table = made(call(format!("squares({lines})")).await);
        assert_eq!(call(format!("count-lines({table})")).await, format!("ok({lines})"));
        assert_eq!(call(format!("last-line({table})")).await, format!("ok(\"{last}\")"));
        assert_eq!(call(format!("longest-line({table})")).await, format!("ok({longest})"));
        let joined = made(call(format!("join([{table}, {table}, {table}])")).await);
        assert_eq!(call(format!("count-lines({joined})")).await, format!("ok({})", 3 * lines));
    }
    let numbers = made(call("numbers(400001)".to_owned()).await);
    assert_eq!(call(format!("mean({numbers})")).await, "ok(200000)");
    // Bytes are no numbers, whoever passes them.
    let table = made(call("squares(1)".to_owned()).await);
    assert_eq!(call(format!("mean({table})")).await, "err(\"the object is not of this type\")");
    assert_eq!(store.usage().pinned_bytes, 0, "all windows are closed");
}
