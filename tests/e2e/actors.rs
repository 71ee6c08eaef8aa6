//! Actors: instances that stay, called in order, ended in every way.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest};

/// Makes an actor, and gives its id.
fn create(cluster: &Cluster, name: &str, call: &str, args: &[&str]) -> String {
    cluster.rwasm(["actor", "create", &guest(name), "--call", call]).args(args).run().ok().stdout().trim().to_owned()
}

fn status(cluster: &Cluster, actor: &str) -> Value {
    cluster.rwasm(["actor", "status", actor, "--json"]).run().ok().json()
}

/// Waits until an actor is in a state, and gives what is said of it then.
fn until(cluster: &Cluster, actor: &str, state: &str) -> Value {
    eventually(state, || Some(status(cluster, actor)).filter(|record| record["state"] == state))
}

fn counter(cluster: &Cluster, args: &[&str]) -> String {
    create(cluster, "counter", "counter(5)", args)
}

#[track_caller]
fn value_is(cluster: &Cluster, actor: &str, value: &str) {
    cluster.rwasm(["actor", "call", actor, "value()"]).run().ok().prints(value);
}

#[test]
fn an_actor_keeps_its_state_between_calls_of_any_driver() {
    let cluster = Cluster::start(0);
    let actor = counter(&cluster, &[]);
    let call = |call: &str| cluster.rwasm(["actor", "call", &actor, call]).run();
    call("increment(2)").ok().prints("7\n");
    call("counter.increment(-10)").ok().prints("-3\n");
    call("divide(0)").fails(1, "RW0411").prints("err(\"-3 cannot be divided by 0\")\n");
    call("divide(3)").ok().prints("ok(-1)\n");
    call("history()").ok().prints("[7, -3, -1]\n");
    cluster.rwasm(["actor", "call", &actor, "history()", "--json"]).run().ok().prints("[7,-3,-1]\n");

    let record = status(&cluster, &actor);
    assert_eq!((&record["state"], &record["node"], &record["restarts"]), (&json!("alive"), &json!("n1"), &json!(0)), "{record}");
    assert_eq!((&record["calls"], &record["detached"]), (&json!(0), &json!(true)), "{record}");
    cluster.rwasm(["actor", "list"]).run().ok().has(&actor).has("counter").has("alive");
    cluster.rwasm(["list", "actors", "--json"]).run().ok().has(&actor);
    // A call is a task of the job that made it.
    cluster.rwasm(["list", "tasks"]).run().ok().has("[method]counter.increment").has("[constructor]counter");

    let parsed = create(&cluster, "counter", "counter.parse(\"41\")", &[]);
    cluster.rwasm(["actor", "call", &parsed, "increment(1)"]).run().ok().prints("42\n");
    value_is(&cluster, &actor, "-1\n");

    cluster.rwasm(["actor", "kill", &actor]).run().ok().has(&actor);
    let record = until(&cluster, &actor, "dead");
    assert_eq!(record["error"]["code"], "RW0409", "{record}");
    call("value()").fails(1, "RW0841");
    value_is(&cluster, &parsed, "42\n");
    cluster.rwasm(["actor", "kill", &parsed, "--drain"]).run().ok();
    assert_eq!(until(&cluster, &parsed, "dead")["error"]["code"], "RW0841");
}

#[test]
fn calls_of_a_driver_run_in_their_order_whatever_others_do() {
    let cluster = Cluster::start(0);
    let actor = create(&cluster, "counter", "counter(0)", &[]);
    let lines = |by: i64| (0..1_000).fold(String::new(), |mut all, _| writeln!(all, "[{by}]").map(|()| all.clone()).unwrap_or(all));
    let [ones, thousands] = [1, 1_000_000].map(|by| cluster.home.write(&format!("{by}.jsonl"), lines(by)));
    let call = |map: &str| cluster.rwasm(["actor", "call", &actor, "--map", map, "--func", "increment"]).spawn();
    let drivers = [call(&ones), call(&thousands)];
    let [ones, thousands] = drivers.map(|driver| driver.wait().ok().json_lines());
    let part = |line: &Value, of: i64| if of == 1 { line.as_i64().unwrap() % 1_000_000 } else { line.as_i64().unwrap() / 1_000_000 };
    assert!(ones.iter().map(|line| part(line, 1)).eq(1..=1_000), "a driver's calls are in order");
    assert!(thousands.iter().map(|line| part(line, 1_000_000)).eq(1..=1_000), "and so are another's");
    value_is(&cluster, &actor, "1000001000\n");
}

