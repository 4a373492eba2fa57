//! One connection on the I/O thread: the protocol machine, the flows that leave through it and the sources that come in. It
//! does no I/O: the engine hands it datagrams and time, and takes what it wants to transmit.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionError, Dir, Event as ProtoEvent, ReadError, StreamEvent, StreamId, VarInt, WriteError};
use rustls::pki_types::CertificateDer;

use super::pacer::Pacer;
use super::shared::{End, Event, LANES, Lane, Link, Options, OutboundFlow, lock};
use crate::blocks;

/// The flow of frames that belong to the session: it owns stream 0 and leaves before all others.
pub const CONTROL_FLOW: u32 = 0;
/// The connection's receive window starts here and doubles while the path fills half of it in a round trip.
const RECEIVE_WINDOW_START: u64 = 1024 * 1024;
/// Streams that the peer may have open at first; the stack keeps a table entry for each that is allowed, so credit follows use.
const STREAMS_START: u32 = 32;
/// Taken from the wire error table of the caller: `handshake_timeout`, `frame_invalid`.
const CODE_HANDSHAKE_TIMEOUT: u32 = 35;
const CODE_FRAME_INVALID: u32 = 32;
/// TLS alerts are transport error codes from here on.
const CRYPTO_ERROR: u64 = 0x100;
const CRYPTO_ERROR_END: u64 = 0x200;
const CONNECTION_REFUSED: u64 = 0x2;
/// Beyond what the stack's pacer paces.
const WINDOW_WITHOUT_END: u64 = 1 << 48;

struct Flow {
    shared: Arc<OutboundFlow>,
    lane: Lane,
    priority: i32,
    stream: Option<StreamId>,
    /// Not yet taken by the stack.
    queue: VecDeque<Bytes>,
    ending: bool,
    /// FIN handed to the stack.
    ended: bool,
}

#[derive(PartialEq, Eq)]
enum Finish {
    No,
    /// The other flows end first; only when their ends are acknowledged does the control flow end, which tells the peer that nothing more comes.
    Flows,
    Control,
}

pub struct Driver {
    pub conn: Connection,
    pub link: Arc<Link>,
    /// Counted as pending for this address, until approved or ended.
    pub pending_for: Option<IpAddr>,
    /// When it must be approved (or connected).
    pub deadline: Option<Instant>,
    /// What stands in the engine's timer table.
    pub timer: Option<Instant>,
    pub dirty: bool,
    local: Option<IpAddr>,
    connected: bool,
    approved: bool,
    told_end: bool,
    flows: HashMap<u32, Flow>,
    by_stream: HashMap<StreamId, u32>,
    /// Flows with a queue, larger priority first.
    waiting: Vec<u32>,
    /// Octets of the bulk lane in the queues of flows.
    staged_bulk: usize,
    pacer: Pacer,
    /// When the pace lets the next octets of the bulk lane go.
    paced_until: Option<Instant>,
    finish: Finish,
    sources_open: usize,
    streams_allowed: u32,
    control_ended: bool,
    told_finished: bool,
    window: u64,
    window_max: u64,
    pulled: u64,
    pulled_since: Instant,
    datagrams_dropped: u64,
    has_probed: bool,
}

impl Driver {
    pub fn new(conn: Connection, link: Arc<Link>, now: Instant, options: &Options) -> Self {
        Driver {
            conn,
            link,
            pending_for: None,
            deadline: Some(now + Duration::from_millis(options.handshake_ms)),
            timer: None,
            dirty: false,
            local: None,
            connected: false,
            approved: false,
            told_end: false,
            flows: HashMap::new(),
            by_stream: HashMap::new(),
            waiting: Vec::new(),
            staged_bulk: 0,
            pacer: Pacer::new(now),
            paced_until: None,
            finish: Finish::No,
            sources_open: 0,
            streams_allowed: 0,
            control_ended: false,
            told_finished: false,
            window: RECEIVE_WINDOW_START,
            window_max: u64::from(options.flow_window_bytes_max) * 3 / 2,
            pulled: 0,
            pulled_since: now,
            datagrams_dropped: 0,
            has_probed: false,
        }
    }

    pub fn receive_window_start() -> u64 {
        RECEIVE_WINDOW_START
    }

