//! Objects: values that are put once, named by refs, read by tasks on whatever node, and gone when nobody holds them.

use serde_json::{Value, json};

use crate::harness::{Cluster, Home, eventually, everywhere, guest};

/// Bytes of which no two pages are alike.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).take(count as usize).collect()
}

fn put(cluster: &Cluster, args: &[&str]) -> String {
    cluster.rwasm(["put"]).args(args).run().ok().stdout().trim().to_owned()
}

fn objects(cluster: &Cluster) -> Value {
    cluster.rwasm(["list", "objects", "--json"]).run().ok().json()
}

#[test]
fn what_is_put_is_there_until_it_is_let_go() {
    let cluster = Cluster::start(0);
    let data = bytes(3_000_000);
    let file = cluster.home.write("data.bin", &data);
    let large = put(&cluster, &[&file]);
    let small = put(&cluster, &["-", "--type", "string"]);
    assert_eq!(objects(&cluster)["total"], 2);
    let row = objects(&cluster)["rows"][0].clone();
    assert_eq!((&row["id"], &row["type"], &row["size_bytes"]), (&json!(large), &json!("list<u8>"), &json!(3_000_000)), "{row}");
    assert_eq!((&row["state"], &row["nodes"], &row["held_by"]), (&json!("ready"), &json!(["n1"]), &json!(["tenant"])), "{row}");
    assert!(row["kept_until_ms"].as_u64().is_some(), "{row}");

    cluster.rwasm(["get", &large, "-o", "out.bin"]).run().ok().prints("");
    assert_eq!(cluster.home.read("out.bin"), data);
    cluster.rwasm(["get", &small]).run().ok().prints("\"\"\n");
    let pairs = cluster.home.write("pairs.json", r#"[{"x": 1, "y": "one"}]"#);
    let pairs = put(&cluster, &[&pairs, "--type", "list<record { x: u8, y: string }>"]);
    cluster.rwasm(["get", &pairs]).run().ok().prints("[{x: 1, y: \"one\"}]\n");
    cluster.rwasm(["get", &pairs, "--json"]).run().ok().prints("[{\"x\":1,\"y\":\"one\"}]\n");
    cluster.rwasm(["rm", &pairs]).run().ok();

    let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
    let of = &memory["rows"][0];
    assert_eq!((&of["node"], &of["sealed"]["objects"], &of["inline"]["objects"]), (&json!("n1"), &json!(1), &json!(1)), "{memory}");
    assert_eq!(of["no_job"], json!({ "objects": 2, "bytes": 3_000_000 }), "{memory}");
    cluster.rwasm(["memory"]).run().ok().has("no job").has("in 1");

    cluster.rwasm(["rm", &large, &small]).run().ok().has(&format!("removed {large}"));
    assert_eq!(objects(&cluster)["total"], 0);
    for args in [["get", &large], ["rm", &large]] {
        cluster.rwasm(args).run().fails(2, "RW0854");
    }
    let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
    assert_eq!(memory["rows"][0]["sealed"]["objects"], 0, "{memory}");
}

#[test]
fn a_hold_ends_when_its_time_is_over() {
    let cluster = Cluster::start(0);
    let file = cluster.home.write("data.bin", bytes(200_000));
    let (short, long) = (put(&cluster, &[&file, "--keep", "1ms"]), put(&cluster, &[&file]));
    let rows = eventually("the first is gone", || {
        let rows = objects(&cluster)["rows"].clone();
        (rows.as_array().map(Vec::len) == Some(1)).then_some(rows)
    });
    assert_ne!(short, long);
    assert_eq!(rows[0]["id"], json!(long));
}

#[test]
fn tasks_take_values_by_ref() {
    let cluster = Cluster::start(0);
    let data = bytes(1_500_000);
    let file = cluster.home.write("data.bin", &data);
    let (large, name) = (put(&cluster, &[&file]), put(&cluster, &[&cluster.home.write("name", "Ada"), "--type", "string"]));
    let submit = |call: &str| cluster.rwasm(["submit", &guest("hello"), "--call", call]);
    submit(&format!("echo(@ref({large}))")).args(["-o", "out.bin"]).run().ok();
    assert_eq!(cluster.home.read("out.bin"), data);
    submit(&format!("greet(@ref({name}))")).run().ok().prints("\"Hello, Ada!\"\n");

    let lines = format!("[{{\"$ref\": \"{name}\"}}]\n[\"Bob\"]\n");
    let map = cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "greet"]).stdin(lines);
    map.run().ok().prints("\"Hello, Ada!\"\n\"Hello, Bob!\"\n");

    let jobs = |cluster: &Cluster| cluster.rwasm(["job", "list", "--json"]).run().ok().json()["total"].clone();
    let before = jobs(&cluster);
    submit(&format!("greet(@ref({large}))")).run().fails(2, "RW0862").says("`list<u8>`").says("`string`");
    submit("greet(@ref(o1-777-0-0))").run().fails(2, "RW0854");
    assert_eq!(jobs(&cluster), before, "what is refused leaves no trace");
    let held = objects(&cluster)["rows"].as_array().unwrap().iter().map(|row| row["held_by"].clone()).collect::<Vec<_>>();
    assert_eq!(held, [json!(["tenant"]), json!(["tenant"])], "tasks that ended hold nothing");
}

