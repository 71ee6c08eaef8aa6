//! The first thing that must work, on both kinds of cluster.

use crate::harness::{Cluster, Home, guest};

#[test]
fn a_call_on_the_embedded_cluster() {
    let home = Home::new();
    home.rwasm(["run", &guest("hello"), "--call", "greet(\"you\")"]).run().ok().has("you");
}

#[test]
fn a_call_on_a_cluster() {
    let cluster = Cluster::start(1);
    cluster.rwasm(["submit", &guest("hello"), "--call", "greet(\"you\")"]).run().ok().has("you");
}
