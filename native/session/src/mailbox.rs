//! Where a JavaScript thread leaves commands for an I/O thread. The lock is held for a push or a swap only.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic while a lock was held poisons nothing here: each critical section leaves the data whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by an I/O thread when there are events to take.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

pub struct Mailbox<C> {
    commands: Mutex<Vec<C>>,
    sleeping: AtomicBool,
    alarm: OwnedFd,
}

impl<C> Mailbox<C> {
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: eventfd returns a fresh descriptor or -1; it is owned from here on.
        let alarm = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Mailbox { commands: Mutex::new(Vec::new()), sleeping: AtomicBool::new(false), alarm })
    }

    pub fn post(&self, command: C) {
        lock(&self.commands).push(command);
        if self.sleeping.swap(false, SeqCst) {
            self.ring();
        }
    }

    fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight octets from a live array, as eventfd wants.
        unsafe { libc::write(self.alarm.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn alarm(&self) -> RawFd {
        self.alarm.as_raw_fd()
    }

    pub fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight octets into a live array; the descriptor does not block.
        unsafe { libc::read(self.alarm.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    pub fn take(&self, into: &mut Vec<C>) {
        std::mem::swap(&mut *lock(&self.commands), into);
    }

    /// Announces sleep; false if there is mail and sleep must not be.
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        if lock(&self.commands).is_empty() {
            return true;
        }
        self.sleeping.store(false, SeqCst);
        false
    }

    pub fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }
}
