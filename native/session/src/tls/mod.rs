//! TLS over TCP: rustls driven by one I/O thread per Node environment. No Node-API in here.

pub mod engine;
mod hello;
mod listener;
pub mod machine;
mod poll;
pub mod shared;