#[test]
fn idle_actors_hold_no_core() {
    let cluster = Cluster::build().cpus(1).start();
    let actors: Vec<String> = (0..3).map(|_| counter(&cluster, &[])).collect();
    cluster.rwasm(["submit", &guest("hello"), "--call", "greet(\"Ada\")"]).run().ok().prints("\"Hello, Ada!\"\n");
    let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
    assert_eq!(nodes["rows"][0]["used"]["cpu"], json!(0), "{nodes}");
    // One that asks for a core holds it.
    let greedy = counter(&cluster, &["--num-cpus", "1"]);
    let waiting = create(&cluster, "counter", "counter(5)", &["--num-cpus", "1", "--no-wait"]);
    assert_eq!(status(&cluster, &waiting)["state"], "pending");
    value_is(&cluster, &actors[2], "5\n");
    cluster.rwasm(["actor", "kill", &greedy]).run().ok();
    until(&cluster, &waiting, "alive");
}

#[test]
fn a_name_is_one_of_a_kind_and_free_again_after_its_actor() {
    let cluster = Cluster::start(0);
    let actor = counter(&cluster, &["--name", "visits"]);
    let again = || cluster.rwasm(["actor", "create", &guest("counter"), "--call", "counter(9)", "--name", "visits"]);
    let error = again().args(["--json"]).run().exits(2).json_error();
    assert_eq!((&error["code"], &error["fields"]["actor"]), (&json!("RW0528"), &json!(actor)), "{error}");
    again().args(["--get-if-exists"]).run().ok().prints(&format!("{actor}\n"));
    let other = counter(&cluster, &["--name", "visits", "--namespace", "shop"]);
    cluster.rwasm(["actor", "call", "shop/visits", "increment(1)"]).run().ok().prints("6\n");
    value_is(&cluster, "visits", "5\n");
    assert_ne!(actor, other);
    cluster.rwasm(["actor", "call", "nobody", "value()"]).run().fails(2, "RW0003");
    cluster.rwasm(["actor", "kill", "visits"]).run().ok();
    let successor = eventually("the name is free", || {
        let made = again().run();
        (made.code() == 0).then(|| made.stdout().trim().to_owned())
    });
    assert_ne!(successor, actor);
    value_is(&cluster, "visits", "9\n");
    let long = "x".repeat(1 << 20);
    cluster.rwasm(["actor", "create", &guest("counter"), "--call", "counter(1)", "--name", "x/y"]).run().exits(2);
    cluster.rwasm(["actor", "call", &long[..100_000], "value()"]).run().exits(2);
}

