//! How exports are marked: tasks, actors and what cannot be called.

use rwasm_types::Code;

use crate::common::{self, exports, of};

/// The exports of the component of a world, without the interface's name.
fn roles(world: &str) -> Vec<String> {
    let artifact = of(common::component_of_world(world)).unwrap();
    exports(&artifact).into_iter().map(|line| line.replace("demo:x/", "").replace("demo:bank/accounts@1.2.0", "accounts")).collect()
}

#[test]
fn plain_functions_are_tasks() {
    assert_eq!(
        roles(
            "package demo:x;
             interface shapes {
                 record point { x: f32, y: f32 }
                 flags style { bold, thin }
                 variant shape { dot, circle(point), text(tuple<string, style>) }
                 type shapes = list<shape>;
                 draw: func(shapes: shapes, at: option<point>) -> result<list<u8>, string>;
             }
             world w { export shapes; export go: func(); }",
        ),
        [
            "go: func() [task]",
            "shapes/draw: func(shapes: list<variant { dot, circle(record { x: f32, y: f32 }), text(tuple<string, flags { bold, thin }>) }>, \
             at: option<record { x: f32, y: f32 }>) -> result<list<u8>, string> [task]",
        ]
    );
}

#[test]
fn resources_are_actors() {
    assert_eq!(
        roles(
            "package demo:bank@1.2.0;
             interface accounts {
                 resource account {
                     constructor(owner: string);
                     balance: func() -> u64;
                     history: func() -> entry;
                     undo: func(what: entry) -> bool;
                     transfer: func(to: borrow<account>, amount: u64);
                     count: static func() -> u32;
                     load: static func(id: u64) -> result<account, string>;
                 }
                 resource entry { amount: func() -> s64; }
                 open: func(owner: string) -> account;
                 both: func() -> tuple<account, account>;
                 maybe: func() -> option<account>;
                 close: func(account: account) -> u64;
                 total: func(accounts: list<borrow<account>>) -> u64;
             }
             world w { export accounts; }",
        ),
        [
            "accounts/[constructor]account: func(owner: string) -> own<accounts.account> [creates actor account]",
            "accounts/[method]account.balance: func(self: borrow<accounts.account>) -> u64 [method of actor account]",
            "accounts/[method]account.history: func(self: borrow<accounts.account>) -> own<accounts.entry> [method of actor account]",
            "accounts/[method]account.undo: func(self: borrow<accounts.account>, what: own<accounts.entry>) -> bool [method of actor account]",
            "accounts/[method]account.transfer: func(self: borrow<accounts.account>, to: borrow<accounts.account>, amount: u64) [not callable: \
             it takes a handle of `accounts.account`, which only another actor could hold]",
            "accounts/[static]account.count: func() -> u32 [task]",
            "accounts/[static]account.load: func(id: u64) -> result<own<accounts.account>, string> [creates actor account]",
            "accounts/[method]entry.amount: func(self: borrow<accounts.entry>) -> s64 [method of actor entry]",
            "accounts/open: func(owner: string) -> own<accounts.account> [creates actor account]",
            "accounts/both: func() -> tuple<own<accounts.account>, own<accounts.account>> [not callable: it returns a handle of \
             `accounts.account` inside of another value]",
            "accounts/maybe: func() -> option<own<accounts.account>> [not callable: it returns a handle of `accounts.account` inside of \
             another value]",
            "accounts/close: func(account: own<accounts.account>) -> u64 [not callable: it takes a handle of `accounts.account`, which only \
             an actor holds]",
            "accounts/total: func(accounts: list<borrow<accounts.account>>) -> u64 [not callable: it takes a handle of `accounts.account`, \
             which only an actor holds]",
        ]
    );
}

#[test]
fn the_handle_of_an_object_is_no_resource_of_the_guest() {
    assert_eq!(
        roles(
            "package demo:x;
             world w {
                 use rwasm:core/objects@0.1.4.{object};
                 export size: func(of: borrow<object>) -> u64;
                 export join: func(parts: list<object>) -> object;
             }
             package rwasm:core@0.1.4 { interface objects { resource object { size: func() -> u64; } } }",
        ),
        [
            "size: func(of: borrow<rwasm:core/objects.object>) -> u64 [task]",
            "join: func(parts: list<own<rwasm:core/objects.object>>) -> own<rwasm:core/objects.object> [task]",
        ]
    );
}

