//! Everything that talks to the kernel: TAP interfaces in other network namespaces, the clock, waiting, priority.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::options::End;

/// Puts the namespace that this process began in back when it goes out of scope.
struct Elsewhere {
    home: File,
}

impl Elsewhere {
    fn enter(netns: &str) -> Result<Elsewhere> {
        let home = File::open("/proc/self/ns/net")?;
        let there = File::open(netns)?;
        // SAFETY: setns takes a descriptor that lives beyond the call and a constant.
        check(unsafe { libc::setns(there.as_raw_fd(), libc::CLONE_NEWNET) })?;
        Ok(Elsewhere { home })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // SAFETY: as above.
        let back = unsafe { libc::setns(self.home.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(back, 0, "cannot return to the first network namespace");
    }
}

/// Makes a TAP in its namespace. Without a virtio header the kernel cuts super-frames and fills in checksums before a frame is read,
/// so what is read is what a wire would carry. The interface is gone when the descriptor is closed.
pub fn open_tap(end: &End) -> std::result::Result<OwnedFd, String> {
    let name = |what: &str, error: Error| format!("{what} {}: {error}", end.interface);
    let elsewhere = Elsewhere::enter(&end.netns).map_err(|error| format!("network namespace {}: {error}", end.netns))?;
    // SAFETY: the path is a zero-ended constant.
    let raw = check(unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) }).map_err(|error| format!("/dev/net/tun: {error}"))?;
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let tap = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: an ifreq of zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let interface = CString::new(end.interface.as_str()).map_err(|error| error.to_string())?;
    for (to, from) in request.ifr_name.iter_mut().zip(interface.as_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the ifreq that it is given.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &mut request) }).map_err(|error| name("TAP", error))?;
    drop(elsewhere);
    Ok(tap)
}

/// Reads once. `None`: nothing there now.
pub fn read(descriptor: RawFd, buffer: &mut [u8]) -> Result<Option<usize>> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
    let count = unsafe { libc::read(descriptor, buffer.as_mut_ptr().cast(), buffer.len()) };
    if count >= 0 {
        return Ok(Some(count as usize));
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

/// Writes one frame; false if the interface did not take it (it is down, or out of buffers).
pub fn write(descriptor: RawFd, frame: &[u8]) -> bool {
    // SAFETY: the kernel reads `frame.len()` bytes of the frame.
    unsafe { libc::write(descriptor, frame.as_ptr().cast(), frame.len()) == frame.len() as isize }
}

pub fn set_nonblocking(descriptor: RawFd) -> Result<()> {
    // SAFETY: fcntl with integers only.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime fills the timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Waits until one of `descriptors` can be read or `wait_ns` are over, to the nanosecond; says which can be read.
pub fn wait<const N: usize>(descriptors: [RawFd; N], wait_ns: Option<u64>) -> Result<[bool; N]> {
    let mut polls = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let time = wait_ns.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    });
    let time_pointer = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both pointers live through the call; the count is the array's.
    let count = unsafe { libc::ppoll(polls.as_mut_ptr(), N as libc::nfds_t, time_pointer, std::ptr::null()) };
    if count < 0 {
        let error = Error::last_os_error();
        return if error.kind() == std::io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polls.map(|poll| poll.revents != 0))
}

/// Dies with its parent, before everything else in the queue of the processor, and without a timer's slack. Real-time priority is a
/// help, not a need: without it (no CAP_SYS_NICE) a busy machine only makes the link less exact. Says whether it was granted.
pub fn settle() -> bool {
    // SAFETY: prctl and sched_setscheduler with constants and a valid structure.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        let priority = libc::sched_param { sched_priority: 10 };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) == 0
    }
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}
