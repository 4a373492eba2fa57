//! The I/O thread of an endpoint: it owns the socket and every connection's state, and runs until it is told to shut down. One
//! round: commands, datagrams in, timers, then each connection that something happened to gets a turn and transmits; events go
//! to the JavaScript thread with one wake-up at the end.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, HashedConnectionIdGenerator, IdleTimeout, Incoming, MtuDiscoveryConfig, ServerConfig, Transmit,
    TransportConfig, VarInt,
};

use super::control::{Algorithm, Control, GovernedConfig};
use super::driver::Driver;
use super::shared::{Command, End, Event, Link, Options, Shared, Wake, lock};
use super::socket::Socket;
use super::tls;
use crate::address::address_group;

/// GSO sends of one connection before others get their turn.
const SENDS_PER_TURN: usize = 4;
/// recvmmsg calls before connections get their turn.
const RECEIVES_PER_ROUND: usize = 2;
/// The governor wants prompt acknowledgements; the stack's own default is 25 ms.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Packets between acknowledgements that are asked of the peer.
const ACK_EVERY: u32 = 4;
/// RFC 6928's ten packets, of the size that is known to pass.
const INITIAL_WINDOW_BYTES: u64 = 14_720;
/// Longest TLS message that is buffered of a peer.
const CRYPTO_BUFFER_BYTES: usize = 48 * 1024;
const CODE_SHUTTING_DOWN: u32 = 45;
/// From this part of the pending limits on, an address must be validated (Retry) before a connection is made for it.
const RETRY_FROM_PART: usize = 4;

pub struct Engine {
    shared: Arc<Shared>,
    wake: Arc<dyn Wake>,
    socket: Socket,
    local: SocketAddr,
    endpoint: Endpoint,
    server: Option<ServerConfig>,
    drivers: HashMap<ConnectionHandle, Driver>,
    handles: HashMap<u32, ConnectionHandle>,
    timers: BTreeSet<(Instant, ConnectionHandle)>,
    dirty: VecDeque<ConnectionHandle>,
    pending: usize,
    pending_by_address: HashMap<IpAddr, usize>,
    /// What the kernel did not take; sent before anything else.
    unsent: Option<(Transmit, Vec<u8>)>,
    buffer: Vec<u8>,
    commands: Vec<Command>,
    events: Vec<Event>,
    running: bool,
}

