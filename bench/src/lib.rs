//! The benchmark suite: what a task costs, layer by layer, with the bare limits of the same machine measured in the same run.
//!
//! Every row says how often something was done in a second. Figures of one run can be compared with each other; those of different runs
//! or machines cannot, so what is published is ratios. A wrong answer fails the run: a benchmark of something broken is worth nothing.

mod access;
mod actors;
mod bulk;
mod history;
mod journal;
mod layers;
mod nested;
mod objects;
mod scheduler;
mod timing;
mod transport;
mod windows;
mod work;

use std::path::Path;

use bytes::Bytes;
use rwasm_client::{Client, Endpoint};
use rwasm_engine::CompileOptions;
use rwasm_types::Result;

pub use self::{
    history::{HeadProcess, resident_bytes},
    timing::{Method, Row},
    transport::echo_server,
};

/// What the suite runs against, made by whoever calls it.
#[derive(Debug)]
pub struct Setup {
    /// How long each row is measured.
    pub method: Method,
    /// Only rows whose names hold this text.
    pub only: Option<String>,
    /// How artifacts are compiled for the rows inside this process.
    pub compile: CompileOptions,
    /// An embedded cluster.
    pub embedded: Client,
    /// A cluster in another process.
    pub cluster: Endpoint,
    /// Starts a head with its node in another process, below a directory; the same again finds what the one before left.
    pub start_head: fn(&Path) -> Result<HeadProcess>,
    /// Another, with TLS.
    pub encrypted: Endpoint,
    /// `host:port` of an echo in another process.
    pub echo: String,
    /// The example `hello`, if it was built; rows that need it are left out without it.
    pub hello: Option<Bytes>,
    /// The example `parallel`, the same.
    pub parallel: Option<Bytes>,
}

/// The smallest guest, as text.
pub const NOOP: &str = include_str!("noop.wat");

/// What the suite found.
#[derive(Debug)]
pub struct Measured {
    /// Its rows.
    pub rows: Vec<Row>,
    /// Resident memory of a head with 1,000,000 tasks in its history, after its first lists, if that row was measured.
    pub history_memory_bytes: Option<u64>,
}

/// Runs the suite; `told` hears of each row as it is done.
///
/// # Errors
///
/// If something that is measured fails or answers wrongly.
pub async fn run(setup: &Setup, told: &mut (dyn FnMut(&Row) + Send)) -> Result<Measured> {
    let mut suite = timing::Suite::new(setup.method, setup.only.clone(), told);
    layers::inside(setup, &mut suite).await?;
    journal::rows(&mut suite).await?;
    access::rows(&mut suite)?;
    work::rows(&mut suite)?;
    objects::rows(&mut suite)?;
    scheduler::rows(&mut suite)?;
    transport::rows(setup, &mut suite).await?;
    layers::across(setup, &mut suite).await?;
    nested::rows(setup, &mut suite).await?;
    actors::rows(setup, &mut suite).await?;
    let history_memory_bytes = history::rows(setup.start_head, &mut suite).await?;
    Ok(Measured { rows: suite.into_rows(), history_memory_bytes })
}
