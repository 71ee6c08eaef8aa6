//! End to end: the program as people run it, in real processes on loopback. Nothing here calls a library of ours.

#![cfg(test)]

mod bench;
mod flights;
mod harness;
mod smoke;