    /// Whether what the stack wants to transmit now is its first probe for larger packets, which then is not sent: the stack takes it
    /// for lost and probes again after a probe timeout. The search is ten packets of up to 9 kB each way, which the peer reads octet by
    /// octet, and the stack begins it at once: as much work as the handshake itself, in vain where a connection is refused, loses its race
    /// or is one of very many that come back at once.
    pub fn is_first_probe(&mut self) -> bool {
        if self.has_probed || !self.connected {
            return false;
        }
        self.has_probed = self.conn.stats().path.sent_plpmtud_probes > 0;
        self.has_probed
    }

    pub fn is_ended(&self) -> bool {
        self.told_end
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// A datagram came, to `local`: a dialing socket is bound to no address, so only this tells which one it is.
    pub fn heard(&mut self, now: Instant, local: Option<IpAddr>) {
        self.local = local.or(self.local);
        self.link.heard_us.store(now.saturating_duration_since(self.link.epoch).as_micros() as u64, Relaxed);
    }

    /// When the engine must come back.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        [self.conn.poll_timeout(), self.deadline, self.paced_until].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Event>) {
        self.conn.handle_timeout(now);
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            let unheard = self.link.dialed && self.conn.stats().udp_rx.datagrams == 0;
            self.hang_up(now, CODE_HANDSHAKE_TIMEOUT, Bytes::from_static(b"not approved in time"));
            self.end(if unheard { End::Silent } else { End::HandshakeTimeout }, out);
        }
    }

    // ---- what the JavaScript thread asks

    pub fn approve(&mut self, options: &Options, now: Instant) {
        if self.approved || self.told_end {
            return;
        }
        self.approved = true;
        self.deadline = None;
        self.streams_allowed = STREAMS_START.min(options.streams_max);
        self.conn.set_max_concurrent_streams(Dir::Uni, self.streams_allowed.into());
        while self.conn.datagrams().recv().is_some() {}
        self.pulled_since = now;
        flow_of(&mut self.flows, CONTROL_FLOW, i32::MAX, &Arc::default(), Lane::Urgent);
    }

    pub fn write(&mut self, flow: u32, priority: i32, shared: &Arc<OutboundFlow>, lane: Lane, bytes: Bytes) {
        if self.told_end || !self.approved {
            return;
        }
        let priority = if flow == CONTROL_FLOW { i32::MAX } else { priority.min(i32::MAX - 1) };
        let known = flow_of(&mut self.flows, flow, priority, shared, lane);
        if known.ending {
            return;
        }
        if known.priority != priority {
            known.priority = priority;
            if let Some(stream) = known.stream {
                let _ = self.conn.send_stream(stream).set_priority(priority);
            }
        }
        if flow == CONTROL_FLOW {
            known.shared = Arc::clone(shared);
        }
        if known.lane == Lane::Bulk {
            self.staged_bulk += bytes.len();
        }
        known.queue.push_back(bytes);
        self.wait(flow);
    }

    pub fn end_flow(&mut self, flow: u32) {
        if let Some(known) = self.flows.get_mut(&flow) {
            known.ending = true;
            self.wait(flow);
        }
    }

    pub fn finish(&mut self) {
        if self.finish != Finish::No || !self.approved || self.told_end {
            return;
        }
        self.finish = Finish::Flows;
        let others: Vec<u32> = self.flows.keys().copied().filter(|flow| *flow != CONTROL_FLOW).collect();
        for flow in others {
            self.end_flow(flow);
        }
    }

    pub fn datagram(&mut self, bytes: Bytes) {
        if self.told_end || !self.approved || self.conn.datagrams().send(bytes, false).is_err() {
            self.datagrams_dropped += 1;
        }
    }

    /// Says goodbye. The stack holds a close back like data while the congestion window is full or the pacer waits, and forgets it
    /// after three probe timeouts, so that the peer would never learn why: a window without end lets it leave.
    pub fn hang_up(&mut self, now: Instant, code: u32, reason: Bytes) {
        self.link.control.set_window(Some(WINDOW_WITHOUT_END));
        self.conn.close(now, code.into(), reason);
    }

    /// Ends it from this side; nothing is told to the JavaScript thread, which knows.
    pub fn close(&mut self, now: Instant, code: u32, reason: Vec<u8>) {
        self.hang_up(now, code, reason.into());
        self.told_end = true;
        self.release();
    }

    /// Ends it and tells.
    pub fn end(&mut self, end: End, out: &mut Vec<Event>) {
        if self.told_end {
            return;
        }
        self.told_end = true;
        *lock(&self.link.end) = Some(end);
        out.push(Event::Closed(self.link.id));
        self.release();
    }

    fn release(&mut self) {
        self.deadline = None;
        self.flows.clear();
        self.by_stream.clear();
        self.waiting.clear();
        self.staged_bulk = 0;
        self.paced_until = None;
    }

    // ---- a turn

    /// After anything happened to the connection and before transmitting: events, reading, writing.
    pub fn turn(&mut self, now: Instant, options: &Options, out: &mut Vec<Event>) {
        while let Some(event) = self.conn.poll() {
            match event {
                ProtoEvent::Connected => self.on_connected(now, options, out),
                ProtoEvent::ConnectionLost { reason } => {
                    self.pull_all(now, options, out);
                    let end = end_of(reason, self.connected);
                    self.end(end, out);
                }
                ProtoEvent::Stream(event) => self.on_stream(event, now, options, out),
                ProtoEvent::DatagramReceived => self.pull_datagrams(options, out),
                ProtoEvent::HandshakeDataReady | ProtoEvent::DatagramsUnblocked => {}
            }
        }
        if !self.told_end && self.approved {
            self.push(now, options);
        }
    }

    /// After transmitting: figures for the other thread, and whether what it waits for has come.
    pub fn publish(&mut self, options: &Options, out: &mut Vec<Event>) {
        let stats = self.conn.stats();
        {
            let mut figures = lock(&self.link.stats);
            figures.rtt_us = stats.path.rtt.as_micros() as u64;
            figures.rtt_min_us = stats.path.min_rtt.as_micros() as u64;
            figures.cwnd = stats.path.cwnd;
            figures.mtu = stats.path.current_mtu;
            figures.sent_packets = stats.path.sent_packets;
            figures.lost_packets = stats.path.lost_packets;
            figures.sent_bytes = stats.udp_tx.bytes;
            figures.received_bytes = stats.udp_rx.bytes;
            figures.datagrams_dropped = self.datagrams_dropped;
            figures.remote = Some(self.conn.remote_address());
        }
        if self.told_end || !self.approved {
            return;
        }
        self.link.cap.store(stack_cap(stats.path.cwnd).clamp(options.unsent_min, options.unsent_max), Relaxed);
        self.link.held_back.store(self.staged_bulk, Relaxed);
        self.link.datagram_max.store(self.conn.datagrams().max_size().unwrap_or(0), Relaxed);
        for lane in LANES {
            let watched = &self.link.watched[lane as usize];
            if watched.load(SeqCst) && self.link.ready(lane, options.urgent_extra) && watched.swap(false, SeqCst) {
                out.push(Event::Ready { link: self.link.id, lane });
            }
        }
        if self.link.counters.flows_watched.load(SeqCst) == 0 {
            return;
        }
        for (flow, known) in &self.flows {
            let watched = &known.shared.watched;
            if watched.load(SeqCst) && known.shared.unsent.load(SeqCst) * 2 <= options.unsent_min && watched.swap(false, SeqCst) {
                self.link.counters.flows_watched.fetch_sub(1, SeqCst);
                out.push(Event::Writable { link: self.link.id, flow: *flow });
            }
        }
    }

    fn on_connected(&mut self, now: Instant, options: &Options, out: &mut Vec<Event>) {
        self.connected = true;
        self.deadline = Some(now + Duration::from_millis(options.handshake_ms));
        if let Some(ip) = self.local
            && let Some(local) = &mut lock(&self.link.stats).local
        {
            local.set_ip(ip);
        }
        let identity = self.conn.crypto_session().peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        *lock(&self.link.peer_chain) = identity.map(|chain| blocks::pack(chain.iter().map(|der| der.as_ref()))).unwrap_or_default();
        out.push(if self.link.dialed { Event::Connected(self.link.id) } else { Event::Incoming(Arc::clone(&self.link)) });
    }

    fn on_stream(&mut self, event: StreamEvent, now: Instant, options: &Options, out: &mut Vec<Event>) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(stream) = self.conn.streams().accept(Dir::Uni) {
                    self.sources_open += 1;
                    self.pull(stream, now, options, out);
                }
                self.allow_streams(options);
            }
            StreamEvent::Readable { id } => self.pull(id, now, options, out),
            StreamEvent::Available { dir: Dir::Uni } => {}
            StreamEvent::Writable { .. } => {}
            StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. } => self.on_flow_gone(id),
            StreamEvent::Opened { dir: Dir::Bi } | StreamEvent::Available { dir: Dir::Bi } => {}
        }
    }

    fn on_flow_gone(&mut self, stream: StreamId) {
        let Some(known) = self.by_stream.remove(&stream).and_then(|flow| self.flows.remove(&flow)) else { return };
        if known.lane == Lane::Bulk {
            self.staged_bulk -= known.queue.iter().map(Bytes::len).sum::<usize>();
        }
    }

    /// Doubles what the peer may open once it has used half of it.
    fn allow_streams(&mut self, options: &Options) {
        if self.sources_open * 2 > self.streams_allowed as usize && self.streams_allowed < options.streams_max {
            self.streams_allowed = (self.streams_allowed * 2).min(options.streams_max);
            self.conn.set_max_concurrent_streams(Dir::Uni, self.streams_allowed.into());
        }
    }

    // ---- out

    fn wait(&mut self, flow: u32) {
        if !self.waiting.contains(&flow) {
            let priority = |flow: &u32| self.flows.get(flow).map_or(i32::MIN, |known| known.priority);
            let own = priority(&flow);
            let at = self.waiting.iter().position(|other| priority(other) < own).unwrap_or(self.waiting.len());
            self.waiting.insert(at, flow);
        }
    }

    /// Hands queued octets to the stack: by priority, and of the bulk lane not more than the path can take, since what the stack has
    /// accepted has also used up the peer's credit, and an urgent frame must not wait behind that; nor faster than the governor's pace.
    fn push(&mut self, now: Instant, options: &Options) {
        self.paced_until = None;
        if !self.open_control() {
            return;
        }
        if self.waiting.is_empty() && self.finish != Finish::Flows {
            return;
        }
        let taken = self.link.counters.unsent_of(Lane::Bulk).saturating_sub(self.staged_bulk);
        let mut bulk_room = stack_cap(self.conn.stats().path.cwnd).clamp(options.unsent_min, options.unsent_max).saturating_sub(taken);
        let pace = self.link.control.pace();
        let credit = pace.map_or(usize::MAX, |rate| self.pacer.credit(now, rate));
        bulk_room = bulk_room.min(credit);
        let staged = self.staged_bulk;
        let waiting = std::mem::take(&mut self.waiting);
        for flow in waiting {
            if !self.push_flow(flow, &mut bulk_room) {
                self.waiting.push(flow);
            }
        }
        if let Some(rate) = pace {
            self.pacer.spend(staged - self.staged_bulk);
            // Only what the pace alone holds back: for the path's room an acknowledgement comes.
            if self.staged_bulk > 0 && self.pacer.is_spent(rate) {
                self.paced_until = Some(self.pacer.next(now, rate));
            }
        }
        if self.finish == Finish::Flows && self.flows.len() <= 1 {
            self.finish = Finish::Control;
            self.end_flow(CONTROL_FLOW);
            let waiting = std::mem::take(&mut self.waiting);
            self.waiting = waiting.into_iter().filter(|flow| !self.push_flow(*flow, &mut bulk_room)).collect();
        }
    }

    fn open_control(&mut self) -> bool {
        match self.flows.get_mut(&CONTROL_FLOW) {
            Some(Flow { stream: Some(_), .. }) => true,
            Some(control) => match self.conn.streams().open(Dir::Uni) {
                Some(stream) => {
                    control.stream = Some(stream);
                    self.by_stream.insert(stream, CONTROL_FLOW);
                    let _ = self.conn.send_stream(stream).set_priority(i32::MAX);
                    true
                }
                None => false,
            },
            // It has ended and is acknowledged: nothing more may leave.
            None => false,
        }
    }

    /// True once nothing of this flow waits any more.
    fn push_flow(&mut self, flow: u32, bulk_room: &mut usize) -> bool {
        let Some(known) = self.flows.get_mut(&flow) else { return true };
        let stream = match known.stream {
            Some(stream) => stream,
            None => {
                if known.queue.is_empty() && known.ending {
                    self.flows.remove(&flow);
                    return true;
                }
                let Some(stream) = self.conn.streams().open(Dir::Uni) else { return false };
                let _ = self.conn.send_stream(stream).set_priority(known.priority);
                known.stream = Some(stream);
                self.by_stream.insert(stream, flow);
                stream
            }
        };
        while let Some(front) = known.queue.front_mut() {
            let room = if known.lane == Lane::Bulk { *bulk_room } else { usize::MAX };
            if room == 0 {
                return false;
            }
            let before = front.len();
            match self.conn.send_stream(stream).write_chunks(std::slice::from_mut(front)) {
                Ok(written) => {
                    if known.lane == Lane::Bulk {
                        *bulk_room = bulk_room.saturating_sub(written.bytes);
                        self.staged_bulk -= written.bytes;
                    }
                    if written.bytes < before {
                        return false;
                    }
                    known.queue.pop_front();
                }
                Err(WriteError::Blocked) => return false,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    if known.lane == Lane::Bulk {
                        self.staged_bulk -= known.queue.iter().map(Bytes::len).sum::<usize>();
                    }
                    known.queue.clear();
                    known.ending = true;
                }
            }
        }
        if known.ending && !known.ended {
            known.ended = true;
            if self.conn.send_stream(stream).finish().is_err() {
                self.by_stream.remove(&stream);
                self.flows.remove(&flow);
            }
        }
        true
    }

    // ---- in

    fn pull_all(&mut self, now: Instant, options: &Options, out: &mut Vec<Event>) {
        let link = Arc::clone(&self.link);
        let sources: Vec<u32> = lock(&link.inbox).sources.iter().filter(|(_, source)| !source.ended).map(|(source, _)| *source).collect();
        for source in sources {
            self.pull(self.stream_of(source), now, options, out);
        }
    }

    /// After the other thread has made room.
    pub fn pull_more(&mut self, now: Instant, options: &Options, out: &mut Vec<Event>) {
        if !self.told_end {
            lock(&self.link.inbox).full = false;
            self.pull_all(now, options, out);
        }
    }

    fn stream_of(&self, source: u32) -> StreamId {
        StreamId::new(!self.conn.side(), Dir::Uni, u64::from(source))
    }

    fn pull(&mut self, stream: StreamId, now: Instant, options: &Options, out: &mut Vec<Event>) {
        if !self.approved || self.told_end {
            return;
        }
        let Ok(source) = u32::try_from(stream.index()) else { return };
        let link = Arc::clone(&self.link);
        let mut room = {
            let mut inbox = lock(&link.inbox);
            inbox.sources.entry(source).or_default();
            let room = options.inbox_bytes_max.saturating_sub(inbox.bytes);
            inbox.full |= room == 0;
            room
        };
        if room == 0 {
            return;
        }
        let mut pulled = Vec::new();
        let mut ended = false;
        let mut reset = false;
        let mut receiver = self.conn.recv_stream(stream);
        let Ok(mut chunks) = receiver.read(true) else { return };
        while room > 0 {
            match chunks.next(room) {
                Ok(Some(chunk)) => {
                    room -= chunk.bytes.len();
                    pulled.push(chunk.bytes);
                }
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => {
                    reset = true;
                    break;
                }
            }
        }
        let _ = chunks.finalize();
        let bytes: usize = pulled.iter().map(Bytes::len).sum();
        self.deliver(source, pulled, bytes, ended, room == 0, out);
        self.grow_window(bytes as u64, now);
        if ended {
            self.on_source_end(source, out);
        }
        if reset {
            self.hang_up(now, CODE_FRAME_INVALID, Bytes::from_static(b"a stream was reset"));
            self.end(End::Transport("the peer reset a stream".into()), out);
        }
    }

    fn deliver(&self, source: u32, pulled: Vec<Bytes>, bytes: usize, ended: bool, full: bool, out: &mut Vec<Event>) {
        if bytes == 0 && !ended {
            return;
        }
        let mut inbox = lock(&self.link.inbox);
        inbox.bytes += bytes;
        inbox.full |= full;
        let entry = inbox.sources.entry(source).or_default();
        entry.chunks.extend(pulled);
        entry.ended |= ended;
        if !entry.announced {
            entry.announced = true;
            out.push(Event::Readable { link: self.link.id, source });
        }
    }

    fn on_source_end(&mut self, source: u32, out: &mut Vec<Event>) {
        self.sources_open -= 1;
        self.control_ended |= source == CONTROL_FLOW;
        if self.control_ended && self.sources_open == 0 && !self.told_finished {
            self.told_finished = true;
            out.push(Event::Finished(self.link.id));
        }
    }

    /// The receive window follows the path: it doubles when half of it was pulled within a round trip.
    fn grow_window(&mut self, bytes: u64, now: Instant) {
        self.pulled += bytes;
        let elapsed = now.saturating_duration_since(self.pulled_since);
        if elapsed < self.conn.rtt() {
            return;
        }
        if self.pulled * 2 > self.window && elapsed < self.conn.rtt() * 2 && self.window < self.window_max {
            self.window = (self.window * 2).min(self.window_max);
            if let Ok(window) = VarInt::from_u64(self.window) {
                self.conn.set_receive_window(window);
            }
        }
        self.pulled = 0;
        self.pulled_since = now;
    }

    fn pull_datagrams(&mut self, options: &Options, out: &mut Vec<Event>) {
        while let Some(bytes) = self.conn.datagrams().recv() {
            if !self.approved || self.told_end {
                continue;
            }
            let mut inbox = lock(&self.link.inbox);
            if inbox.datagram_bytes + bytes.len() > options.datagram_queue_bytes_max {
                self.datagrams_dropped += 1;
                continue;
            }
            inbox.datagram_bytes += bytes.len();
            inbox.datagrams.push_back(bytes);
            if !std::mem::replace(&mut inbox.datagrams_announced, true) {
                out.push(Event::Datagrams(self.link.id));
            }
        }
    }
}

