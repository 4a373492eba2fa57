//! What JavaScript sees. Every function catches panics, checks its arguments, and throws an `Error` whose message is a sentence.

mod call;
mod loop_poll;
mod quic;
mod registry;
mod secrets;
mod tcp;
mod tls;
mod verify;
mod wake;
