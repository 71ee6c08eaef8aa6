//! What every process of rwasm needs from its machine: tasks that cannot get lost, files that others cannot read, well-known
//! directories, and signals. It knows nothing of clusters.

mod aside;
mod busy_poll;
mod clock;
mod dirs;
pub mod fault;
mod leftover;
mod machine;
mod private;
mod scope;
mod signal;

pub use aside::aside;
pub use busy_poll::BusyPoll;
pub use clock::now_ms;
pub use dirs::Dirs;
pub use leftover::{in_use, remove_all_leftovers, remove_leftovers};
pub use machine::machine_metrics;
pub use private::{NEW_PREFIX, create_private_dir, parent, random_bytes, write_private};
pub use scope::{OnEnd, Scope};
pub use signal::{Termination, termination};
