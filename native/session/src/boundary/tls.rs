//! TLS over TCP for JavaScript: plain functions over numbers and byte arrays. One I/O thread for each Node environment, begun by
//! `tls_open`; a connection or listener that is gone is an error, never a crash. Arrays of the caller's are written in place: see the
//! head of quic.rs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

use napi::bindgen_prelude::{Env, Error, Float64ArraySlice, Function, JsValue, Result, Uint8Array, Uint8ArraySlice, Uint32ArraySlice};
use napi::sys;
use napi_derive::napi;
use rustls::{ClientConfig, ServerConfig};

use super::call::JsCall;
use super::loop_poll::LoopPoll;
use super::registry::{closed, credentials, first, invalid};
use super::wake::JsWake;
use crate::credentials::{self as config, Cache, ChainLimits};
use crate::mailbox::{Wake, lock};
use crate::tls::direct::Direct;
use crate::tls::engine::Engine;
use crate::tls::machine::{Machine, Out};
use crate::tls::shared::{Command, End, Event, Foreign, Link, ListenRules, Shared};

/// Words of one event: kind, connection or listener, argument.
const EVENT_WORDS: usize = 3;
/// Outgoing octets that one connection may hold, whatever the caller does.
const UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;
/// So few octets are enciphered and written by the caller's thread: to wake the other one would take longer.
const DIRECT_BYTES_MAX: usize = 16 * 1024;
/// Of a record that is no frames.
const RAW: u32 = 255;
const BACKLOG: i32 = 511;

struct Hub {
    shared: Arc<Shared>,
    wake: Arc<JsWake>,
    thread: Option<JoinHandle<()>>,
    limits: ChainLimits,
    links: HashMap<u32, Arc<Link>>,
    foreign: HashMap<u32, Foreign>,
    clients: Cache<ClientConfig>,
    servers: Cache<ServerConfig>,
    spare: Out,
    direct: Direct,
    /// Watches `direct`; without it the I/O thread reads everything.
    looped: Option<LoopPoll>,
    drain: Rc<JsCall>,
}

impl Hub {
    /// Tells the I/O thread to end and waits for it: it blocks on nothing else.
    fn end(mut self) {
        self.shared.ended.store(true, SeqCst);
        self.shared.mailbox.post(Command::Shutdown);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.wake.release();
        if let Some(looped) = self.looped.take() {
            looped.close();
        }
        if let Some(drain) = Rc::into_inner(self.drain) {
            drain.release();
        }
    }

    /// Reads what the JavaScript thread reads itself; whom to tell, if there is something.
    fn read_direct(&mut self) -> Option<Rc<JsCall>> {
        let mut events = Vec::new();
        self.direct.turn(&self.links, self.shared.inbox_bytes_max, &mut events);
        if events.is_empty() {
            return None;
        }
        lock(&self.shared.events).extend(events);
        Some(Rc::clone(&self.drain))
    }

    fn foreign_taken(&mut self, id: u32) -> Option<Foreign> {
        let foreign = self.foreign.remove(&id)?;
        if let Some(address) = foreign.address {
            self.shared.mailbox.post(Command::Taken { listener: foreign.listener, address });
        }
        Some(foreign)
    }

    fn leave_direct(&self, link: &Link) {
        if link.direct.swap(false, SeqCst) {
            self.direct.remove(link);
        }
    }
}

thread_local! {
    static HUB: RefCell<Option<Hub>> = const { RefCell::new(None) };
}

fn with_hub<T>(act: impl FnOnce(&mut Hub) -> Result<T>) -> Result<T> {
    HUB.with_borrow_mut(|hub| hub.as_mut().map_or_else(|| Err(closed("TLS")), act))
}

fn with_link<T>(link: u32, act: impl FnOnce(&Shared, &Arc<Link>) -> Result<T>) -> Result<T> {
    with_hub(|hub| hub.links.get(&link).map_or_else(|| Err(closed("connection")), |link| act(&hub.shared, link)))
}

fn system(error: &std::io::Error) -> Error {
    Error::from_reason(format!("{} {error}", error.raw_os_error().unwrap_or(0)))
}

// ---- the thread

