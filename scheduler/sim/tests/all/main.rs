//! Many seeds, the same seed twice, seeds that found something, and rules that can be broken.

mod mutations;
mod seeds;
