//! Where WASI's sockets ask the policy: names before they are looked up, and sockets before they are made. Destinations are asked by the
//! standard implementation itself, which stays beneath.

use rwasm_values::Profile;
use wasmtime::{
    StoreContextMut,
    component::{Accessor, HasData, Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        SocketError, SocketResult, TcpSocket, UdpSocket,
        bindings::sockets::{
            ip_name_lookup::{self, ResolveAddressStream},
            network::{self, ErrorCode, IpAddress, IpAddressFamily, Network},
            tcp_create_socket, udp_create_socket,
        },
    },
    p3::{
        self,
        bindings::sockets::{ip_name_lookup as ip_name_lookup3, types as types3},
    },
    sockets::{WasiSocketsCtxView, WasiSocketsView},
};

use super::Net;
use crate::store::Host;

/// The interface of WASI 0.3 that has the sockets; one of its functions is put over the standard one, so the version is the very one.
const TYPES_03: &str = "wasi:sockets/types@0.3.0";

/// Puts what knows the grants over a linker's standard sockets.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, profile: Profile) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<Host, Granted>(linker, view)?;
    tcp_create_socket::add_to_linker::<Host, Granted>(linker, view)?;
    udp_create_socket::add_to_linker::<Host, Granted>(linker, view)?;
    if profile == Profile::Async {
        ip_name_lookup3::add_to_linker::<Host, Granted>(linker, view)?;
        add_sockets_03(linker)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Marks the data that these implementations need.
struct Granted;

/// The standard implementation and the policy.
struct GrantedView<'a> {
    sockets: WasiSocketsCtxView<'a>,
    net: Option<Net>,
}

impl HasData for Granted {
    type Data<'a> = GrantedView<'a>;
}

fn view(host: &mut Host) -> GrantedView<'_> {
    let net = host.net();
    GrantedView { sockets: WasiSocketsView::sockets(host), net }
}

impl GrantedView<'_> {
    fn may_make_sockets(&self) -> bool {
        self.net.as_ref().is_some_and(Net::may_make_sockets)
    }
}

impl network::Host for GrantedView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets.convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets.network_error_code(error)
    }
}

impl network::HostNetwork for GrantedView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets, network)
    }
}

impl ip_name_lookup::Host for GrantedView<'_> {
    fn resolve_addresses(&mut self, network: Resource<Network>, name: String) -> Result<Resource<ResolveAddressStream>, SocketError> {
        if self.net.as_ref().is_some_and(|net| net.may_resolve(&name)) {
            ip_name_lookup::Host::resolve_addresses(&mut self.sockets, network, name)
        } else {
            Err(ErrorCode::AccessDenied.into())
        }
    }
}

impl ip_name_lookup::HostResolveAddressStream for GrantedView<'_> {
    fn resolve_next_address(&mut self, stream: Resource<ResolveAddressStream>) -> Result<Option<IpAddress>, SocketError> {
        self.sockets.resolve_next_address(stream)
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<wasmtime_wasi::p2::DynPollable>> {
        self.sockets.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.sockets, stream)
    }
}

impl ip_name_lookup3::Host for GrantedView<'_> {}

impl<T> ip_name_lookup3::HostWithStore<T> for Granted {
    async fn resolve_addresses(
        accessor: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<types3::IpAddress>, ip_name_lookup3::ErrorCode>> {
        let allowed = accessor.with(|mut access| access.get().net.as_ref().is_some_and(|net| net.may_resolve(&name)));
        if !allowed {
            return Ok(Err(ip_name_lookup3::ErrorCode::AccessDenied));
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        Ok(match tokio::net::lookup_host((bare, 0)).await {
            Ok(found) => Ok(found.map(|found| found.ip().to_canonical().into()).collect()),
            Err(_) => Err(ip_name_lookup3::ErrorCode::NameUnresolvable),
        })
    }
}

impl tcp_create_socket::Host for GrantedView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if self.may_make_sockets() {
            tcp_create_socket::Host::create_tcp_socket(&mut self.sockets, family)
        } else {
            Err(ErrorCode::AccessDenied.into())
        }
    }
}

impl udp_create_socket::Host for GrantedView<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        if self.may_make_sockets() {
            udp_create_socket::Host::create_udp_socket(&mut self.sockets, family).await
        } else {
            Err(ErrorCode::AccessDenied.into())
        }
    }
}

/// The two functions of WASI 0.3 that make sockets, among many in their interface that stay as they are.
fn add_sockets_03(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Made<T> = wasmtime::Result<(Result<Resource<T>, types3::ErrorCode>,)>;
    fn made<T>(view: &mut GrantedView<'_>, made: p3::sockets::SocketResult<Resource<T>>) -> Made<T> {
        Ok((match made {
            Ok(socket) => Ok(socket),
            Err(error) => Err(types3::Host::convert_error_code(&mut view.sockets, error)?),
        },))
    }
    let mut types = linker.instance(TYPES_03)?;
    types.func_wrap(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, Host>, (family,): (types3::IpAddressFamily,)| -> Made<types3::TcpSocket> {
            let mut view = view(store.data_mut());
            if !view.may_make_sockets() {
                return Ok((Err(types3::ErrorCode::AccessDenied),));
            }
            let socket = types3::HostTcpSocket::create(&mut view.sockets, family);
            made(&mut view, socket)
        },
    )?;
    types.func_wrap_async("[static]udp-socket.create", |mut store: StoreContextMut<'_, Host>, (family,): (types3::IpAddressFamily,)| {
        Box::new(async move {
            let mut view = view(store.data_mut());
            if !view.may_make_sockets() {
                return Ok((Err(types3::ErrorCode::AccessDenied),));
            }
            let socket = types3::HostUdpSocket::create(&mut view.sockets, family).await;
            made(&mut view, socket)
        })
    })
}