/// Begins the I/O thread of this environment. `wake` is called without arguments when `tls_take` has something; never from inside a call.
#[napi(catch_unwind)]
pub fn tls_open(env: Env, wake: Function<'_, (), ()>, inbox_bytes_max: u32, preface_bytes: u32, chain_certs_max: u32, cert_bytes_max: u32) -> Result<()> {
    if with_hub(|_| Ok(())).is_ok() {
        return Err(invalid("it is open"));
    }
    if inbox_bytes_max == 0 || preface_bytes == 0 || preface_bytes > 1024 {
        return Err(invalid("a limit is out of range"));
    }
    let direct = Direct::new().map_err(|error| system(&error))?;
    let shared = Arc::new(Shared::new(inbox_bytes_max as usize, preface_bytes as usize).map_err(|error| system(&error))?);
    let wake_function = wake.raw();
    let drain = Rc::new(JsCall::new(env.raw(), wake_function)?);
    let wake = Arc::new(JsWake::new(env.raw(), wake_function, Arc::clone(&shared.woken))?);
    wake.keep_alive(env.raw(), false);
    let engine = Engine::new(Arc::clone(&shared), Arc::clone(&wake) as Arc<dyn Wake>).map_err(|error| system(&error));
    let thread = engine.and_then(|engine| start(engine, Arc::clone(&shared), Arc::clone(&wake))).inspect_err(|_| wake.release())?;
    let looped = LoopPoll::new(env.raw(), direct.fd(), on_loop);
    HUB.set(Some(Hub {
        shared,
        wake,
        thread: Some(thread),
        limits: ChainLimits { certs_max: chain_certs_max as usize, cert_bytes_max: cert_bytes_max as usize },
        links: HashMap::new(),
        foreign: HashMap::new(),
        clients: Cache::default(),
        servers: Cache::default(),
        spare: Out::default(),
        direct,
        looped,
        drain,
    }));
    // SAFETY: on the thread of `env`. Registered after the wake-up function, so it runs before that one's own.
    unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(on_env_end), std::ptr::null_mut()) };
    Ok(())
}

fn start(mut engine: Engine, shared: Arc<Shared>, wake: Arc<JsWake>) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("selvedge-tls".into())
        .spawn(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| engine.run()));
            let _ = catch_unwind(AssertUnwindSafe(|| engine.flush_events()));
            drop(engine);
            lock(&shared.events).push_back(Event::Ended);
            wake.wake();
        })
        .map_err(|error| system(&error))
}

unsafe extern "C" fn on_loop(_: *mut std::ffi::c_void, _: i32, _: i32) {
    let _ = catch_unwind(|| {
        // The hub is let go of before JavaScript runs, which comes back to it.
        if let Ok(Some(drain)) = with_hub(|hub| Ok(hub.read_direct())) {
            drain.call();
        }
    });
}

unsafe extern "C" fn on_env_end(_: *mut std::ffi::c_void) {
    let _ = catch_unwind(|| {
        if let Some(hub) = HUB.take() {
            hub.end();
        }
    });
}

/// Whether it keeps Node alive; from the start it does not.
#[napi(catch_unwind)]
pub fn tls_keep_alive(env: Env, alive: bool) -> Result<()> {
    with_hub(|hub| {
        hub.wake.keep_alive(env.raw(), alive);
        Ok(())
    })
}

/// Takes events, three words each, as many as fit; returns their number.
#[napi(catch_unwind)]
pub fn tls_take(env: Env, mut out: Uint32ArraySlice<'_>) -> Result<u32> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let out = unsafe { out.as_mut() };
    let mut count = 0;
    let mut over = false;
    with_hub(|hub| {
        let taken: Vec<Event> = {
            hub.shared.woken.store(false, SeqCst);
            let mut events = lock(&hub.shared.events);
            let fit = events.len().min(out.len() / EVENT_WORDS);
            events.drain(..fit).collect()
        };
        for event in taken {
            over |= matches!(event, Event::Ended);
            out[count * EVENT_WORDS..(count + 1) * EVENT_WORDS].copy_from_slice(&words_of(event, hub));
            count += 1;
        }
        Ok(())
    })?;
    if over && let Some(hub) = HUB.take() {
        // SAFETY: the pair that was registered at opening.
        unsafe { sys::napi_remove_env_cleanup_hook(env.raw(), Some(on_env_end), std::ptr::null_mut()) };
        hub.end();
    }
    Ok(count as u32)
}

fn words_of(event: Event, hub: &mut Hub) -> [u32; EVENT_WORDS] {
    match event {
        Event::Connected(link) => [1, link, 0],
        Event::Incoming { listener, link } => {
            let id = link.id;
            hub.links.insert(id, link);
            [2, id, listener]
        }
        Event::Readable(link) => [3, link, 0],
        Event::Writable(link) => [4, link, 0],
        Event::Closed(link) => [5, link, 0],
        Event::Foreign(foreign) => {
            let Foreign { id, listener, .. } = *foreign;
            hub.foreign.insert(id, *foreign);
            [6, id, listener]
        }
        Event::ListenerClosed(listener) => [7, listener, 0],
        Event::Ended => [8, 0, 0],
    }
}

