//! QUIC: quinn-proto driven by one I/O thread per endpoint. No Node-API in here.

pub mod control;
mod driver;
pub mod engine;
mod pacer;
pub mod shared;
pub mod socket;
pub mod tls;
