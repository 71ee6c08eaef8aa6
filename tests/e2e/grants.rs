//! Deny by default: a guest has nothing but what the submit grants. Each grant is shown missing first, and then working.

use std::{
    fs,
    io::Read,
    net::{TcpListener, UdpSocket},
    os::unix::fs::symlink,
    thread,
};

use crate::harness::{Cluster, Home, everywhere, guest, place::Place, run::Output};

/// A function of the guest that reaches outside, in WAVE.
fn call<'a>(place: &'a Place, call: &str, grants: &[&str]) -> crate::harness::run::Run<'a> {
    place.work("evil-wasi", ["--call", call]).args(grants)
}

/// It returned this error of its own.
#[track_caller]
fn refused(output: Output, error: &str) -> Output {
    output.fails(1, "RW0411").prints(&format!("err({error:?})\n"))
}

/// What the guest's C library says when a path is in no granted directory.
const NO_DIRECTORY: &str = "Capabilities insufficient (os error 76)";

#[test]
fn arguments_and_variables() {
    everywhere(|place| {
        // The command's own environment and arguments are nobody's business.
        call(place, "environment()", &[]).env("SECRET", "of the user").run().ok().prints("[]\n");
        call(place, "arguments()", &[]).run().ok().prints("[\"guest\"]\n");
        let granted = ["--env", "A=1", "--env", "B=x=y", "--env", "A=2"];
        call(place, "environment()", &granted).run().ok().prints("[(\"A\", \"1\"), (\"B\", \"x=y\"), (\"A\", \"2\")]\n");
        for name in ["evil-command", "evil-command-p1"] {
            place.work(name, ["--", "show"]).env("SECRET", "of the user").run().ok().prints("show\n");
            let granted = place.work(name, ["--env", "A=1", "--", "show", "--env", "", "ü b"]);
            granted.run().ok().prints("show\n--env\n\nü b\nA=1\n");
        }
        place.work("hello", ["--call", "add(1, 2)", "--env", "=1"]).run().fails(2, "RW0002");
        place.work("hello", ["--call", "add(1, 2)", "--env", "A"]).run().fails(2, "RW0002");
    });
}

#[test]
fn standard_input() {
    everywhere(|place| {
        let count = |grants: &[&str]| place.work("evil-command", grants).args(["--", "count-stdin"]).stdin("twelve bytes").run().ok();
        count(&[]).prints("0\n");
        count(&["--stdin", "-"]).prints("12\n");
        let file = place.home().write("input", "x".repeat(100_000));
        count(&["--stdin", &file]).prints("100000\n");
        count(&["--stdin", "/dev/null"]).prints("0\n");
        place.work("evil-command", ["--stdin", "missing", "--", "cat"]).run().fails(2, "RW0004");
    });
}

/// A directory with a file, a secret beside it, and a link from inside to the secret.
fn with_files() -> Place {
    let home = Home::new();
    fs::create_dir_all(home.path("data/inner")).unwrap();
    home.write("secret", "the user's");
    home.write("data/file", "hello");
    symlink("../secret", home.path("data/link")).unwrap();
    symlink(home.path("secret"), home.path("data/absolute-link")).unwrap();
    symlink("file", home.path("data/inside-link")).unwrap();
    Place::Embedded(home)
}

const HELLO: &str = "ok([104, 101, 108, 108, 111])\n";

#[test]
fn without_a_directory_there_are_no_files() {
    everywhere(|place| {
        let secret = place.home().write("secret", "the user's");
        call(place, "granted-directories()", &[]).run().ok().prints("[]\n");
        for path in [&*secret, "secret", "/etc/passwd", ".", "/"] {
            refused(call(place, &format!("read-file({path:?})"), &[]).run(), NO_DIRECTORY);
            refused(call(place, &format!("list-directory({path:?})"), &[]).run(), NO_DIRECTORY);
        }
        refused(call(place, "write-file(\"new\", [1])", &[]).run(), NO_DIRECTORY);
        refused(call(place, "escape(\"../../../etc/passwd\")", &[]).run(), "no directory was granted");
        for name in ["evil-command", "evil-command-p1"] {
            place.work(name, ["--", "read", &secret]).run().fails(1, "RW0408").says(NO_DIRECTORY);
        }
    });
}

