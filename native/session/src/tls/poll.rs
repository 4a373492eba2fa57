//! epoll(7). The I/O thread is told once for each change, and a descriptor leaves by being closed; the event loop's thread for as long as
//! there is something to read.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

const EVENTS_PER_WAIT: usize = 128;

/// What happened to whom.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer sends no more, or the connection broke.
    pub hung_up: bool,
}

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: returns a fresh descriptor or -1; it is owned from here on.
        let epoll = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Poll { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT] })
    }

    /// Told once for each change, in either direction.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    /// As `add`, for one that is there: what is so now is told anew.
    pub fn watch_all(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    /// From now on only room for writing is told.
    pub fn watch_room(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLOUT | libc::EPOLLET)
    }

    /// Told for as long as there is something to read.
    pub fn add_readable(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLRDHUP)
    }

    /// For one of `add_readable`: whether it is told now.
    pub fn set_readable(&self, fd: RawFd, token: u64, told: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, if told { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 })
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: the event lives through the call; a descriptor that is none is an error of the call.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Readable while it has something to tell.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// For a descriptor of which others may hold copies, so that closing ours is not enough.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: numbers only; failing means that it was not there.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Until something happens or `timeout` is over; none: for ever.
    pub fn wait(&mut self, timeout: Option<Duration>, mut each: impl FnMut(Ready)) {
        // Rounded up: a timer that is woken for too early would spin.
        let ms = timeout.map_or(-1, |timeout| timeout.as_micros().div_ceil(1000).min(60_000) as libc::c_int);
        // SAFETY: the kernel writes at most as many events as the array holds, and says how many.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_PER_WAIT as libc::c_int, ms) };
        for event in self.events.iter().take(usize::try_from(count).unwrap_or(0)) {
            let has = |flags: libc::c_int| event.events & flags as u32 != 0;
            let hung_up = has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
            each(Ready { token: event.u64, readable: has(libc::EPOLLIN) || hung_up, writable: has(libc::EPOLLOUT) || hung_up, hung_up });
        }
    }
}
