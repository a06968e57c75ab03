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
use super::managed::{self, FileTexts, Texts};
use super::module::{self, Module};
use super::noted::{self, Noted};
use super::problem::{Findings, Problem, Problems};
use super::raw::{Reading, Table};
use super::secrets::Secrets;
use super::source::{Source, syntax_problem};
use super::values::{self, Wrong};
use super::{Config, NetworkConfig, sections, traces};
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
    /// What stood in them.
    pub texts: Texts,
    /// The templates and expressions of each endpoint, in the order of the endpoints.
    pub noted: Vec<Vec<Noted>>,
}

/// What need not be read from where the configuration says.
#[derive(Clone, Copy, Default)]
struct AtHand<'a> {
    /// All texts but the named file's.
    texts: Option<&'a Texts>,
    /// The folder of endpoints defined over the API.
    managed: Option<&'a Path>,
}

/// Reads and checks the file `path`, what it includes, and what was defined over the API.
///
/// # Errors
/// Every problem of all the files at once. A file that is not valid TOML contributes its syntax errors
/// only, since its keys can't be told from its mistakes.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    read(path, AtHand::default())
}

/// The same for a running daemon, whose endpoints defined over the API are in the folder `managed` until it is
/// started again, wherever the store is to be by then.
///
/// # Errors
/// Those of [`load`].
pub fn reload(path: &Path, managed: &Path) -> Result<Loaded, Problems> {
    let managed = Some(managed);
    read(path, AtHand { texts: None, managed })
}

/// Judges texts again, some of which were changed. What they refer to is looked up anew.
///
/// # Errors
/// Those of [`load`].
pub fn recheck(texts: &Texts) -> Result<Loaded, Problems> {
    let (path, text) = texts.main.clone();
    let variable = |name: &str| std::env::var(name).ok();
    let at_hand = AtHand {
        texts: Some(texts),
        managed: None,
    };
    judge(&path, text, &Secrets { variable: &variable }, at_hand)
}

fn read(path: &Path, at_hand: AtHand<'_>) -> Result<Loaded, Problems> {
    let variable = |name: &str| std::env::var(name).ok();
    let text = fs::read_to_string(path).map_err(|error| Problems(vec![unreadable(path, &error)]))?;
    judge(path, text, &Secrets { variable: &variable }, at_hand)
}

/// The same for a file whose text is at hand; what it includes is still read from disk.
#[cfg(test)]
pub(super) fn load_text(path: &Path, text: String, secrets: &Secrets<'_>) -> Result<Loaded, Problems> {
    judge(path, text, secrets, AtHand::default())
}

fn judge(path: &Path, text: String, secrets: &Secrets<'_>, at_hand: AtHand<'_>) -> Result<Loaded, Problems> {
    let findings = RefCell::new(Findings::default());
    let settings = OnceCell::new();
    let mut files = vec![path.to_owned()];
    let document = DeTable::parse_recoverable(&text);
    let Some((source, document)) = sound(path, &text, &document, &findings) else {
        return Err(finish(findings, &files).1);
    };
    let reading = Reading {
        source: &source,
        secrets: Some(secrets),
        findings: &findings,
        settings: &settings,
        given: None,
    };
    let file = Table::document(reading, &keys::FILE, document);
    let (included, managed) = others(&file, path, at_hand, &findings);
    let (parsed_included, parsed_managed) = (parse(&included), parse(&managed));
    files.extend(included.iter().chain(&managed).map(|(path, _)| path.clone()));
    let included_sources = all_sound(&included, &parsed_included, &findings);
    let managed_sources = all_sound(&managed, &parsed_managed, &findings);
    let documents = included_sources.iter().chain(&managed_sources);
    let documents = documents.map(|(_, document)| *document);
    let used = module::used(std::iter::once(document).chain(documents));
    let known = at_hand.texts.map_or(&[][..], |texts| &texts.modules);
    let modules = module::read(used, path, known, &findings);
    let module_texts = module::file_texts(&modules);
    let parsed_modules = parse(&module_texts);
    let module_sources = sound_modules(&modules, &parsed_modules, &findings);
    files.extend(module::files(&modules));
    let own = Arc::clone(settings.get_or_init(|| Arc::new(sections::settings(&file))));
    let open_settings = OnceCell::from(Arc::new(own.without_secrets()));
    let tables = Files {
        main: &file,
        included: tables(&included_sources, Some(secrets), &findings, &settings),
        // Whoever may define endpoints shall not read the daemon's files, variables and secrets by them.
        managed: tables(&managed_sources, None, &findings, &open_settings),
        modules: module_tables(&module_sources, reading),
        managed_modules: module_tables(
            &module_sources,
            Reading {
                secrets: None,
                settings: &open_settings,
                ..reading
            },
        ),
    };
    let (config, noted) = check(
        &tables,
        &findings,
        own,
        hash(&text, included.iter().chain(&managed).chain(&module_texts)),
    );
    warn_of_emptiness(path, &config, &findings);
    match finish(findings, &files) {
        (warnings, problems) if problems.0.is_empty() => Ok(Loaded {
            config,
            warnings,
            files,
            texts: Texts {
                main: (path.to_owned(), text.clone()),
                included,
                managed,
                modules,
            },
            noted,
        }),
        (_, problems) => Err(problems),
    }
}

