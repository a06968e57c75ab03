//! Having a person change a text: in the editor of their choice, in a file that only they can read.

use std::io::{Seek, Write};
use std::process::Command;

use super::failure::Failure;

/// Opens `text` in `$VISUAL`, `$EDITOR` or vi, and gives back what it was saved as. `what` names it in the file's name.
///
/// # Errors
/// [`Failure::Wrong`] when no editor can be run, or it says that it failed.
pub fn edit(what: &str, text: &str) -> Result<String, Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    let wrong = |error: std::io::Error| Failure::Wrong(format!("cannot edit {what}: {error}"));
    let mut file = private_file(what).map_err(wrong)?;
    let written = file.0.write_all(text.as_bytes()).and_then(|()| file.0.rewind());
    let path = file.1.clone();
    // By the shell, because an editor may be given with arguments ("code --wait").
    let status = written.and_then(|()| {
        Command::new("sh")
            .arg("-c")
            .arg(format!("{editor} \"$1\""))
            .arg("sh")
            .arg(&path)
            .status()
    });
    let edited = status.and_then(|status| {
        if status.success() {
            std::fs::read_to_string(&path)
        } else {
            Err(std::io::Error::other(format!("{editor} ended with {status}")))
        }
    });
    // What it held may be personal data; a failure to remove it is worth no more than the folder's own tidiness.
    let _ = std::fs::remove_file(&path);
    edited.map_err(wrong)
}

/// A new file in the folder for temporary ones, readable by nobody else.
fn private_file(what: &str) -> std::io::Result<(std::fs::File, std::path::PathBuf)> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = format!("posthaste-{what}-{}.json", ulid::Ulid::new());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    Ok((file, path))
}
