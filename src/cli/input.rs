//! What a verb reads: a file, or standard input where it is called `-`.

use std::path::Path;
use std::{fs, io};

/// Whether `file` means standard input.
pub fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

/// All of the text in `file`.
///
/// # Errors
/// It can't be read, or is not UTF-8.
pub fn text(file: &Path) -> io::Result<String> {
    match is_standard(file) {
        true => io::read_to_string(io::stdin()),
        false => fs::read_to_string(file),
    }
}
