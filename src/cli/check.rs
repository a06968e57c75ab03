//! `posthaste check`: what is wrong with a configuration, before the daemon finds out. Reads the files and
//! nothing else, and makes the requests of saved cases and of sample events without sending them; no daemon has to run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{cases, sample};
use crate::config::{self, DEFAULT_PATH, Loaded, Problem, Problems};
use crate::delivery::Couriers;

/// Check the configuration and report every problem at once
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  posthaste check
  posthaste check --event event.json
  posthaste check --config ./config.toml --json")]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = "POSTHASTE_CONFIG")]
    pub config: PathBuf,
    /// Also render every template, expression and step for the events in this file (- for stdin): one event, or several in
    /// lines
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what `config::load` finds: problems and warnings to stderr, the summary to stdout (with
/// `--json`, all to stdout). Exit code 1 when there are problems.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = config::load(&args.config);
    let result = loaded.and_then(|loaded| rendered(&args.config, args.event.as_deref(), loaded));
    if args.json {
        println!("{}", serde_json::json!(Checked::of(&result)));
    } else {
        let (found, summary) = for_people(&result);
        eprint!("{found}");
        println!("{summary}");
    }
    ExitCode::from(u8::from(result.is_err()))
}

/// The configuration, if its texts can be rendered: those that no event changes, those of saved cases, and those for the
/// events in the file `samples`.
fn rendered(path: &Path, samples: Option<&Path>, mut loaded: Loaded) -> Result<Loaded, Problems> {
    let mut problems = sample::lasting(&loaded);
    problems.extend(cases(path, &loaded));
    if let Some(samples) = samples {
        let found = sample::rendered(samples, path, &loaded);
        problems.extend(found.problems);
        loaded.warnings.extend(found.warnings);
    }
    match problems.is_empty() {
        true => Ok(loaded),
        false => Err(Problems(problems)),
    }
}

/// Why saved cases fail before anything is sent.
fn cases(path: &Path, loaded: &Loaded) -> Vec<Problem> {
    let limits = cases::limits(&loaded.config);
    let couriers = Couriers::new();
    let mut problems = Vec::new();
    for endpoint in loaded
        .config
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.cases.is_empty())
    {
        let problem = |key: String, message| {
            let help = "mend what fails, or the event of the case, or what the case expects";
            let problem = Problem::of_file(path.to_owned(), message, help);
            Problem { key, ..problem }
        };
        let key = format!("endpoint.{}", endpoint.name);
        match couriers.prepare(endpoint) {
            Ok(courier) => problems.extend(endpoint.cases.iter().filter_map(|case| {
                let wrong = cases::renders(endpoint, case, &courier, &limits).err();
                wrong.map(|why| problem(format!("{key}.test {:?}", case.name), why))
            })),
            Err(why) => problems.push(problem(key, why)),
        }
    }
    problems
}

