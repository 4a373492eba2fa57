//! What the JavaScript thread and the I/O thread share of a connection. Octets go out by `Outbox` and come in by `Inbox`; the protocol's
//! state is behind one lock, held for a turn: by the I/O thread, by the JavaScript thread for a connection that it reads itself, and if it is
//! free, to send a few octets at once.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;

use super::machine::Machine;
use crate::mailbox::{Mailbox, lock};

pub enum Command {
    /// A connected socket of which JavaScript is the dialer.
    Adopt { link: Arc<Link> },
    Listen { id: u32, socket: TcpListener, config: Arc<ServerConfig>, rules: ListenRules },
    SetConfig { listener: u32, config: Arc<ServerConfig> },
    /// Its port is free and all that has not shown its preface is gone when `ListenerClosed` is told.
    Unlisten { listener: u32 },
    /// It no longer counts as pending.
    Settle { link: u32 },
    /// Octets may come. `direct`: the JavaScript thread reads them itself.
    Approve { link: u32, direct: bool },
    /// There is something in the outbox.
    Flush { link: u32 },
    /// The inbox has room again.
    Pull { link: u32 },
    /// Nothing is handed over any more: what is in the outbox leaves, then the connection is closed in order.
    End { link: u32 },
    Destroy { link: u32 },
    /// A connection that is no fabric was taken over, and counts no more.
    Taken { listener: u32, address: IpAddr },
    Shutdown,
}

#[derive(Clone, Copy)]
pub struct ListenRules {
    /// Who does not speak fabric is handed to JavaScript.
    pub shares_port: bool,
    /// For the handshake and the preface together.
    pub handshake_ms: u64,
    pub pending_max: usize,
    pub pending_per_address_max: usize,
    pub links_max: usize,
}

pub enum Event {
    /// The adopted connection's handshake is over.
    Connected(u32),
    /// A peer's handshake is over, and its preface is there.
    Incoming { listener: u32, link: Arc<Link> },
    /// There are octets, or the end.
    Readable(u32),
    /// So few octets are unsent that more should be handed over.
    Writable(u32),
    /// It is gone; no event of this link follows.
    Closed(u32),
    /// A connection for the HTTP server, and what was read of it.
    Foreign(Box<Foreign>),
    ListenerClosed(u32),
    /// The I/O thread has ended.
    Ended,
}

pub struct Foreign {
    pub listener: u32,
    pub id: u32,
    pub stream: TcpStream,
    pub hello: Vec<u8>,
    /// Counted as pending for this address until it is taken.
    pub address: Option<IpAddr>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The peer's TLS is of another kind, or an alert.
    Tls(String),
    /// The peer does not speak fabric.
    Foreign,
    /// The system's error number.
    System(i32),
    /// An end of the stream, with or without close_notify.
    Ended,
}

/// Octets of one flush, with the heads of their records: [u8 kind][u24 length].
#[derive(Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    /// Where the head of the record of frames stands that still grows.
    growing: Option<usize>,
    /// Octets of frames in it.
    pub payload: usize,
}

pub const KIND_DATA: u8 = 0;
pub const RECORD_HEAD_BYTES: usize = 4;
/// A record of frames takes no more than this.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// What a keystroke takes, and what bulk will.
const OUTBOX_BYTES_SMALL: usize = 1_024;
const OUTBOX_BYTES_LARGE: usize = 160 * 1024;

