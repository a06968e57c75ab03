//! `posthaste man`: manual pages, made of the tree of verbs itself. Asks no daemon.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::failure::{Done, Failure};
use super::print;

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste man dead replay | man -l -
  posthaste man --into /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The verb whose page to print, such as `dead replay` [default: the page of posthaste itself]
    #[arg(value_name = "VERB", conflicts_with = "into")]
    verb: Vec<String>,
    /// Write every page into this folder instead, as posthaste.1, posthaste-dead-replay.1 and so on
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Prints one page, or writes all of them.
///
/// # Errors
/// When there is no such verb, or a page can't be written.
pub fn run(args: &ManArgs, tree: Command) -> Done {
    // A page of `help` would say nothing.
    let mut tree = tree.disable_help_subcommand(true);
    tree.build();
    if let Some(folder) = &args.into {
        return write_all(&tree, folder);
    }
    let mut verb = &tree;
    for word in &args.verb {
        verb = verb.find_subcommand(word).ok_or_else(|| {
            Failure::Wrong(format!(
                "posthaste has no verb {:?}; `posthaste --help` lists them",
                args.verb.join(" ")
            ))
        })?;
    }
    print::line(page(verb)?.trim_end())
}

/// The page of one verb as roff.
fn page(verb: &Command) -> Result<String, Failure> {
    let name = verb.get_display_name().unwrap_or(verb.get_name()).to_owned();
    let mut text = Vec::new();
    Man::new(verb.clone())
        .title(name.to_uppercase())
        .manual("posthaste")
        .render(&mut text)
        .map_err(|error| Failure::Wrong(format!("the page of {name}: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write_all(verb: &Command, folder: &Path) -> Done {
    let name = verb.get_display_name().unwrap_or(verb.get_name());
    let file = folder.join(format!("{name}.1"));
    let text = page(verb)?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| Failure::Wrong(format!("{}: {error}", file.display())))?;
    verb.get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .try_for_each(|verb| write_all(verb, folder))
}
