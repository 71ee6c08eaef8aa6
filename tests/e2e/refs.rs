//! Objects between nodes: used through any gateway, passed on from copy to copy, held wherever they are named, and gone everywhere when nobody
//! holds them.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest, run::Run};

const MIB: usize = 1 << 20;

/// Bytes of which no two pages are alike.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32 / 4).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// A cluster with nodes that have gateways beside the head's own.
struct Several {
    cluster: Cluster,
    gateways: Vec<String>,
    token: String,
}

impl Several {
    fn start(cluster: Cluster, points: &[Option<&str>]) -> Self {
        let mut cluster = cluster;
        let mut gateways = vec![cluster.gateway()];
        gateways.extend(points.iter().map(|point| cluster.add_gateway(*point)));
        Self { token: cluster.token(), gateways, cluster }
    }

    /// A command that goes through the gateway of the so-manyth node.
    fn at(&self, node: usize, args: &[&str]) -> Run<'_> {
        self.cluster.rwasm(args).args(["--address", &self.gateways[node - 1]]).env("RWASM_TOKEN", &self.token)
    }

    fn put(&self, node: usize, data: &[u8]) -> String {
        let file = self.cluster.home.write("data.bin", data);
        self.at(node, &["put", &file]).run().ok().stdout().trim().to_owned()
    }

    fn got(&self, node: usize, id: &str) -> Vec<u8> {
        self.at(node, &["get", id, "-o", "out.bin"]).run().ok();
        self.cluster.home.read("out.bin")
    }

    fn objects(&self) -> Value {
        self.cluster.rwasm(["list", "objects", "--json"]).run().ok().json()
    }

    /// Waits until no node has any object, nor a copy of one.
    fn until_nothing_is_left(&self) {
        eventually("nothing is left on any node", || {
            let memory = self.cluster.rwasm(["memory", "--json"]).run().ok().json();
            let empty = |row: &Value| ["creating", "sealed", "pinned", "inline"].iter().all(|state| row[state]["objects"] == 0);
            let nothing = memory["rows"].as_array().unwrap().iter().all(empty) && self.objects()["total"] == 0;
            nothing.then_some(())
        });
    }

    /// Bytes of objects that the head's node has sent to others.
    fn sent_bytes(&self) -> usize {
        let address = self.cluster.head.ready["dashboard_address"].as_str().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("rwasm_object_transfer_bytes_total{direction=\"sent\"} "));
        line.unwrap_or_else(|| panic!("{text}")).parse::<f64>().unwrap() as usize
    }

    /// Has every core busy, so that what is submitted then waits.
    fn keep_busy(&self, cores: usize) {
        let spin = ["submit", &guest("evil-compute"), "--map", "-", "--func", "spin", "--no-wait"];
        self.cluster.rwasm(spin).stdin("[]\n".repeat(cores)).run().ok();
        eventually("all cores are busy", || {
            let tasks = self.cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
            (tasks["total"] == cores).then_some(())
        });
    }
}

#[test]
fn what_is_put_at_one_node_is_had_through_any_gateway() {
    let several = Several::start(Cluster::start(0), &[None]);
    let data = bytes(3 * MIB + 4);
    let large = several.put(1, &data);
    let small = several.put(2, b"12345678");
    assert!(large.starts_with("o1-") && small.starts_with("o2-"));
    assert_eq!(several.got(2, &large), data);
    assert_eq!(several.got(1, &small), b"12345678");
    let rows = several.objects()["rows"].clone();
    assert_eq!((&rows[0]["id"], &rows[0]["nodes"]), (&json!(large), &json!(["n1", "n2"])), "the copy is known: {rows}");
    assert_eq!(several.got(2, &large), data);
    assert_eq!(several.sent_bytes(), data.len(), "once");

    several.at(2, &["tenant", "create", "other"]).run().ok();
    let other = several.at(2, &["token", "create", "--tenant", "other", "--role", "submitter", "--json"]).run().ok().json();
    let other = other["token"].as_str().unwrap();
    let foreign = several.at(2, &["get", &large]).env("RWASM_TOKEN", other).run().fails(2, "RW0854").stderr();
    let unknown = several.at(2, &["get", "o1-777-0-0"]).env("RWASM_TOKEN", other).run().fails(2, "RW0854").stderr();
    assert_eq!(foreign.replace(&large, "X"), unknown.replace("o1-777-0-0", "X"));

    several.at(2, &["rm", &large]).run().ok();
    several.at(1, &["rm", &small]).run().ok();
    several.at(2, &["get", &large]).run().fails(2, "RW0854");
    several.until_nothing_is_left();
}

/// The object is of one node, the job of another, and the task runs on a third.
#[test]
fn tasks_take_objects_of_other_owners_wherever_they_run() {
    let mut cluster = Cluster::start(0);
    let gateway = cluster.add_gateway(None);
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    let several = Several { gateways: vec![cluster.gateway(), gateway], token: cluster.token(), cluster };
    let data = bytes(2 * MIB);
    let large = several.put(1, &data);
    let name = several.cluster.home.write("name", "Ada");
    let name = several.at(1, &["put", &name, "--type", "string"]).run().ok().stdout().trim().to_owned();
    let far = ["--resources", "{\"far\": 1}"];
    for place in [&far[..], &[]] {
        let submit = |call: &str| several.at(2, &["submit", &guest("hello"), "--call", call]).args(place);
        submit(&format!("echo(@ref({large}))")).args(["-o", "out.bin"]).run().ok();
        assert_eq!(several.cluster.home.read("out.bin"), data);
        submit(&format!("greet(@ref({name}))")).run().ok().prints("\"Hello, Ada!\"\n");
        submit(&format!("greet(@ref({large}))")).run().fails(2, "RW0862");
    }
    several.at(1, &["rm", &large, &name]).run().ok();
    several.until_nothing_is_left();
}