#[test]
fn a_directory_to_read() {
    let place = with_files();
    for grant in ["data::/data:ro", "./data/::/data:ro", &format!("{}::/data:ro", place.home().path("data"))] {
        call(&place, "read-file(\"/data/file\")", &["--dir", grant]).run().ok().prints(HELLO);
    }
    let run = |what: &str| call(&place, what, &["--dir", "data::/data:ro"]).run();
    run("granted-directories()").ok().prints("[\"/data\"]\n");
    run("read-file(\"/data/inside-link\")").ok().prints(HELLO);
    run("list-directory(\"/data\")").ok().prints("ok([\"absolute-link\", \"file\", \"inner\", \"inside-link\", \"link\"])\n");
    for what in ["write-file(\"/data/file\", [1])", "write-file(\"/data/new\", [1])"] {
        refused(run(what), "Operation not permitted (os error 63)");
    }
    assert_eq!(place.home().read("data/file"), b"hello");
    assert!(!fs::exists(place.home().path("data/new")).unwrap());
    for name in ["evil-command", "evil-command-p1"] {
        let read = |file: &str| place.work(name, ["--dir", "data::/data:ro", "--", "read", file]).run();
        read("/data/file").ok().prints("hello");
        read("/data/link").fails(1, "RW0408");
        read("secret").fails(1, "RW0408");
    }
}

#[test]
fn a_directory_to_write() {
    let place = with_files();
    let run = |what: &str| call(&place, what, &["--dir", "data::/data"]).run();
    run("write-file(\"/data/new\", [104, 105])").ok();
    assert_eq!(place.home().read("data/new"), b"hi");
    run("write-file(\"/data/inner/new\", [104, 105])").ok();
    assert_eq!(place.home().read("data/inner/new"), b"hi");
    place.work("evil-command-p1", ["--dir", "data::/data", "--", "create", "/data/made"]).run().ok();
    assert_eq!(place.home().read("data/made"), b"written by a guest\n");
    // Two directories, each with its own right, and the working directory itself.
    let both = ["--dir", "data::/in:ro", "--dir", "data/inner::/out"];
    call(&place, "granted-directories()", &both).run().ok().prints("[\"/in\", \"/out\"]\n");
    call(&place, "write-file(\"/out/two\", [50])", &both).run().ok();
    refused(call(&place, "write-file(\"/in/two\", [50])", &both).run(), "Operation not permitted (os error 63)");
    call(&place, "read-file(\"/in/inner/two\")", &both).run().ok().prints("ok([50])\n");
    call(&place, "read-file(\"data/file\")", &["--dir", ".::.:ro"]).run().ok().prints(HELLO);
}

