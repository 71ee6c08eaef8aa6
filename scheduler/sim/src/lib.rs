//! A simulator of the head's decisions: virtual nodes, owners, tenants, jobs and faults by seed, in virtual time, around the real core.
//!
//! ```text
//!  seed ─▶ Scenario ─▶ World ── messages with delays ──▶ head { rwasm_core::Core } ─▶ actions ─▶ owners ─▶ tasks ─▶ nodes' ledgers
//!                        │                                                                                          │
//!                        └──────────────── after every step: what must always hold ◀────────────────────────────────┘
//! ```
//!
//! The core is the real one. Owners and nodes are models of `rwasm-node`: small enough to be read, and as forgetful, slow and doubtful as
//! the real ones. A run is a function of its seed: the same seed gives the same trace. What a seed finds becomes a test with a name.
//!
//! `make sim SEEDS=100000` runs many seeds; `SEED=7 cargo test -p rwasm-sim one_seed -- --nocapture` runs one and shows what happened.

mod acts;
mod check;
mod host;
mod owner;
mod rng;
mod scenario;
mod world;

pub use self::{
    check::{Kind, Violation},
    scenario::{Mutation, Scenario},
    world::{Report, run},
};
