//! The dashboard over a cluster of the tests' own making: who gets in, what the API answers, and that nothing is changed from elsewhere.

#![cfg(test)]

mod api;
mod doors;
mod fake;
mod http;
mod streams;
