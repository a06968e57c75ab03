//! From a path to a checked [`Config`]: reads the file and what it includes, has everything read and
//! judged, and lets the configuration pass only when no problem was found.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use super::endpoint::{self, Written};
use super::keys;
use super::module::Module;
use super::problem::{Findings, Problem, Problems};
use super::raw::{Reading, Table};
use super::secrets::Secrets;
use super::source::{Source, syntax_problem};
use super::values::{self, Wrong};
use super::{Config, module, sections};
use crate::domain::endpoint::{Endpoint, Settings};

/// What `include` is when it is not written.
const INCLUDE_DEFAULT: &str = "endpoints.d/*.toml";

/// A configuration that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What was meant.
    pub config: Config,
    /// What an operator should know about it.
    pub warnings: Vec<Problem>,
    /// Every file that was read, the named one first.
    pub files: Vec<PathBuf>,
}

/// Reads and checks the file `path` and what it includes.
///
/// # Errors
/// Every problem of all the files at once. A file that is not valid TOML contributes its syntax errors
/// only, since its keys can't be told from its mistakes.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let variable = |name: &str| std::env::var(name).ok();
    let text = fs::read_to_string(path).map_err(|error| Problems(vec![unreadable(path, &error)]))?;
    load_text(path, text, &Secrets { variable: &variable })
}

/// The same for a file whose text is at hand; what it includes is still read from disk.
pub(super) fn load_text(path: &Path, text: String, secrets: &Secrets<'_>) -> Result<Loaded, Problems> {
    let findings = RefCell::new(Findings::default());
    let settings = OnceCell::new();
    let mut files = vec![path.to_owned()];
    let document = DeTable::parse_recoverable(&text);
    let Some((source, document)) = sound(path, &text, &document, &findings) else {
        return Err(finish(findings, &files).1);
    };
    let reading = Reading {
        source: &source,
        secrets,
        findings: &findings,
        settings: &settings,
        given: None,
    };
    let file = Table::document(reading, &keys::FILE, document);
    let included = read_included(&file, path, &findings);
    let parsed: Vec<_> = included
        .iter()
        .map(|(_, text)| DeTable::parse_recoverable(text))
        .collect();
    let mut sources = Vec::new();
    for ((path, text), document) in included.iter().zip(&parsed) {
        files.push(path.clone());
        sources.extend(sound(path, text, document, &findings));
    }
    let used = module::used(std::iter::once(document).chain(sources.iter().map(|(_, document)| *document)));
    let modules = module::read(used, path, &findings);
    let parsed_modules: Vec<_> = modules
        .iter()
        .map(|module| DeTable::parse_recoverable(&module.text))
        .collect();
    let mut module_sources = Vec::new();
    for (module, document) in modules.iter().zip(&parsed_modules) {
        files.extend(module.is_file.then(|| module.path.clone()));
        let sound = sound(&module.path, &module.text, document, &findings);
        module_sources.extend(sound.map(|(source, document)| (&*module.name, source, document)));
    }
    let read = |source, section, document| {
        let reading = Reading {
            source,
            ..reading
        };
        Table::document(reading, section, document)
    };
    let written = Documents {
        included: sources
            .iter()
            .map(|(source, document)| read(source, &keys::INCLUDED, document))
            .collect(),
        modules: module_sources
            .iter()
            .map(|(name, source, document)| (*name, read(source, &keys::MODULE, document)))
            .collect(),
        file,
    };
    let settings = Arc::clone(settings.get_or_init(|| Arc::new(sections::settings(&written.file))));
    let texts = included.iter().map(|(_, text)| &**text);
    let hash = hash(&text, texts.chain(modules.iter().map(|module| &*module.text)));
    let config = check(&written, &findings, settings, hash);
    if config.endpoints.is_empty() {
        let warning = Problem::of_file(
            path.to_owned(),
            "there is no endpoint: events are accepted and not kept".to_owned(),
            "add an [[endpoint]] here or in an included file",
        );
        findings.borrow_mut().warnings.push(warning);
    }
    match finish(findings, &files) {
        (warnings, problems) if problems.0.is_empty() => Ok(Loaded {
            config,
            warnings,
            files,
        }),
        (_, problems) => Err(problems),
    }
}

fn finish(findings: RefCell<Findings>, files: &[PathBuf]) -> (Vec<Problem>, Problems) {
    let mut findings = findings.into_inner();
    findings.sort(files);
    (findings.warnings, Problems(findings.problems))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::of_file(path.to_owned(), format!("the file can't be read: {error}"), "")
}

/// What the parser made of a text: the tree and the syntax errors.
type Parsed<'i> = (Spanned<DeTable<'i>>, Vec<toml::de::Error>);

/// The document with its source, or nothing and the syntax errors noted.
fn sound<'d, 'i>(
    path: &Path,
    text: &str,
    (document, errors): &'d Parsed<'i>,
    findings: &RefCell<Findings>,
) -> Option<(Arc<Source>, &'d DeTable<'i>)> {
    if errors.is_empty() {
        let source = Source::new(path.to_owned(), text.to_owned()).with_values_of(document.get_ref());
        return Some((Arc::new(source), document.get_ref()));
    }
    let problems = errors
        .iter()
        .map(|error| syntax_problem(path.to_owned(), text, error));
    findings.borrow_mut().problems.extend(problems);
    None
}