#[test]
fn what_an_actor_is_asked_that_it_cannot_do_is_refused() {
    let cluster = Cluster::start(0);
    let actor = counter(&cluster, &[]);
    let call = |actor: &str, call: &str| cluster.rwasm(["actor", "call", actor, call]).run();
    call(&actor, "increment(\"x\")").fails(2, "RW0204");
    call(&actor, "increment()").fails(2, "RW0203");
    call(&actor, "vanish()").fails(2, "RW0201").says("counter.increment");
    call("a1-999-0", "value()").fails(2, "RW0003");
    call("a7-1-0", "value()").fails(2, "RW0003");
    let create = |call: &str| cluster.rwasm(["actor", "create", &guest("evil-actor"), "--call", call]).run();
    create("bomb.refuse()").fails(1, "RW0411").says("not today");
    create("bomb.explode()").fails(1, "RW0401");
    create("bomb.count()").fails(2, "RW0202");
    cluster.rwasm(["actor", "create", &guest("hello"), "--call", "greet(\"x\")"]).run().fails(2, "RW0202");
    cluster.rwasm(["submit", &guest("counter"), "--call", "counter(1)"]).run().fails(2, "RW0202").says("rwasm actor create");
    let bomb = create("bomb()").ok().stdout().trim().to_owned();
    call(&bomb, "part()").fails(2, "RW0202").says("do not leave the actor");
    call(&bomb, "dud.poke()").fails(2, "RW0201");
    let huge = cluster.rwasm(["actor", "create", &guest("counter"), "--call", "counter(1)", "--num-gpus", "5"]).run();
    huge.fails(2, "RW0801");
}

#[test]
fn an_actor_that_traps_or_runs_away_ends_and_its_calls_say_so() {
    let cluster = Cluster::start(0);
    let bomb = |args: &[&str]| create(&cluster, "evil-actor", "bomb()", args);
    for (attack, code, args) in
        [("trap()", "RW0401", &[][..]), ("spin()", "RW0402", &["--timeout", "200ms"]), ("spin()", "RW0403", &["--cpu-time", "100ms"])]
    {
        let actor = bomb(&[]);
        cluster.rwasm(["actor", "call", &actor, "count()"]).run().ok().prints("1\n");
        cluster.rwasm(["actor", "call", &actor, attack]).args(args).run().fails(1, code);
        assert_eq!(until(&cluster, &actor, "dead")["error"]["code"], code);
        cluster.rwasm(["actor", "call", &actor, "count()"]).run().fails(1, "RW0841");
    }
    let actor = bomb(&["--memory", "8MiB"]);
    cluster.rwasm(["actor", "call", &actor, "grow()"]).run().exits(1);
    until(&cluster, &actor, "dead");
    // A result that is too large is the call's fault, and the actor lives on.
    let actor = bomb(&[]);
    cluster.rwasm(["actor", "call", &actor, "bytes(100000)", "--max-result", "1KiB"]).run().fails(1, "RW0407");
    // Its destructor does not return, and holds up nobody.
    let draining = bomb(&[]);
    cluster.rwasm(["actor", "kill", &draining, "--drain"]).run().ok();
    assert_eq!(until(&cluster, &draining, "dead")["error"]["code"], "RW0402");
    // Nothing of all that is left behind.
    let alive = cluster.rwasm(["actor", "list", "--json"]).run().ok().json();
    let alive = alive["rows"].as_array().unwrap().iter().filter(|row| row["state"] == "alive").count();
    assert!(alive <= 1, "{alive} are alive");
}

#[test]
fn an_actor_that_may_be_made_anew_is_with_a_new_state() {
    let cluster = Cluster::start(0);
    let actor = create(&cluster, "evil-actor", "bomb()", &["--max-restarts", "1"]);
    let call = |call: &str| cluster.rwasm(["actor", "call", &actor, call]).run();
    call("count()").ok().prints("1\n");
    call("count()").ok().prints("2\n");
    call("trap()").fails(1, "RW0401");
    call("count()").ok().prints("1\n");
    let record = status(&cluster, &actor);
    assert_eq!((&record["state"], &record["restarts"]), (&json!("alive"), &json!(1)), "{record}");
    call("trap()").fails(1, "RW0401");
    until(&cluster, &actor, "dead");
    call("count()").fails(1, "RW0841");
}

#[test]
fn a_call_that_is_cancelled_may_end_as_it_should_and_else_costs_the_actor() {
    let cluster = Cluster::start(0);
    let actor = create(&cluster, "evil-actor", "bomb()", &[]);
    let cancelled = |call: &str| {
        let driver = cluster.rwasm(["actor", "call", &actor, call]).spawn();
        eventually("the call runs", || (status(&cluster, &actor)["calls"] == 1).then_some(()));
        driver.signal(rustix::process::Signal::INT);
        driver.wait().exits(130);
    };
    cancelled("spin-until-asked()");
    cluster.rwasm(["actor", "call", &actor, "count()"]).run().ok().prints("2\n");
    cancelled("spin()");
    until(&cluster, &actor, "dead");
}

