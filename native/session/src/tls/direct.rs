//! Connections that the JavaScript thread reads itself: little comes, and each wake-up of another thread on the way would be felt. What
//! is told goes the same way as from the I/O thread, which still writes what does not leave at once.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::poll::{Poll, Ready};
use super::shared::{Event, Link};
use crate::mailbox::lock;

const READ_BYTES: usize = 64 * 1024;

pub struct Direct {
    poll: Poll,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
}

impl Direct {
    pub fn new() -> std::io::Result<Self> {
        Ok(Direct { poll: Poll::new()?, buffer: Vec::new(), ready: Vec::new() })
    }

    /// Readable while one of the connections is.
    pub fn fd(&self) -> RawFd {
        self.poll.fd()
    }

    /// False: it cannot be watched here.
    pub fn add(&self, link: &Link) -> bool {
        self.poll.add_readable(link.stream.as_raw_fd(), u64::from(link.id)).is_ok()
    }

    pub fn remove(&self, link: &Link) {
        self.poll.remove(link.stream.as_raw_fd());
    }

    /// The inbox has room again.
    pub fn pull(&self, link: &Link) {
        let _ = self.poll.set_readable(link.stream.as_raw_fd(), u64::from(link.id), true);
    }

    /// Reads each connection that has something, once.
    pub fn turn(&mut self, links: &HashMap<u32, Arc<Link>>, inbox_bytes_max: usize, events: &mut Vec<Event>) {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(Some(Duration::ZERO), |event| ready.push(event));
        for event in ready.drain(..) {
            if let Some(link) = links.get(&(event.token as u32)) {
                self.receive(link, inbox_bytes_max, events);
            }
        }
        self.ready = ready;
    }

    fn receive(&mut self, link: &Link, inbox_bytes_max: usize, events: &mut Vec<Event>) {
        if !link.has_room(inbox_bytes_max) {
            let _ = self.poll.set_readable(link.stream.as_raw_fd(), u64::from(link.id), false);
            return;
        }
        let mut machine = lock(&link.machine);
        if machine.peer_ended() {
            drop(machine);
            self.remove(link);
            return;
        }
        let received = machine.receive(&link.stream, READ_BYTES, &mut self.buffer);
        drop(machine);
        let ended = received.end.is_some();
        if let Some(end) = received.end {
            self.remove(link);
            lock(&link.end).get_or_insert(end);
        }
        if link.deliver(received.plain, ended) {
            events.push(Event::Readable(link.id));
        }
    }
}
