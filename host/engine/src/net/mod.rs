//! Which network destinations a guest may reach: those that were granted, checked again after names were resolved.
//!
//! A grant names a host and a port. A guest resolves granted names only, connects out only, and to the granted port only. An address
//! that a granted *name* resolves to is refused where it is loopback, link-local or otherwise special, so that a name under somebody
//! else's control cannot lead into the machine or the cluster; a grant that names such an address itself is taken at its word.

mod wasi;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;
use rwasm_types::{Code, NetGrant, special_address};
use wasmtime_wasi::{WasiCtxBuilder, sockets::SocketAddrUse};

pub(crate) use self::wasi::add_to_linker;
use crate::output::Pipe;

/// What tells the author of a guest where to read on.
const NOT_GRANTED: Code = Code::NOT_GRANTED;

/// How many refusals of one task are told to its author; each is one line on standard error.
const NOTES_MAX: u32 = 8;

/// Addresses of the cluster, which names may not lead guests to. What is added later holds for guests that run by then.
#[derive(Debug, Default)]
pub struct Reserved(RwLock<BTreeSet<IpAddr>>);

impl Reserved {
    /// Adds addresses.
    pub fn add(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.0.write().extend(addresses.into_iter().map(|address| address.to_canonical()));
    }

    /// Whether an address is one of the cluster's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.read().contains(&address.to_canonical())
    }
}

/// The network policy of one task.
#[derive(Clone)]
pub(crate) struct Net(Arc<Inner>);

struct Inner {
    grants: Vec<NetGrant>,
    /// Addresses that names may not lead to, beyond the special ranges: those of the cluster itself.
    reserved: Arc<Reserved>,
    stderr: Pipe,
    notes: AtomicU32,
}

impl Net {
    pub(crate) fn new(grants: &[NetGrant], reserved: &Arc<Reserved>, stderr: Pipe) -> Self {
        Self(Arc::new(Inner { grants: grants.to_vec(), reserved: Arc::clone(reserved), stderr, notes: AtomicU32::new(0) }))
    }