// ---- listening

#[napi(object)]
pub struct TlsListenRules {
    pub shares_port: bool,
    pub handshake_ms: u32,
    pub pending_max: u32,
    pub pending_per_address_max: u32,
    pub connections_max: u32,
}

#[napi(object)]
pub struct TlsListening {
    pub id: u32,
    pub host: String,
    pub port: u16,
}

/// Listens on an IP address. An error's message begins with the system's number.
#[napi(catch_unwind)]
pub fn tls_listen(host: String, port: u32, chain: &[u8], key: &[u8], rules: TlsListenRules) -> Result<TlsListening> {
    let ip: IpAddr = host.parse().map_err(|_| invalid(format!("{host} is not an IP address")))?;
    let port = u16::try_from(port).map_err(|_| invalid(format!("{port} is not a port")))?;
    with_hub(|hub| {
        let config = server_config(hub, chain, key)?;
        let socket = bind(SocketAddr::new(ip, port)).map_err(|error| system(&error))?;
        let local = socket.local_addr().map_err(|error| system(&error))?;
        let id = hub.shared.id();
        let rules = ListenRules {
            shares_port: rules.shares_port,
            handshake_ms: u64::from(rules.handshake_ms),
            pending_max: rules.pending_max as usize,
            pending_per_address_max: rules.pending_per_address_max as usize,
            links_max: rules.connections_max as usize,
        };
        hub.shared.mailbox.post(Command::Listen { id, socket, config, rules });
        Ok(TlsListening { id, host: local.ip().to_string(), port: local.port() })
    })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn server_config(hub: &mut Hub, chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>> {
    let limits = hub.limits;
    hub.servers.of(chain, key, || config::server(credentials(chain, key)?, limits, false).map(Arc::new).map_err(invalid))
}

/// New connections are served with these.
#[napi(catch_unwind)]
pub fn tls_set_credentials(listener: u32, chain: &[u8], key: &[u8]) -> Result<()> {
    with_hub(|hub| {
        let config = server_config(hub, chain, key)?;
        hub.shared.mailbox.post(Command::SetConfig { listener, config });
        Ok(())
    })
}

/// Event `ListenerClosed` tells when its port is free.
#[napi(catch_unwind)]
pub fn tls_unlisten(listener: u32) {
    let _ = with_hub(|hub| {
        hub.shared.mailbox.post(Command::Unlisten { listener });
        Ok(())
    });
}

#[napi(object)]
pub struct TlsForeign {
    pub descriptor: i32,
    /// What was read of it.
    pub hello: Uint8Array,
}

/// After event `Foreign`: the connection, which is the caller's from now on.
#[napi(catch_unwind)]
pub fn tls_take_foreign(id: u32) -> Result<TlsForeign> {
    with_hub(|hub| {
        let foreign = hub.foreign_taken(id).ok_or_else(|| closed("connection"))?;
        Ok(TlsForeign { descriptor: foreign.stream.into_raw_fd(), hello: foreign.hello.into() })
    })
}

/// After event `Foreign`: closes it.
#[napi(catch_unwind)]
pub fn tls_drop_foreign(id: u32) {
    let _ = with_hub(|hub| {
        hub.foreign_taken(id);
        Ok(())
    });
}

// ---- connections

/// Whether these credentials can be used.
#[napi(catch_unwind)]
pub fn tls_check(chain: &[u8], key: &[u8]) -> Result<()> {
    with_hub(|hub| client_config(hub, chain, key).map(|_| ()))
}

fn client_config(hub: &mut Hub, chain: &[u8], key: &[u8]) -> Result<Arc<ClientConfig>> {
    let limits = hub.limits;
    hub.clients.of(chain, key, || config::client(credentials(chain, key)?, limits).map(Arc::new).map_err(invalid))
}

/// Takes a copy of a connected socket's descriptor, and begins the handshake as the client. Who gave it closes its own.
#[napi(catch_unwind)]
pub fn tls_adopt(descriptor: i32, chain: &[u8], key: &[u8]) -> Result<u32> {
    if descriptor < 0 {
        return Err(invalid("no descriptor"));
    }
    with_hub(|hub| {
        let config = client_config(hub, chain, key)?;
        // SAFETY: borrowed for the copying only; a number that is no descriptor is an error of the call.
        let copy = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map_err(|error| system(&error))?;
        let machine = Machine::client(config).map_err(|error| Error::from_reason(error.to_string()))?;
        let link = Arc::new(Link::new(hub.shared.id(), TcpStream::from(copy), machine).map_err(|error| system(&error))?);
        let id = link.id;
        hub.links.insert(id, Arc::clone(&link));
        hub.shared.mailbox.post(Command::Adopt { link });
        Ok(id)
    })
}

#[napi(object)]
pub struct TlsPeer {
    /// Packed, leaf first.
    pub chain: Uint8Array,
    pub preface: Uint8Array,
    pub remote: String,
    pub local: String,
}

/// Who the peer is, after `Connected` or `Incoming`; chain and preface are handed over once.
#[napi(catch_unwind)]
pub fn tls_peer(link: u32) -> Result<TlsPeer> {
    with_link(link, |_, link| {
        let shown = std::mem::take(&mut *lock(&link.shown));
        Ok(TlsPeer { chain: shown.chain.into(), preface: shown.preface.into(), remote: link.remote.to_string(), local: link.local.to_string() })
    })
}

/// It is pending no more: it does not count against the listener's limits.
#[napi(catch_unwind)]
pub fn tls_settle(link: u32) -> Result<()> {
    with_link(link, |shared, link| {
        shared.mailbox.post(Command::Settle { link: link.id });
        Ok(())
    })
}

/// From here on octets of the peer are read; `direct`: by this thread, for a connection of few octets that are waited for.
#[napi(catch_unwind)]
pub fn tls_approve(link: u32, direct: bool) -> Result<()> {
    with_hub(|hub| {
        let link = hub.links.get(&link).ok_or_else(|| closed("connection"))?;
        let direct = direct && hub.looped.is_some() && !link.direct.load(SeqCst) && hub.direct.add(link);
        link.direct.fetch_or(direct, SeqCst);
        hub.shared.mailbox.post(Command::Approve { link: link.id, direct });
        Ok(())
    })
}

/// Copies what has arrived; 0 if there is nothing now (event `Readable` tells when there is), -1 at the end.
#[napi(catch_unwind)]
pub fn tls_read(link: u32, mut into: Uint8ArraySlice<'_>) -> Result<i32> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let into = unsafe { into.as_mut() };
    with_hub(|hub| {
        let link = hub.links.get(&link).ok_or_else(|| closed("connection"))?;
        let shared = &hub.shared;
        let room = into.len().min(READ_BYTES_MAX);
        let mut count = 0;
        while count < room {
            // Out of the inbox for the copying, so that the lock is not held over it.
            let (chunk, at) = {
                let mut inbox = lock(&link.inbox);
                match inbox.chunks.pop_front() {
                    Some(chunk) => (chunk, std::mem::take(&mut inbox.at)),
                    None => {
                        if count == 0 && inbox.ended {
                            return Ok(-1);
                        }
                        inbox.announced = inbox.ended;
                        break;
                    }
                }
            };
            let fit = (chunk.len() - at).min(room - count);
            into[count..count + fit].copy_from_slice(&chunk[at..at + fit]);
            count += fit;
            let mut inbox = lock(&link.inbox);
            inbox.bytes = inbox.bytes.saturating_sub(fit);
            if at + fit < chunk.len() {
                inbox.at = at + fit;
                inbox.chunks.push_front(chunk);
            }
            if inbox.full && inbox.bytes * 2 <= shared.inbox_bytes_max {
                inbox.full = false;
                if link.direct.load(SeqCst) {
                    hub.direct.pull(link);
                } else {
                    shared.mailbox.post(Command::Pull { link: link.id });
                }
            }
        }
        Ok(count as i32)
    })
}

/// Takes octets whole, as a record of this kind (0: frames; 255: as they are, no record). Returns the octets of frames that are unsent.
#[napi(catch_unwind)]
pub fn tls_write(link: u32, kind: u32, head: &[u8], body: Option<&[u8]>) -> Result<u32> {
    with_link(link, |_, link| {
        let body = body.unwrap_or_default();
        if link.unsent.load(SeqCst) + head.len() + body.len() > UNSENT_BYTES_MAX {
            return Err(invalid(format!("more than {UNSENT_BYTES_MAX} octets are unsent: readiness was not heeded")));
        }
        let kind = u8::try_from(kind).map_err(|_| invalid("no such kind"))?;
        let mut outbox = lock(&link.outbox);
        let before = outbox.payload;
        if u32::from(kind) == RAW {
            outbox.raw(head);
            outbox.raw(body);
        } else {
            outbox.record(kind, head, body);
        }
        let added = outbox.payload - before;
        Ok((link.unsent.fetch_add(added, SeqCst) + added) as u32)
    })
}

/// What was written leaves: from this thread if it is little and nothing else is on its way, else from the other.
#[napi(catch_unwind)]
pub fn tls_flush(link: u32) -> Result<()> {
    with_hub(|hub| {
        let link = hub.links.get(&link).ok_or_else(|| closed("connection"))?;
        if lock(&link.outbox).bytes.len() <= DIRECT_BYTES_MAX
            && let Ok(mut machine) = link.machine.try_lock()
            && machine.is_open
            && machine.is_flushed()
            && !machine.is_ending()
        {
            match machine.flush(link, &mut hub.spare) {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                // The system tells it once; what follows from it is the other thread's.
                Err(end) => {
                    lock(&link.end).get_or_insert(end);
                }
            }
        }
        if first(&link.flushing) {
            hub.shared.mailbox.post(Command::Flush { link: link.id });
        }
        Ok(())
    })
}

/// Octets of frames that are unsent. With a mark: event `Writable` tells when there are no more than that, unless that is so now.
#[napi(catch_unwind)]
pub fn tls_unsent(link: u32, mark: Option<u32>) -> Result<u32> {
    with_link(link, |_, link| {
        if let Some(mark) = mark {
            link.watched_mark.store(mark as usize, SeqCst);
            link.watched.store(true, SeqCst);
            // Looked at again after the watch is set: the I/O thread may have made room in between.
            if link.unsent.load(SeqCst) <= mark as usize {
                link.watched.store(false, SeqCst);
            }
        }
        Ok(link.unsent.load(SeqCst) as u32)
    })
}

/// Forgets what has not begun to leave, sends the last record if there is one, ends the connection in order; event `Closed` tells when.
#[napi(catch_unwind)]
pub fn tls_end(link: u32, kind: u32, last: Option<&[u8]>) -> Result<()> {
    with_hub(|hub| {
        let link = hub.links.get(&link).ok_or_else(|| closed("connection"))?;
        let kind = u8::try_from(kind).map_err(|_| invalid("no such kind"))?;
        hub.leave_direct(link);
        link.clear_outbox();
        if let Some(last) = last {
            lock(&link.outbox).record(kind, last, &[]);
        }
        hub.shared.mailbox.post(Command::End { link: link.id });
        Ok(())
    })
}

/// Ends it at once; event `Closed` tells when it is gone. Idempotent.
#[napi(catch_unwind)]
pub fn tls_destroy(link: u32) {
    let _ = with_hub(|hub| {
        if let Some(link) = hub.links.get(&link) {
            hub.leave_direct(link);
            hub.shared.mailbox.post(Command::Destroy { link: link.id });
        }
        Ok(())
    });
}

#[napi(object)]
pub struct TlsEnd {
    pub kind: String,
    pub errno: i32,
    pub why: String,
}

/// Why it ended, as far as is known.
#[napi(catch_unwind)]
pub fn tls_why(link: u32) -> Result<TlsEnd> {
    with_link(link, |_, link| {
        let (kind, errno, why) = match lock(&link.end).clone() {
            Some(End::Tls(why)) => ("tls", 0, why),
            Some(End::Foreign) => ("foreign", 0, String::new()),
            Some(End::System(errno)) => ("system", errno, String::new()),
            Some(End::Ended) | None => ("ended", 0, String::new()),
        };
        Ok(TlsEnd { kind: kind.into(), errno, why })
    })
}

/// After event `Closed`: lets go of the handle.
#[napi(catch_unwind)]
pub fn tls_forget(link: u32) {
    let _ = with_hub(|hub| {
        if let Some(link) = hub.links.remove(&link) {
            hub.leave_direct(&link);
        }
        Ok(())
    });
}

/// Octets a second that the kernel lets leave at most; negative: as fast as the congestion window allows.
#[napi(catch_unwind)]
pub fn tls_pace(link: u32, rate: f64) -> Result<()> {
    with_link(link, |_, link| super::tcp::pace(&link.stream, rate))
}

/// Has the path measured anew, where the kernel's congestion control would need that.
#[napi(catch_unwind)]
pub fn tls_restart(link: u32) -> Result<()> {
    // Where it fails, the connection goes on as it was.
    with_link(link, |_, link| Ok(super::tcp::restart(&link.stream).unwrap_or(())))
}

/// [smoothed rtt ms, acknowledged, retransmitted, sent, not yet sent]: octets since the connection began, but for the last.
#[napi(catch_unwind)]
pub fn tls_look(link: u32, mut out: Float64ArraySlice<'_>) -> Result<()> {
    // SAFETY: nobody else writes to it during the call; see the head of this file.
    let out = unsafe { out.as_mut() };
    with_link(link, |_, link| super::tcp::look(&link.stream, out))
}