impl Engine {
    pub fn new(shared: Arc<Shared>, wake: Arc<dyn Wake>, socket: UdpSocket, reset_key: &[u8], server: Option<Arc<QuicServerConfig>>) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let local = socket.local_addr()?;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_key);
        let cid_key = cid_key(&key);
        let mut config = EndpointConfig::new(Arc::new(key));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
        config.max_udp_payload_size(65_527).map_err(io::Error::other)?;
        let endpoint = Endpoint::new(Arc::new(config), None, !socket.may_fragment(), None);
        let mut engine = Engine {
            shared,
            wake,
            socket,
            local,
            endpoint,
            server: None,
            drivers: HashMap::new(),
            handles: HashMap::new(),
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            pending: 0,
            pending_by_address: HashMap::new(),
            unsent: None,
            buffer: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            running: true,
        };
        engine.listen(server);
        Ok(engine)
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Until shut down. A failure of the socket ends it as well.
    pub fn run(&mut self) {
        let mut readable = false;
        while self.running {
            self.take_commands();
            if readable && let Err(error) = self.receive() {
                self.fail(&error.to_string());
            }
            self.fire_timers(Instant::now());
            self.turns();
            self.flush_events();
            readable = self.wait();
        }
        self.shut_down();
    }

    /// A failure that this endpoint does not survive.
    pub fn fail(&mut self, why: &str) {
        self.running = false;
        let mut events = std::mem::take(&mut self.events);
        for driver in self.drivers.values_mut() {
            driver.end(End::Endpoint(why.to_string()), &mut events);
        }
        self.events = events;
    }

    fn shut_down(&mut self) {
        let now = Instant::now();
        let handles: Vec<ConnectionHandle> = self.drivers.keys().copied().collect();
        for handle in handles {
            if let Some(driver) = self.drivers.get_mut(&handle) {
                driver.hang_up(now, CODE_SHUTTING_DOWN, b"endpoint closed".to_vec().into());
                driver.end(End::Endpoint("endpoint closed".into()), &mut self.events);
            }
            self.mark(handle);
        }
        self.turns();
        self.flush_events();
    }

    // ---- commands

    fn take_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        self.shared.mailbox.take(&mut commands);
        for command in commands.drain(..) {
            self.command(command);
        }
        self.commands = commands;
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        match command {
            Command::Dial { link, remote, crypto } => self.dial(link, remote, crypto, now),
            Command::Listen { crypto } => self.listen(crypto),
            Command::Rebind { socket } => self.rebind(socket),
            Command::Shutdown => self.running = false,
            Command::Approve { link } => {
                self.settle(link);
                self.with(link, |driver, _| driver.approve(options, now));
            }
            Command::Write { link, flow, priority, outbound, lane, bytes } => self.with(link, |driver, _| driver.write(flow, priority, &outbound, lane, bytes)),
            Command::EndFlow { link, flow } => self.with(link, |driver, _| driver.end_flow(flow)),
            Command::Datagram { link, bytes } => self.with(link, |driver, _| driver.datagram(bytes)),
            Command::Pull { link } => self.with(link, |driver, events| driver.pull_more(now, options, events)),
            Command::Finish { link } => self.with(link, |driver, _| driver.finish()),
            Command::Close { link, code, reason } => self.with(link, |driver, _| driver.close(now, code, reason)),
        }
    }

    fn with(&mut self, link: u32, act: impl FnOnce(&mut Driver, &mut Vec<Event>)) {
        let Some(handle) = self.handles.get(&link).copied() else { return };
        if let Some(driver) = self.drivers.get_mut(&handle) {
            act(driver, &mut self.events);
        }
        self.mark(handle);
    }

    fn mark(&mut self, handle: ConnectionHandle) {
        if let Some(driver) = self.drivers.get_mut(&handle)
            && !std::mem::replace(&mut driver.dirty, true)
        {
            self.dirty.push_back(handle);
        }
    }

    fn dial(&mut self, link: Arc<Link>, remote: SocketAddr, crypto: Arc<QuicClientConfig>, now: Instant) {
        let mut config = ClientConfig::new(crypto);
        config.transport_config(Arc::new(transport(&self.shared.options, &link.control)));
        match self.endpoint.connect(now, config, remote, tls::SERVER_NAME) {
            Ok((handle, conn)) => self.add(handle, Driver::new(conn, link, now, &self.shared.options)),
            Err(error) => {
                *lock(&link.end) = Some(End::Unreachable(error.to_string()));
                self.events.push(Event::Closed(link.id));
            }
        }
    }

    fn add(&mut self, handle: ConnectionHandle, driver: Driver) {
        self.handles.insert(driver.link.id, handle);
        self.drivers.insert(handle, driver);
        self.mark(handle);
    }

    fn listen(&mut self, crypto: Option<Arc<QuicServerConfig>>) {
        self.server = crypto.map(|crypto| {
            let mut key = [0u8; 64];
            let random = ring::rand::SystemRandom::new();
            let _ = ring::rand::SecureRandom::fill(&random, &mut key);
            let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&key);
            let mut config = ServerConfig::new(crypto, Arc::new(token_key));
            config.migration(true);
            let mut none = quinn_proto::ValidationTokenConfig::default();
            none.sent(0);
            config.validation_token_config(none);
            config
        });
        self.endpoint.set_server_config(self.server.clone().map(Arc::new));
    }

    fn rebind(&mut self, socket: UdpSocket) {
        match Socket::new(socket) {
            Ok(socket) => {
                self.socket = socket;
                self.unsent = None;
                let handles: Vec<ConnectionHandle> = self.drivers.keys().copied().collect();
                for handle in handles {
                    if let Some(driver) = self.drivers.get_mut(&handle) {
                        driver.conn.local_address_changed();
                    }
                    self.mark(handle);
                }
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    // ---- in

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVES_PER_ROUND {
            let mut batches: Vec<(SocketAddr, Option<IpAddr>, Option<quinn_proto::EcnCodepoint>, usize, BytesMut)> = Vec::new();
            let more = self.socket.receive(|meta, bytes| {
                let ecn = meta.ecn.and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8));
                batches.push((meta.addr, meta.dst_ip, ecn, meta.stride.max(1), BytesMut::from(bytes)));
            })?;
            // Once they are here: a time from before would make round trips that are too short, if this thread had to wait for the processor
            // meanwhile, and the shortest of 15 s is the governor's base.
            let now = Instant::now();
            for (remote, local, ecn, stride, mut bytes) in batches {
                while !bytes.is_empty() {
                    let datagram = bytes.split_to(stride.min(bytes.len()));
                    self.datagram(now, remote, local, ecn, datagram);
                }
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn datagram(&mut self, now: Instant, remote: SocketAddr, local: Option<IpAddr>, ecn: Option<quinn_proto::EcnCodepoint>, bytes: BytesMut) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        match self.endpoint.handle(now, remote, local, ecn, bytes, &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(driver) = self.drivers.get_mut(&handle) {
                    driver.heard(now, local);
                    driver.conn.handle_event(event);
                }
                self.mark(handle);
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.incoming(incoming, now, &mut buffer),
            Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, &buffer),
            None => {}
        }
        self.buffer = buffer;
    }

    fn incoming(&mut self, incoming: Incoming, now: Instant, buffer: &mut Vec<u8>) {
        let options = &self.shared.options;
        let address = address_group(incoming.remote_address().ip());
        let from_address = self.pending_by_address.get(&address).copied().unwrap_or(0);
        let crowded = self.pending * RETRY_FROM_PART >= options.pending_max || from_address * RETRY_FROM_PART >= options.pending_per_address_max;
        if crowded && !incoming.remote_address_validated() {
            match self.endpoint.retry(incoming, buffer) {
                Ok(transmit) => self.respond(&transmit, buffer),
                Err(error) => self.endpoint.ignore(error.into_incoming()),
            }
            return;
        }
        if self.pending >= options.pending_max || from_address >= options.pending_per_address_max || self.drivers.len() >= options.links_max {
            let transmit = self.endpoint.refuse(incoming, buffer);
            self.respond(&transmit, buffer);
            return;
        }
        let Some(mut config) = self.server.clone() else {
            self.endpoint.ignore(incoming);
            return;
        };
        let id = self.shared.link_ids.fetch_add(1, Relaxed);
        let local = incoming.local_ip().map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        let link = Arc::new(Link::new(id, false, local, incoming.remote_address(), self.shared.epoch));
        config.transport_config(Arc::new(transport(options, &link.control)));
        match self.endpoint.accept(incoming, now, buffer, Some(Arc::new(config))) {
            Ok((handle, conn)) => {
                let mut driver = Driver::new(conn, link, now, options);
                driver.pending_for = Some(address);
                self.pending += 1;
                *self.pending_by_address.entry(address).or_default() += 1;
                self.add(handle, driver);
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(&transmit, buffer);
                }
            }
        }
    }

    /// This link no longer counts as pending.
    fn settle(&mut self, link: u32) {
        if let Some(handle) = self.handles.get(&link).copied() {
            self.settle_handle(handle);
        }
    }

    fn settle_handle(&mut self, handle: ConnectionHandle) {
        let Some(address) = self.drivers.get_mut(&handle).and_then(|driver| driver.pending_for.take()) else { return };
        self.pending -= 1;
        if let Some(count) = self.pending_by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.pending_by_address.remove(&address);
            }
        }
    }

    // ---- time

    fn fire_timers(&mut self, now: Instant) {
        while let Some((at, handle)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, handle));
            if let Some(driver) = self.drivers.get_mut(&handle) {
                driver.timer = None;
                driver.handle_timeout(now, &mut self.events);
            }
            self.mark(handle);
        }
    }

    fn set_timer(&mut self, handle: ConnectionHandle) {
        let Some(driver) = self.drivers.get_mut(&handle) else { return };
        let next = driver.next_timeout();
        if next == driver.timer {
            return;
        }
        if let Some(old) = driver.timer {
            self.timers.remove(&(old, handle));
        }
        driver.timer = next;
        if let Some(at) = next {
            self.timers.insert((at, handle));
        }
    }

    // ---- turns

    /// First everyone's events and octets, and JavaScript is woken; then it can work while this thread encrypts and sends.
    fn turns(&mut self) {
        self.send_unsent();
        let due: Vec<ConnectionHandle> = self.dirty.drain(..).collect();
        let shared = Arc::clone(&self.shared);
        for handle in &due {
            if let Some(driver) = self.drivers.get_mut(handle) {
                driver.dirty = false;
                driver.turn(Instant::now(), &shared.options, &mut self.events);
            }
        }
        self.flush_events();
        for handle in due {
            self.finish_turn(handle, &shared.options);
        }
    }

    fn finish_turn(&mut self, handle: ConnectionHandle, options: &Options) {
        let Some(driver) = self.drivers.get_mut(&handle) else { return };
        let mut drained = false;
        while let Some(event) = driver.conn.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(event) = self.endpoint.handle_event(handle, event) {
                driver.conn.handle_event(event);
            }
        }
        let more = self.transmit(handle, Instant::now());
        let Some(driver) = self.drivers.get_mut(&handle) else { return };
        driver.publish(options, &mut self.events);
        if driver.is_ended() {
            self.settle_handle(handle);
        }
        if drained {
            self.remove(handle);
            return;
        }
        self.set_timer(handle);
        if more {
            self.mark(handle);
        }
    }

    fn remove(&mut self, handle: ConnectionHandle) {
        if let Some(driver) = self.drivers.remove(&handle) {
            self.handles.remove(&driver.link.id);
            if let Some(at) = driver.timer {
                self.timers.remove(&(at, handle));
            }
        }
    }

    /// Sends what the connection has; true if it may have more.
    fn transmit(&mut self, handle: ConnectionHandle, now: Instant) -> bool {
        for _ in 0..SENDS_PER_TURN {
            if self.unsent.is_some() {
                return true;
            }
            let Some(driver) = self.drivers.get_mut(&handle) else { return false };
            let segments = self.socket.segments(usize::from(driver.conn.current_mtu()));
            self.buffer.clear();
            let Some(transmit) = driver.conn.poll_transmit(now, segments, &mut self.buffer) else { return false };
            if driver.is_first_probe() {
                continue;
            }
            let contents = &self.buffer[..transmit.size];
            match self.socket.send(&transmit, contents) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.unsent = Some((transmit, contents.to_vec())),
                Err(error) => self.send_failed(handle, &error),
            }
        }
        true
    }

    /// The stack takes a failed send for a lost packet. Only a dial that cannot even leave this machine is told at once.
    fn send_failed(&mut self, handle: ConnectionHandle, error: &io::Error) {
        let no_way = matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EPERM | libc::EACCES | libc::EADDRNOTAVAIL | libc::EINVAL | libc::EAFNOSUPPORT));
        if let Some(driver) = self.drivers.get_mut(&handle)
            && no_way
            && driver.link.dialed
            && !driver.is_connected()
        {
            driver.end(End::Unreachable(error.to_string()), &mut self.events);
        }
    }

    fn respond(&mut self, transmit: &Transmit, buffer: &[u8]) {
        // Unanswered is fine: who asked will ask again.
        let _ = self.socket.send(transmit, &buffer[..transmit.size.min(buffer.len())]);
    }

    fn send_unsent(&mut self) {
        if let Some((transmit, contents)) = self.unsent.take()
            && let Err(error) = self.socket.send(&transmit, &contents)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.unsent = Some((transmit, contents));
        }
    }

    pub fn flush_events(&mut self) {
        if !self.events.is_empty() {
            lock(&self.shared.events).extend(self.events.drain(..));
            self.wake.wake();
        }
    }

    // ---- waiting

    /// Until a datagram, a command or a timer; returns whether datagrams wait.
    fn wait(&mut self) -> bool {
        if !self.running {
            return false;
        }
        let may_sleep = (self.dirty.is_empty() || self.unsent.is_some()) && self.shared.mailbox.fall_asleep();
        let timeout = match (may_sleep, self.timers.first()) {
            (false, _) => Some(Duration::ZERO),
            (true, Some((at, _))) => Some(at.saturating_duration_since(Instant::now())),
            (true, None) => None,
        };
        let events = libc::POLLIN | if self.unsent.is_some() { libc::POLLOUT } else { 0 };
        let mut polled = [
            libc::pollfd { fd: self.socket.fd(), events, revents: 0 },
            libc::pollfd { fd: self.shared.mailbox.alarm(), events: libc::POLLIN, revents: 0 },
        ];
        let spec = timeout.map(|timeout| libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32) });
        // SAFETY: two live pollfds, and a timespec that lives until the call returns, or null.
        unsafe { libc::ppoll(polled.as_mut_ptr(), 2, spec.as_ref().map_or(std::ptr::null(), |spec| &raw const *spec), std::ptr::null()) };
        self.shared.mailbox.awake();
        if polled[1].revents != 0 {
            self.shared.mailbox.silence();
        }
        polled[0].revents & (libc::POLLIN | libc::POLLERR) != 0
    }
}

/// Connection ids are recognised as our own by this key; it follows from the reset key, so that a restarted endpoint still does, and
/// answers with a reset.
fn cid_key(key: &ring::hmac::Key) -> u64 {
    let tag = ring::hmac::sign(key, b"connection ids");
    tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One connection's settings: the controller is its own, the rest is the endpoint's.
fn transport(options: &Options, control: &Arc<Control>) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(options.mtu_max);
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY)).ack_eliciting_threshold(ACK_EVERY.into());
    config
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .max_idle_timeout(VarInt::from_u64(options.idle_ms).ok().map(IdleTimeout::from))
        .stream_receive_window(options.flow_window_bytes_max.into())
        .receive_window(VarInt::from_u64(Driver::receive_window_start()).unwrap_or(VarInt::MAX))
        .send_window(u64::MAX)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(Some(options.datagram_queue_bytes_max))
        .datagram_send_buffer_size(options.datagram_queue_bytes_max)
        .congestion_controller_factory(Arc::new(GovernedConfig {
            control: Arc::clone(control),
            algorithm: if options.bbr { Algorithm::Bbr } else { Algorithm::Cubic },
            initial_window: INITIAL_WINDOW_BYTES,
        }));
    config
}
