//! Collects the facts: the kernel's files, three directories, ports, an engine and a compile worker, and the cluster that runs here.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Access, MemfdFlags, access, memfd_create, statvfs},
    process::{Resource, geteuid, getrlimit},
};
use rwasm_client::Endpoint;
use rwasm_engine::{Engine, EngineOptions};
use rwasm_runtime::Dirs;
use rwasm_types::{
    Code, Error, Result,
    api::{ClusterStatus, Query},
};
use rwasm_values::Profile;

use super::{Clock, Cluster, Dir, Facts, Fault, Holder, Pools, Port};
use crate::{
    args::{EngineArgs, TargetArgs},
    daemon::{Here, registered},
    embedded::{compile_options, pool_options},
    machine, target,
};

/// How long a cluster may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What a compile worker is given: text, so that it is parsed, adapted and described.
const SMALLEST: &[u8] = b"(module (func (export \"f\")))";

/// Looks at this machine, and at the cluster that commands are led to.
pub(crate) async fn collect(target: &TargetArgs) -> Facts {
    let (wall, monotonic) = (SystemTime::now(), Instant::now());
    let dirs = Dirs::from_env();
    let here = registered(&dirs);
    let (engine, compiling) = engine(&dirs).await;
    let cluster = cluster(target).await;
    let uname = rustix::system::uname();
    Facts {
        kernel: uname.release().to_string_lossy().into_owned(),
        processor: uname.machine().to_string_lossy().into_owned(),
        memfd: memfd_create("rwasm-doctor", MemfdFlags::CLOEXEC).is_ok(),
        open_files: getrlimit(Resource::Nofile).maximum,
        mappings: number("/proc/sys/vm/max_map_count"),
        address_space: getrlimit(Resource::As).current,
        memory: machine::total_bytes(),
        memory_limit: machine::memory_limit(),
        cores: cores(),
        dirs: vec![
            dir("runtime", "RWASM_RUNTIME_DIR", &dirs.runtime),
            dir("state", "RWASM_STATE_DIR", &dirs.state),
            dir("cache", "RWASM_CACHE_DIR", &dirs.cache),
        ],
        ports: ports(&here),
        clock: clock(wall, monotonic, &dirs.state),
        engine,
        compiling,
        cluster,
        version: env!("CARGO_PKG_VERSION"),
        gone: here.gone.len(),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Cores of the machine, and those that this process may use.
fn cores() -> (u64, u64) {
    let usable = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let all = info.lines().filter(|line| line.starts_with("processor")).count() as u64;
    (all.max(usable), usable)
}

async fn engine(dirs: &Dirs) -> (Result<Pools>, Result<()>) {
    let (args, pool) = (EngineArgs::default(), pool_options(&EngineArgs::default()));
    let options = EngineOptions { compile: compile_options(&args, dirs), pool, guest_memory_bytes: 0, reserved: std::sync::Arc::default() };
    match Engine::new(options) {
        Ok(engine) => {
            let pools = Pools {
                wanted: pool.instances_max,
                fast: engine.instances_max(Profile::Fast),
                asynchronous: engine.instances_max(Profile::Async),
            };
            (Ok(pools), engine.inspect(SMALLEST).await.map(drop))
        }
        Err(error) => (Err(error), rwasm_engine::inspect(compile_options(&args, dirs), SMALLEST).await.map(drop)),
    }
}

fn dir(what: &'static str, variable: &'static str, path: &Path) -> Dir {
    // What is not there yet is made in the nearest directory that is.
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or_else(|| Path::new("/"));
    let metadata = fs::metadata(there);
    let fault = match &metadata {
        Ok(metadata) if !metadata.is_dir() => Some(Fault::NoDirectory),
        Err(_) => Some(Fault::NoDirectory),
        Ok(metadata) if there == path && metadata.uid() != geteuid().as_raw() => Some(Fault::Foreign),
        Ok(_) if access(there, Access::WRITE_OK | Access::EXEC_OK).is_err() => Some(Fault::ReadOnly),
        Ok(_) => None,
    };
    let free = statvfs(there).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Dir { what, variable, path: path.to_owned(), fault, free }
}

fn ports(here: &Here) -> Vec<Port> {
    let ours: Vec<u32> = here.running.iter().map(|daemon| daemon.ready.pid).collect();
    let port = |number, what, flag| Port { number, what, flag, holder: holder(number, &ours) };
    vec![port(6379, "nodes that join", "--port"), port(Endpoint::PORT_DEFAULT, "drivers", "--client-port")]
}

fn holder(number: u16, ours: &[u32]) -> Holder {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
        Ok(_) => Holder::Nobody,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let sockets = listening(number);
            ours.iter().find(|pid| holds(**pid, &sockets)).map_or(Holder::Other, |pid| Holder::Ours { pid: *pid })
        }
        Err(error) => Holder::Refused { why: error.to_string() },
    }
}