    /// Opens in a guest's context what the grants need; nothing without grants.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let any = !self.0.grants.is_empty();
        wasi.allow_tcp(any).allow_udp(any).allow_ip_name_lookup(any);
        let net = self.clone();
        wasi.socket_addr_check(move |address, purpose| {
            let net = net.clone();
            Box::pin(async move { net.allows(address, purpose).await })
        });
    }

    async fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            // A client socket is bound to no address and any port before it connects.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if address.ip().is_unspecified() && address.port() == 0 => true,
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind | SocketAddrUse::TcpListen => {
                self.note(&format!("listening on {address} refused: guests only connect out"));
                false
            }
            SocketAddrUse::TcpAccept => false,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => match self.reaches(address).await {
                Ok(()) => true,
                Err(why) => {
                    self.note(&format!("connection to {address} refused: {why}"));
                    false
                }
            },
        }
    }

    /// Whether the guest may make sockets. Each is a descriptor of this process, so one without a grant gets none; where it would go is not
    /// known yet.
    fn may_make_sockets(&self) -> bool {
        let any = !self.0.grants.is_empty();
        if !any {
            self.note(&format!(
                "a socket was refused: no network destination was granted; submit with --allow-net HOST:PORT ({NOT_GRANTED})"
            ));
        }
        any
    }

    async fn reaches(&self, address: SocketAddr) -> Result<(), String> {
        let ip = address.ip().to_canonical();
        let with_port = || self.0.grants.iter().filter(|grant| grant.port == address.port());
        if with_port().any(|grant| grant.address() == Some(ip) || (grant.host == "localhost" && ip.is_loopback())) {
            return Ok(());
        }
        for grant in with_port().filter(|grant| grant.address().is_none()) {
            let resolved = tokio::net::lookup_host((grant.host.as_str(), grant.port)).await;
            if resolved.is_ok_and(|mut found| found.any(|found| found.ip().to_canonical() == ip)) {
                return match special_address(ip).or_else(|| self.0.reserved.contains(ip).then_some("the cluster's own")) {
                    None => Ok(()),
                    Some(kind) => {
                        Err(format!("{} resolves to {ip}, which is {kind}; grant the address itself if that is meant", grant.host))
                    }
                };
            }
        }
        Err(format!("it was not granted; submit with --allow-net {address} ({NOT_GRANTED})"))
    }

    /// Whether the guest may ask what a name resolves to: granted names, and addresses, which need no asking.
    fn may_resolve(&self, name: &str) -> bool {
        let granted = self.0.grants.iter().any(|grant| grant.host.eq_ignore_ascii_case(name));
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if !granted && !literal {
            let shown: String = name.chars().take(253).flat_map(char::escape_default).collect();
            self.note(&format!("look-up of `{shown}` refused: it was not granted; submit with --allow-net {shown}:PORT ({NOT_GRANTED})"));
        }
        granted || literal
    }

    fn note(&self, text: &str) {
        if self.0.notes.fetch_add(1, Relaxed) < NOTES_MAX {
            // A full output limit is the guest's problem and ends it elsewhere.
            let _ = self.0.stderr.write(Bytes::from(format!("rwasm: {text}\n")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use rwasm_types::{Stream, TaskLimits};

    use super::*;
    use crate::{Output, limit::Budget};

    #[derive(Default)]
    struct Lines(parking_lot::Mutex<String>);

    impl Output for Lines {
        fn write(&self, _stream: Stream, bytes: Bytes) {
            self.0.lock().push_str(std::str::from_utf8(&bytes).unwrap());
        }

        fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<usize> {
            Poll::Ready(1 << 20)
        }
    }

    fn net(grants: &[&str], reserved: &[&str]) -> (Net, Arc<Lines>) {
        let lines = Arc::<Lines>::default();
        let output: Arc<dyn Output> = Arc::<Lines>::clone(&lines);
        let budget = Arc::new(Budget::new(TaskLimits::default(), Arc::new(crate::memory::GuestMemory::new(0)).share(0), Arc::default()));
        let stderr = Pipe::new(&output, &budget, Stream::Stderr);
        let grants: Vec<NetGrant> = grants.iter().map(|text| text.parse().unwrap()).collect();
        let known = Arc::<Reserved>::default();
        known.add(reserved.iter().map(|text| text.parse().unwrap()));
        (Net::new(&grants, &known, stderr), lines)
    }

    #[tokio::test]
    async fn only_granted_destinations_are_reached() {
        let (net, lines) = net(&["127.0.0.1:80", "localhost:81", "[::1]:82"], &[]);
        for (address, allowed) in [
            ("127.0.0.1:80", true),
            ("127.0.0.1:81", true),
            ("[::1]:81", true),
            ("[::1]:82", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:82", false),
            ("127.0.0.2:80", false),
            ("169.254.169.254:80", false),
            ("10.0.0.1:80", false),
        ] {
            assert_eq!(net.allows(address.parse().unwrap(), SocketAddrUse::TcpConnect).await, allowed, "{address}");
        }
        assert!(!net.allows("0.0.0.0:0".parse().unwrap(), SocketAddrUse::TcpListen).await);
        assert!(net.allows("0.0.0.0:0".parse().unwrap(), SocketAddrUse::TcpBind).await);
        assert!(!net.allows("0.0.0.0:8080".parse().unwrap(), SocketAddrUse::TcpBind).await);
        assert!(lines.0.lock().starts_with("rwasm: connection to 127.0.0.1:82 refused: it was not granted; submit with --allow-net"));
    }

    /// Names, as resolvers take them: none of these needs a name server.
    #[tokio::test]
    async fn a_name_leads_neither_into_the_machine_nor_into_the_cluster() {
        let (net, lines) = net(&["127.1:80", "8.8.2056:80", "8.8.2057:80"], &["8.8.8.8"]);
        for (address, allowed) in [("127.0.0.1:80", false), ("8.8.8.8:80", false), ("8.8.8.9:80", true), ("8.8.8.9:81", false)] {
            assert_eq!(net.allows(address.parse().unwrap(), SocketAddrUse::TcpConnect).await, allowed, "{address}");
        }
        let lines = lines.0.lock();
        for said in ["127.1 resolves to 127.0.0.1, which is loopback", "8.8.2056 resolves to 8.8.8.8, which is the cluster's own"] {
            assert!(lines.contains(said), "{lines}");
        }
    }

    #[test]
    fn only_granted_names_are_resolved() {
        let (net, lines) = net(&["Example.org:443"], &[]);
        for (name, allowed) in
            [("example.org", true), ("EXAMPLE.org", true), ("10.0.0.1", true), ("[::1]", true), ("evil.example.org", false)]
        {
            assert_eq!(net.may_resolve(name), allowed, "{name}");
        }
        assert!(lines.0.lock().contains("look-up of `evil.example.org` refused"));
    }
}