/// Whatever a path says, it leads to nothing outside.
#[test]
fn a_directory_is_not_left() {
    let place = with_files();
    let secret = place.home().path("secret");
    for grant in ["data::/data:ro", "data::/data"] {
        for path in
            ["../secret", "inner/../../secret", "link", "absolute-link", &secret, "/etc/passwd", "../../../../../../etc/passwd", "/"]
        {
            let output = call(&place, &format!("escape({path:?})"), &["--dir", grant]).run().fails(1, "RW0411");
            assert!(output.stdout().starts_with("err(\"/data: "), "{path}: {output:?}");
            assert!(!output.stdout().contains("116, 104, 101"), "{path}: {output:?}");
        }
        for target in ["../secret", &secret] {
            call(&place, &format!("escape-by-link({target:?})"), &["--dir", grant]).run().fails(1, "RW0411");
        }
        refused(call(&place, "read-file(\"/data/../secret\")", &["--dir", grant]).run(), "Operation not permitted (os error 63)");
    }
    assert_eq!(place.home().read("secret"), b"the user's");
    let left: Vec<_> = fs::read_dir(place.home().path("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "{left:?}");
}

#[test]
fn directories_that_cannot_be_granted() {
    let home = Home::new();
    home.write("file", "x");
    let run = |grant: &str| home.rwasm(["run", &guest("evil-wasi"), "--call", "granted-directories()", "--dir", grant]).run();
    let missing = run("missing::/data").fails(2, "RW0302").prints("");
    insta::assert_snapshot!(home.tidy(&missing.stderr()), @r#"error[RW0302]: the granted directory HOME/work/missing does not exist; make it, or check --dir"#);
    run("file::/data").fails(2, "RW0302").prints("");
    for wrong in ["data", "data:/data", "::/data", "data::"] {
        run(wrong).fails(2, "RW0002").says("HOST::GUEST[:ro]");
    }
    // On a cluster there is no telling whose directory it would be.
    let cluster = Cluster::start(0);
    let refused = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "granted-directories()", "--dir", "/tmp::/data"]).run();
    insta::assert_snapshot!(refused.fails(2, "RW0304").prints("").stderr(), @"error[RW0304]: --dir /tmp::/data names a directory of this machine, and tasks run on nodes; use `rwasm run`, or name a volume that nodes offer: --dir NAME::GUEST");
}

/// A listener that tells how many came, and what they sent. It is there as long as the test.
struct Door {
    listener: TcpListener,
}

impl Door {
    fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Somebody has come, and gone again.
    fn visited(&self) {
        let (mut visitor, _) = self.listener.accept().unwrap();
        visitor.read_to_end(&mut Vec::new()).unwrap();
    }

    /// Nobody has come.
    fn untouched(&self) {
        self.listener.set_nonblocking(true).unwrap();
        assert!(self.listener.accept().is_err(), "a guest that was not granted it came in");
        self.listener.set_nonblocking(false).unwrap();
    }
}

#[test]
fn without_a_destination_there_is_no_network() {
    everywhere(|place| {
        let door = Door::open();
        let note = "rwasm: a socket was refused: no network destination was granted; submit with --allow-net HOST:PORT";
        for what in [
            format!("connect-to(\"127.0.0.1\", {})", door.port()),
            format!("send-datagram(\"127.0.0.1\", {}, [1])", door.port()),
            "listen-on(0)".to_owned(),
        ] {
            call(place, &what, &[]).run().fails(1, "RW0411").has("access-denied").says(note);
        }
        for what in ["resolve-name(\"localhost\")", "connect-to(\"localhost\", 80)"] {
            call(place, what, &[]).run().fails(1, "RW0411").has("access-denied").says("rwasm: look-up of `localhost` refused");
        }
        door.untouched();
    });
}

#[test]
fn a_granted_destination_is_reached() {
    everywhere(|place| {
        let (door, other) = (Door::open(), Door::open());
        let (address, port) = (format!("127.0.0.1:{}", door.port()), door.port());
        let connect =
            |host: &str, port: u16, grant: &str| call(place, &format!("connect-to({host:?}, {port})"), &["--allow-net", grant]).run();
        thread::scope(|scope| {
            scope.spawn(|| door.visited());
            connect("127.0.0.1", port, &address).ok().prints("ok(\"127.0.0.1\")\n").quiet();
        });
        thread::scope(|scope| {
            scope.spawn(|| door.visited());
            connect("localhost", port, &format!("localhost:{port}")).ok().quiet();
        });
        // Another port, another address, and a name that was not granted although its address was.
        let refused = connect("127.0.0.1", other.port(), &address).fails(1, "RW0411").has("access-denied");
        refused.says(&format!("rwasm: connection to 127.0.0.1:{} refused: it was not granted; submit with --allow-net", other.port()));
        connect("127.0.0.2", port, &address).fails(1, "RW0411").says("rwasm: connection to 127.0.0.2:");
        connect("localhost", port, &address).fails(1, "RW0411").says("rwasm: look-up of `localhost` refused");
        other.untouched();
        call(place, "listen-on(0)", &["--allow-net", &address]).run().fails(1, "RW0411").says("guests only connect out");
    });
}

#[test]
fn datagrams_go_where_they_may() {
    let place = Place::Embedded(Home::new());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let send = |port: u16, grant: u16| {
        call(&place, &format!("send-datagram(\"127.0.0.1\", {port}, [104, 105])"), &["--allow-net", &format!("127.0.0.1:{grant}")]).run()
    };
    send(port, port).ok().prints("ok(1)\n").quiet();
    let mut bytes = [0; 8];
    let (count, _) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"hi");
    // What a guest is told of a datagram that was refused is up to the standard; it was not sent.
    send(port, 9).says("rwasm: connection to 127.0.0.1:");
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv_from(&mut bytes).is_err());
}

