//! References to what is kept elsewhere: `${env:NAME}`, `${file:/path}` and `${cred:NAME}` (a systemd
//! credential, systemd.exec(5) LoadCredential=) inside a string, and in an integration module `${with:NAME}`. They are resolved after the file was
//! parsed, so a secret can't break out of its string. Knows nothing of keys or sections.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::module::Given;
use super::values::Wrong;
use crate::template::Part;

/// Where references are looked up.
pub(super) struct Secrets<'a> {
    /// An environment variable by name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A string with its references replaced.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The string itself: a secret, as soon as `has_reference`.
    pub text: String,
    /// The same with `***` in place of every reference.
    pub masked: String,
    /// Whether there was a reference in it.
    pub has_reference: bool,
    /// Whether one of them was a file or a credential, which hold secrets; a variable may hold anything.
    pub has_secret: bool,
    /// What an operator should know about the places it came from.
    pub warnings: Vec<Wrong>,
    /// The string in pieces, for those who have to tell what was written from what was put in.
    pub pieces: Vec<Piece>,
}

/// A piece of a string.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Piece {
    text: String,
    is_reference: bool,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[resolved]")
    }
}

impl Secrets<'_> {
    /// Replaces every reference in `written`; `given` is what `${with:NAME}` stands for.
    ///
    /// # Errors
    /// The first reference that is misspelt, or names something that is not there. The message names the
    /// reference, never what it stands for.
    pub(super) fn resolve(&self, written: &str, given: Option<&Given<'_>>) -> Result<Resolved, Wrong> {
        Resolved::of(written, given, |reference, warnings| {
            self.look_up(reference, warnings)
        })
    }

    fn look_up(&self, reference: &str, warnings: &mut Vec<Wrong>) -> Result<String, Wrong> {
        match reference.split_once(':') {
            Some(("env", name)) => (self.variable)(name).ok_or_else(|| {
                Wrong::whole(
                    format!("the environment variable {name} is not set"),
                    "set it for the daemon, under systemd by Environment= or EnvironmentFile=",
                )
            }),
            Some(("file", path)) => read_secret_file(Path::new(path), warnings),
            Some(("cred", name)) => self.credential(name, warnings),
            _ => Err(Wrong::new(
                "has a reference of an unknown kind",
                "write ${env:NAME}, ${file:/path} or ${cred:NAME}",
            )),
        }
    }

    fn credential(&self, name: &str, warnings: &mut Vec<Wrong>) -> Result<String, Wrong> {
        let mend = format!(
            "add LoadCredential={name}:/path/to/file to the systemd unit; to check by hand, set \
             CREDENTIALS_DIRECTORY to a folder that holds a file of this name"
        );
        if name.is_empty() || name.contains('/') || name == ".." {
            return Err(Wrong::whole(
                format!("{name:?} is not a credential's name"),
                "names have no slash",
            ));
        }
        let folder = (self.variable)("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            Wrong::whole(
                format!("there is no credential {name}: $CREDENTIALS_DIRECTORY is not set"),
                &*mend,
            )
        })?;
        let path = Path::new(&folder).join(name);
        if !path.exists() {
            return Err(Wrong::whole(
                format!("there is no credential {name} in {folder}"),
                mend,
            ));
        }
        read_secret_file(&path, warnings)
    }
}

impl Resolved {
    /// A string that may hold no references but to what was given.
    ///
    /// # Errors
    /// When it does.
    pub(super) fn literal(written: &str, given: Option<&Given<'_>>) -> Result<Self, Wrong> {
        Self::of(written, given, |_, _| {
            Err(Wrong::whole(
                "references (`${…}`) are not for endpoints defined over the API: they are looked up with the daemon's rights",
                "write the secret itself, which is kept where only the daemon can read it, or define the endpoint in a file",
            ))
        })
    }

    fn of(
        written: &str,
        given: Option<&Given<'_>>,
        look_up: impl Fn(&str, &mut Vec<Wrong>) -> Result<String, Wrong>,
    ) -> Result<Self, Wrong> {
        let mut resolved = Self::default();
        let mut rest = written;
        while let Some((before, after)) = rest.split_once("${") {
            let (reference, behind) = after.split_once('}').ok_or_else(|| {
                Wrong::new(
                    "has a `${` without its `}`",
                    "write ${env:NAME}, ${file:/path} or ${cred:NAME}",
                )
            })?;
            resolved.append(before, before, false);
            rest = behind;
            if let (Some(name), Some(given)) = (reference.strip_prefix("with:"), given) {
                resolved.append_given(given.text(name)?);
                continue;
            }
            let text = look_up(reference, &mut resolved.warnings)?;
            resolved.append(&text, "***", true);
            resolved.has_reference = true;
            resolved.has_secret |= !reference.starts_with("env:");
        }
        resolved.append(rest, rest, false);
        Ok(resolved)
    }

