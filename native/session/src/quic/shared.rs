//! What the JavaScript thread and an endpoint's I/O thread share. The I/O thread alone owns the protocol state; the other side
//! posts commands to its mailbox, takes events, and copies octets out of inboxes. Locks are held for a push or a pop, never
//! over a system call, a copy of data or a call into the other world.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};

use super::control::Control;
pub use crate::mailbox::{Wake, lock};
use crate::mailbox::Mailbox;

/// Urgent or bulk: decides readiness only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Lane {
    Urgent = 0,
    Bulk = 1,
}

/// Of the bulk lane: a chunk.
const BULK_BYTES_MIN: usize = 64 * 1024;

pub const LANES: [Lane; 2] = [Lane::Urgent, Lane::Bulk];

pub enum Command {
    Dial { link: Arc<Link>, remote: SocketAddr, crypto: Arc<QuicClientConfig> },
    Approve { link: u32 },
    Write { link: u32, flow: u32, priority: i32, outbound: Arc<OutboundFlow>, lane: Lane, bytes: Bytes },
    EndFlow { link: u32, flow: u32 },
    Datagram { link: u32, bytes: Bytes },
    /// The inbox has room again.
    Pull { link: u32 },
    Finish { link: u32 },
    Close { link: u32, code: u32, reason: Vec<u8> },
    Listen { crypto: Option<Arc<QuicServerConfig>> },
    Rebind { socket: std::net::UdpSocket },
    Shutdown,
}

pub enum Event {
    /// A dialed connection is up, pending.
    Connected(u32),
    /// A peer's connection is up, pending.
    Incoming(Arc<Link>),
    Readable { link: u32, source: u32 },
    Ready { link: u32, lane: Lane },
    Writable { link: u32, flow: u32 },
    Datagrams(u32),
    /// The peer has finished.
    Finished(u32),
    /// No event of this link follows.
    Closed(u32),
    /// The I/O thread has ended.
    EndpointClosed,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Closed by the peer's application: its code and reason.
    Application { code: u64, reason: String },
    /// The TLS handshake failed here or there.
    Tls(String),
    /// Against the protocol, or another failure of the transport.
    Transport(String),
    /// The peer does not know this connection any more.
    Reset,
    /// Nothing was heard for too long.
    Silent,
    /// Not connected, or not approved, in time.
    HandshakeTimeout,
    /// This machine has no way there.
    Unreachable(String),
    /// The endpoint was closed, or its thread failed.
    Endpoint(String),
}

/// Octets that count against a flow and its connection until the peer has acknowledged them (or the flow is gone): the stack drops
/// them then, and so they leave the count.
pub struct Counted {
    bytes: Vec<u8>,
    link: Arc<Counters>,
    flow: Arc<OutboundFlow>,
    lane: Lane,
}

impl Counted {
    pub fn new(bytes: Vec<u8>, link: Arc<Counters>, flow: Arc<OutboundFlow>, lane: Lane) -> Bytes {
        link.unsent[lane as usize].fetch_add(bytes.len(), SeqCst);
        flow.unsent.fetch_add(bytes.len(), SeqCst);
        Bytes::from_owner(Counted { bytes, link, flow, lane })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.link.unsent[self.lane as usize].fetch_sub(self.bytes.len(), SeqCst);
        self.flow.unsent.fetch_sub(self.bytes.len(), SeqCst);
    }
}

/// A datagram counts until it was sent or dropped.
pub struct CountedDatagram {
    bytes: Vec<u8>,
    link: Arc<Counters>,
}

impl CountedDatagram {
    pub fn new(bytes: Vec<u8>, link: Arc<Counters>) -> Bytes {
        link.datagrams_unsent.fetch_add(bytes.len(), SeqCst);
        Bytes::from_owner(CountedDatagram { bytes, link })
    }
}

impl AsRef<[u8]> for CountedDatagram {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedDatagram {
    fn drop(&mut self) {
        self.link.datagrams_unsent.fetch_sub(self.bytes.len(), SeqCst);
    }
}

#[derive(Default)]
pub struct Counters {
    unsent: [AtomicUsize; 2],
    datagrams_unsent: AtomicUsize,
    /// Flows for which JavaScript waits for `Writable`.
    pub flows_watched: AtomicUsize,
}

impl Counters {
    pub fn unsent(&self) -> usize {
        LANES.iter().map(|lane| self.unsent_of(*lane)).sum()
    }

    pub fn unsent_of(&self, lane: Lane) -> usize {
        self.unsent[lane as usize].load(SeqCst)
    }

