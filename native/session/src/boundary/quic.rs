//! QUIC for JavaScript: plain functions over numbers and byte arrays. An endpoint or connection that is gone is an error, never a
//! crash; nothing here waits for the I/O thread except closing at the environment's end.
//!
//! Arrays of the caller's are written in place. That is sound since no JavaScript runs on this thread during a call, and
//! src/native.ts, the only caller, gives arrays that no other thread shares.

use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use napi::bindgen_prelude::{Env, Error, Float64ArraySlice, Function, JsValue, Result, Uint8Array, Uint8ArraySlice, Uint32ArraySlice};
use napi::sys;
use napi_derive::napi;

use super::registry::{self, EndpointEntry, LinkEntry, closed, invalid, with_endpoint, with_link};
use super::wake::JsWake;
use crate::credentials::ChainLimits;
use crate::quic::engine::Engine;
use crate::quic::shared::{Command, Counted, CountedDatagram, End, Event, LANES, Lane, Link, Options, Shared, Wake, lock};
use crate::quic::{socket, tls};

/// Words of one event: kind, connection, argument.
const EVENT_WORDS: usize = 3;
/// Outgoing octets that one connection may hold, whatever the caller does.
const UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

#[napi(object)]
pub struct QuicOptions {
    pub handshake_ms: u32,
    pub idle_ms: u32,
    pub streams_max: u32,
    pub pending_max: u32,
    pub pending_per_address_max: u32,
    pub connections_max: u32,
    pub unsent_bytes_min: u32,
    pub unsent_bytes_max: u32,
    pub urgent_bytes_extra: u32,
    pub inbox_bytes_max: u32,
    pub datagram_queue_bytes_max: u32,
    pub flow_window_bytes_max: u32,
    pub mtu_bytes_max: u32,
    pub bbr: bool,
    pub chain_certs_max: u32,
    pub cert_bytes_max: u32,
}

impl QuicOptions {
    fn checked(&self) -> Result<Options> {
        let mtu_max = u16::try_from(self.mtu_bytes_max).ok().filter(|mtu| (1200..=65_000).contains(mtu)).ok_or_else(|| invalid("mtu_bytes_max: 1200 to 65000 allowed"))?;
        if self.flow_window_bytes_max == 0 || self.flow_window_bytes_max > 1 << 30 || self.streams_max > 1 << 20 {
            return Err(invalid("a window or stream limit is out of range"));
        }
        if self.unsent_bytes_min > self.unsent_bytes_max || self.inbox_bytes_max == 0 {
            return Err(invalid("a byte limit is out of range"));
        }
        Ok(Options {
            handshake_ms: u64::from(self.handshake_ms),
            idle_ms: u64::from(self.idle_ms),
            streams_max: self.streams_max,
            pending_max: self.pending_max as usize,
            pending_per_address_max: self.pending_per_address_max as usize,
            links_max: self.connections_max as usize,
            unsent_min: self.unsent_bytes_min as usize,
            unsent_max: self.unsent_bytes_max as usize,
            urgent_extra: self.urgent_bytes_extra as usize,
            inbox_bytes_max: self.inbox_bytes_max as usize,
            datagram_queue_bytes_max: self.datagram_queue_bytes_max as usize,
            flow_window_bytes_max: self.flow_window_bytes_max,
            mtu_max,
            bbr: self.bbr,
            chain: ChainLimits { certs_max: self.chain_certs_max as usize, cert_bytes_max: self.cert_bytes_max as usize },
        })
    }
}

#[napi(object)]
pub struct QuicAddress {
    pub host: String,
    pub port: u16,
}

impl From<SocketAddr> for QuicAddress {
    fn from(address: SocketAddr) -> Self {
        QuicAddress { host: address.ip().to_canonical().to_string(), port: address.port() }
    }
}

#[napi(object)]
pub struct QuicEnd {
    pub kind: String,
    /// The peer's code, for kind `application`.
    pub code: f64,
    pub why: String,
}

