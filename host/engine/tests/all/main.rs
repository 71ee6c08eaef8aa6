//! Tests of the room through its one door, as one program. The program is its own compile worker, see [`worker`].

#![cfg(test)]

mod actors;
mod bulk;
mod cache;
mod canary;
mod cancel;
mod child;
mod common;
mod compile;
mod cpu;
mod guests;
mod limits;
mod network;
mod objects;
mod sdk;
mod shelf;
mod windows;
mod worker;
