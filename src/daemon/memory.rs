//! Giving memory back to the system. The allocator keeps what was freed until it is asked for more, which on an idle
//! daemon never happens, so a backlog that is long delivered would count as memory in use. Knows nothing of who used it.

/// Gives back everything that is free, of all threads. Takes some milliseconds, and what is needed again costs page
/// faults, so it is for a daemon at rest.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: it takes no pointer, may be called by any thread at any time, and frees nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
