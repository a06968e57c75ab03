//! `posthaste run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::daemon::{self, DaemonError, Options};

/// Runs the daemon in the foreground until it is told to stop.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  posthaste run --config ./config.toml
  posthaste run --start-empty        # once, after a damaged queue was set aside")]
pub struct RunArgs {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/posthaste/config.toml",
        env = "POSTHASTE_CONFIG"
    )]
    pub config: PathBuf,
    /// If the store will not open, set it aside and start with an empty one.
    #[arg(long)]
    pub start_empty: bool,
}

/// Runs it; 1 when it did not start or did not end well.
#[must_use]
pub fn run(args: RunArgs) -> ExitCode {
    match daemon::run(&Options {
        config: args.config,
        start_empty: args.start_empty,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posthaste: {error}");
            if let DaemonError::Config(_) = error {
                eprintln!(
                    "posthaste: nothing was started; `posthaste check` shows the same with the lines in question"
                );
            }
            ExitCode::FAILURE
        }
    }
}
