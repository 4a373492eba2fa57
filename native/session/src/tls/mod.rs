//! TLS over TCP: rustls driven by one I/O thread per Node environment. No Node-API in here.

pub mod direct;
pub mod engine;
mod hello;
mod listener;
pub mod machine;
pub mod poll;
pub mod shared;
