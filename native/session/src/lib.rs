//! The native part of a session: certificate chains judged by rustls-webpki, and QUIC. What crosses into JavaScript is in
//! `boundary`; nothing else knows of Node-API.

mod blocks;
mod boundary;
mod chain;
mod quic;