fn address(host: &str, port: u32) -> Result<SocketAddr> {
    let ip: IpAddr = host.parse().map_err(|_| invalid(format!("{host} is not an IP address")))?;
    let port = u16::try_from(port).map_err(|_| invalid(format!("{port} is not a port")))?;
    Ok(SocketAddr::new(ip, port))
}

fn lane(number: u32) -> Result<Lane> {
    LANES.get(number as usize).copied().ok_or_else(|| invalid("no such lane"))
}

// ---- endpoints

/// Opens an endpoint on a UDP address and starts its thread. With a chain it listens. `wake` is called without arguments when
/// `quic_take` has something; never from inside a call.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn quic_open(env: Env, wake: Function<'_, (), ()>, options: QuicOptions, host: String, port: u32, reset_key: &[u8], chain: Option<&[u8]>, key: Option<&[u8]>) -> Result<u32> {
    let options = options.checked()?;
    let server = match (chain, key) {
        (Some(chain), Some(key)) => Some(tls::server(registry::credentials(chain, key)?, options.chain).map_err(invalid)?),
        _ => None,
    };
    let bind = address(&host, port)?;
    let socket = socket::bind(bind).map_err(|error| Error::from_reason(format!("{} {error}", error.raw_os_error().unwrap_or(0))))?;
    let shared = Arc::new(Shared::new(options).map_err(|error| Error::from_reason(error.to_string()))?);
    let engine = {
        let wake = Arc::new(JsWake::new(env.raw(), wake.raw(), Arc::clone(&shared.woken))?);
        let engine = Engine::new(Arc::clone(&shared), Arc::clone(&wake) as Arc<dyn Wake>, socket, reset_key, server);
        engine.map(|engine| (engine, Arc::clone(&wake))).inspect_err(|_| wake.release())
    };
    let (engine, wake) = engine.map_err(|error| Error::from_reason(error.to_string()))?;
    let local = engine.local();
    let thread = start(engine, Arc::clone(&shared), Arc::clone(&wake)).inspect_err(|_| wake.release())?;
    let endpoint = registry::add(EndpointEntry { shared, wake, thread: Some(thread), local, links: Default::default(), clients: Default::default() });
    // SAFETY: on the thread of `env`; the hook's argument is a number. Registered after the wake-up function, so it runs before that one's own.
    unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(on_env_end), endpoint as usize as *mut c_void) };
    Ok(endpoint)
}

fn start(mut engine: Engine, shared: Arc<Shared>, wake: Arc<JsWake>) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("selvedge-quic".into())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| engine.run())).is_err() {
                let _ = catch_unwind(AssertUnwindSafe(|| engine.fail("the I/O thread failed")));
                let _ = catch_unwind(AssertUnwindSafe(|| engine.flush_events()));
            }
            drop(engine);
            lock(&shared.events).push_back(Event::EndpointClosed);
            wake.wake();
        })
        .map_err(|error| Error::from_reason(error.to_string()))
}

unsafe extern "C" fn on_env_end(endpoint: *mut c_void) {
    let _ = catch_unwind(|| {
        if let Some(entry) = registry::take(endpoint as usize as u32) {
            entry.end();
        }
    });
}

#[napi(catch_unwind)]
pub fn quic_local(endpoint: u32) -> Result<QuicAddress> {
    with_endpoint(endpoint, |entry| Ok(entry.local.into()))
}

/// New connections are accepted with these; live ones are untouched. Without them none is accepted any more.
#[napi(catch_unwind)]
pub fn quic_listen(endpoint: u32, chain: Option<&[u8]>, key: Option<&[u8]>) -> Result<()> {
    with_endpoint(endpoint, |entry| {
        let crypto = match (chain, key) {
            (Some(chain), Some(key)) => Some(tls::server(registry::credentials(chain, key)?, entry.shared.options.chain).map_err(invalid)?),
            _ => None,
        };
        entry.shared.mailbox.post(Command::Listen { crypto });
        Ok(())
    })
}