fn warn_of_emptiness(path: &Path, config: &Config, findings: &RefCell<Findings>) {
    if config.endpoints.is_empty() {
        let warning = Problem::of_file(
            path.to_owned(),
            "there is no endpoint: events are accepted and not kept".to_owned(),
            "add an [[endpoint]] here or in an included file",
        );
        findings.borrow_mut().warnings.push(warning);
    }
}

/// The texts of the files beside the named one: those it includes, and those of endpoints defined over the API.
fn others(
    file: &Table<'_>,
    path: &Path,
    at_hand: AtHand<'_>,
    findings: &RefCell<Findings>,
) -> (FileTexts, FileTexts) {
    if let Some(texts) = at_hand.texts {
        return (texts.included.clone(), texts.managed.clone());
    }
    let included = read_included(file, path, findings);
    let managed = match at_hand.managed {
        Some(folder) => managed::read(folder, findings),
        None => managed::read(&managed::folder(&sections::store(&file.table("store"))), findings),
    };
    (included, managed)
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

/// The files of a configuration as tables.
struct Files<'a> {
    main: &'a Table<'a>,
    included: Vec<Table<'a>>,
    managed: Vec<Table<'a>>,
    /// By name.
    modules: Modules<'a>,
    /// The same for those endpoints that read no secrets.
    managed_modules: Modules<'a>,
}

/// Documents of modules with their names and sources; those with syntax errors are left out.
type ModuleSources<'d> = Vec<(&'d str, Arc<Source>, &'d DeTable<'d>)>;

fn sound_modules<'d>(
    modules: &'d [module::Text],
    parsed: &'d [Parsed<'d>],
    findings: &RefCell<Findings>,
) -> ModuleSources<'d> {
    let pairs = modules.iter().zip(parsed);
    let sound = pairs.filter_map(|(module, parsed)| {
        let (source, document) = sound(&module.path, &module.text, parsed, findings)?;
        Some((&*module.name, source, document))
    });
    sound.collect()
}

/// The documents of modules by name.
type Modules<'a> = Vec<(&'a str, Table<'a>)>;

fn module_tables<'a>(
    sources: &'a [(&'a str, Arc<Source>, &'a DeTable<'a>)],
    reading: Reading<'a>,
) -> Modules<'a> {
    let table = |(name, source, document): &'a (&'a str, Arc<Source>, &'a DeTable<'a>)| {
        let reading = Reading { source, ..reading };
        (*name, Table::document(reading, &keys::MODULE, document))
    };
    sources.iter().map(table).collect()
}

fn parse(texts: &[(PathBuf, String)]) -> Vec<Parsed<'_>> {
    texts
        .iter()
        .map(|(_, text)| DeTable::parse_recoverable(text))
        .collect()
}

/// Documents with their sources; those with syntax errors are left out.
type Sources<'d, 'i> = Vec<(Arc<Source>, &'d DeTable<'i>)>;

fn all_sound<'d, 'i>(
    texts: &[(PathBuf, String)],
    parsed: &'d [Parsed<'i>],
    findings: &RefCell<Findings>,
) -> Sources<'d, 'i> {
    let pairs = texts.iter().zip(parsed);
    pairs
        .filter_map(|((path, text), document)| sound(path, text, document, findings))
        .collect()
}

/// The documents of files with endpoints alone, as tables.
fn tables<'a>(
    sources: &'a Sources<'a, 'a>,
    secrets: Option<&'a Secrets<'a>>,
    findings: &'a RefCell<Findings>,
    settings: &'a OnceCell<Arc<Settings>>,
) -> Vec<Table<'a>> {
    let table = |(source, document): &'a (Arc<Source>, &'a DeTable<'a>)| {
        let reading = Reading {
            source,
            secrets,
            findings,
            settings,
            given: None,
        };
        Table::document(reading, &keys::INCLUDED, document)
    };
    sources.iter().map(table).collect()
}