fn flow_of<'a>(flows: &'a mut HashMap<u32, Flow>, flow: u32, priority: i32, shared: &Arc<OutboundFlow>, lane: Lane) -> &'a mut Flow {
    flows.entry(flow).or_insert_with(|| Flow {
        shared: Arc::clone(shared),
        lane,
        priority,
        stream: None,
        queue: VecDeque::new(),
        ending: false,
        ended: false,
    })
}

/// What may stand in the stack: a congestion window in flight, a quarter more and a chunk, so that an acknowledgement finds octets to send.
fn stack_cap(cwnd: u64) -> usize {
    usize::try_from(cwnd + cwnd / 4 + 65_536).unwrap_or(usize::MAX)
}

fn end_of(reason: ConnectionError, connected: bool) -> End {
    let is_tls = |code: u64| (CRYPTO_ERROR..CRYPTO_ERROR_END).contains(&code);
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            End::Application { code: close.error_code.into_inner(), reason: String::from_utf8_lossy(&close.reason).into_owned() }
        }
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            let reason = String::from_utf8_lossy(&close.reason);
            match code {
                CONNECTION_REFUSED => End::Unreachable("it refuses connections now".into()),
                code if is_tls(code) => End::Tls(format!("{} ({reason})", close.error_code)),
                _ if !connected => End::Tls(format!("{} ({reason})", close.error_code)),
                _ => End::Transport(format!("{} ({reason})", close.error_code)),
            }
        }
        ConnectionError::TransportError(error) => {
            if is_tls(u64::from(error.code)) || !connected {
                End::Tls(error.to_string())
            } else {
                End::Transport(error.to_string())
            }
        }
        ConnectionError::VersionMismatch => End::Tls("no common QUIC version".into()),
        ConnectionError::Reset => End::Reset,
        ConnectionError::TimedOut => End::Silent,
        ConnectionError::LocallyClosed => End::Transport("closed here".into()),
        ConnectionError::CidsExhausted => End::Transport("no connection ids left".into()),
    }
}
