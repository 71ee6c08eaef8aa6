//! Tests of the room through its public face, as one program.

#![cfg(test)]

mod artifact;
mod codec;
mod common;
mod json;
mod messages;
mod types;
mod vectors;
mod wave;