#[test]
fn destinations_that_cannot_be_granted() {
    let home = Home::new();
    for wrong in ["localhost", "localhost:0", "localhost:70000", "http://localhost:80", ":80", "::1:80"] {
        let run = home.rwasm(["run", &guest("evil-wasi"), "--call", "burn(1)", "--allow-net", wrong]).run();
        run.exits(2).prints("").says("--allow-net");
    }
}

/// What was granted to one task is not there for the next one.
#[test]
fn grants_end_with_their_job() {
    let cluster = Place::Cluster(Box::new(Cluster::build().args(&["--allow-net", "127.0.0.1:*"]).start()));
    call(&cluster, "environment()", &["--env", "A=1"]).run().ok().prints("[(\"A\", \"1\")]\n");
    call(&cluster, "environment()", &[]).run().ok().prints("[]\n");
    let door = Door::open();
    let connect = format!("connect-to(\"127.0.0.1\", {})", door.port());
    thread::scope(|scope| {
        scope.spawn(|| door.visited());
        call(&cluster, &connect, &["--allow-net", &format!("127.0.0.1:{}", door.port())]).run().ok();
    });
    call(&cluster, &connect, &[]).run().fails(1, "RW0411");
    door.untouched();
}

/// A guest gets what its submit asks for, its tenant's policy allows, and its node offers. Whoever says no is named.
#[test]
fn submit_tenant_and_node_each_say_no() {
    let home = Home::new();
    fs::create_dir(home.path("srv")).unwrap();
    home.write("srv/file", "hello");
    let offers = format!("data={}:ro", home.path("srv"));
    let door = Door::open();
    let address = format!("127.0.0.1:{}", door.port());
    let cluster = Cluster::build().args(&["--volume", &offers, "--allow-net", &address]).start();
    cluster.rwasm(["tenant", "create", "acme"]).run().ok();
    let token = cluster.rwasm(["token", "create", "--tenant", "acme"]).run().ok().stdout();
    let acme = |what: &str, grants: &[&str]| {
        cluster.rwasm(["submit", &guest("evil-wasi"), "--call", what]).args(grants).env("RWASM_TOKEN", token.trim()).run()
    };
    let read = "read-file(\"/data/file\")";
    let connect = format!("connect-to(\"127.0.0.1\", {})", door.port());
    let policy = |rules: &[&str]| cluster.rwasm(["tenant", "policy", "set", "acme"]).args(rules).run().ok();
    let volume = ["--dir", "data::/data:ro"];
    // The tenant, who may be granted nothing yet.
    let refused = acme(read, &volume).fails(2, "RW0531").prints("");
    insta::assert_snapshot!(refused.stderr(), @"error[RW0531]: the policy of tenant `acme` does not allow volume `data`; an admin can allow it: `rwasm tenant policy set acme --volume data:ro`");
    acme(&connect, &["--allow-net", &address]).fails(2, "RW0531").says(&format!("does not allow connections to {address}"));
    // A wildcard does not lead into the machine.
    policy(&["--volume", "*", "--allow-net", "*:*"]);
    acme(&connect, &["--allow-net", &address]).fails(2, "RW0531");
    policy(&["--volume", "*", "--allow-net", "127.0.0.1:*", "--allow-net", "localhost:*"]);
    // The node.
    let refused = acme(read, &["--dir", "data::/data"]).fails(2, "RW0532").prints("");
    insta::assert_snapshot!(refused.stderr(), @"error[RW0532]: no node offers volume `data` to be written; start one that does, with --volume NAME=DIR");
    acme(read, &["--dir", "other::/data:ro"]).fails(2, "RW0532").says("no node offers volume `other`");
    acme(&connect, &["--allow-net", "127.0.0.1:9"]).fails(2, "RW0532").says("no node offers connections to 127.0.0.1:9");
    acme(&connect, &["--allow-net", &format!("localhost:{}", door.port())]).fails(2, "RW0532");
    // The submit.
    refused_by_guest(acme(read, &[]));
    acme(&connect, &[]).fails(1, "RW0411").says("RW0305");
    door.untouched();
    // All three say yes.
    acme(read, &volume).ok().prints(HELLO);
    refused_by_guest(acme("write-file(\"/data/new\", [1])", &volume));
    assert!(!fs::exists(home.path("srv/new")).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| door.visited());
        acme(&connect, &["--allow-net", &address]).ok();
    });
    // The first tenant may be granted whatever nodes offer.
    cluster.rwasm(["submit", &guest("evil-wasi"), "--call", read]).args(volume).run().ok().prints(HELLO);
}