#[test]
fn files_are_stored_for_a_job_and_go_with_it() {
    everywhere(|place| {
        let data = bytes(700_000);
        let file = place.home().write("da ta.bin", &data);
        place.work("hello", ["--call", &format!("echo(@file(\"{file}\"))"), "-o", "out.bin"]).run().ok();
        assert_eq!(place.home().read("out.bin"), data);

        let lists = place.home().write("lists.json", "[[1, 2, 3], [], [4]]");
        let line = format!("[{{\"$file\": \"{lists}\"}}]\n");
        let map = place.work("evil-compute", ["--map", "-", "--func", "take-lists"]).stdin(format!("{line}{line}"));
        let sums = map.run().ok().json_lines();
        assert_eq!((sums.len(), &sums[0]), (2, &sums[1]));

        for pipe in ["-", "/dev/stdin"] {
            let call = format!("greet(@file({pipe}))");
            place.work("hello", ["--call", &call]).stdin("Ada").run().ok().prints("\"Hello, Ada!\"\n");
        }
        place.work("hello", ["--call", "echo(@file(/no/such/file))"]).run().fails(2, "RW0004");
        place.work("evil-compute", ["--call", &format!("take-lists(@file(\"{file}\"))")]).run().fails(2, "RW0212");
        // An embedded cluster is gone by now.
        let left = place.home().rwasm(["list", "objects", "--json"]).run();
        assert!(left.code() == 2 || left.json()["total"] == 0, "{left:?}");
    });
}

/// What a call of the example printed, which is `ok(@ref(ID))`: the id.
fn made(printed: &str) -> String {
    printed.trim().strip_prefix("ok(@ref(").and_then(|rest| rest.strip_suffix("))")).unwrap_or_else(|| panic!("{printed}")).to_owned()
}

#[test]
fn guests_make_objects_read_them_and_pass_them_on() {
    let cluster = Cluster::start(0);
    let submit = |call: &str| cluster.rwasm(["submit", &guest("objects"), "--call", call]).run().ok();
    let (small, large) = (made(&submit("squares(12)").stdout()), made(&submit("squares(200000)").stdout()));
    cluster.rwasm(["get", &small, "-o", "small"]).run().ok();
    assert!(String::from_utf8(cluster.home.read("small")).unwrap().ends_with("11,121\n"));
    let rows = objects(&cluster)["rows"].clone();
    assert_eq!((&rows[0]["nodes"], &rows[1]["nodes"]), (&json!([]), &json!(["n1"])), "the small one lies inline: {rows}");
    assert!(rows.as_array().unwrap().iter().all(|row| row["held_by"] == json!(["tenant"]) && row["kept_until_ms"].is_u64()), "{rows}");

    submit(&format!("count-lines(@ref({large}))")).prints("ok(200000)\n");
    submit(&format!("last-line(@ref({large}))")).prints("ok(\"199999,39999600001\")\n");
    let both = made(&submit(&format!("join([@ref({small}), @ref({large}), @ref({small})])")).stdout());
    submit(&format!("count-lines(@ref({both}))")).prints("ok(200024)\n");
    let numbers = made(&submit("numbers(1001)").stdout());
    submit(&format!("mean(@ref({numbers}))")).prints("ok(500)\n");
    // A value that is no list of bytes has its text.
    cluster.rwasm(["submit", &guest("objects"), "--call", &format!("mean(@ref({large}))")]).run().fails(1, "RW0411");

    cluster.rwasm(["rm", &small, &large, &both, &numbers]).run().ok();
    let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
    let of = &memory["rows"][0];
    assert_eq!(
        (&of["sealed"]["objects"], &of["inline"]["objects"], &of["pinned"]["objects"]),
        (&json!(0), &json!(0), &json!(0)),
        "{memory}"
    );
}

/// The task can run on the other node alone, which gets the value from its owner.
#[test]
fn a_task_on_another_node_has_its_arguments_there() {
    let mut cluster = Cluster::start(0);
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    let data = bytes(5_000_000);
    let file = cluster.home.write("data.bin", &data);
    let (large, small) = (put(&cluster, &[&file]), put(&cluster, &[&cluster.home.write("name", "Ada"), "--type", "string"]));
    let submit = |call: &str| cluster.rwasm(["submit", &guest("hello"), "--call", call, "--resources", "{\"far\": 1}"]);
    for _ in 0..2 {
        submit(&format!("echo(@ref({large}))")).args(["-o", "out.bin"]).run().ok();
        assert_eq!(cluster.home.read("out.bin"), data);
    }
    submit(&format!("greet(@ref({small}))")).run().ok().prints("\"Hello, Ada!\"\n");
    let tasks = cluster.rwasm(["list", "tasks", "--json"]).run().ok().json();
    assert!(tasks["rows"].as_array().unwrap().iter().all(|task| task["node"] == "n2"), "{tasks}");
    let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
    assert_eq!(memory["rows"].as_array().map(Vec::len), Some(2), "{memory}");
}

