//! What browsers, REST clients and Prometheus find at a daemon: the dashboard beside a head, and metrics alone at other nodes.

use std::{net::SocketAddr, sync::Arc};

use rwasm_dashboard::{DashboardOptions, Port, Source, Told};
use rwasm_head::Head;
use rwasm_node::Node;
use rwasm_runtime::Scope;
use rwasm_types::{Code, Error, Result, metrics::Family};
use rwasm_wire::{Listener, duplex};
use tokio::net::TcpListener;

use super::{
    address, bind,
    driver::Door,
    security::{self, Security},
};
use crate::args::StartArgs;

pub(super) const DASHBOARD_FLAG: &str = "--dashboard-port";
pub(super) const METRICS_FLAG: &str = "--metrics-port";
/// The port that browsers know.
const DASHBOARD_PORT: u16 = 8265;

/// The port that browsers know, or the one that was asked for.
pub(super) async fn bind_dashboard(args: &StartArgs, secure: bool) -> Result<Listener> {
    let host = args.dashboard_host.unwrap_or(args.host);
    if !secure && !host.is_loopback() {
        let message = format!("{host} is not a loopback address, and other addresses need TLS");
        return Err(Error::new(Code::TLS_REQUIRED, message).hint("add --tls, or leave out --dashboard-host"));
    }
    match args.dashboard_port {
        Some(port) => bind(host, port, DASHBOARD_FLAG).await,
        None => match bind(host, DASHBOARD_PORT, DASHBOARD_FLAG).await {
            // Nobody asked for this very port, and the answer of `start` says which it became.
            Err(error) if error.code() == Code::PORT_IN_USE => bind(host, 0, DASHBOARD_FLAG).await,
            bound => bound,
        },
    }
}

/// The port of a node's metrics, if one was asked for.
pub(super) async fn bind_metrics(args: &StartArgs) -> Result<Option<Listener>> {
    match args.metrics_port {
        Some(port) => bind(args.host, port, METRICS_FLAG).await.map(Some),
        None => Ok(None),
    }
}

fn tcp(listener: Listener) -> Result<(TcpListener, SocketAddr)> {
    let address = listener.local_addr();
    let listener = listener.into_tcp();
    listener.zip(address).ok_or_else(|| Error::internal("a port for browsers is no socket"))
}

/// Starts the dashboard beside the head's node; gives its address.
pub(super) fn serve(
    listener: Listener,
    security: Option<&Security>,
    head: &Head,
    node: &Node,
    advertised: &str,
    scope: &Scope,
) -> Result<String> {
    let (listener, address) = tcp(listener)?;
    let (gateway, local) = duplex();
    node.serve_drivers(Listener::memory(local), scope)?;
    let (metrics, of_node) = (head.metrics(), of_node(node));
    let options = DashboardOptions {
        cluster_id: node.cluster().to_owned(),
        cluster: Arc::new(Door::new(gateway.into(), node.tokens())),
        artifact_bytes_max: rwasm_node::ARTIFACT_BYTES_MAX,
        metrics: vec![Box::new(move |_: &Told| metrics()), of_node],
    };
    let port = match security {
        Some(security) => Port { listener, tls: Some(security.for_browsers()?), hosts: security.hosts().to_vec() },
        None => Port { listener, tls: None, hosts: Vec::new() },
    };
    rwasm_dashboard::serve(options, port, scope);
    Ok(address::at(address, &shown(address, advertised)))
}

/// Serves a node's metrics; gives their address. Only nodes with a gateway know tokens, and only they own work of tenants to tell of.
pub(super) fn serve_metrics(listener: Listener, node: &Node, args: &StartArgs, advertised: &[String], scope: &Scope) -> Result<String> {
    let (listener, address) = tcp(listener)?;
    let tls = node.for_scrapers();
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(Error::new(Code::TLS_REQUIRED, format!("metrics without TLS cannot be served on {}", address.ip())));
    }
    let (tokens, gateway) = (node.tokens(), args.gateway);
    let told = move |token: &str| match gateway {
        true => tokens.identify(token).map(|who| Told::to(who.role, who.tenant)),
        false => Ok(Told::Together),
    };
    let hosts = security::hosts(args, advertised);
    rwasm_dashboard::serve_metrics(vec![of_node(node)], Box::new(told), Port { listener, tls, hosts }, scope);
    Ok(address::at(address, &shown(address, &address::told(args, advertised))))
}

/// By which host an address is told to people: the dashboard may listen on another than the ports of the cluster.
fn shown(address: SocketAddr, advertised: &str) -> String {
    if address.ip().is_unspecified() { advertised.to_owned() } else { address.ip().to_string() }
}

/// What a node counts: of tenants, what the scraper may know.
fn of_node(node: &Node) -> Source {
    let metrics = node.metrics();
    Box::new(move |told: &Told| -> Vec<Family> {
        let mut families = metrics.families();
        match told {
            Told::Together => {}
            Told::Tenant(tenant) => families.extend(metrics.of_tenants(Some(tenant))),
            Told::All => families.extend(metrics.of_tenants(None)),
        }
        families
    })
}
