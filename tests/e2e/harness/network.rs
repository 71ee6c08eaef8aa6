//! Machines in network namespaces: each reaches the first and nothing else. Only where the kernel lets us make them.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{Home, run::Run};

/// Namespaces that are gone with it. The first has an interface to each of the others.
#[derive(Debug)]
pub(crate) struct Network {
    /// What its names begin with, so that no two tests meet.
    prefix: String,
    machines: Vec<String>,
}

impl Network {
    /// Makes one namespace for each name; `None`, with a message, where that is not permitted.
    pub(crate) fn make(machines: &[&str]) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("rw{}x{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let network = Self { prefix, machines: machines.iter().map(|name| (*name).to_owned()).collect() };
        if !network.set_up() {
            eprintln!("skipped: network namespaces cannot be made here");
            return None;
        }
        Some(network)
    }

    fn set_up(&self) -> bool {
        let made = self.machines.iter().all(|machine| {
            let name = self.name(machine);
            ip(&["netns", "add", &name]) && ip(&["-n", &name, "link", "set", "lo", "up"])
        });
        let first = self.name(&self.machines[0]);
        made && (1..self.machines.len()).all(|number| {
            let (here, there) = (format!("v{number}a"), format!("v{number}b"));
            let name = self.name(&self.machines[number]);
            ip(&["-n", &first, "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name])
                && ip(&["-n", &first, "addr", "add", &format!("10.77.{number}.1/24"), "dev", &here])
                && ip(&["-n", &first, "link", "set", &here, "up"])
                && ip(&["-n", &name, "addr", "add", &format!("10.77.{number}.2/24"), "dev", &there])
                && ip(&["-n", &name, "link", "set", &there, "up"])
                // The first has one address for all of them, and forwards nothing from one to another.
                && ip(&["-n", &name, "route", "add", "10.77.0.1/32", "via", &format!("10.77.{number}.1")])
        }) && ip(&["-n", &first, "addr", "add", "10.77.0.1/32", "dev", "lo"])
    }

    fn name(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix)
    }

    /// The address of the first machine, as all others reach it.
    pub(crate) fn head_address(&self) -> String {
        "10.77.0.1".to_owned()
    }

    /// The address of another machine, as the first reaches it.
    pub(crate) fn address(&self, machine: &str) -> String {
        let number = self.machines.iter().position(|known| known == machine).expect("it is one of the network's machines");
        format!("10.77.{number}.2")
    }

    /// `rwasm ARGS…` on a machine.
    pub(crate) fn run<'a>(&self, home: &'a Home, machine: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'a> {
        home.command("ip", ["netns", "exec", &self.name(machine), env!("CARGO_BIN_EXE_rwasm")]).args(args)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            ip(&["netns", "del", &self.name(machine)]);
        }
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