#[napi(catch_unwind)]
pub fn quic_dial(endpoint: u32, host: String, port: u32, chain: &[u8], key: &[u8]) -> Result<u32> {
    let mut remote = address(&host, port)?;
    with_endpoint(endpoint, |entry| {
        if let (SocketAddr::V6(_), IpAddr::V4(v4)) = (entry.local, remote.ip()) {
            remote.set_ip(IpAddr::V6(v4.to_ipv6_mapped()));
        }
        let limits = entry.shared.options.chain;
        let crypto = entry.clients.of(chain, key, || tls::client(registry::credentials(chain, key)?, limits).map_err(invalid))?;
        let id = entry.shared.link_ids.fetch_add(1, Relaxed);
        let link = Arc::new(Link::new(id, true, entry.local, remote, entry.shared.epoch));
        entry.links.insert(id, LinkEntry::new(Arc::clone(&link)));
        entry.shared.mailbox.post(Command::Dial { link, remote, crypto });
        Ok(id)
    })
}

/// Moves the endpoint to another local address; its connections migrate.
#[napi(catch_unwind)]
pub fn quic_rebind(endpoint: u32, host: String, port: u32) -> Result<QuicAddress> {
    let bind = address(&host, port)?;
    with_endpoint(endpoint, |entry| {
        let socket = socket::bind(bind).map_err(|error| Error::from_reason(error.to_string()))?;
        entry.local = socket.local_addr().map_err(|error| Error::from_reason(error.to_string()))?;
        entry.shared.mailbox.post(Command::Rebind { socket });
        Ok(entry.local.into())
    })
}

/// Whether this endpoint keeps Node alive; it does from the start.
#[napi(catch_unwind)]
pub fn quic_keep_alive(env: Env, endpoint: u32, alive: bool) -> Result<()> {
    with_endpoint(endpoint, |entry| {
        entry.wake.keep_alive(env.raw(), alive);
        Ok(())
    })
}

/// Closes every connection and ends the thread; event `EndpointClosed` tells when. Idempotent.
#[napi(catch_unwind)]
pub fn quic_close(endpoint: u32) {
    let _ = with_endpoint(endpoint, |entry| {
        entry.shared.mailbox.post(Command::Shutdown);
        Ok(())
    });
}

/// Takes events, three words each, as many as fit; returns their number. After the last one the endpoint's handle is gone.
#[napi(catch_unwind)]
pub fn quic_take(env: Env, endpoint: u32, mut out: Uint32ArraySlice<'_>) -> Result<u32> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let out = unsafe { out.as_mut() };
    let mut count = 0;
    let mut over = false;
    with_endpoint(endpoint, |entry| {
        let taken: Vec<Event> = {
            entry.shared.woken.store(false, SeqCst);
            let mut events = lock(&entry.shared.events);
            let fit = events.len().min(out.len() / EVENT_WORDS);
            events.drain(..fit).collect()
        };
        for event in taken {
            over |= matches!(event, Event::EndpointClosed);
            let words = words_of(event, entry);
            out[count * EVENT_WORDS..(count + 1) * EVENT_WORDS].copy_from_slice(&words);
            count += 1;
        }
        Ok(())
    })?;
    if over && let Some(entry) = registry::take(endpoint) {
        // SAFETY: the pair that was registered at opening.
        unsafe { sys::napi_remove_env_cleanup_hook(env.raw(), Some(on_env_end), endpoint as usize as *mut c_void) };
        entry.end();
    }
    Ok(count as u32)
}

fn words_of(event: Event, entry: &mut EndpointEntry) -> [u32; EVENT_WORDS] {
    match event {
        Event::Connected(link) => [1, link, 0],
        Event::Incoming(link) => {
            let id = link.id;
            entry.links.insert(id, LinkEntry::new(link));
            [2, id, 0]
        }
        Event::Readable { link, source } => [3, link, source],
        Event::Ready { link, lane } => [4, link, lane as u32],
        Event::Writable { link, flow } => [5, link, flow],
        Event::Datagrams(link) => [6, link, 0],
        Event::Finished(link) => [7, link, 0],
        Event::Closed(link) => [8, link, 0],
        Event::EndpointClosed => [9, 0, 0],
    }
}