    pub fn datagrams_unsent(&self) -> usize {
        self.datagrams_unsent.load(SeqCst)
    }
}

/// The sending side of one flow, as far as both threads need it.
#[derive(Default)]
pub struct OutboundFlow {
    pub unsent: AtomicUsize,
    /// JavaScript waits for `Writable`.
    pub watched: AtomicBool,
}

/// Figures that the I/O thread leaves after each turn.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    pub rtt_us: u64,
    pub rtt_min_us: u64,
    pub cwnd: u64,
    pub mtu: u16,
    pub sent_packets: u64,
    pub lost_packets: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub datagrams_dropped: u64,
    pub remote: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
}

/// One source: an incoming stream, as far as it was pulled out of the stack.
#[derive(Default)]
pub struct Source {
    pub chunks: VecDeque<Bytes>,
    pub ended: bool,
    /// Octets of it were read: only then is its end told.
    pub begun: bool,
    /// A `Readable` was sent and not yet answered by reading it empty.
    pub announced: bool,
}

#[derive(Default)]
pub struct Inbox {
    pub sources: HashMap<u32, Source>,
    pub bytes: usize,
    /// The I/O thread stopped pulling, since the inbox was full.
    pub full: bool,
    pub datagrams: VecDeque<Bytes>,
    pub datagram_bytes: usize,
    pub datagrams_announced: bool,
}

/// One connection, as both threads see it.
pub struct Link {
    pub id: u32,
    pub dialed: bool,
    pub counters: Arc<Counters>,
    pub control: Arc<Control>,
    pub inbox: Mutex<Inbox>,
    pub stats: Mutex<Stats>,
    /// Packed certificates, leaf first, once the handshake is done.
    pub peer_chain: Mutex<Vec<u8>>,
    pub end: Mutex<Option<End>>,
    /// Octets that may be unsent while the bulk lane is ready.
    pub cap: AtomicUsize,
    /// Octets of the bulk lane that have not been handed to the stack: what the pace holds back.
    pub held_back: AtomicUsize,
    /// Per lane: JavaScript waits for `Ready`.
    pub watched: [AtomicBool; 2],
    pub datagram_max: AtomicUsize,
    /// Microseconds on the endpoint's clock.
    pub heard_us: AtomicU64,
    pub epoch: Instant,
}

impl Link {
    pub fn new(id: u32, dialed: bool, local: SocketAddr, remote: SocketAddr, epoch: Instant) -> Self {
        Link {
            id,
            dialed,
            counters: Arc::default(),
            control: Arc::default(),
            inbox: Mutex::default(),
            stats: Mutex::new(Stats { remote: Some(remote), local: Some(local), ..Stats::default() }),
            peer_chain: Mutex::default(),
            end: Mutex::default(),
            cap: AtomicUsize::new(0),
            held_back: AtomicUsize::new(0),
            watched: Default::default(),
            datagram_max: AtomicUsize::new(0),
            heard_us: AtomicU64::new(epoch.elapsed().as_micros() as u64),
            epoch,
        }
    }

    /// The readiness rule, the same for both threads. Bulk gives way to what is urgent, but has a little under way whatever else is: else it
    /// would not be asked for its turn while the urgent lane is always full.
    pub fn ready(&self, lane: Lane, urgent_extra: usize) -> bool {
        let (unsent, cap) = (self.counters.unsent(), self.cap.load(Relaxed));
        match lane {
            Lane::Bulk => unsent < cap || self.counters.unsent_of(Lane::Bulk) < BULK_BYTES_MIN,
            Lane::Urgent => unsent < cap + urgent_extra,
        }
    }
}

/// Everything of one endpoint that both threads see.
pub struct Shared {
    pub mailbox: Mailbox<Command>,
    pub events: Mutex<VecDeque<Event>>,
    pub epoch: Instant,
    pub link_ids: AtomicU32,
    pub woken: Arc<AtomicBool>,
    pub ended: AtomicBool,
    pub options: Options,
}

impl Shared {
    pub fn new(options: Options) -> std::io::Result<Self> {
        Ok(Shared {
            mailbox: Mailbox::new()?,
            events: Mutex::default(),
            epoch: Instant::now(),
            link_ids: AtomicU32::new(1),
            woken: Arc::default(),
            ended: AtomicBool::new(false),
            options,
        })
    }
}

/// Limits and settings of an endpoint, given once.
#[derive(Debug, Clone)]
pub struct Options {
    pub handshake_ms: u64,
    pub idle_ms: u64,
    pub streams_max: u32,
    pub pending_max: usize,
    pub pending_per_address_max: usize,
    pub links_max: usize,
    pub unsent_min: usize,
    pub unsent_max: usize,
    pub urgent_extra: usize,
    pub inbox_bytes_max: usize,
    pub datagram_queue_bytes_max: usize,
    pub flow_window_bytes_max: u32,
    pub mtu_max: u16,
    pub bbr: bool,
    pub chain: crate::credentials::ChainLimits,
}