    fn append(&mut self, text: &str, masked: &str, is_reference: bool) {
        self.text.push_str(text);
        self.masked.push_str(masked);
        self.pieces.push(Piece {
            text: text.to_owned(),
            is_reference,
        });
    }

    /// A variable's text is as good as written there, unless it is a secret or looks like a template.
    fn append_given(&mut self, (text, is_secret): (&str, bool)) {
        let is_reference = is_secret || text.contains('{');
        let masked = if is_reference { "***" } else { text };
        self.append(text, masked, is_reference);
        self.has_reference |= is_reference;
    }

    /// The string as a template takes it: what a reference stands for is data, whatever it looks like.
    pub(super) fn parts(&self) -> Vec<Part<'_>> {
        let pieces = self.pieces.iter();
        pieces
            .map(|piece| match piece.is_reference {
                true => Part::Reference(&piece.text),
                false => Part::Written(&piece.text),
            })
            .collect()
    }
}

/// A file's text without the newline that editors put at its end.
fn read_secret_file(path: &Path, warnings: &mut Vec<Wrong>) -> Result<String, Wrong> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        let mend = "the daemon's user has to be able to read it, as UTF-8 text";
        Wrong::whole(
            format!("the secret file {shown} can't be read: {}", kind_of(&error)),
            mend,
        )
    })?;
    let is_world_readable = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    if is_world_readable {
        warnings.push(Wrong::whole(
            format!("everybody on this machine can read the secret file {shown}"),
            format!("chmod o-r {shown}"),
        ));
    }
    let trimmed = text
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(trimmed.unwrap_or(&text).to_owned())
}

/// An I/O error without the parts that may quote a file's content.
fn kind_of(error: &std::io::Error) -> String {
    error.kind().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(written: &str, folder: &Path) -> Result<Resolved, Wrong> {
        let folder = folder.to_string_lossy().into_owned();
        let variable = move |name: &str| match name {
            "KEY" => Some("hunter2".to_owned()),
            "CREDENTIALS_DIRECTORY" => Some(folder.clone()),
            _ => None,
        };
        Secrets { variable: &variable }.resolve(written, None)
    }

    /// C6: each kind of reference, alone and inside other text.
    #[test]
    fn c6_references_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "s3cret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let by_file = format!("${{file:{}}}", file.display());
        for (written, text, masked) in [
            ("plain $ { }", "plain $ { }", "plain $ { }"),
            ("${env:KEY}", "hunter2", "***"),
            ("Bearer ${env:KEY}!", "Bearer hunter2!", "Bearer ***!"),
            ("${cred:token}${env:KEY}", "s3crethunter2", "******"),
            (&by_file, "s3cret", "***"),
        ] {
            let resolved = resolve(written, folder.path()).unwrap();
            assert_eq!((&*resolved.text, &*resolved.masked), (text, masked), "{written}");
            assert!(resolved.warnings.is_empty(), "{written}");
            assert_eq!(format!("{resolved:?}"), "[resolved]");
        }
    }

    /// C6: what is missing or misspelt is named.
    #[test]
    fn c6_bad_references_say_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for (written, expected) in [
            ("${env:NONE}", "the environment variable NONE is not set"),
            (
                "${file:/nowhere/x}",
                "the secret file /nowhere/x can't be read: entity not found",
            ),
            ("${cred:none}", "there is no credential none in"),
            ("${cred:../x}", "is not a credential's name"),
            ("${KEY}", "unknown kind"),
            ("${env:KEY", "without its `}`"),
        ] {
            let wrong = resolve(written, folder.path()).unwrap_err();
            assert!(wrong.says.contains(expected), "{written}: {wrong:?}");
        }
    }

    /// C6: only the last newline goes, and an open file is pointed out.
    #[test]
    fn c6_a_world_readable_file_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "a\n\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let resolved = resolve("${cred:token}", folder.path()).unwrap();
        assert_eq!(resolved.text, "a\n");
        assert!(
            resolved.warnings[0].says.contains("everybody on this machine"),
            "{:?}",
            resolved.warnings
        );
    }
}
