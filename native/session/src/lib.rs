//! The native part of a session: certificate chains judged by rustls-webpki, QUIC, and TLS over TCP. What crosses into JavaScript is in
//! `boundary`; nothing else knows of Node-API.

#![cfg_attr(test, allow(dead_code))] // What only Node-API calls has no caller in a test build.

mod address;
mod blocks;
mod boundary;
mod chain;
mod credentials;
mod mailbox;
mod quic;
mod signatures;
mod tls;
