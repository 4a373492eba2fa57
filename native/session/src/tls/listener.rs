//! A listening socket: who may be pending, how many of them, and how many from one address.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::shared::ListenRules;
use crate::address::address_group;

/// Connections that are accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// When accepting fails (too many open files), it is tried again then.
const RETRY: Duration = Duration::from_millis(50);

pub struct Listener {
    pub socket: TcpListener,
    pub config: Arc<ServerConfig>,
    pub rules: ListenRules,
    pub links: usize,
    /// There may be more to accept.
    pub readable: bool,
    pub retry_at: Option<Instant>,
    pending: usize,
    pending_by_address: HashMap<IpAddr, usize>,
}

impl Listener {
    pub fn new(socket: TcpListener, config: Arc<ServerConfig>, rules: ListenRules) -> Self {
        Listener { socket, config, rules, links: 0, readable: true, retry_at: None, pending: 0, pending_by_address: HashMap::new() }
    }

    /// Accepts as many as a turn may; those that are too many are reset at once. With each: from whom another has to go for it.
    pub fn accept(&mut self, now: Instant, mut each: impl FnMut(TcpStream, IpAddr, Option<IpAddr>)) {
        self.retry_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.socket.accept() {
                Ok((stream, remote)) => {
                    let address = address_group(remote.ip());
                    let from_address = self.pending_by_address.get(&address).copied().unwrap_or(0);
                    let crowd = if self.pending < self.rules.pending_max { None } else { self.crowd(from_address) };
                    let is_full = self.pending >= self.rules.pending_max && crowd.is_none();
                    if is_full || from_address >= self.rules.pending_per_address_max || self.links >= self.rules.links_max {
                        reset(stream);
                        continue;
                    }
                    self.pending += 1;
                    self.links += 1;
                    *self.pending_by_address.entry(address).or_default() += 1;
                    each(stream, address, crowd);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.readable = false;
                        return;
                    }
                    // Gone again before it was accepted.
                    Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => {}
                    _ => {
                        self.readable = false;
                        self.retry_at = Some(now + RETRY);
                        return;
                    }
                },
            }
        }
    }

    /// Whoever has the most places, if one more for an address with `has` of them would be fairer. So a few addresses that keep theirs cannot keep the others out.
    fn crowd(&self, has: usize) -> Option<IpAddr> {
        let (address, most) = self.pending_by_address.iter().max_by_key(|(_, count)| **count)?;
        (*most > has + 1).then_some(*address)
    }

    pub fn settle(&mut self, address: IpAddr) {
        self.pending -= 1;
        if let Some(count) = self.pending_by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.pending_by_address.remove(&address);
            }
        }
    }
}

/// Closes it so that the peer hears of it at once, and nothing of it stays here.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a struct that lives through the call, and a descriptor that is ours.
    unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t) };
}
