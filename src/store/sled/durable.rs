//! Makes sled's log durable. sled 0.34 ends every write of its log with `sync_file_range`, which hands the
//! pages to the disk but neither the file's metadata nor the disk's own cache: after a power cut its store
//! may not open again. So this program defines that function itself, as `fdatasync`, and the linker takes
//! ours. Then every write of the log is durable before sled counts it as such.
//!
//! Whether the linker did is a property of the finished program, so it is checked at every start: see
//! [`syncs`]. Knows nothing of stores.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::crash::sync_fails;

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How often this process has made sled's log durable. It rises with every flush that had something to
/// write; if it does not, the interposition below did not take.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

#[allow(unsafe_code)]
unsafe extern "C" {
    // From the C library, not from rustix: sled reads `errno` when this fails, and only the C library sets it.
    fn fdatasync(fd: c_int) -> c_int;
}

/// One turn at a time for a file, since the kernel tells only one caller of a page that it could not write: were there
/// two at once, the other would be told that all is well. Files are told apart by their number, more or less.
static TURNS: [Mutex<()>; 16] = [const { Mutex::new(()) }; 16];
/// After the first failure nothing is durable any more: what that one has lost no later call would tell.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Stands in for the C library's function of this name, in this whole program. It does more than it is
/// asked for (the whole file, and its metadata as far as needed to read it back), never less.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, _offset: i64, _bytes: i64, _flags: c_uint) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    let turn = &TURNS[fd.unsigned_abs() as usize % TURNS.len()];
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    // No file has this number, so that the failure a test asks for is a real one.
    let fails = FAILED.load(Ordering::Acquire) || sync_fails();
    let fd = if fails { -1 } else { fd };
    // SAFETY: `fdatasync` takes any number, and answers EBADF for one that is no open file.
    let result = unsafe { fdatasync(fd) };
    if result != 0 {
        FAILED.store(true, Ordering::Release);
    }
    result
}
