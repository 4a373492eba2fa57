//! A call from Node's event loop into JavaScript, on the thread that the loop runs on: for what was found there, and needs no wake-up.

use std::ptr;

use napi::bindgen_prelude::{Error, Result};
use napi::sys;

/// A function of an environment, kept for as long as the environment or until `release`.
pub struct JsCall {
    env: sys::napi_env,
    function: sys::napi_ref,
}

impl JsCall {
    /// `function` must be one of `env`, on its thread.
    pub fn new(env: sys::napi_env, function: sys::napi_value) -> Result<Self> {
        let mut kept = ptr::null_mut();
        // SAFETY: live values on the thread of `env`; the result is checked before use.
        let status = unsafe { sys::napi_create_reference(env, function, 1, &mut kept) };
        if status == sys::Status::napi_ok { Ok(JsCall { env, function: kept }) } else { Err(Error::from_reason("a function cannot be kept")) }
    }

    /// Calls it without arguments, and with it what it leaves to the microtasks. What it throws surfaces as uncaught. Only from the event
    /// loop of its thread, never with JavaScript on the stack.
    pub fn call(&self) {
        // SAFETY: on the thread of `env` (it never leaves this thread: it holds raw pointers), inside a handle scope of its own; each value is
        // used only if the call that made it succeeded.
        unsafe {
            let mut scope = ptr::null_mut();
            if sys::napi_open_handle_scope(self.env, &mut scope) != sys::Status::napi_ok {
                return;
            }
            let (mut function, mut global, mut result) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            if sys::napi_get_reference_value(self.env, self.function, &mut function) == sys::Status::napi_ok
                && !function.is_null()
                && sys::napi_get_global(self.env, &mut global) == sys::Status::napi_ok
                && sys::napi_make_callback(self.env, ptr::null_mut(), global, function, 0, ptr::null(), &mut result) == sys::Status::napi_pending_exception
            {
                let mut thrown = ptr::null_mut();
                if sys::napi_get_and_clear_last_exception(self.env, &mut thrown) == sys::Status::napi_ok {
                    sys::napi_fatal_exception(self.env, thrown);
                }
            }
            sys::napi_close_handle_scope(self.env, scope);
        }
    }

    pub fn release(self) {
        // SAFETY: on the thread of `env`, once since this takes it.
        unsafe { sys::napi_delete_reference(self.env, self.function) };
    }
}