/// What was refused has ended, and says why; it does not wait for its driver.
#[test]
fn a_refused_submit_leaves_nothing_that_goes_on() {
    let cluster = Cluster::start(0);
    let submit = |args: &[&str]| cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--dir", "data::/data"]).args(args).run();
    submit(&[]).fails(2, "RW0532");
    submit(&["--no-wait"]).fails(2, "RW0532");
    let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
    for job in jobs["rows"].as_array().unwrap() {
        assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &"RW0532".into()), "{job}");
    }
    assert_eq!(jobs["total"], 2, "{jobs}");
}

fn refused_by_guest(output: Output) {
    output.fails(1, "RW0411").has("err(");
}

/// Tasks go to nodes that offer what they were granted, and to no others, wherever they were submitted.
#[test]
fn a_volume_is_found_on_the_node_that_offers_it() {
    let home = Home::new();
    for (dir, content) in [("one", "hello"), ("two", "hello")] {
        fs::create_dir(home.path(dir)).unwrap();
        home.write(&format!("{dir}/file"), content);
    }
    let mut cluster = Cluster::start(1);
    let of = |name: &str| format!("data={}:ro", home.path(name));
    cluster.add_node_with(&["--volume", &of("one")]);
    let lines = "[\"/data/file\"]\n".repeat(20);
    let map = || {
        let map = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "read-file", "--dir", "data::/data:ro"]);
        map.stdin(lines.clone()).run().ok()
    };
    assert_eq!(map().stdout().lines().count(), 20);
    let listing = cluster.rwasm(["list", "tasks", "--json"]).run().ok().json();
    let nodes: Vec<&str> = listing["rows"].as_array().unwrap().iter().map(|task| task["node"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["n3"; 20]);
    // Once the node is gone, nobody offers it.
    cluster.nodes[1].kill();
    crate::harness::eventually("the node is lost", || {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        (nodes["rows"][2]["alive"] == false).then_some(())
    });
    let submit = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "read-file(\"/data/file\")", "--dir", "data::/data:ro"]).run();
    submit.fails(2, "RW0532").says("no node offers volume `data`");
}

#[test]
fn offers_that_cannot_be_kept_are_refused_at_start() {
    let home = Home::new();
    let start = |args: &[&str]| home.rwasm(["start", "--head", "--port", "0", "--client-port", "0"]).args(args).run();
    start(&["--volume", "data=missing"]).fails(2, "RW0302").says("the directory missing of volume `data` does not exist");
    start(&["--volume", "data"]).fails(2, "RW0002").says("NAME=DIR");
    start(&["--volume", "data=.", "--volume", "data=/"]).fails(2, "RW0002").says("volume `data` is offered twice");
    start(&["--allow-net", "example.org"]).fails(2, "RW0303");
}
