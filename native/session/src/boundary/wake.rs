//! The one call from an I/O thread into JavaScript: a thread-safe function without arguments, at most one under way at a time.
//! It keeps Node alive while it is there, unless unreferenced.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};

use napi::bindgen_prelude::{Error, Result};
use napi::sys;

use crate::mailbox::Wake;

pub struct JsWake {
    function: AtomicPtr<sys::napi_threadsafe_function__>,
    closing: AtomicBool,
    woken: Arc<AtomicBool>,
}

impl JsWake {
    /// `callback` must be a function of `env`, on its thread; `woken` is cleared by whoever then takes the events.
    pub fn new(env: sys::napi_env, callback: sys::napi_value, woken: Arc<AtomicBool>) -> Result<Self> {
        const NAME: &[u8] = b"selvedge-session";
        let mut name = ptr::null_mut();
        let mut function = ptr::null_mut();
        // SAFETY: called on the thread of `env` with live values; the result is checked before use.
        let status = unsafe {
            sys::napi_create_string_utf8(env, NAME.as_ptr().cast(), NAME.len() as isize, &mut name);
            sys::napi_create_threadsafe_function(env, callback, ptr::null_mut(), name, 0, 1, ptr::null_mut(), None, ptr::null_mut(), None, &mut function)
        };
        if status != sys::Status::napi_ok {
            return Err(Error::from_reason("a wake-up function cannot be made"));
        }
        Ok(JsWake { function: AtomicPtr::new(function), closing: AtomicBool::new(false), woken })
    }

    /// Whether it keeps Node alive. On the thread of `env` only.
    pub fn keep_alive(&self, env: sys::napi_env, alive: bool) {
        let function = self.function.load(SeqCst);
        if function.is_null() {
            return;
        }
        // SAFETY: on the thread of `env`; the function is not released before this object forgets it.
        unsafe {
            if alive {
                sys::napi_ref_threadsafe_function(env, function);
            } else {
                sys::napi_unref_threadsafe_function(env, function);
            }
        }
    }

    /// After the I/O thread's last wake-up: lets go of the function.
    pub fn release(&self) {
        let function = self.function.swap(ptr::null_mut(), SeqCst);
        if !function.is_null() && !self.closing.load(SeqCst) {
            // SAFETY: swapped out, so released once, and never called again.
            unsafe { sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::release) };
        }
    }
}

impl Wake for JsWake {
    fn wake(&self) {
        if self.closing.load(SeqCst) || self.woken.swap(true, SeqCst) {
            return;
        }
        let function = self.function.load(SeqCst);
        if function.is_null() {
            return;
        }
        // SAFETY: the function is live until `release`, which the same thread calls after its last wake-up. A function that says it is
        // closing has let go of this caller and is not touched again.
        let status = unsafe { sys::napi_call_threadsafe_function(function, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking) };
        if status == sys::Status::napi_closing {
            self.closing.store(true, SeqCst);
        }
    }
}