/// What goes to stderr, and the summary.
fn for_people(result: &Result<Loaded, Problems>) -> (String, String) {
    match result {
        Ok(Loaded { config, warnings, .. }) => {
            let found = warnings
                .iter()
                .map(|warning| report("warning", warning))
                .collect();
            let endpoints = counted(config.endpoints.len(), "endpoint");
            let noted = if warnings.is_empty() {
                String::new()
            } else {
                format!(", {}", counted(warnings.len(), "warning"))
            };
            (found, format!("ok: {endpoints}{noted}, hash {}", config.hash))
        }
        Err(Problems(problems)) => {
            let found = problems.iter().map(|problem| report("error", problem)).collect();
            (
                found,
                format!("not usable: {}", counted(problems.len(), "problem")),
            )
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// One problem with its line and a caret beneath the place.
fn report(level: &str, problem: &Problem) -> String {
    let mut text = format!("{level}: {problem}\n");
    if let Some(excerpt) = &problem.excerpt {
        let number = problem.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs beneath tabs, so that the caret lands where the terminal put the text.
        let indent: String = excerpt
            .text
            .chars()
            .take(excerpt.offset)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(excerpt.width);
        text.push_str(&format!(
            " {number} | {}\n {margin} | {indent}{carets}\n",
            excerpt.text
        ));
    }
    text
}

/// `check --json`
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Checked {
    /// Whether the configuration can be used; only then is anything but `problems` there.
    ok: bool,
    /// How many endpoints it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<usize>,
    /// Its hash, as the status of a daemon that has adopted it shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// The files that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<PathBuf>>,
    /// What is wrong.
    problems: Vec<Problem>,
    /// What is doubtful.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<Problem>>,
}

impl Checked {
    fn of(result: &Result<Loaded, Problems>) -> Self {
        let loaded = result.as_ref().ok();
        Self {
            ok: loaded.is_some(),
            endpoints: loaded.map(|loaded| loaded.config.endpoints.len()),
            hash: loaded.map(|loaded| loaded.config.hash.clone()),
            files: loaded.map(|loaded| loaded.files.clone()),
            problems: result
                .as_ref()
                .err()
                .map_or_else(Vec::new, |problems| problems.0.clone()),
            warnings: loaded.map(|loaded| loaded.warnings.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Result<Loaded, Problems>, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let result = config::load(&path).and_then(|loaded| rendered(&path, None, loaded));
        let (found, summary) = for_people(&result);
        (
            result,
            found.replace(&format!("{}/", folder.path().display()), ""),
            summary,
        )
    }

    #[test]
    fn problems_show_their_line_with_a_caret() {
        let (result, found, summary) = check(
            "[[endpoint]]\nname = \"crm\"\nurl = \"https://u:hunter2@a.example/\"\ntimeout = \"30 sekunden\" # slow\n",
        );
        assert_eq!(
            found,
            "error: config.toml:4:11: endpoint.crm.timeout: \"30 sekunden\" is not a duration; \
             write it like 30s, 5m or 1h30m\n 4 | timeout = \"30 sekunden\"\n   |           ^^^^^^^^^^^^^\n"
        );
        assert_eq!(summary, "not usable: 1 problem");
        assert_eq!(Checked::of(&result).problems[0].line, 4);
    }

    /// C6: a line with a secret is shown without it.
    #[test]
    fn c6_secrets_stay_out_of_the_shown_line() {
        let (_, found, _) = check(concat!(
            "[[endpoint]]\nname = \"crm\"\nurl = \"ftp://u:hunter2@a.example/\"\n",
            "headers = { \"Bad Name\" = \"hunter2\", X-Key = [\"hunter2\"] } # hunter2\n",
            "sign = [{ scheme = \"standard\", secrts = [\"hunter2\"], secrets = [\"hunter2\"] }]\n",
        ));
        assert!(
            found.contains("headers = { \"Bad Name\" = …, X-Key = […] }"),
            "{found}"
        );
        assert!(!found.contains("hunter2"), "{found}");
    }

    /// H5: the requests of saved cases are made, so that a template that fails on the operator's own events is found.
    #[test]
    fn h5_saved_cases_are_rendered() {
        let case = |name: &str, data: &str, expect: &str| {
            format!(
                "[[endpoint.test]]\nname = \"{name}\"\nevent = '{{\"type\":\"a\",\"data\":{data}}}'\nexpect = \"{expect}\"\n"
            )
        };
        let text = "[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\nwhen = \"not data.score\"\n\
                    body = { format = \"text\", template = \"{{ data.name.upper() }}\" }\n"
            .to_owned()
            + &case("good", r#"{"name":"Ann"}"#, "outcome == 'delivered'")
            + &case("skipped", r#"{"score":1}"#, "outcome == 'skipped'")
            + &case("expected", "{}", "error_class == 'render'");
        let (_, found, summary) = check(&text);
        assert!(summary.starts_with("ok: 1 endpoint"), "{found}{summary}");
        let (_, found, summary) = check(&(text + &case("bad", "{}", "outcome == 'delivered'")));
        assert!(
            found.starts_with("error: config.toml: endpoint.crm.test \"bad\": body.template: ")
                && found.contains("undefined"),
            "{found}"
        );
        assert_eq!(summary, "not usable: 1 problem");
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (result, found, summary) = check("[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n");
        assert_eq!(found, "");
        assert!(summary.starts_with("ok: 1 endpoint, hash "), "{summary}");
        assert!(Checked::of(&result).ok);
    }
}