/// Judges everything; the result may be used only when no problem was found. With it go the templates and expressions of
/// each endpoint.
fn check(
    files: &Files<'_>,
    findings: &RefCell<Findings>,
    settings: Arc<Settings>,
    hash: String,
) -> (Config, Vec<Vec<Noted>>) {
    let file = files.main;
    let network = sections::network(&file.table("network"));
    let defaults = file.table("defaults");
    endpoint::check_defaults(&defaults, &network);
    let modules = judged(&files.modules);
    let endpoint = |table: Table<'_>| read_endpoint(&table, &defaults, &modules, &network, findings);
    let mut written: Vec<_> = std::iter::once(file)
        .chain(&files.included)
        .flat_map(|file| file.tables("endpoint"))
        .map(endpoint)
        .collect();
    let by_hand = written.len();
    let modules = judged(&files.managed_modules);
    let endpoint = |table: Table<'_>| read_endpoint(&table, &defaults, &modules, &network, findings);
    for file in &files.managed {
        written.extend(one_of_its_name(file, findings).map(endpoint));
    }
    let managed = written[by_hand..]
        .iter()
        .map(|(written, _)| written.endpoint.name.clone());
    let managed = managed.collect();
    let (written, noted): (Vec<_>, Vec<_>) = written.into_iter().unzip();
    compare(&written, by_hand, &mut findings.borrow_mut());
    let config = Config {
        store: sections::store(&file.table("store")),
        ingest: sections::ingest(&file.table("ingest")),
        control: sections::control(&file.table("control")),
        log: sections::log(&file.table("log")),
        limits: sections::limits(&file.table("limits")),
        alerts: sections::alerts(&file.table("alerts")),
        traces: traces::traces(&file.table("traces")),
        network,
        settings,
        endpoints: written
            .into_iter()
            .map(|written| Arc::new(written.endpoint))
            .collect(),
        managed,
        hash,
    };
    (config, noted)
}

/// The endpoint in `table`, and its templates and expressions.
fn read_endpoint(
    table: &Table<'_>,
    defaults: &Table<'_>,
    modules: &[(&str, Module<'_>)],
    network: &NetworkConfig,
    findings: &RefCell<Findings>,
) -> (Written, Vec<Noted>) {
    findings.borrow_mut().noted.clear();
    let written = endpoint::endpoint(table, defaults, modules, network);
    let noted = std::mem::take(&mut findings.borrow_mut().noted);
    let noted = noted::of_endpoint(noted, &written.endpoint.name);
    (written, noted)
}

fn judged<'m, 'a>(modules: &'m Modules<'a>) -> Vec<(&'m str, Module<'a>)> {
    modules
        .iter()
        .map(|(name, table)| (*name, Module::read(table)))
        .collect()
}

/// The endpoint of a file that the API wrote: the only one in it, and called like the file.
fn one_of_its_name<'a>(file: &Table<'a>, findings: &RefCell<Findings>) -> Option<Table<'a>> {
    let path = file.place().map_or(Path::new(""), |place| &place.source.path);
    let mut tables = file.tables("endpoint");
    let is_its_name = |table: &Table<'_>| {
        let named = table.read("name", values::text);
        named.is_some_and(|name| name == managed::name_of(path))
    };
    if let [table] = &tables[..]
        && is_its_name(table)
    {
        return tables.pop();
    }
    findings.borrow_mut().problems.push(Problem::of_file(
        path.to_owned(),
        "a file of the API's holds one [[endpoint]] with the file's name".to_owned(),
        "remove the file, or undo what was changed in it by hand",
    ));
    None
}

/// The rules between endpoints: names are unique; two that get the same are doubtful. Those from `by_hand` on were
/// defined over the API.
fn compare(written: &[Written], by_hand: usize, findings: &mut Findings) {
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
            let help = if index < by_hand {
                "give each endpoint its own, it names the queue"
            } else {
                "this one was defined over the API: posthaste endpoints delete it, or remove this file while the \
                 daemon is stopped; or rename the other"
            };
            findings.problems.push(place.problem(message, help));
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
fn read_included(file: &Table<'_>, path: &Path, findings: &RefCell<Findings>) -> FileTexts {
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
fn hash<'a>(main: &'a str, others: impl Iterator<Item = &'a (PathBuf, String)>) -> String {
    let mut hasher = Sha256::new();
    for text in std::iter::once(main).chain(others.map(|(_, text)| &**text)) {
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
