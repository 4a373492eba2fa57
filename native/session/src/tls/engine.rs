//! The I/O thread of a Node environment: every connection over TCP, and every listening socket. One round: commands, timers, then each
//! connection that something happened to reads and deciphers; JavaScript is woken; then each enciphers and writes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::hello::{HELLO_BYTES_MAX, Hello, look};
use super::listener::Listener;
use super::machine::{Machine, Out};
use super::poll::Poll;
use super::shared::{Command, End, Event, Foreign, Link, ListenRules, Shared};
use crate::blocks;
use crate::mailbox::{Wake, lock};

const ALARM: u64 = u64::MAX;
/// What is read at once: of a peer that nobody has judged yet, and of others.
const READ_BYTES_STRANGER: usize = 16 * 1024;
const READ_BYTES: usize = 256 * 1024;

#[derive(PartialEq, Eq, Clone, Copy)]
enum Stage {
    /// The ClientHello is looked at.
    Hello,
    Handshake,
    Preface,
    /// Nothing is read until it is approved.
    Pending,
    Open,
    /// The JavaScript thread reads; what it leaves to this one is written here.
    Direct,
    /// What comes in is thrown away.
    Ending,
}

struct Entry {
    link: Arc<Link>,
    stage: Stage,
    listener: Option<u32>,
    /// Counted as pending for this address.
    pending_for: Option<IpAddr>,
    deadline: Option<Instant>,
    preface: Vec<u8>,
    dirty: bool,
    /// JavaScript has a handle of it.
    is_known: bool,
}

pub struct Engine {
    shared: Arc<Shared>,
    wake: Arc<dyn Wake>,
    poll: Poll,
    entries: HashMap<u32, Entry>,
    listeners: HashMap<u32, Listener>,
    timers: BTreeSet<(Instant, u32)>,
    dirty: VecDeque<u32>,
    buffer: Vec<u8>,
    spare: Out,
    commands: Vec<Command>,
    events: Vec<Event>,
    running: bool,
}

