//! What the readers of `src/` can rely on: who imports whom, what is pure, who may ask for the time, and that files
//! and functions stay small. `docs/ARCHITECTURE.md` says why; here it is kept. Every complaint names the place, the
//! rule and how to mend it.

#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test may fail it")]

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{Source, read_all};

/// Who may import what: a room and the beginnings of the paths it may name. Every room may name itself.
const IMPORTS: &[(&str, &[&str])] = &[
    // The language of the configuration; knows nobody.
    ("template", &[]),
    // Policies hold what was compiled.
    ("domain", &["template"]),
    // Only signing knows what a usable signing secret looks like.
    ("config", &["domain", "template", "delivery::sign"]),
    ("ingest", &["domain", "store", "trace"]),
    // What trace viewers are told.
    ("trace", &["domain"]),
    ("store", &["domain", "config"]),
    // The nouns of the store, not the parts that do anything; see STORE_PARTS.
    ("scheduler", &["domain", "store"]),
    ("delivery", &["domain", "template"]),
    // Metrics show what the status shows, by the same schema.
    ("observe", &["domain", "config", "control::types"]),
    // The files of a page.
    ("dashboard", &[]),
    (
        "control",
        &[
            "domain",
            "dashboard",
            "template",
            "config",
            "store",
            "scheduler",
            "observe",
            "ingest",
        ],
    ),
    (
        "daemon",
        &[
            "domain",
            "template",
            "config",
            "store",
            "scheduler",
            "observe",
            "ingest",
            "control",
            "delivery",
            "trace",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "template",
            "config",
            "store",
            "scheduler",
            "observe",
            "ingest",
            "control",
            "delivery",
            "daemon",
        ],
    ),
];

/// The parts of the store that do something, which the scheduler does not see.
const STORE_PARTS: &[&str] = &["store::committer", "store::sled", "store::memory"];

/// Pure: time comes in as a value, decisions go out as values. A folder ends with a slash. A file that calls itself
/// "Pure" in its first comment is held to it as well.
const PURE: &[&str] = &[
    "src/domain/",
    "src/template/",
    "src/scheduler/",
    "src/ingest/frame.rs",
    "src/store/record.rs",
    "src/delivery/render/",
    "src/delivery/redirect.rs",
    "src/trace/context.rs",
    "src/trace/otlp.rs",
    "src/trace/span.rs",
    "src/delivery/sign/",
    "src/delivery/interpret.rs",
];

/// What pure code does not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime",
    "std::net",
    "std::fs",
    "reqwest::Client",
];

/// Who may read the wall clock, and why.
const WALL_CLOCK: &[(&str, &str)] = &[
    ("src/daemon/clock.rs", "where both clocks are read"),
    (
        "src/store/sled/open.rs",
        "names what is set aside, and the age of ids, before there is a daemon",
    ),
];

/// Who may read the monotonic clock, and why. Everybody else is told the time.
const MONOTONIC_CLOCK: &[(&str, &str)] = &[
    ("src/daemon/clock.rs", "where both clocks are read"),
    (
        "src/daemon/dispatcher.rs",
        "sleeps until the scheduler's next wake-up",
    ),
    ("src/daemon/traces/", "bounds what one export takes"),
    (
        "src/store/committer.rs",
        "waits a moment for company before it flushes",
    ),
    (
        "src/store/committer/pen.rs",
        "sees to housekeeping once a second while there is traffic",
    ),
    (
        "src/store/sled/",
        "asks for free space now and then, and waits for sled's file lock",
    ),
    ("src/delivery/", "measures how long a try takes, phase by phase"),
    ("src/cli/", "measures and waits in front of a person"),
];

/// The only room that opens HTTP connections to endpoints.
const HTTP_CLIENT: &str = "src/delivery/send/";

/// Who may make HTTP requests, and why.
const HTTP_CLIENTS: &[(&str, &str)] = &[
    (HTTP_CLIENT, "to endpoints"),
    (
        "src/cli/bench/limits.rs",
        "the bare clients that deliveries are measured against",
    ),
    ("src/cli/client.rs", "asks the daemon, over its socket"),
];

/// The only files with `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[
    (
        "src/store/sled/durable.rs",
        "replaces the call that sled flushes with",
    ),
    (
        "src/daemon/memory.rs",
        "tells the allocator, whose functions are C, to give back what is free",
    ),
];

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 600;