/// Everything that was written.
struct Documents<'a> {
    file: Table<'a>,
    included: Vec<Table<'a>>,
    /// By name.
    modules: Vec<(&'a str, Table<'a>)>,
}

/// Judges everything; the result may be used only when no problem was found.
fn check(
    documents: &Documents<'_>,
    findings: &RefCell<Findings>,
    settings: Arc<Settings>,
    hash: String,
) -> Config {
    let file = &documents.file;
    let network = sections::network(&file.table("network"));
    let defaults = file.table("defaults");
    endpoint::check_defaults(&defaults, &network);
    let tables = std::iter::once(file)
        .chain(&documents.included)
        .flat_map(|file| file.tables("endpoint"));
    let modules: Vec<_> = documents
        .modules
        .iter()
        .map(|(name, table)| (*name, Module::read(table)))
        .collect();
    let written: Vec<_> = tables
        .map(|table| endpoint::endpoint(&table, &defaults, &modules, &network))
        .collect();
    compare(&written, &mut findings.borrow_mut());
    Config {
        store: sections::store(&file.table("store")),
        ingest: sections::ingest(&file.table("ingest")),
        control: sections::control(&file.table("control")),
        log: sections::log(&file.table("log")),
        limits: sections::limits(&file.table("limits")),
        network,
        settings,
        endpoints: written
            .into_iter()
            .map(|written| Arc::new(written.endpoint))
            .collect(),
        hash,
    }
}

/// The rules between endpoints: names are unique; two that get the same are doubtful.
fn compare(written: &[Written], findings: &mut Findings) {
    for (index, later) in written.iter().enumerate() {
        let Some(place) = &later.place else { continue };
        let earlier = &written[..index];
        let first_with =
            |same: &dyn Fn(&Endpoint) -> bool| earlier.iter().find(|e| same(&e.endpoint))?.place.as_ref();
        let name = &later.endpoint.name;
        if let Some(first) = first_with(&|e| !name.is_empty() && e.name == *name) {
            let message = format!(
                "{} is also the name of the endpoint at {}",
                place.quoted(),
                first.location()
            );
            findings
                .problems
                .push(place.problem(message, "give each endpoint its own, it names the queue"));
        } else if let Some(first) = first_with(&|e| gets_the_same(e, &later.endpoint)) {
            let message = format!(
                "the same URL gets the same events from the endpoint at {}",
                first.location()
            );
            findings
                .warnings
                .push(place.problem(message, "remove one, unless it is to be delivered twice"));
        }
    }
}

fn gets_the_same(one: &Endpoint, other: &Endpoint) -> bool {
    one.request.addresses == other.request.addresses
        && one.request.routes == other.request.routes
        && one.events == other.events
        && one.tenant == other.tenant
}

/// The files that `include` names, in the order of the patterns, then of the names.
fn read_included(file: &Table<'_>, path: &Path, findings: &RefCell<Findings>) -> Vec<(PathBuf, String)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found: Vec<PathBuf> = Vec::new();
    let patterns = match file.value("include") {
        None => vec![expand(folder, INCLUDE_DEFAULT)],
        Some(list) => {
            let items = list
                .items("write it like [\"endpoints.d/*.toml\"]")
                .unwrap_or_default();
            items
                .iter()
                .filter_map(|item| item.read(|value| include(folder, &values::text(value)?)))
                .collect()
        }
    };
    for path in patterns.into_iter().flatten() {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    let mut texts = Vec::new();
    for path in found {
        match fs::read_to_string(&path) {
            Ok(text) => texts.push((path, text)),
            Err(error) => findings.borrow_mut().problems.push(unreadable(&path, &error)),
        }
    }
    texts
}

/// The files of one pattern as written. A folder without matches is fine, a file named outright has to be
/// there.
fn include(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Wrong> {
    let (parent, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if name.is_empty() || parent.contains(['*', '?']) {
        return Err(Wrong::new(
            "can't be included",
            "wildcards stand in the last part only: endpoints.d/*.toml",
        ));
    }
    if !name.contains(['*', '?']) {
        return Ok(vec![folder.join(pattern)]);
    }
    Ok(expand(folder, pattern))
}

/// The files that match `pattern`, whose last part may have `*` and `?`, sorted; hidden ones are left out.
fn expand(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let (parent, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let Ok(entries) = fs::read_dir(folder.join(parent).join(".")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut matching: Vec<_> = names
        .filter(|found| !found.starts_with('.') && matches(name.as_bytes(), found.as_bytes()))
        .collect();
    matching.sort();
    matching
        .into_iter()
        .map(|found| folder.join(parent).join(found))
        .filter(|path| path.is_file())
        .collect()
}

/// Whether `name` matches `pattern`: `*` for any bytes, `?` for one. On a mismatch the latest `*` takes one
/// byte more, so the time is at most pattern × name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p + 1, n));
                p += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || *wanted == name[n] => {
                p += 1;
                n += 1;
            }
            (_, Some((after_star, taken))) => {
                star = Some((after_star, taken + 1));
                p = after_star;
                n = taken + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Over the texts with their lengths, so that moving a line from one file to the next changes it.
fn hash<'t>(main: &'t str, others: impl Iterator<Item = &'t str>) -> String {
    let mut hasher = Sha256::new();
    for text in std::iter::once(main).chain(others) {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