#[test]
fn an_actor_outlives_its_driver_and_the_head() {
    let mut cluster = Cluster::start(1);
    let actor = counter(&cluster, &["--name", "stays", "--node", "n2"]);
    assert_eq!(status(&cluster, &actor)["node"], "n2");
    cluster.rwasm(["actor", "call", "stays", "increment(1)"]).run().ok().prints("6\n");
    cluster.head.kill();
    cluster.start_head_again();
    let called = eventually("the actor is called again", || {
        let called = cluster.rwasm(["actor", "call", "stays", "increment(1)"]).run();
        (called.code() == 0).then(|| called.stdout())
    });
    assert_eq!(called, "7\n", "its state is what it was");
    assert_eq!(status(&cluster, &actor)["restarts"], 0);
}

#[test]
fn an_actor_of_a_lost_node_is_dead_or_made_anew_on_another() {
    let mut cluster = Cluster::start(1);
    let label = ["--label", "kind=actors"];
    cluster.add_node_with(&["--labels", "kind=actors"]);
    let mortal = counter(&cluster, &label);
    let [lasting, patient] = [0, 1].map(|_| counter(&cluster, &[&label[..], &["--max-restarts", "1"]].concat()));
    let place = status(&cluster, &lasting)["node"].clone();
    assert_eq!(place, "n3");
    cluster.rwasm(["actor", "call", &lasting, "increment(1)"]).run().ok().prints("6\n");
    let bomb = create(&cluster, "evil-actor", "bomb()", &label);
    let running = cluster.rwasm(["actor", "call", &bomb, "spin()"]).spawn();
    eventually("the call runs", || (status(&cluster, &bomb)["calls"] == 1).then_some(()));
    cluster.nodes[1].kill();
    running.wait().exits(1).says("RW08");
    assert_eq!(until(&cluster, &mortal, "dead")["error"]["code"], "RW0504");
    // It waits for a node of the kind that it needs.
    until(&cluster, &lasting, "restarting");
    cluster.add_node_with(&["--labels", "kind=actors"]);
    let record = until(&cluster, &lasting, "alive");
    assert_eq!(record["restarts"], 1, "{record}");
    value_is(&cluster, &lasting, "5\n");
    value_is(&cluster, &patient, "5\n");
    cluster.rwasm(["actor", "call", &mortal, "value()"]).run().fails(1, "RW0841");
}

#[test]
fn calls_beyond_what_an_actor_may_have_are_refused_one_by_one() {
    let cluster = Cluster::start(0);
    let actor = create(&cluster, "evil-actor", "bomb()", &["--max-pending-calls", "3"]);
    let running = cluster.rwasm(["actor", "call", &actor, "spin()", "--timeout", "60s"]).spawn();
    eventually("the call runs", || (status(&cluster, &actor)["calls"] == 1).then_some(()));
    let lines = cluster.home.write("calls.jsonl", "[]\n".repeat(5));
    let waiting = cluster.rwasm(["actor", "call", &actor, "--map", &lines, "--func", "count"]).spawn();
    eventually("calls wait", || (status(&cluster, &actor)["calls"] == 3).then_some(()));
    cluster.rwasm(["actor", "call", &actor, "count()"]).run().fails(1, "RW0843");
    cluster.rwasm(["actor", "kill", &actor]).run().ok();
    let lines = waiting.wait().exits(1).json_lines();
    let codes: Vec<&Value> = lines.iter().map(|line| &line["$error"]["code"]).collect();
    assert_eq!(codes, ["RW0841", "RW0841", "RW0843", "RW0843", "RW0843"]);
    running.wait().fails(1, "RW0841");
}
