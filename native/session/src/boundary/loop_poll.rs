//! A descriptor watched by Node's own event loop. Node-API offers the loop and no more; the few functions of libuv that this takes are
//! part of its stable interface and exported by Node. Where they are not found, nothing is watched, and the caller does without.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::fd::RawFd;
use std::ptr;

use napi::sys;

/// `UV_POLL` of `uv_handle_type`, and `UV_READABLE`.
const KIND_POLL: c_int = 8;
const READABLE: c_int = 1;

type Handle = *mut c_void;
pub type Callback = unsafe extern "C" fn(Handle, c_int, c_int);
type CloseCallback = unsafe extern "C" fn(Handle);

/// A handle of libuv's, which its loop knows until it says that it is closed; then its memory goes.
pub struct LoopPoll {
    handle: Handle,
    stop: unsafe extern "C" fn(Handle) -> c_int,
    close: unsafe extern "C" fn(Handle, CloseCallback),
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a name that ends with a zero; the answer is checked.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast::<c_char>()) };
    (!found.is_null()).then_some(found)
}

impl LoopPoll {
    /// Calls back, on the thread of `env` and with nothing of JavaScript on the stack, while the descriptor is readable. It keeps nothing alive.
    pub fn new(env: sys::napi_env, fd: RawFd, callback: Callback) -> Option<Self> {
        let mut uv_loop = ptr::null_mut();
        // SAFETY: on the thread of `env`; each function has the type that libuv's header gives it; the handle's memory is as large as libuv
        // says, aligned as its pointers are, zeroed, and lives until the close callback frees it.
        unsafe {
            if sys::napi_get_uv_event_loop(env, &mut uv_loop) != sys::Status::napi_ok {
                return None;
            }
            let size: unsafe extern "C" fn(c_int) -> usize = transmute(symbol(c"uv_handle_size")?);
            let init: unsafe extern "C" fn(*mut c_void, Handle, c_int) -> c_int = transmute(symbol(c"uv_poll_init")?);
            let start: unsafe extern "C" fn(Handle, c_int, Callback) -> c_int = transmute(symbol(c"uv_poll_start")?);
            let unref: unsafe extern "C" fn(Handle) = transmute(symbol(c"uv_unref")?);
            let stop = transmute::<*mut c_void, unsafe extern "C" fn(Handle) -> c_int>(symbol(c"uv_poll_stop")?);
            let close = transmute::<*mut c_void, unsafe extern "C" fn(Handle, CloseCallback)>(symbol(c"uv_close")?);
            let handle = libc::calloc(1, size(KIND_POLL));
            if handle.is_null() {
                return None;
            }
            if init(uv_loop.cast(), handle, fd) != 0 {
                libc::free(handle);
                return None;
            }
            unref(handle);
            let made = LoopPoll { handle, stop, close };
            if start(handle, READABLE, callback) != 0 {
                made.close();
                return None;
            }
            Some(made)
        }
    }

    /// On the loop's thread, before the descriptor is closed.
    pub fn close(self) {
        unsafe extern "C" fn free(handle: Handle) {
            // SAFETY: libuv has let go of it, and nobody else has it.
            unsafe { libc::free(handle) };
        }
        // SAFETY: a handle that was initialised, closed once since this takes it.
        unsafe {
            (self.stop)(self.handle);
            (self.close)(self.handle, free);
        }
    }
}