impl Outbox {
    /// Octets as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.growing = None;
    }

    /// Frames join the record before them; any other record stands alone.
    pub fn record(&mut self, kind: u8, head: &[u8], body: &[u8]) {
        let count = head.len() + body.len();
        self.reserve(count + RECORD_HEAD_BYTES);
        match self.growing {
            Some(at) if kind == KIND_DATA && self.bytes.len() - at - RECORD_HEAD_BYTES + count <= RECORD_BYTES_MAX => {}
            _ => {
                self.growing = (kind == KIND_DATA).then_some(self.bytes.len());
                self.bytes.extend_from_slice(&record_head(kind, if kind == KIND_DATA { 0 } else { count }));
            }
        }
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(body);
        if let (KIND_DATA, Some(at)) = (kind, self.growing) {
            let head = record_head(kind, self.bytes.len() - at - RECORD_HEAD_BYTES);
            self.bytes[at..at + RECORD_HEAD_BYTES].copy_from_slice(&head);
            self.payload += count;
        }
    }

    fn reserve(&mut self, count: usize) {
        let wanted = self.bytes.len() + count;
        if wanted > self.bytes.capacity() {
            let capacity = if wanted <= OUTBOX_BYTES_SMALL { OUTBOX_BYTES_SMALL } else { wanted.max(OUTBOX_BYTES_LARGE) };
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}

fn record_head(kind: u8, length: usize) -> [u8; RECORD_HEAD_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    [kind, a, b, c]
}

/// Pieces that are smaller are put together.
const CHUNK_BYTES_MIN: usize = 16 * 1024;

/// Octets that came in and were not yet taken.
#[derive(Default)]
pub struct Inbox {
    pub chunks: VecDeque<Vec<u8>>,
    /// Taken of the first chunk.
    pub at: usize,
    pub bytes: usize,
    /// The I/O thread stopped reading, since the inbox was full.
    pub full: bool,
    /// A `Readable` was sent and not yet answered by reading it empty.
    pub announced: bool,
    pub ended: bool,
}

/// Who the peer is, once the handshake is over.
#[derive(Default)]
pub struct Shown {
    /// Packed certificates, leaf first.
    pub chain: Vec<u8>,
    pub preface: Vec<u8>,
}

pub struct Link {
    pub id: u32,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub stream: TcpStream,
    pub machine: Mutex<Machine>,
    pub outbox: Mutex<Outbox>,
    pub inbox: Mutex<Inbox>,
    pub shown: Mutex<Shown>,
    pub end: Mutex<Option<End>>,
    /// Octets of frames that were handed over and not yet taken by the kernel.
    pub unsent: AtomicUsize,
    /// JavaScript waits for `Writable`, told when so few octets are unsent.
    pub watched: AtomicBool,
    pub watched_mark: AtomicUsize,
    /// The JavaScript thread reads it.
    pub direct: AtomicBool,
    /// A `Flush` is under way.
    pub flushing: AtomicBool,
}

impl Link {
    pub fn new(id: u32, stream: TcpStream, machine: Machine) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Link {
            id,
            local: canonical(stream.local_addr()?),
            remote: canonical(stream.peer_addr()?),
            stream,
            machine: Mutex::new(machine),
            outbox: Mutex::default(),
            inbox: Mutex::default(),
            shown: Mutex::default(),
            end: Mutex::default(),
            unsent: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            watched_mark: AtomicUsize::new(0),
            direct: AtomicBool::new(false),
            flushing: AtomicBool::new(false),
        })
    }

    /// What came in waits to be taken; true if that must be told.
    pub fn deliver(&self, mut plain: Vec<u8>, ended: bool) -> bool {
        let mut inbox = lock(&self.inbox);
        if plain.is_empty() && !ended {
            return false;
        }
        inbox.bytes += plain.len();
        inbox.ended |= ended;
        match inbox.chunks.back_mut() {
            // Many small pieces become one: each would cost more than what is in it.
            Some(last) if last.len() + plain.len() <= CHUNK_BYTES_MIN => last.extend_from_slice(&plain),
            _ if plain.is_empty() => {}
            _ => {
                if plain.capacity() > 2 * plain.len() {
                    plain.shrink_to_fit();
                }
                inbox.chunks.push_back(plain);
            }
        }
        !std::mem::replace(&mut inbox.announced, true)
    }

    /// Whether more may come in; if not, whoever takes octets says when.
    pub fn has_room(&self, inbox_bytes_max: usize) -> bool {
        let mut inbox = lock(&self.inbox);
        let is_full = inbox.bytes >= inbox_bytes_max;
        inbox.full |= is_full;
        !is_full
    }

    /// Takes all that waits to leave.
    pub fn take_outbox(&self) -> Outbox {
        std::mem::take(&mut *lock(&self.outbox))
    }

    /// Forgets what waits to leave.
    pub fn clear_outbox(&self) {
        let dropped = self.take_outbox();
        self.unsent.fetch_sub(dropped.payload, SeqCst);
    }
}

/// An IPv4 address is one, also on a socket that takes both.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

pub struct Shared {
    pub mailbox: Mailbox<Command>,
    pub events: Mutex<VecDeque<Event>>,
    pub ids: AtomicU32,
    pub woken: Arc<AtomicBool>,
    pub ended: AtomicBool,
    /// What one connection may hold of octets that came in.
    pub inbox_bytes_max: usize,
    /// Octets of a preface.
    pub preface_bytes: usize,
}

impl Shared {
    pub fn new(inbox_bytes_max: usize, preface_bytes: usize) -> std::io::Result<Self> {
        Ok(Shared {
            mailbox: Mailbox::new()?,
            events: Mutex::default(),
            ids: AtomicU32::new(1),
            woken: Arc::default(),
            ended: AtomicBool::new(false),
            inbox_bytes_max,
            preface_bytes,
        })
    }

    pub fn id(&self) -> u32 {
        self.ids.fetch_add(1, SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_join_one_record_and_others_stand_alone() {
        let mut outbox = Outbox::default();
        outbox.raw(&[9, 9]);
        outbox.record(KIND_DATA, &[1], &[2, 3]);
        outbox.record(KIND_DATA, &[4], &[]);
        outbox.record(2, &[], &[]);
        outbox.record(KIND_DATA, &[5], &[]);
        assert_eq!(outbox.bytes, [9, 9, 0, 0, 0, 4, 1, 2, 3, 4, 2, 0, 0, 0, 0, 0, 0, 1, 5]);
        assert_eq!(outbox.payload, 5);
    }

    #[test]
    fn what_came_in_small_pieces_is_kept_as_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let link = Link::new(1, stream, Machine::server()).unwrap();
        assert!(link.deliver(vec![1], false));
        for _ in 0..40_000 {
            let mut wide = Vec::with_capacity(4_000);
            wide.push(1);
            assert!(!link.deliver(wide, false));
        }
        let inbox = lock(&link.inbox);
        assert_eq!(inbox.bytes, 40_001);
        assert!(inbox.chunks.len() <= 3);
        assert!(inbox.chunks.iter().map(Vec::capacity).sum::<usize>() < 100_000);
        drop(inbox);
        assert!(link.has_room(40_002));
        assert!(!link.has_room(40_001));
        assert!(lock(&link.inbox).full);
    }

    #[test]
    fn a_record_of_frames_is_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.record(KIND_DATA, &[0; 64], &[7; 65_536]);
        }
        assert_eq!(outbox.bytes[..4], [0, 1, 0, 64]);
        assert_eq!(outbox.bytes.len(), 3 * (4 + 64 + 65_536));
    }
}