impl Engine {
    pub fn new(shared: Arc<Shared>, wake: Arc<dyn Wake>) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(shared.mailbox.alarm(), ALARM)?;
        Ok(Engine {
            shared,
            wake,
            poll,
            entries: HashMap::new(),
            listeners: HashMap::new(),
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            buffer: Vec::new(),
            spare: Out::default(),
            commands: Vec::new(),
            events: Vec::new(),
            running: true,
        })
    }

    pub fn run(&mut self) {
        while self.running {
            self.take_commands();
            self.fire_timers(Instant::now());
            self.accept();
            self.turns();
            self.wait();
        }
    }

    pub fn flush_events(&mut self) {
        if !self.events.is_empty() {
            lock(&self.shared.events).extend(self.events.drain(..));
            self.wake.wake();
        }
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
        match command {
            Command::Adopt { link } => {
                let begun = lock(&link.machine).begin(&mut []);
                let id = link.id;
                self.add(link, Stage::Handshake, None, None, None);
                if let Err(error) = begun {
                    self.over(id, End::Tls(error.to_string()));
                }
            }
            Command::Listen { id, socket, config, rules } => self.listen(id, socket, config, rules),
            Command::SetConfig { listener, config } => {
                if let Some(known) = self.listeners.get_mut(&listener) {
                    known.config = config;
                }
            }
            Command::Unlisten { listener } => self.unlisten(listener),
            Command::Settle { link } => self.settle(link),
            Command::Approve { link, direct } => self.approve(link, direct),
            Command::Flush { link } | Command::Pull { link } => self.mark(link),
            Command::End { link } => self.end(link),
            Command::Destroy { link } => self.remove(link),
            Command::Taken { listener, address } => {
                if let Some(listener) = self.listeners.get_mut(&listener) {
                    listener.links -= 1;
                    listener.settle(address);
                }
            }
            Command::Shutdown => self.running = false,
        }
    }

    fn mark(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    fn add(&mut self, link: Arc<Link>, stage: Stage, listener: Option<u32>, pending_for: Option<IpAddr>, deadline: Option<Instant>) {
        let id = link.id;
        let polled = self.poll.add(link.stream.as_raw_fd(), u64::from(id));
        let is_known = listener.is_none();
        if let Some(at) = deadline {
            self.timers.insert((at, id));
        }
        self.entries.insert(id, Entry { link, stage, listener, pending_for, deadline, preface: Vec::new(), dirty: false, is_known });
        match polled {
            Ok(()) => self.mark(id),
            Err(error) => self.over(id, End::System(error.raw_os_error().unwrap_or(0))),
        }
    }

    fn listen(&mut self, id: u32, socket: TcpListener, config: Arc<ServerConfig>, rules: ListenRules) {
        if self.poll.add(socket.as_raw_fd(), u64::from(id)).is_ok() {
            self.listeners.insert(id, Listener::new(socket, config, rules));
        } else {
            self.events.push(Event::ListenerClosed(id));
        }
    }

    fn unlisten(&mut self, id: u32) {
        let strangers: Vec<u32> = self.entries.iter().filter(|(_, entry)| entry.listener == Some(id) && !entry.is_known).map(|(link, _)| *link).collect();
        for link in strangers {
            self.remove(link);
        }
        if self.listeners.remove(&id).is_some() {
            self.events.push(Event::ListenerClosed(id));
        }
    }

    fn settle(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let (Some(address), Some(listener)) = (entry.pending_for.take(), entry.listener.and_then(|listener| self.listeners.get_mut(&listener))) {
            listener.settle(address);
        }
    }

    fn approve(&mut self, id: u32, direct: bool) {
        self.settle(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage != Stage::Pending {
            return;
        }
        if direct {
            entry.stage = Stage::Direct;
            // Else two threads would read it.
            if let Err(error) = self.poll.watch_room(entry.link.stream.as_raw_fd(), u64::from(id)) {
                self.over(id, End::System(error.raw_os_error().unwrap_or(0)));
            }
        } else {
            entry.stage = Stage::Open;
            self.mark(id);
        }
    }

    fn end(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage == Stage::Direct {
            let _ = self.poll.watch_all(entry.link.stream.as_raw_fd(), u64::from(id));
        }
        entry.stage = Stage::Ending;
        let mut machine = lock(&entry.link.machine);
        machine.end();
        let is_open = machine.is_open;
        drop(machine);
        let mut inbox = lock(&entry.link.inbox);
        inbox.chunks.clear();
        inbox.bytes = 0;
        drop(inbox);
        if is_open { self.mark(id) } else { self.remove(id) }
    }

    /// Lets go of it and tells whoever knows of it.
    fn remove(&mut self, id: u32) {
        self.settle(id);
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(at) = entry.deadline {
            self.timers.remove(&(at, id));
        }
        if let Some(listener) = entry.listener.and_then(|listener| self.listeners.get_mut(&listener)) {
            listener.links -= 1;
        }
        self.poll.remove(entry.link.stream.as_raw_fd());
        if entry.is_known {
            self.events.push(Event::Closed(id));
        }
    }

    /// It came to its end by itself. Who reads it learns of it behind the last octet.
    fn over(&mut self, id: u32, end: End) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        lock(&entry.link.end).get_or_insert(end);
        if !entry.is_known || matches!(entry.stage, Stage::Handshake | Stage::Ending) {
            self.remove(id);
            return;
        }
        if entry.link.deliver(Vec::new(), true) {
            self.events.push(Event::Readable(id));
        }
    }

    // ---- time and newcomers

    fn fire_timers(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.deadline = None;
                self.remove(id);
            }
        }
    }

    fn accept(&mut self) {
        let now = Instant::now();
        let mut accepted = Vec::new();
        for (id, listener) in &mut self.listeners {
            if listener.readable || listener.retry_at.is_some_and(|at| at <= now) {
                let rules = listener.rules;
                let config = Arc::clone(&listener.config);
                listener.accept(now, |stream, address, crowd| accepted.push((*id, stream, address, crowd, rules, Arc::clone(&config))));
            }
        }
        for (listener, stream, address, crowd, rules, config) in accepted {
            if let Some(crowd) = crowd {
                self.make_room(listener, crowd);
            }
            self.welcome(listener, stream, address, rules, config, now);
        }
    }

    /// Of one address, the one goes that has shown nothing for the longest. Those that a program is judging stay.
    fn make_room(&mut self, listener: u32, address: IpAddr) {
        let strangers = self.entries.iter().filter(|(_, entry)| entry.listener == Some(listener) && entry.pending_for == Some(address) && !entry.is_known);
        if let Some((_, id)) = strangers.filter_map(|(id, entry)| Some((entry.deadline?, *id))).min() {
            self.remove(id);
        }
    }

    fn welcome(&mut self, listener: u32, stream: TcpStream, address: IpAddr, rules: ListenRules, config: Arc<ServerConfig>, now: Instant) {
        let mut machine = Machine::server();
        let stage = if rules.shares_port { Stage::Hello } else { Stage::Handshake };
        let begun = stage == Stage::Hello || machine.serve(config).is_ok();
        match Link::new(self.shared.id(), stream, machine) {
            Ok(link) if begun => self.add(Arc::new(link), stage, Some(listener), Some(address), Some(now + Duration::from_millis(rules.handshake_ms))),
            // Gone already.
            _ => {
                if let Some(listener) = self.listeners.get_mut(&listener) {
                    listener.links -= 1;
                    listener.settle(address);
                }
            }
        }
    }

    // ---- turns

    fn turns(&mut self) {
        let due: Vec<u32> = self.dirty.drain(..).collect();
        for id in &due {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.dirty = false;
                self.guarded(*id, Engine::receive);
            }
        }
        self.flush_events();
        for id in due {
            self.guarded(id, Engine::send);
        }
        self.flush_events();
    }

    /// A fault in one connection's turn ends that connection, and no other.
    fn guarded(&mut self, id: u32, turn: fn(&mut Engine, u32)) {
        if catch_unwind(AssertUnwindSafe(|| turn(self, id))).is_ok() {
            return;
        }
        if let Some(entry) = self.entries.get(&id) {
            lock(&entry.link.machine).give_up();
            self.over(id, End::Tls("a fault in this program".into()));
        }
    }

    fn receive(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage == Stage::Hello {
            self.look_at_hello(id);
            return;
        }
        let link = Arc::clone(&entry.link);
        let room = match entry.stage {
            Stage::Hello | Stage::Pending | Stage::Direct => return,
            Stage::Handshake | Stage::Preface => READ_BYTES_STRANGER,
            Stage::Ending => READ_BYTES,
            Stage::Open if link.has_room(self.shared.inbox_bytes_max) => READ_BYTES,
            Stage::Open => return,
        };
        let mut machine = lock(&link.machine);
        if !machine.readable || machine.peer_ended() {
            return;
        }
        let received = machine.receive(&link.stream, room, &mut self.buffer);
        let more = machine.readable && !machine.peer_ended();
        if received.end.is_some() {
            // The alert that says why, if there is one.
            let _ = machine.flush(&link, &mut self.spare);
        }
        if entry.stage == Stage::Handshake && machine.is_open {
            if !machine.speaks_fabric() {
                drop(machine);
                self.over(id, End::Foreign);
                return;
            }
            lock(&link.shown).chain = blocks::pack(machine.peer_chain().iter().map(Vec::as_slice));
            if entry.listener.is_some() {
                entry.stage = Stage::Preface;
            } else {
                entry.stage = Stage::Pending;
                self.events.push(Event::Connected(id));
            }
        }
        drop(machine);
        self.arrived(id, received.plain);
        if let Some(end) = received.end {
            self.over(id, end);
        } else if more {
            self.mark(id);
        }
    }

    fn arrived(&mut self, id: u32, mut plain: Vec<u8>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage == Stage::Preface {
            entry.preface.append(&mut plain);
            if entry.preface.len() < self.shared.preface_bytes {
                return;
            }
            plain = entry.preface.split_off(self.shared.preface_bytes);
            lock(&entry.link.shown).preface = std::mem::take(&mut entry.preface);
            entry.stage = Stage::Pending;
            entry.is_known = true;
            if let Some(at) = entry.deadline.take() {
                self.timers.remove(&(at, id));
            }
            self.events.push(Event::Incoming { listener: entry.listener.unwrap_or(0), link: Arc::clone(&entry.link) });
        }
        if entry.stage != Stage::Ending && entry.link.deliver(plain, false) {
            self.events.push(Event::Readable(id));
        }
    }

    fn look_at_hello(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let link = Arc::clone(&entry.link);
        let mut machine = lock(&link.machine);
        if !machine.readable {
            return;
        }
        let found = match machine.peek(&link.stream, HELLO_BYTES_MAX, &mut self.buffer) {
            Ok((bytes, ended)) => match look(bytes) {
                Hello::Incomplete if ended => None,
                found => Some(found),
            },
            Err(_) => None,
        };
        match found {
            None => {
                drop(machine);
                self.remove(id);
            }
            Some(Hello::Incomplete) => {
                if machine.readable {
                    drop(machine);
                    self.mark(id);
                }
            }
            Some(Hello::Other) => {
                let hello = machine.take_input();
                drop(machine);
                drop(link);
                self.hand_over(id, hello);
            }
            Some(Hello::Fabric | Hello::Broken) => {
                let config = entry.listener.and_then(|listener| self.listeners.get(&listener)).map(|listener| Arc::clone(&listener.config));
                let mut input = machine.take_input();
                let begun = config.is_some_and(|config| machine.serve(config).is_ok());
                let fine = begun && machine.begin(&mut input).is_ok();
                entry.stage = Stage::Handshake;
                let _ = machine.flush(&link, &mut self.spare);
                drop(machine);
                if fine { self.mark(id) } else { self.remove(id) }
            }
        }
    }

    /// It counts until somebody takes it: a busy JavaScript thread is no reason to hold ever more of them.
    fn hand_over(&mut self, id: u32, hello: Vec<u8>) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(at) = entry.deadline {
            self.timers.remove(&(at, id));
        }
        self.poll.remove(entry.link.stream.as_raw_fd());
        if let Some(link) = Arc::into_inner(entry.link) {
            self.events.push(Event::Foreign(Box::new(Foreign { listener: entry.listener.unwrap_or(0), id, stream: link.stream, hello, address: entry.pending_for })));
        }
    }

    fn send(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let link = Arc::clone(&entry.link);
        link.flushing.store(false, SeqCst);
        let mut machine = lock(&link.machine);
        let result = machine.flush(&link, &mut self.spare);
        if let Err(end) = &result {
            machine.break_off();
            // The system tells it once, and this was the time.
            lock(&link.end).get_or_insert_with(|| end.clone());
        }
        let has_given_up = result.is_err() && !machine.is_open;
        let is_over = machine.is_over() || (result.is_err() && matches!(entry.stage, Stage::Ending | Stage::Handshake | Stage::Preface));
        drop(machine);
        if is_over {
            self.remove(id);
            return;
        }
        if let (true, Err(end)) = (has_given_up, &result) {
            self.over(id, end.clone());
            return;
        }
        // A write that failed is told by reading, behind what the peer said before.
        if !matches!(result, Ok(false)) {
            self.mark(id);
        }
        if link.watched.load(SeqCst) && link.unsent.load(SeqCst) <= link.watched_mark.load(SeqCst) && link.watched.swap(false, SeqCst) {
            self.events.push(Event::Writable(id));
        }
    }

    // ---- waiting

    fn wait(&mut self) {
        if !self.running {
            return;
        }
        let may_sleep = self.dirty.is_empty() && !self.listeners.values().any(|listener| listener.readable) && self.shared.mailbox.fall_asleep();
        let next = self.timers.first().map(|(at, _)| *at).into_iter().chain(self.listeners.values().filter_map(|listener| listener.retry_at)).min();
        let timeout = if may_sleep { next.map(|at| at.saturating_duration_since(Instant::now())) } else { Some(Duration::ZERO) };
        let mut ready = Vec::new();
        self.poll.wait(timeout, |event| ready.push(event));
        self.shared.mailbox.awake();
        for event in ready {
            if event.token == ALARM {
                continue;
            }
            let id = event.token as u32;
            if let Some(entry) = self.entries.get(&id) {
                let mut machine = lock(&entry.link.machine);
                machine.readable |= event.readable;
                machine.writable |= event.writable;
                machine.hung_up |= event.hung_up;
                drop(machine);
                self.mark(id);
            } else if let Some(listener) = self.listeners.get_mut(&id) {
                listener.readable = true;
            }
        }
    }
}