/// Longest function, in lines; one that fits a screen reads better still.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer: file, name, and how long it is today. Shrinking one means taking it off or lowering
/// its number; nothing is added here.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Words that say that something is not finished.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "unimplemented", "dbg!"];

fn assert_none(violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{} to mend:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

/// Whether `path` is `beginning` or goes on from it.
fn within(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn in_any(path: &str, places: &[&str]) -> bool {
    places
        .iter()
        .any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

/// A rule about a file that has been renamed would hold nobody to anything.
#[test]
fn every_place_a_rule_names_is_there() {
    let places = PURE
        .iter()
        .chain(MONOTONIC_CLOCK.iter().map(|(place, _)| place))
        .chain(UNSAFE.iter().map(|(place, _)| place))
        .chain(HTTP_CLIENTS.iter().map(|(place, _)| place));
    let gone = places.filter(|place| !Path::new(place).exists());
    let wrong = gone.map(|place| {
        format!("{place}:1: a rule names it, but it is not there: follow the rename in tests/tidy/main.rs")
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

fn import_violations(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{}:1: unknown room `{room}`: say in IMPORTS what it may import",
            source.path
        )];
    };
    let is_hidden = |path: &str| room == "scheduler" && STORE_PARTS.iter().any(|part| within(path, part));
    let may = |path: &str| {
        within(path, room) || (!is_hidden(path) && allowed.iter().any(|beginning| within(path, beginning)))
    };
    let wrong = source.crate_paths().into_iter().filter(|(_, path)| !may(path));
    wrong
        .map(|(line, path)| {
            let but = if is_hidden(&path) {
                "of the store only its nouns"
            } else {
                "no more"
            };
            format!(
                "{}:{line}: `{room}` names crate::{path}, but may name only {allowed:?} and {but}: \
                 take the value as an argument, or move the rule to the room that owns it",
                source.path
            )
        })
        .collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    assert_none(&read_all().iter().flat_map(import_violations).collect::<Vec<_>>());
}

fn purity_violations(source: &Source) -> Vec<String> {
    if !in_any(&source.path, PURE) && !source.head().contains("Pure") {
        return Vec::new();
    }
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for word in IMPURE {
        wrong.extend(
            source
                .lines_with(word)
                .into_iter()
                .map(|line| (line, (*word).to_owned())),
        );
        // The same inside a group: `use std::{fs, io}`.
        let (root, rest) = word.split_once("::").unwrap_or((word, ""));
        let grouped = source
            .paths_from(root)
            .into_iter()
            .filter(|(_, path)| !rest.is_empty() && within(path, rest));
        wrong.extend(grouped.map(|(line, path)| (line, format!("{root}::{path}"))));
    }
    wrong.sort();
    wrong.dedup_by_key(|(line, _)| *line);
    wrong
        .into_iter()
        .map(|(line, word)| {
            format!(
                "{}:{line}: pure code names `{word}`: take what it gives as an argument (`now`, bytes, an address)",
                source.path
            )
        })
        .collect()
}

#[test]
fn pure_code_knows_no_clock_no_socket_and_no_file() {
    assert_none(&read_all().iter().flat_map(purity_violations).collect::<Vec<_>>());
}

fn clock_violations(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut complain = |line: usize, word: &str| {
        wrong.push(format!(
            "{}:{line}: reads the clock by {word}: take `now` as an argument, or use daemon::clock::Clock \
             (who may read it, and why, stands in tests/tidy/main.rs)",
            source.path
        ));
    };
    let wall: Vec<_> = WALL_CLOCK.iter().map(|(place, _)| *place).collect();
    if !in_any(&source.path, &wall) {
        for word in ["SystemTime::now", "Timestamp::now"] {
            source
                .lines_with(word)
                .into_iter()
                .for_each(|line| complain(line, word));
        }
    }
    let monotonic: Vec<_> = MONOTONIC_CLOCK.iter().map(|(place, _)| *place).collect();
    if !in_any(&source.path, &monotonic) {
        source
            .lines_with("Instant::now")
            .into_iter()
            .for_each(|line| complain(line, "Instant::now"));
    }
    wrong
}

#[test]
fn the_time_is_asked_for_in_few_places() {
    assert_none(&read_all().iter().flat_map(clock_violations).collect::<Vec<_>>());
}

#[test]
fn one_room_opens_http_connections() {
    let places: Vec<&str> = HTTP_CLIENTS.iter().map(|(place, _)| *place).collect();
    let may = |source: &Source| in_any(&source.path, &places);
    let elsewhere = read_all().into_iter().filter(|source| !may(source));
    let wrong = elsewhere.flat_map(|source| {
        let named = |root: &str| {
            let paths = source.paths_from(root).into_iter();
            paths
                .map(|(line, path)| (line, format!("{root}::{path}")))
                .collect::<Vec<_>>()
        };
        let all = ["reqwest", "hyper", "hyper_util"]
            .iter()
            .flat_map(|root| named(root));
        let clients = all.filter(|(_, path)| {
            let opens = [
                "reqwest::Client",
                "reqwest::*",
                "hyper::client",
                "hyper_util::client",
                "hyper::*",
            ];
            // Names are looked up for the room, in its own words.
            let looks_up = path.starts_with("hyper_util::client::legacy::connect::dns");
            opens.iter().any(|root| path.starts_with(root)) && !looks_up
        });
        let place = source.path.clone();
        clients
            .map(|(line, path)| {
                format!("{place}:{line}: names {path}: only {HTTP_CLIENT} opens HTTP connections; call it")
            })
            .collect::<Vec<_>>()
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn few_files_are_unsafe() {
    let may = |source: &Source| UNSAFE.iter().any(|(place, _)| source.path == *place);
    let elsewhere = read_all().into_iter().filter(|source| !may(source));
    let wrong = elsewhere.flat_map(|source| {
        let lines = source.lines_with("unsafe");
        lines
            .into_iter()
            .map(|line| format!("{}:{line}: `unsafe`: find a library that does it", source.path))
            .collect::<Vec<_>>()
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = read_all()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "));
    let wrong = silent.map(|source| {
        format!(
            "{}:1: begin with `//!`: what it is for, what it does not know",
            source.path
        )
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

/// A folder's map is its `mod.rs`, or the file of its name beside it.
#[test]
fn every_folder_has_a_map() {
    let sources = read_all();
    let folders: BTreeSet<&Path> = sources
        .iter()
        .filter_map(|source| Path::new(&source.path).parent())
        .collect();
    let unmapped = folders.into_iter().filter(|folder| {
        let maps = [
            folder.join("mod.rs"),
            folder.join("lib.rs"),
            folder.with_extension("rs"),
        ];
        !maps
            .iter()
            .any(|map| fs::read_to_string(map).is_ok_and(|text| text.starts_with("//! ")))
    });
    let wrong = unmapped.map(|folder| {
        format!(
            "{}:1: no map: add a mod.rs whose `//!` says what is where, in reading order",
            folder.display()
        )
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

fn size_violations(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let mut wrong = Vec::new();
    if lines > FILE_LINES_MAX {
        wrong.push(format!(
            "{}:{lines}: over {FILE_LINES_MAX} lines: one concept a file",
            source.path
        ));
    }
    for (line, name, length) in source.functions() {
        let excepted = LONG_FUNCTIONS
            .iter()
            .find(|(path, function, _)| *path == source.path && *function == name);
        let max = excepted.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
        if length > max {
            wrong.push(format!(
                "{}:{line}: `{name}` has {length} lines, at most {max}: name its parts",
                source.path
            ));
        }
    }
    wrong
}

#[test]
fn files_and_functions_are_small() {
    assert_none(&read_all().iter().flat_map(size_violations).collect::<Vec<_>>());
}

#[test]
fn no_exception_outlives_its_function() {
    let sources = read_all();
    let outlived = LONG_FUNCTIONS.iter().filter(|(path, function, lines)| {
        let source = sources.iter().find(|source| source.path == *path);
        let longest = source.and_then(|s| {
            s.functions()
                .into_iter()
                .filter(|f| f.1 == *function)
                .map(|f| f.2)
                .max()
        });
        *lines <= FUNCTION_LINES_MAX || longest != Some(*lines)
    });
    let wrong = outlived.map(|(path, function, lines)| {
        format!("{path}:1: `{function}` has no longer {lines} lines: lower its number in LONG_FUNCTIONS, or take it off")
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_unfinished() {
    let wrong = read_all().into_iter().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let found = lines.filter_map(|(index, line)| {
            let word = UNFINISHED.iter().find(|word| line.contains(**word))?;
            Some(format!(
                "{}:{}: says `{word}`: finish it, or take it out",
                source.path,
                index + 1
            ))
        });
        found.collect::<Vec<_>>()
    });
    assert_none(&wrong.collect::<Vec<_>>());
}
