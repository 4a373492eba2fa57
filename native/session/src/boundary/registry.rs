//! The endpoints of one Node environment (one thread): a handle is a number that only this thread knows. When the environment ends,
//! each of its endpoints ends first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

use napi::bindgen_prelude::{Error, Result, Status};
use quinn_proto::crypto::rustls::QuicClientConfig;

use super::wake::JsWake;
use crate::blocks;
use crate::credentials::{Cache, Credentials};
use crate::quic::shared::{Command, Link, OutboundFlow, Shared};

pub struct EndpointEntry {
    pub shared: Arc<Shared>,
    pub wake: Arc<JsWake>,
    pub thread: Option<JoinHandle<()>>,
    pub local: SocketAddr,
    pub links: HashMap<u32, LinkEntry>,
    pub clients: Cache<QuicClientConfig>,
}

pub struct LinkEntry {
    pub link: Arc<Link>,
    pub flows: HashMap<u32, Arc<OutboundFlow>>,
}

impl LinkEntry {
    pub fn new(link: Arc<Link>) -> Self {
        LinkEntry { link, flows: HashMap::new() }
    }
}

impl EndpointEntry {
    /// Tells the I/O thread to end and waits for it: microseconds, since it blocks on nothing else.
    pub fn end(mut self) {
        self.shared.mailbox.post(Command::Shutdown);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.wake.release();
    }
}

#[derive(Default)]
struct Registry {
    last: u32,
    endpoints: HashMap<u32, EndpointEntry>,
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

pub fn add(entry: EndpointEntry) -> u32 {
    REGISTRY.with_borrow_mut(|registry| {
        registry.last += 1;
        registry.endpoints.insert(registry.last, entry);
        registry.last
    })
}

pub fn take(endpoint: u32) -> Option<EndpointEntry> {
    REGISTRY.with_borrow_mut(|registry| registry.endpoints.remove(&endpoint))
}

pub fn with_endpoint<T>(endpoint: u32, act: impl FnOnce(&mut EndpointEntry) -> Result<T>) -> Result<T> {
    REGISTRY.with_borrow_mut(|registry| match registry.endpoints.get_mut(&endpoint) {
        Some(entry) if !entry.shared.ended.load(SeqCst) => act(entry),
        _ => Err(closed("endpoint")),
    })
}

pub fn with_link<T>(endpoint: u32, link: u32, act: impl FnOnce(&Shared, &mut LinkEntry) -> Result<T>) -> Result<T> {
    with_endpoint(endpoint, |entry| match entry.links.get_mut(&link) {
        Some(link) => act(&entry.shared, link),
        None => Err(closed("connection")),
    })
}

pub fn credentials(chain: &[u8], key: &[u8]) -> Result<Credentials> {
    let chain = blocks::unpack(chain).filter(|chain| !chain.is_empty()).ok_or_else(|| invalid("the chain is not packed"))?;
    Ok(Credentials::new(&chain, key))
}

pub fn closed(what: &str) -> Error {
    Error::new(Status::Closing, format!("{what} is closed"))
}

pub fn invalid(why: impl Into<String>) -> Error {
    Error::new(Status::InvalidArg, why.into())
}

/// A flag that is set once, by whoever comes first.
pub fn first(flag: &AtomicBool) -> bool {
    !flag.swap(true, SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_handle_is_refused() {
        assert_eq!(with_endpoint(7, |_| Ok(())).unwrap_err().status, Status::Closing);
        assert_eq!(with_link(7, 1, |_, _| Ok(())).unwrap_err().status, Status::Closing);
        assert!(take(7).is_none());
    }
}
