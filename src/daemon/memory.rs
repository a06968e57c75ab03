//! Giving memory back to the system. The allocator keeps what was freed for a while, and an idle one for ever, so a
//! backlog that is long delivered would count as memory in use. Knows nothing of who used it.

use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc.h: after how many milliseconds free memory is given back, when somebody asks for
/// more. The crate has no name for it.
const PURGE_DELAY: c_int = 15;
/// A tenth of what it is by itself: a backlog being delivered then takes 40 MiB less, at no cost that could be measured.
const PURGE_DELAY_MS: c_long = 100;

/// Keeps free memory for less long from now on.
#[allow(unsafe_code)]
pub fn be_frugal() {
    // SAFETY: it takes two numbers, and ignores an option that it does not know.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Gives back everything that is free, of all threads. Takes some milliseconds, and what is needed again costs page
/// faults, so it is for a daemon at rest.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: it takes no pointer, may be called by any thread at any time, and frees nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
