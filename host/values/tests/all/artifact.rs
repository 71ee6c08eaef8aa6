//! An artifact's public face: names that mean exports, and imports that are missing.

use rwasm_types::Code;
use rwasm_values::{ArtifactInfo, ArtifactKind, Export, ExportName, GrantKind, Import, Need, Profile, Role, Signature};

fn export(name: &str, role: Role) -> Export {
    let (interface, func) = match name.rsplit_once('/') {
        Some((interface, func)) => (Some(interface.parse().unwrap()), func),
        None => (None, name),
    };
    Export { name: ExportName { interface, func: func.to_owned() }, signature: Signature::default(), role }
}

fn info() -> ArtifactInfo {
    let resource: rwasm_values::ResourceName = "demo:bank/accounts@1.2.0.account".parse().unwrap();
    let import = |name: &str, need, blocking| Import { name: name.to_owned(), need, blocking };
    ArtifactInfo {
        kind: ArtifactKind::Component,
        text: false,
        profile: Profile::Fast,
        exports: vec![
            export("add", Role::Task),
            export("demo:math/ops@1.0.0/add", Role::Task),
            export("demo:math/ops@1.0.0/mul-all", Role::Task),
            export("demo:math/ops@2.0.0/mul-all", Role::Task),
            export("demo:math/trig@1.0.0/sin", Role::Task),
            export("local/run-it", Role::Task),
            export("demo:bank/accounts@1.2.0/[constructor]account", Role::ActorCreate { resource: resource.clone() }),
            export("demo:bank/accounts@1.2.0/[method]account.balance", Role::ActorMethod { resource }),
            export("demo:bank/accounts@1.2.0/watch", Role::NotCallable { why: "it returns a stream".to_owned() }),
        ],
        imports: vec![
            import("wasi:io/poll@0.2.6", Need::Provided, true),
            import("wasi:sockets/tcp@0.2.6", Need::Grant(GrantKind::Network), true),
        ],
        memory_initial_bytes: 65_536,
        size_bytes: 1_000,
    }
}

#[test]
fn names_mean_exports() {
    let info = info();
    for (name, means) in [
        ("add", "add"),
        ("ops/add", "demo:math/ops@1.0.0/add"),
        ("ops@1.0.0/add", "demo:math/ops@1.0.0/add"),
        ("demo:math/ops/add", "demo:math/ops@1.0.0/add"),
        ("demo:math/ops@1.0.0/add", "demo:math/ops@1.0.0/add"),
        ("demo:math/add", "demo:math/ops@1.0.0/add"),
        ("demo:math@1.0.0/mul-all", "demo:math/ops@1.0.0/mul-all"),
        ("demo:math/ops@2.0.0/mul-all", "demo:math/ops@2.0.0/mul-all"),
        ("sin", "demo:math/trig@1.0.0/sin"),
        ("local/run-it", "local/run-it"),
        ("run-it", "local/run-it"),
        ("account", "demo:bank/accounts@1.2.0/[constructor]account"),
        ("account.balance", "demo:bank/accounts@1.2.0/[method]account.balance"),
        ("accounts/[method]account.balance", "demo:bank/accounts@1.2.0/[method]account.balance"),
    ] {
        assert_eq!(info.resolve(name).unwrap().name.to_string(), means, "{name}");
    }
}

#[test]
fn names_that_mean_no_export() {
    let info = info();
    for (name, code, text) in [
        ("sins", Code::NO_SUCH_EXPORT, "the artifact has no export `sins`; did you mean `demo:math/trig@1.0.0/sin`?"),
        (
            "ops/mul-al",
            Code::NO_SUCH_EXPORT,
            "the artifact has no export `ops/mul-al`; did you mean `demo:math/ops@1.0.0/mul-all`, `demo:math/ops@2.0.0/mul-all`?",
        ),
        (
            "mul-all",
            Code::AMBIGUOUS_EXPORT,
            "`mul-all` fits more than one export: `demo:math/ops@1.0.0/mul-all`, `demo:math/ops@2.0.0/mul-all`; write more of the name",
        ),
        ("watch", Code::NOT_CALLABLE, "`demo:bank/accounts@1.2.0/watch` cannot be called: it returns a stream"),
        (
            "ops@1.0.1/add",
            Code::NO_SUCH_EXPORT,
            "the artifact has no export `ops@1.0.1/add`; did you mean `add`, `demo:math/ops@1.0.0/add`?",
        ),
        ("ops@x/add", Code::NO_SUCH_EXPORT, "the artifact has no export `ops@x/add`; did you mean `add`, `demo:math/ops@1.0.0/add`?"),
        (
            "a/b/c/d",
            Code::NO_SUCH_EXPORT,
            "the artifact has no export `a/b/c/d`; it exports `add`, `demo:math/ops@1.0.0/add`, \
            `demo:math/ops@1.0.0/mul-all`, `demo:math/ops@2.0.0/mul-all`, `demo:math/trig@1.0.0/sin`, `local/run-it`, \
            `demo:bank/accounts@1.2.0/[constructor]account`, `demo:bank/accounts@1.2.0/[method]account.balance`",
        ),
        (
            "z\u{1b}[1m",
            Code::NO_SUCH_EXPORT,
            "the artifact has no export `z\u{fffd}[1m`; it exports `add`, `demo:math/ops@1.0.0/add`, \
            `demo:math/ops@1.0.0/mul-all`, `demo:math/ops@2.0.0/mul-all`, `demo:math/trig@1.0.0/sin`, `local/run-it`, \
            `demo:bank/accounts@1.2.0/[constructor]account`, `demo:bank/accounts@1.2.0/[method]account.balance`",
        ),
    ] {
        let error = info.resolve(name).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, text), "{name}");
    }
    let empty = ArtifactInfo { exports: vec![], ..info };
    assert_eq!(empty.resolve("f").unwrap_err().to_string(), "the artifact has no export `f`");
    assert!(!empty.is_callable());
}

#[test]
fn missing_imports_are_listed() {
    let mut info = info();
    info.check_imports().unwrap();
    assert!(info.may_block());
    let missing = |name: &str| Import { name: name.to_owned(), need: Need::Missing, blocking: false };
    info.imports = vec![missing("demo:db/store@1.0.0")];
    assert!(!info.may_block());
    let error = info.check_imports().unwrap_err();
    assert_eq!((error.code(), error.field("missing")), (Code::MISSING_IMPORTS, Some("1")));
    assert_eq!(
        error.to_string(),
        "the artifact imports what no grant can provide: `demo:db/store@1.0.0`; compose it with a component that exports them, as \
         `wac plug` does"
    );
    info.imports.push(missing("wasi:http/types@0.2.0"));
    assert!(info.check_imports().unwrap_err().next_step().unwrap().starts_with("rebuild it"));
    info.imports = (0..20).map(|i| missing(&format!("a:b/c{i}"))).collect();
    assert!(info.check_imports().unwrap_err().message().ends_with("`a:b/c7`, and 12 more"));
}

#[test]
fn the_face_survives_json() {
    let info = info();
    let text = serde_json::to_string(&info).unwrap();
    assert_eq!(serde_json::from_str::<ArtifactInfo>(&text).unwrap(), info);
    assert!(text.contains(r#""need":{"grant":"network"}"#), "{text}");
    assert!(text.contains(r#""role":{"actor-create":{"resource":"demo:bank/accounts@1.2.0.account"}}"#), "{text}");
}
