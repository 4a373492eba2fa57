//! The process's memory kept to itself: a daemon's private keys are in it.

use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;

/// From now on this process leaves no core dump, and no other of the same user may read its memory. A limit of 0 alone does not do it: where
/// cores go to a program (`core_pattern` begins with `|`), the kernel does not ask for the limit.
#[napi(catch_unwind)]
pub fn keep_secrets() -> Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: numbers, and a struct that lives through the call.
    let kept = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && libc::setrlimit(libc::RLIMIT_CORE, &raw const none) == 0 };
    if kept { Ok(()) } else { Err(Error::from_reason(std::io::Error::last_os_error().to_string())) }
}
