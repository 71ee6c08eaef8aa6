//! The dashboard: pages for a browser, REST and metrics for machines.
//!
//! ```text
//! browser, curl ─▶ server ─▶ guard ─▶ api ─▶ Cluster::enter(token) ─▶ Access: ask, describe, upload, run, logs
//!                    │       host,     │
//! Prometheus ────────┘       origin    └─ ui: the committed bundle
//! ```
//!
//! It decides nothing and has no rights of its own: every request acts with the token that its visitor showed, through [`Access`], which
//! whoever starts the dashboard provides. So the room knows no gateway, no wire and no engine, and its tests run on a cluster of their own
//! making.

#![forbid(unsafe_code)]

mod api;
mod app;
mod cluster;
mod guard;
mod live;
mod metrics;
mod page;
mod reply;
mod results;
mod routes;
mod server;
mod session;
mod ui;

use std::sync::Arc;

use rwasm_runtime::Scope;
use rwasm_tls::Acceptor;
use rwasm_types::{Result, Role, Tenant, metrics::Family};
use tokio::net::TcpListener;

use self::app::App;
pub use self::cluster::{Access, Cluster, LogLines, LogRequest, Output, Running, TaskResult, Uploaded, Visitor, Work};

/// Whose numbers a scrape tells, beside those of all tenants together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nobody's: whoever scrapes has shown no token.
    Together,
    /// One tenant's.
    Tenant(Tenant),
    /// Every tenant's.
    All,
}

impl Told {
    /// What somebody with a token is told: operators of all tenants, others of their own.
    pub fn to(role: Role, tenant: Tenant) -> Self {
        if role >= Role::Operator { Self::All } else { Self::Tenant(tenant) }
    }
}

/// Families of one part of the process, put together at each scrape.
pub type Source = Box<dyn Fn(&Told) -> Vec<Family> + Send + Sync>;

/// What a token lets a scraper see.
///
/// It gives why a token is not good.
pub type Scrapers = Box<dyn Fn(&str) -> Result<Told> + Send + Sync>;

/// A port that is served.
#[derive(Debug)]
pub struct Port {
    /// The bound socket.
    pub listener: TcpListener,
    /// How connections are encrypted; only a port on loopback goes without.
    pub tls: Option<Acceptor>,
    /// The names and addresses under which it may be asked for, beside those of loopback.
    pub hosts: Vec<String>,
}

/// How a dashboard is set up.
pub struct DashboardOptions {
    /// The cluster's id; cookies are named after it, so that two clusters on one machine do not sign each other out.
    pub cluster_id: String,
    /// What is shown.
    pub cluster: Arc<dyn Cluster>,
    /// The largest artifact that is taken, in bytes.
    pub artifact_bytes_max: u64,
    /// What `/metrics` tells beside the dashboard's own.
    pub metrics: Vec<Source>,
}

impl std::fmt::Debug for DashboardOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardOptions").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

/// Serves the dashboard on a port until `scope` is shut down.
pub fn serve(options: DashboardOptions, port: Port, scope: &Scope) {
    let inner = scope.child();
    let Port { listener, tls, hosts } = port;
    let app = Arc::new(App::new(options, tls.is_some(), inner.clone()));
    server::spawn("dashboard", listener, tls, routes::dashboard(app, hosts), scope, inner);
}

/// Serves `/metrics` and `/healthz` alone: what a node without a dashboard has.
pub fn serve_metrics(metrics: Vec<Source>, scrapers: Scrapers, port: Port, scope: &Scope) {
    let Port { listener, tls, hosts } = port;
    server::spawn("metrics", listener, tls, routes::metrics_only(metrics, scrapers, hosts), scope, scope.child());
}
