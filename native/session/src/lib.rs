//! The native part of a session: certificate chains judged by rustls-webpki, and QUIC. What crosses into JavaScript is in
//! `boundary`; nothing else knows of Node-API.

#![cfg_attr(test, allow(dead_code))] // What only Node-API calls has no caller in a test build.

mod blocks;
mod boundary;
mod chain;
mod quic;
mod signatures;