// ---- connections

#[napi(catch_unwind)]
pub fn quic_peer_chain(endpoint: u32, connection: u32) -> Result<Uint8Array> {
    with_link(endpoint, connection, |_, entry| Ok(std::mem::take(&mut *lock(&entry.link.peer_chain)).into()))
}

#[napi(catch_unwind)]
pub fn quic_remote(endpoint: u32, connection: u32) -> Result<QuicAddress> {
    with_link(endpoint, connection, |_, entry| lock(&entry.link.stats).remote.map(QuicAddress::from).ok_or_else(|| closed("connection")))
}

#[napi(catch_unwind)]
pub fn quic_link_local(endpoint: u32, connection: u32) -> Result<QuicAddress> {
    with_link(endpoint, connection, |_, entry| lock(&entry.link.stats).local.map(QuicAddress::from).ok_or_else(|| closed("connection")))
}

#[napi(catch_unwind)]
pub fn quic_approve(endpoint: u32, connection: u32) -> Result<()> {
    with_link(endpoint, connection, |shared, entry| {
        entry.link.cap.store(shared.options.unsent_min, Relaxed);
        shared.mailbox.post(Command::Approve { link: connection });
        Ok(())
    })
}

/// Takes head and body whole. False: the flow's event `Writable` will tell when it may go on.
#[napi(catch_unwind)]
pub fn quic_write(endpoint: u32, connection: u32, flow: u32, lane_number: u32, priority: i32, head: &[u8], body: Option<&[u8]>) -> Result<bool> {
    let lane = lane(lane_number)?;
    with_link(endpoint, connection, |shared, entry| {
        let body = body.unwrap_or_default();
        if entry.link.counters.unsent() + head.len() + body.len() > UNSENT_BYTES_MAX {
            return Err(invalid(format!("more than {UNSENT_BYTES_MAX} octets are unsent: readiness was not heeded")));
        }
        let mut bytes = Vec::with_capacity(head.len() + body.len());
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(body);
        let outbound = Arc::clone(entry.flows.entry(flow).or_default());
        let counted = Counted::new(bytes, Arc::clone(&entry.link.counters), Arc::clone(&outbound), lane);
        let limit = entry.link.cap.load(Relaxed);
        shared.mailbox.post(Command::Write { link: connection, flow, priority, outbound: Arc::clone(&outbound), lane, bytes: counted });
        if outbound.unsent.load(SeqCst) < limit {
            return Ok(true);
        }
        if registry::first(&outbound.watched) {
            entry.link.counters.flows_watched.fetch_add(1, SeqCst);
        }
        Ok(false)
    })
}

#[napi(catch_unwind)]
pub fn quic_end_flow(endpoint: u32, connection: u32, flow: u32) -> Result<()> {
    with_link(endpoint, connection, |shared, entry| {
        if let Entry::Occupied(known) = entry.flows.entry(flow) {
            if known.remove().watched.swap(false, SeqCst) {
                entry.link.counters.flows_watched.fetch_sub(1, SeqCst);
            }
            shared.mailbox.post(Command::EndFlow { link: connection, flow });
        }
        Ok(())
    })
}

/// Whether the lane takes frames now; if not, event `Ready` will tell.
#[napi(catch_unwind)]
pub fn quic_ready(endpoint: u32, connection: u32, lane_number: u32) -> Result<bool> {
    let lane = lane(lane_number)?;
    with_link(endpoint, connection, |shared, entry| {
        let extra = shared.options.urgent_extra;
        if entry.link.ready(lane, extra) {
            return Ok(true);
        }
        // Looked at again after the watch is set: the I/O thread may have made room in between.
        entry.link.watched[lane as usize].store(true, SeqCst);
        let ready = entry.link.ready(lane, extra);
        if ready {
            entry.link.watched[lane as usize].store(false, SeqCst);
        }
        Ok(ready)
    })
}