#[test]
fn imported_resources_cannot_be_passed() {
    assert_eq!(
        roles(
            "package demo:x;
             world w {
                 use wasi:io/streams@0.2.0.{input-stream};
                 export copy: func(%from: borrow<input-stream>);
                 export fine: func();
             }
             package wasi:io@0.2.0 { interface streams { resource input-stream; } }",
        ),
        [
            "copy: func(%from: borrow<wasi:io/streams@0.2.0.input-stream>) [not callable: it uses the resource \
             `wasi:io/streams@0.2.0.input-stream`, which the component imports]",
            "fine: func() [task]",
        ]
    );
}

#[test]
fn an_interface_that_is_imported_and_exported_has_two_resources() {
    let world = "package demo:x;
        interface i { resource r { constructor(); get: func() -> u8; } }
        world w { import i; export i; }";
    assert_eq!(
        roles(world),
        ["i/[constructor]r: func() -> own<i.r> [creates actor r]", "i/[method]r.get: func(self: borrow<i.r>) -> u8 [method of actor r]",]
    );
}

#[test]
fn streams_and_futures_cannot_leave_the_guest() {
    assert_eq!(
        roles(
            "package demo:x;
             world w {
                 export watch: func() -> stream<u8>;
                 export later: func(what: option<future<string>>);
                 export fine: func();
             }",
        ),
        [
            "watch: func() -> stream<u8> [not callable: it returns a stream, which cannot leave the guest]",
            "later: func(what: option<future<string>>) [not callable: it takes a future, which cannot leave the guest]",
            "fine: func() [task]",
        ]
    );
}

#[test]
fn types_beyond_the_limits_are_left_out() {
    // Each type holds the last one twice: sixteen lines stand for 65,536 values.
    let types: String = (1..=16).map(|i| format!("type t{i} = tuple<t{}, t{}>;", i - 1, i - 1)).collect();
    let world =
        format!("package demo:x; interface i {{ type t0 = u8; {types} f: func(x: list<t16>); g: func(x: t4); }} world w {{ export i; }}");
    let found = roles(&world);
    assert_eq!(found[0], "i/f: func(x: list<...>) [not callable: its types are larger than the limits]");
    assert!(found[1].ends_with("[task]"));
    let deep = format!("package demo:x; world w {{ export f: func(x: {}u8{}); export g: func(); }}", "list<".repeat(64), ">".repeat(64));
    assert!(roles(&deep)[0].ends_with("[not callable: its types are larger than the limits]"));
    let fits = format!("package demo:x; world w {{ export f: func(x: {}u8{}); }}", "list<".repeat(63), ">".repeat(63));
    assert!(roles(&fits)[0].ends_with("[task]"));
}

#[test]
fn all_signatures_together_are_bounded() {
    // 4,095 tuples and 4,096 numbers a function, and 40 functions: more than a quarter of a million.
    let types: String = (1..=12).map(|i| format!("type t{i} = tuple<t{}, t{}>;", i - 1, i - 1)).collect();
    let functions: String = (0..40).map(|i| format!("go{i}: func(x: t12);")).collect();
    let found = roles(&format!("package demo:x; interface i {{ type t0 = u8; {types} {functions} }} world w {{ export i; }}"));
    let tasks = found.iter().filter(|line| line.ends_with("[task]")).count();
    assert_eq!(tasks, 250_000 / 8_191);
    assert!(found.last().unwrap().ends_with("go39: func(x: ...) [not callable: its types are larger than the limits]"));
}

#[test]
fn names_are_bounded() {
    let fields: String = (0..300).map(|i| format!("{}-{i}: u8,", "a".repeat(1000))).collect();
    let found =
        roles(&format!("package demo:x; interface i {{ record r {{ {fields} }} f: func(x: r); g: func(); }} world w {{ export i; }}"));
    assert_eq!(found, ["i/f: func(x: ...) [not callable: its types are larger than the limits]", "i/g: func() [task]"]);
    let long = "a".repeat(1025);
    let param = roles(&format!("package demo:x; world w {{ export f: func({long}: u8); export g: func(); }}"));
    assert_eq!(param, ["f: func() -> ... [not callable: its types are larger than the limits]", "g: func() [task]"]);
    let error = of(common::component_of_world(&format!("package demo:x; world w {{ export {long}: func(); }}"))).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::LIMIT, "the artifact has a name of 1025 bytes, but 1024 are the most"));
}
