//! What is wrong with a configuration, said like a compiler says it: where, what, and how to mend it.
//! Knows nothing of TOML; a problem never holds a secret because [`super::source`] gives it none.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::noted::Noted;

/// One thing that is wrong (or, as a warning, doubtful) in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Counted from 1; 0 when the problem is with the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 when the problem is with the file as a whole.
    pub column: usize,
    /// Dotted path of the key, endpoints by name (`endpoint.crm-sync.timeout`); may be empty.
    pub key: String,
    /// What is wrong, with the offending text unless that may be a secret.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// The line to show beneath, with everything that could be a secret left out.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
}

/// A line of the file with the place to point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line; values other than the offending one stand there as `…`.
    pub text: String,
    /// Characters before the place.
    pub offset: usize,
    /// Characters of the place, at least 1.
    pub width: usize,
}

impl Problem {
    /// A problem with a file as a whole.
    #[must_use]
    pub fn of_file(file: PathBuf, message: String, help: &str) -> Self {
        Self {
            file,
            line: 0,
            column: 0,
            key: String::new(),
            message,
            help: help.to_owned(),
            excerpt: None,
        }
    }
}

impl Problem {
    /// The same without the file, for whoever wrote no file: `key: message; help`.
    #[must_use]
    pub fn without_place(&self) -> String {
        let whole = self.to_string();
        let place = Self {
            key: String::new(),
            message: String::new(),
            help: String::new(),
            ..self.clone()
        };
        let place = place.to_string();
        whole
            .strip_prefix(&*place)
            .unwrap_or(&whole)
            .trim_start()
            .to_owned()
    }
}

/// `file:line:column: key: message; help`, parts that are missing left out.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the files and the lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One problem a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What was found while reading, before it is known whether the configuration stands.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What makes the configuration unusable.
    pub problems: Vec<Problem>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
    /// The templates and expressions of the endpoint that is being read.
    pub noted: Vec<Noted>,
}

impl Findings {
    /// Puts both lists into the order of `files` and of the lines. A place that was read more than once
    /// (a key of `[defaults]`, once for each endpoint) is reported once.
    pub(super) fn sort(&mut self, files: &[PathBuf]) {
        for list in [&mut self.problems, &mut self.warnings] {
            list.sort_by_key(|p| {
                (
                    files.iter().position(|f| *f == p.file),
                    p.line,
                    p.column,
                    p.message.clone(),
                )
            });
            list.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_a_compilers() {
        let problem = Problem {
            file: "config.toml".into(),
            line: 12,
            column: 11,
            key: "endpoint.crm-sync.timeout".into(),
            message: "\"30 sekunden\" is not a duration".into(),
            help: "write it like 30s, 5m or 1h30m".into(),
            excerpt: None,
        };
        assert_eq!(
            problem.to_string(),
            "config.toml:12:11: endpoint.crm-sync.timeout: \"30 sekunden\" is not a duration; write it like 30s, 5m or 1h30m"
        );
        let of_file = Problem::of_file("/etc/x.toml".into(), "no such file".into(), "");
        assert_eq!(of_file.to_string(), "/etc/x.toml: no such file");
    }
}