/// Copies what has arrived on a source; -1 after its last octet (a source without any ends silently), 0 if there is nothing now (event `Readable` tells when there is).
#[napi(catch_unwind)]
pub fn quic_read(endpoint: u32, connection: u32, source: u32, mut into: Uint8ArraySlice<'_>) -> Result<i32> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let into = unsafe { into.as_mut() };
    with_link(endpoint, connection, |shared, entry| {
        let room = into.len().min(READ_BYTES_MAX);
        let mut taken = Vec::new();
        let mut bytes = 0;
        let (pull, tell) = {
            let mut guard = lock(&entry.link.inbox);
            let inbox = &mut *guard;
            let Some(known) = inbox.sources.get_mut(&source) else { return Ok(0) };
            while bytes < room {
                let Some(front) = known.chunks.front_mut() else { break };
                let fit = front.len().min(room - bytes);
                bytes += fit;
                if fit < front.len() {
                    taken.push(front.split_to(fit));
                } else if let Some(whole) = known.chunks.pop_front() {
                    taken.push(whole);
                }
            }
            let empty = known.chunks.is_empty();
            let over = bytes == 0 && empty && known.ended;
            if empty && !known.ended {
                known.announced = false;
                if known.chunks.capacity() > 64 {
                    known.chunks.shrink_to(16);
                }
            }
            known.begun |= bytes > 0;
            let tell = over && known.begun;
            if over {
                inbox.sources.remove(&source);
            }
            inbox.bytes -= bytes;
            let pull = inbox.full && inbox.bytes * 2 <= shared.options.inbox_bytes_max;
            inbox.full &= !pull;
            (pull, tell)
        };
        if pull {
            shared.mailbox.post(Command::Pull { link: connection });
        }
        let mut at = 0;
        for chunk in taken {
            into[at..at + chunk.len()].copy_from_slice(&chunk);
            at += chunk.len();
        }
        Ok(if tell { -1 } else { at as i32 })
    })
}

/// False if it was dropped here.
#[napi(catch_unwind)]
pub fn quic_datagram(endpoint: u32, connection: u32, bytes: &[u8]) -> Result<bool> {
    with_link(endpoint, connection, |shared, entry| {
        let link = &entry.link;
        if bytes.len() > link.datagram_max.load(Relaxed) || link.counters.datagrams_unsent() + bytes.len() > shared.options.datagram_queue_bytes_max {
            return Ok(false);
        }
        let bytes = CountedDatagram::new(bytes.to_vec(), Arc::clone(&link.counters));
        shared.mailbox.post(Command::Datagram { link: connection, bytes });
        Ok(true)
    })
}

#[napi(catch_unwind)]
pub fn quic_take_datagram(endpoint: u32, connection: u32) -> Result<Option<Uint8Array>> {
    with_link(endpoint, connection, |_, entry| {
        let mut inbox = lock(&entry.link.inbox);
        let next = inbox.datagrams.pop_front();
        match &next {
            Some(bytes) => inbox.datagram_bytes -= bytes.len(),
            None => inbox.datagrams_announced = false,
        }
        Ok(next.map(|bytes| bytes.to_vec().into()))
    })
}

#[napi(catch_unwind)]
pub fn quic_datagram_max(endpoint: u32, connection: u32) -> Result<u32> {
    with_link(endpoint, connection, |_, entry| Ok(entry.link.datagram_max.load(Relaxed) as u32))
}

