//! `posthaste completions SHELL`: a script for the shell, made of the tree of verbs itself. Asks no daemon.

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::failure::Done;
use super::print;

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste completions bash > /usr/share/bash-completion/completions/posthaste
  posthaste completions zsh > ~/.zfunc/_posthaste
  posthaste completions fish > ~/.config/fish/completions/posthaste.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: ShellName,
}

/// The shells whose scripts are tried by tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Writes the script to standard output.
///
/// # Errors
/// When the output can't be written.
pub fn run(args: &CompletionsArgs, mut tree: clap::Command) -> Done {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut tree, "posthaste", &mut script);
    print::line(String::from_utf8_lossy(&script).trim_end())
}