/// The links by which descriptors name the sockets that listen on a port.
fn listening(number: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| listens(line, number)).collect()
}

/// The socket of a line of `/proc/net/tcp`, if it listens on a port.
fn listens(line: &str, number: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    (port == number && *fields.get(3)? == LISTEN).then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

fn clock(wall: SystemTime, monotonic: Instant, state: &Path) -> Clock {
    let now = SystemTime::now();
    let went = match now.duration_since(wall) {
        Ok(forward) => i64::try_from(forward.as_millis()).unwrap_or(i64::MAX),
        Err(back) => i64::try_from(back.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    let elapsed = i64::try_from(monotonic.elapsed().as_millis()).unwrap_or(i64::MAX);
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let newest = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    Clock {
        now_s: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        drift_ms: went.saturating_sub(elapsed),
        ahead_s: newest.and_then(|newest| newest.duration_since(now).ok()).map_or(0, |ahead| ahead.as_secs()),
        synchronised: synchronised(),
    }
}

/// What the usual time services say, as far as they leave it where everybody can read it.
fn synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    // chrony and ntpd write how fast the clock runs once they have found out.
    if ["/var/lib/chrony/drift", "/var/lib/chrony/chrony.drift", "/var/lib/ntp/ntp.drift", "/var/lib/ntpsec/ntp.drift"]
        .iter()
        .any(|path| Path::new(path).exists())
    {
        return Some(true);
    }
    Path::new("/run/systemd/timesync").exists().then_some(false)
}

async fn cluster(target: &TargetArgs) -> Option<Cluster> {
    let found = match target::find(target) {
        Ok(found) => found?,
        Err(error) => return Some(Cluster { address: target.address.clone().unwrap_or_default(), version: Err(error) }),
    };
    let version = async {
        let status: ClusterStatus = found.connect().await?.query(&Query::Status).await?;
        Ok(status.version)
    };
    let late = |_elapsed| Err(Error::new(Code::DEADLINE, "the head did not answer in time").hint("see its log"));
    let version = tokio::time::timeout(ANSWER_WITHIN, version).await.unwrap_or_else(late);
    Some(Cluster { address: found.address().to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_the_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        let own = std::process::id();
        assert_eq!(holder(number, &[own]), Holder::Ours { pid: own });
        assert_eq!(holder(number, &[]), Holder::Other);
        drop(listener);
        assert_eq!(holder(number, &[own]), Holder::Nobody);
        assert_eq!(listens("  0: 0100007F:18EB 00000000:0000 0A 0:0 0:0 0 0 0 4711 1", 6379).as_deref(), Some("socket:[4711]"));
        assert_eq!(listens("  0: 0100007F:18EB 00000000:0000 01 0:0 0:0 0 0 0 4711 1", 6379), None);
        assert_eq!(listens("garbage", 1), None);
    }

    #[test]
    fn directories_are_looked_at_where_they_will_be_made() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let fault = |path: &str| dir("state", "X", &home.path().join(path)).fault;
        assert_eq!(fault("a/b/c"), None);
        assert_eq!(fault("file"), Some(Fault::NoDirectory));
        assert_eq!(fault("file/below"), Some(Fault::NoDirectory));
        assert!(dir("state", "X", home.path()).free.is_some());
    }
}