/// [rtt ms, least rtt ms, congestion window, mtu, packets sent, packets lost, in flight, acknowledged, unsent, sent, received, silent ms, datagrams dropped]
#[napi(catch_unwind)]
pub fn quic_facts(endpoint: u32, connection: u32, mut out: Float64ArraySlice<'_>) -> Result<()> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let out = unsafe { out.as_mut() };
    with_link(endpoint, connection, |shared, entry| {
        let link = &entry.link;
        let stats = *lock(&link.stats);
        let silent_us = (shared.epoch.elapsed().as_micros() as u64).saturating_sub(link.heard_us.load(Relaxed));
        let values = [
            stats.rtt_us as f64 / 1000.0,
            stats.rtt_min_us as f64 / 1000.0,
            stats.cwnd as f64,
            f64::from(stats.mtu),
            stats.sent_packets as f64,
            stats.lost_packets as f64,
            link.control.in_flight() as f64,
            link.control.acked() as f64,
            link.counters.unsent() as f64,
            stats.sent_bytes as f64,
            stats.received_bytes as f64,
            silent_us as f64 / 1000.0,
            stats.datagrams_dropped as f64,
        ];
        out.get_mut(..values.len()).ok_or_else(|| invalid("the array for the facts is too short"))?.copy_from_slice(&values);
        Ok(())
    })
}

/// [least rtt ms or -1, latest rtt ms or -1, acknowledged, lost, sent] since the last call, and what the pace holds back now.
#[napi(catch_unwind)]
pub fn quic_sample(endpoint: u32, connection: u32, mut out: Float64ArraySlice<'_>) -> Result<()> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let out = unsafe { out.as_mut() };
    with_link(endpoint, connection, |_, entry| {
        let out = out.get_mut(..6).ok_or_else(|| invalid("the array for the sample is too short"))?;
        let sample = entry.link.control.look();
        let ms = |us: Option<u64>| us.map_or(-1.0, |us| us as f64 / 1000.0);
        out.copy_from_slice(&[ms(sample.rtt_min_us), ms(sample.rtt_latest_us), sample.acked as f64, sample.lost as f64, sample.sent as f64, entry.link.held_back.load(Relaxed) as f64]);
        Ok(())
    })
}

/// The congestion window in octets and the pace of the bulk lane in octets a second; negative hands them back to the stack.
#[napi(catch_unwind)]
pub fn quic_govern(endpoint: u32, connection: u32, window: f64, pace: f64) -> Result<()> {
    with_link(endpoint, connection, |_, entry| {
        entry.link.control.set_window((window >= 0.0).then_some(window as u64));
        entry.link.control.set_pace((pace >= 0.0).then_some(pace as u64));
        Ok(())
    })
}

/// Ends every flow, then tells the peer that nothing more comes.
#[napi(catch_unwind)]
pub fn quic_finish(endpoint: u32, connection: u32) -> Result<()> {
    with_link(endpoint, connection, |shared, _| {
        shared.mailbox.post(Command::Finish { link: connection });
        Ok(())
    })
}

/// Ends the connection and lets go of its handle. Idempotent.
#[napi(catch_unwind)]
pub fn quic_close_link(endpoint: u32, connection: u32, code: u32, reason: &[u8]) {
    let _ = with_endpoint(endpoint, |entry| {
        if entry.links.remove(&connection).is_some() {
            entry.shared.mailbox.post(Command::Close { link: connection, code, reason: reason.to_vec() });
        }
        Ok(())
    });
}

/// After event `Closed`: why; lets go of the handle.
#[napi(catch_unwind)]
pub fn quic_take_end(endpoint: u32, connection: u32) -> Result<QuicEnd> {
    with_endpoint(endpoint, |entry| {
        let link = entry.links.remove(&connection).ok_or_else(|| closed("connection"))?.link;
        let end = lock(&link.end).take().unwrap_or(End::Transport("unknown".into()));
        let (kind, code, why) = match end {
            End::Application { code, reason } => ("application", code as f64, reason),
            End::Tls(why) => ("tls", 0.0, why),
            End::Transport(why) => ("transport", 0.0, why),
            End::Reset => ("reset", 0.0, String::new()),
            End::Silent => ("silent", 0.0, String::new()),
            End::HandshakeTimeout => ("handshake_timeout", 0.0, String::new()),
            End::Unreachable(why) => ("unreachable", 0.0, why),
            End::Endpoint(why) => ("endpoint", 0.0, why),
        };
        Ok(QuicEnd { kind: kind.into(), code, why })
    })
}
