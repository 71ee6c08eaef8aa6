//! The whole face of a few artifacts, as JSON: what `inspect --json` shows and what the head stores.
//! They are in `tests/golden/`; set `RWASM_BLESS` to write them anew.

use std::{fs, path::Path};

use rwasm_values::ArtifactInfo;

use crate::common::{self, ADDER, PREVIEW1_COMMAND, PREVIEW1_REACTOR, of};

fn check(name: &str, bytes: impl AsRef<[u8]>) {
    let info = of(bytes).unwrap().info;
    let made = format!("{}\n", serde_json::to_string_pretty(&info).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("json");
    if std::env::var_os("RWASM_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(made, fs::read_to_string(&path).unwrap(), "{name}");
    assert_eq!(serde_json::from_str::<ArtifactInfo>(&made).unwrap(), info);
}

#[test]
fn a_component() {
    check("component", ADDER);
}

#[test]
fn an_actor() {
    let world = "package demo:bank@1.2.0;
        interface accounts {
            resource account { constructor(owner: string); deposit: func(amount: u64) -> result<u64, string>; }
        }
        world w { import rwasm:core/log@0.1.0; export accounts; }
        package rwasm:core@0.1.0 { interface log { enum level { info, warn } log: func(level: level, message: string); } }";
    check("actor", common::component_of_world(world));
}

#[test]
fn a_core_module() {
    check("core-module", r#"(module (func (export "fib_iter") (param i32) (result i64) (i64.const 1)))"#);
}

#[test]
fn of_preview_1() {
    check("preview1-command", PREVIEW1_COMMAND);
    check("preview1-reactor", PREVIEW1_REACTOR);
}