#[test]
fn a_driver_that_is_killed_holds_nothing_any_more() {
    let cluster = Cluster::build().cpus(1).start();
    cluster.rwasm(["submit", &guest("evil-compute"), "--call", "spin()", "--no-wait"]).run().ok();
    let file = cluster.home.write("data.bin", bytes(300_000));
    let call = format!("echo(@file(\"{file}\"))");
    let driver = cluster.rwasm(["submit", &guest("hello"), "--call", &call]).spawn();
    let row = eventually("the task holds the file", || {
        let row = objects(&cluster)["rows"][0].clone();
        (row["holders"] == 2).then_some(row)
    });
    let held_by = row["held_by"].as_array().unwrap();
    assert!(held_by[0].as_str().unwrap().starts_with("job j1-") && held_by[1].as_str().unwrap().starts_with("task t1-"), "{row}");
    driver.signal(rustix::process::Signal::KILL);
    eventually("the object is gone", || (objects(&cluster)["total"] == 0).then_some(()));
    driver.wait();
}

#[test]
fn what_can_never_fit_is_refused() {
    let cluster = Cluster::build().args(&["--object-store-memory", "4MiB"]).start();
    let file = cluster.home.write("data.bin", bytes(8 << 20));
    cluster.rwasm(["put", &file]).run().fails(2, "RW0852");
    let home = Home::new();
    home.rwasm(["put", &file]).run().fails(2, "RW0508");
    cluster.rwasm(["put", "/no/such/file"]).run().fails(2, "RW0004");
    cluster.rwasm(["put", &file, "--type", "list<string>"]).run().fails(2, "RW0212");
    cluster.rwasm(["put", &file, "--type", "stream<u8>"]).run().exits(2);
}

/// Puts so many objects of 4 MiB, no two alike, and gives their ids with their bytes.
fn put_many(cluster: &Cluster, count: u32) -> Vec<(String, Vec<u8>)> {
    let one = |number: u32| {
        let data: Vec<u8> = bytes(1 << 20).into_iter().map(|byte| byte ^ number as u8).collect::<Vec<_>>().repeat(4);
        (put(cluster, &[&cluster.home.write("data.bin", &data)]), data)
    };
    (0..count).map(one).collect()
}

#[test]
fn objects_go_to_disk_when_memory_runs_short_and_come_back() {
    let elsewhere = tempfile::tempdir().unwrap();
    let url = format!("file://{}", elsewhere.path().display());
    for spill in [vec![], vec!["--object-spill", &url]] {
        let args: Vec<&str> = ["--object-store-memory", "16MiB"].into_iter().chain(spill).collect();
        let cluster = Cluster::build().args(&args).start();
        let all = put_many(&cluster, 12);
        let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
        let spilled = memory["rows"][0]["spilled"]["objects"].as_u64().unwrap();
        assert!(spilled >= 8, "{memory}");
        for (id, data) in &all {
            cluster.rwasm(["get", id, "-o", "out.bin"]).run().ok();
            assert!(cluster.home.read("out.bin") == *data, "{id}");
        }
        // Tasks find them in memory, too, by value and by handle.
        let (first, last) = (&all[0], &all[11]);
        let call = format!("echo(@ref({}))", first.0);
        cluster.rwasm(["submit", &guest("hello"), "--call", &call, "-o", "out.bin"]).run().ok();
        assert!(cluster.home.read("out.bin") == first.1);
        let lines = last.1.iter().filter(|byte| **byte == b'\n').count();
        let call = format!("count-lines(@ref({}))", last.0);
        cluster.rwasm(["submit", &guest("objects"), "--call", &call]).run().ok().prints(&format!("ok({lines})\n"));
        let ids: Vec<&str> = all.iter().map(|(id, _)| id.as_str()).collect();
        cluster.rwasm(["rm"]).args(&ids).run().ok();
        eventually("nothing is left on disk", || {
            let memory = cluster.rwasm(["memory", "--json"]).run().ok().json();
            (memory["rows"][0]["spilled"]["objects"] == 0).then_some(())
        });
    }
}

#[test]
fn where_memory_and_disk_are_full_puts_wait_and_are_refused() {
    let cluster = Cluster::build().args(&["--object-store-memory", "8MiB", "--object-spill-max", "8MiB"]).start();
    let kept = put_many(&cluster, 3);
    let file = cluster.home.write("data.bin", bytes(4 << 20));
    let refused = (0..3).map(|_| cluster.rwasm(["put", &file]).run()).find(|put| put.code() != 0);
    refused.expect("there is room for four, or five").fails(1, "RW0851");
    cluster.rwasm(["rm", &kept[0].0, &kept[1].0]).run().ok();
    put(&cluster, &[&file]);
    cluster.rwasm(["get", &kept[2].0, "-o", "out.bin"]).run().ok();
    assert!(cluster.home.read("out.bin") == kept[2].1);
}
