//! The `posthaste` program.

fn main() {}
