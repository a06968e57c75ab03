//! The `posthaste` program.

use std::process::ExitCode;

/// Smaller and faster than the system's under many short-lived buffers, which is what requests are.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use clap::{Args, FromArgMatches, Subcommand};
    #[derive(clap::Subcommand)]
    enum V {
        Run(posthaste::cli::run::RunArgs),
        Demo,
        Receive(posthaste::cli::receive::ReceiveArgs),
        Check(posthaste::cli::check::CheckArgs),
        Send(posthaste::cli::send::SendArgs),
    }
    #[derive(clap::Parser)]
    struct P {
        #[command(subcommand)]
        v: V,
    }
    let p = <P as clap::Parser>::parse();
    match p.v {
        V::Run(a) => posthaste::cli::run::run(a),
        V::Demo => posthaste::cli::demo::run(),
        V::Check(a) => posthaste::cli::check::run(&a),
        V::Send(a) => posthaste::cli::send::run(&a),
        _ => ExitCode::SUCCESS,
    }
}
