//! By which address others reach a daemon: the one that it was told, else one that its machine has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rwasm_client::with_port;
use rwasm_types::{Code, Error, Result};
use rwasm_wire::Listener;

use crate::args::StartArgs;

/// Addresses that documentation uses, and the internet nowhere: what leads there leads out.
const OUTSIDE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// The names and addresses that others reach this daemon by, beside the one that it listens on; the first is the one that they are told.
///
/// # Errors
///
/// [`Code::INVALID_ARGUMENT`] if it listens on every address, none was named, and the machine has none that leads anywhere.
pub(super) async fn advertised(args: &StartArgs) -> Result<Vec<String>> {
    let named = &args.network.advertise;
    if !named.is_empty() || !args.host.is_unspecified() {
        return Ok(named.clone());
    }
    let head = match &args.address {
        // A name that is not known yet is an error when it is dialled.
        Some(address) => tokio::net::lookup_host(head_address(address)).await.map(Iterator::collect).unwrap_or_default(),
        None => Vec::new(),
    };
    let found = head.iter().chain(&OUTSIDE).find_map(|target| towards(args.host, *target));
    found.map(|own| vec![own.to_string()]).ok_or_else(|| {
        Error::new(Code::INVALID_ARGUMENT, format!("{} is every address of this machine, and none that others can dial", args.host))
            .hint("say with --advertise HOST by which name or address they reach it")
    })
}

/// The address of a head, with its port.
pub(super) fn head_address(given: &str) -> String {
    with_port(given, 6379)
}

/// This machine's own address on the way to another; nothing is sent there.
fn towards(host: IpAddr, target: SocketAddr) -> Option<IpAddr> {
    if host.is_ipv4() && target.is_ipv6() {
        return None;
    }
    let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

/// The address that others are told.
pub(super) fn told(args: &StartArgs, advertised: &[String]) -> String {
    advertised.first().cloned().unwrap_or_else(|| args.host.to_string())
}

/// Where others reach a listener.
pub(super) fn of(listener: &Listener, told: &str) -> String {
    listener.local_addr().map(|address| at(address, told)).unwrap_or_default()
}

/// A port at a host, as it is written.
pub(super) fn at(address: SocketAddr, host: &str) -> String {
    if host.contains(':') { format!("[{host}]:{}", address.port()) } else { format!("{host}:{}", address.port()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_loopback_is_loopback() {
        let to = |host: &str, target: &str| towards(host.parse().unwrap(), target.parse().unwrap());
        assert_eq!(to("0.0.0.0", "127.0.0.1:1"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(to("::", "127.0.0.1:1"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(to("0.0.0.0", "[::1]:1"), None, "it is not listened on");
    }

    #[test]
    fn a_head_has_a_port() {
        assert_eq!(head_address("head"), "head:6379");
        assert_eq!(head_address("head:1"), "head:1");
        assert_eq!(head_address("[::1]"), "[::1]:6379");
    }
}
