//! Keeps `src/generated.rs` the very output of the code generator for `proto/`. It is committed so that building needs no generator;
//! `UPDATE_GENERATED=1 cargo test -p rwasm-wire --test generated` writes it anew.

use std::{fs, path::Path};

#[test]
fn the_committed_code_is_what_the_protos_generate() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["echo.proto", "gateway.proto", "head.proto", "peer.proto"], [room.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().out_dir(out.path()).bytes(".").btree_map(".").build_transport(false).compile_fds(descriptors).unwrap();
    let generated = fs::read_to_string(out.path().join("rwasm.v1.rs")).unwrap();
    let committed = room.join("src/generated.rs");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&committed, &generated).unwrap();
    }
    assert!(fs::read_to_string(committed).unwrap_or_default() == generated, "src/generated.rs is stale; run with UPDATE_GENERATED=1");
}
