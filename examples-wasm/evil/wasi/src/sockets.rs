//! Attacks on the network, by the bindings of wasi:sockets themselves: what the standard library can do with sockets differs between
//! toolchains.

use wasip2::sockets::{
    instance_network::instance_network,
    ip_name_lookup::resolve_addresses,
    network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress},
    tcp_create_socket::create_tcp_socket,
    udp_create_socket::create_udp_socket,
};

/// Connects to a host, which is a name or an IPv4 address, and returns the address that it was connected to.
#[rwasm::export]
fn connect_to(host: &str, port: u16) -> Result<String, String> {
    let mut errors = Vec::new();
    for address in addresses(host).map_err(|error| format!("{host} cannot be resolved: {}", error.name()))? {
        match connect_address(address, port) {
            Ok(()) => return Ok(text(address)),
            Err(error) => errors.push(format!("{}: {}", text(address), error.name())),
        }
    }
    Err(errors.join(", "))
}

/// Returns the addresses of a name.
#[rwasm::export]
fn resolve_name(name: &str) -> Result<Vec<String>, String> {
    let found = addresses(name).map_err(|error| error.name().to_owned())?;
    Ok(found.into_iter().map(text).collect())
}

/// Listens on a port of every interface, and returns whether it could.
#[rwasm::export]
fn listen_on(port: u16) -> Result<(), String> {
    let listen = || {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
        socket.start_bind(&instance_network(), socket_address(IpAddress::Ipv4((0, 0, 0, 0)), port))?;
        socket.subscribe().block();
        socket.finish_bind()?;
        socket.start_listen()?;
        socket.subscribe().block();
        socket.finish_listen()
    };
    listen().map_err(|error: ErrorCode| error.name().to_owned())
}

/// Sends a datagram to an address, and returns how many were accepted for sending.
#[rwasm::export]
fn send_datagram(address: &str, port: u16, bytes: Vec<u8>) -> Result<u64, String> {
    use wasip2::sockets::udp::OutgoingDatagram;

    let address = ipv4(address).ok_or_else(|| format!("{address} is no IPv4 address"))?;
    let send = || {
        let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
        socket.start_bind(&instance_network(), socket_address(IpAddress::Ipv4((0, 0, 0, 0)), 0))?;
        socket.subscribe().block();
        socket.finish_bind()?;
        let (_incoming, outgoing) = socket.stream(None)?;
        outgoing.subscribe().block();
        outgoing.check_send()?;
        outgoing.send(&[OutgoingDatagram { data: bytes, remote_address: Some(socket_address(address, port)) }])
    };
    send().map_err(|error: ErrorCode| error.name().to_owned())
}

fn connect_address(address: IpAddress, port: u16) -> Result<(), ErrorCode> {
    let family = match address {
        IpAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    };
    let socket = create_tcp_socket(family)?;
    socket.start_connect(&instance_network(), socket_address(address, port))?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn addresses(host: &str) -> Result<Vec<IpAddress>, ErrorCode> {
    if let Some(address) = ipv4(host) {
        return Ok(vec![address]);
    }
    let lookup = resolve_addresses(&instance_network(), host)?;
    let mut found = Vec::new();
    loop {
        match lookup.resolve_next_address() {
            Ok(Some(address)) => found.push(address),
            Ok(None) => return Ok(found),
            Err(ErrorCode::WouldBlock) => lookup.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

fn ipv4(text: &str) -> Option<IpAddress> {
    let [a, b, c, d] = text.parse::<std::net::Ipv4Addr>().ok()?.octets();
    Some(IpAddress::Ipv4((a, b, c, d)))
}

fn text(address: IpAddress) -> String {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string(),
    }
}

fn socket_address(address: IpAddress, port: u16) -> IpSocketAddress {
    match address {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(address) => IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 }),
    }
}
