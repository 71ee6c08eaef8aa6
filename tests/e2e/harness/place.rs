//! The two places where work runs. What holds on one holds on the other: they are the same code.

use std::ffi::OsStr;

use super::{Cluster, Home, guest, run::Run};

/// The embedded cluster of one command, or a cluster of daemons.
#[derive(Debug)]
pub(crate) enum Place {
    Embedded(Home),
    Cluster(Box<Cluster>),
}

impl Place {
    /// The user who submits.
    pub(crate) fn home(&self) -> &Home {
        match self {
            Self::Embedded(home) => home,
            Self::Cluster(cluster) => &cluster.home,
        }
    }

    /// `rwasm run GUEST ARGS…`, or `rwasm submit GUEST ARGS…`.
    pub(crate) fn work(&self, name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        self.work_file(&guest(name), args)
    }

    /// The same with the path of an artifact.
    pub(crate) fn work_file(&self, path: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        let command = if matches!(self, Self::Embedded(_)) { "run" } else { "submit" };
        self.home().rwasm([command, path]).args(args)
    }
}

/// Holds a test in both places.
pub(crate) fn everywhere(test: impl Fn(&Place)) {
    // What the embedded cluster grants by itself, a node has to offer.
    let offers = ["--allow-net", "127.0.0.1:*", "--allow-net", "127.0.0.2:*", "--allow-net", "localhost:*"];
    for place in [Place::Embedded(Home::new()), Place::Cluster(Box::new(Cluster::build().args(&offers).start()))] {
        // Shown if the test fails.
        eprintln!("now {}", if matches!(place, Place::Embedded(_)) { "embedded" } else { "on a cluster" });
        test(&place);
    }
}
