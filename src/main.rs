//! The binary: allocator, command line, exit code.

use std::process::ExitCode;

/// Allocations of delivery and ingest are small, short-lived and cross threads, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    posthaste::cli::run()
}