/// What a guest makes belongs to the node that it runs on, and is held by the job's owner.
#[test]
fn results_that_are_made_elsewhere_are_held_for_whoever_takes_them() {
    let mut cluster = Cluster::start(0);
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    let several = Several { gateways: vec![cluster.gateway()], token: cluster.token(), cluster };
    let submit = |call: &str| several.at(1, &["submit", &guest("objects"), "--call", call, "--resources", "{\"far\": 1}"]).run().ok();
    let made = submit("squares(200000)").stdout();
    let made = made.trim().strip_prefix("ok(@ref(").and_then(|rest| rest.strip_suffix("))")).unwrap().to_owned();
    assert!(made.starts_with("o2-"), "{made}");
    assert!(String::from_utf8(several.got(1, &made)).unwrap().ends_with("199999,39999600001\n"));
    let row = several.objects()["rows"][0].clone();
    assert_eq!(row["held_by"], json!(["node n1"]), "{row}");
    submit(&format!("count-lines(@ref({made}))")).prints("ok(200000)\n");
    let here = several.at(1, &["submit", &guest("objects"), "--call", &format!("count-lines(@ref({made}))")]);
    here.run().ok().prints("ok(200000)\n");
    several.at(1, &["rm", &made]).run().ok();
    several.until_nothing_is_left();
}

#[test]
fn an_object_that_many_want_leaves_its_owner_once() {
    let several = Several::start(Cluster::build().cpus(1).start(), &[None, None, None]);
    let data = bytes(48 * MIB);
    let id = several.put(1, &data);
    let outs = ["two.bin", "three.bin", "four.bin"];
    let gets: Vec<_> = (2..=4).zip(outs).map(|(node, out)| several.at(node, &["get", &id, "-o", out]).spawn()).collect();
    gets.into_iter().for_each(|get| drop(get.wait().ok()));
    for out in outs {
        assert!(several.cluster.home.read(out) == data, "{out}");
    }
    let sent = several.sent_bytes();
    assert!(sent < data.len() * 3 / 2, "three nodes have it, and the owner sent {} MiB of {}", sent / MIB, data.len() / MIB);
    several.at(1, &["rm", &id]).run().ok();
    several.until_nothing_is_left();
}

#[test]
fn whoever_pulls_from_a_node_that_is_killed_goes_on_from_another() {
    let several = Several::start(Cluster::build().cpus(1).start(), &[Some("object-chunk-sent:24"), None]);
    let data = bytes(32 * MIB);
    let id = several.put(1, &data);
    assert!(several.got(2, &id) == data);
    assert!(several.got(3, &id) == data);
    several.cluster.nodes[0].gone();
    let sent = several.sent_bytes() / MIB;
    assert!((40..48).contains(&sent), "32 MiB to the one, and the rest to the other: {sent} MiB");
}

#[test]
fn an_object_outlives_its_owner_where_somebody_holds_it_and_has_a_copy() {
    let several = Several::start(Cluster::build().cpus(1).start(), &[None, None]);
    several.keep_busy(3);
    let data = bytes(MIB);
    let (held, left) = (several.put(2, &data), several.put(2, &data));
    let submit = ["submit", &guest("hello"), "--call", &format!("echo(@ref({held}))"), "--no-wait", "--json"];
    let job = several.at(3, &submit).run().ok().json()["id"].as_str().unwrap().to_owned();
    eventually("the task's node has a copy", || {
        let rows = several.objects()["rows"].clone();
        let row = rows.as_array().unwrap().iter().find(|row| row["id"] == json!(held))?.clone();
        (row["nodes"] == json!(["n2", "n3"]) && row["held_by"] == json!(["node n3", "tenant"])).then_some(())
    });
    several.cluster.nodes[0].kill();
    // Said by the head, and not by a broken connection.
    several.at(3, &["get", &left]).run().fails(1, "RW0863");
    assert!(several.got(3, &held) == data);
    let row = several.objects()["rows"][0].clone();
    assert_eq!((&row["id"], &row["nodes"]), (&json!(held), &json!(["n3"])), "{row}");
    several.at(3, &["job", "stop", &job]).run().ok();
    several.until_nothing_is_left();
}

#[test]
fn a_driver_that_is_killed_lets_go_of_what_other_nodes_own() {
    let several = Several::start(Cluster::build().cpus(1).start(), &[None]);
    several.keep_busy(2);
    let id = several.put(1, &bytes(MIB));
    let driver = several.at(2, &["submit", &guest("hello"), "--call", &format!("echo(@ref({id}))")]).spawn();
    let held_by = |holders: Value| {
        eventually("that is who holds it", || (several.objects()["rows"][0]["held_by"] == holders).then_some(()));
    };
    held_by(json!(["node n2", "tenant"]));
    driver.signal(Signal::KILL);
    driver.wait();
    held_by(json!(["tenant"]));
    several.at(2, &["rm", &id]).run().ok();
    several.until_nothing_is_left();
}
