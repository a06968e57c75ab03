//! The configuration as an operator meets it: texts in, problems or values out.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Kind, Section};
use super::load::load_text;
use super::secrets::Secrets;
use super::*;
use crate::domain::backoff::Schedule;
use crate::domain::endpoint::Concurrency;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(super) fn read_at(path: &Path, text: &str) -> Result<Loaded, Problems> {
    let variable = |name: &str| name.starts_with("CRM_").then(|| SECRET.to_owned());
    load_text(path, text.to_owned(), &Secrets { variable: &variable })
}

pub(super) fn read(text: &str) -> Result<Loaded, Problems> {
    read_at(Path::new("/nowhere/config.toml"), text)
}

/// The problems of `text`, one a line, without the folder.
pub(super) fn problems(text: &str) -> String {
    read(text).map_or_else(
        |problems| {
            problems
                .to_string()
                .replace("/nowhere/config.toml", "config.toml")
        },
        |_| String::new(),
    )
}

/// A sound endpoint with `lines` in it.
pub(super) fn with(lines: &str) -> String {
    format!("[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n{lines}\n")
}

pub(super) fn only(text: &str) -> std::sync::Arc<Endpoint> {
    read(text).unwrap().config.endpoints[0].clone()
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = concat!(
        "[store]\npth = \"/x\"\nmax_size = \"big\"\nattempts_keep = \"0s\"\n",
        "[ingest]\nmode = 660\nmax_event = \"17MiB\"\n",
        "[[endpoint]]\nname = \"CRM\"\nurl = \"http://a.example/\"\nrate = \"10\"\njitter = 1\n",
        "[[endpoint]]\nname = \"crm\"\ntimeout = \"0s\"\n[endpoint.retry]\nschedule = [\"5s\", \"soon\"]\njitter = 2\n",
    );
    let expected = [
        "config.toml:2:1: store.pth: unknown key `pth`; did you mean `path`?",
        "config.toml:3:12: store.max_size: \"big\" is not a size; write it like 64KiB, 1MiB or 10GiB",
        "config.toml:4:17: store.attempts_keep: \"0s\" has to be longer than nothing; write it like 30s, 5m or 1h30m",
        "config.toml:6:8: ingest.mode: 660 is not a file mode; write it in octal and in quotes, like \"0660\"",
        "config.toml:7:13: ingest.max_event: \"17MiB\" is out of range; it has to be from 64B to 16MiB",
        "config.toml:9:8: endpoint[1].name: \"CRM\" is not a name; use a-z, 0-9 and -, at most 63 of them; it names the queue",
        "config.toml:10:7: endpoint[1].url: http:// sends events and signatures readable for everybody on the way; write https://, or allow_http = true for this endpoint",
        "config.toml:11:8: endpoint[1].rate: \"10\" is not a rate; write it like 100/s, 5000/m or 10/h",
        "config.toml:12:1: endpoint[1].jitter: unknown key `jitter`; it belongs into [endpoint.retry]",
        "config.toml:13:1: endpoint.crm: url is missing; add url = …",
        "config.toml:15:11: endpoint.crm.timeout: \"0s\" has to be longer than nothing; write it like 30s, 5m or 1h30m",
        "config.toml:17:19: endpoint.crm.retry.schedule: \"soon\" is not a duration; write it like 30s, 5m or 1h30m",
        "config.toml:18:10: endpoint.crm.retry.jitter: 2 is out of range; it has to be from 0 to 1",
    ];
    assert_eq!(problems(text), expected.join("\n"));
}

#[test]
fn each_rule_says_what_is_wrong() {
    for (lines, expected) in [
        (
            "rate = \"100 per second\"",
            "config.toml:4:8: endpoint.crm.rate: \"100 per second\" is not a rate; write it like 100/s, 5000/m or 10/h",
        ),
        (
            "order = \"keys\"",
            "config.toml:4:9: endpoint.crm.order: \"keys\" is not known here; write one of \"none\" \"endpoint\" \"key\"",
        ),
        (
            "batch = { max_events = 0 }",
            "config.toml:4:24: endpoint.crm.batch.max_events: 0 is out of range; it has to be from 1 to 10000",
        ),
        (
            "batch = { max_events = 2, shape = \"xml\" }",
            "config.toml:4:35: endpoint.crm.batch.shape: \"xml\" is not known here; write one of \"array\" \"ndjson\" \"wrapped\"",
        ),
        (
            "timeout = 30",
            "timeout: 30 has to be a string, not a whole number",
        ),
        ("events = []", "events: no event type is listed"),
        ("events = [\"a.cr*\"]", "a wildcard stands for whole segments"),
        (
            "events = \"a\"",
            "events: \"a\" has to be an array, not a string; write it like [\"contact.*\"]",
        ),
        (
            "method = \"HEAD\"",
            "method: \"HEAD\" is not known here; write one of \"GET\" \"POST\"",
        ),
        (
            "method = \"{{ data.m \"",
            "method: at character 9, in `{{ data.m`: it can't be read",
        ),
        (
            "headers = { X = \"{{ nope.x }}\" }",
            "headers.X: there is nothing called `nope` here",
        ),
        (
            "headers = { \"a b\" = \"1\" }",
            "headers.a b: the name is not a header's",
        ),
        (
            "headers = { Host = \"x\" }",
            "headers.Host: the header host can't be set",
        ),
        (
            "headers = { X = \"a\\nb\" }",
            "headers.X: at character 2: a control character can't stand here",
        ),
        (
            "headers = { X = 1 }",
            "headers.X: the value has to be a string, not a whole number",
        ),
        (
            "concurrency = 0",
            "concurrency: 0 is out of range; it has to be from 1 to 1024",
        ),
        ("concurrency = { min = 9, max = 3 }", "min is above max"),
        (
            "concurrency = { minn = 9 }",
            "concurrency.minn: unknown key `minn`; did you mean `min`?",
        ),
        (
            "tls = { ca = \"/nowhere/ca.pem\" }",
            "tls.ca: \"/nowhere/ca.pem\" can't be read: entity not found",
        ),
        (
            "tls = { ca = \"/dev/null\" }",
            "tls.ca: \"/dev/null\" holds no certificate",
        ),
        (
            "tls = true",
            "tls: true has to be a table, not true or false; write it as [endpoint.tls]",
        ),
        (
            "sign = [{ secrets = [\"hunter2!\"] }]",
            "sign[1].secrets: a signing secret begins with whsec_",
        ),
        (
            "sign = [{ secrets = [] }]",
            "sign[1].secrets: no secret is listed",
        ),
        (
            "sign = [{ scheme = \"standard\" }]",
            "sign[1]: secrets is missing",
        ),
        (
            "sign = [{ scheme = \"gitlab\", secrets = [\"x\"] }]",
            "\"gitlab\" is not known here",
        ),
        (
            "sign = [{ secrets = [\"${env:NONE}\"] }]",
            "the environment variable NONE is not set",
        ),
        (
            "response.success_status = [200, 600]",
            "response.success_status: 600 is out of range",
        ),
        ("retry.schedule = []", "retry.schedule: the schedule is empty"),
        (
            "retry.factor = 0.5",
            "retry.factor: 0.5 is out of range; it has to be a number, at least 1",
        ),
        (
            "retry = { delay = \"1s\", factor = 2 }",
            "the delays are given in more than one form",
        ),
        (
            "retry = { initial = \"2h\", max = \"1h\" }",
            "retry.max: \"1h\" is shorter than initial",
        ),
        (
            "retry.retry_on = [\"sometimes\"]",
            "retry.retry_on: \"sometimes\" is not known here",
        ),
        (
            "breaker.rate = 1.5",
            "breaker.rate: 1.5 is out of range; it has to be from 0 to 1",
        ),
        ("breaker = { open = \"1h\" }", ""),
        (
            "breaker = { open = \"1h\", max_open = \"1m\" }",
            "max_open: \"1m\" is shorter than open",
        ),
        (
            "description = \"${file:/nowhere/x}\"",
            "the secret file /nowhere/x can't be read",
        ),
        (
            "[store]\nengine = \"postgres\"",
            "store.engine: \"postgres\" is not supported by this version",
        ),
        (
            "[store]\nmin_free = \"101%\"",
            "store.min_free: \"101%\" is neither a share nor a size",
        ),
        (
            "[store]\nattempts_detail = \"some\"",
            "store.attempts_detail: \"some\" is not known here; write one of \"failed\" \"all\"",
        ),
        (
            "[log]\nformat = \"xml\"",
            "log.format: \"xml\" is not known here; write one of \"auto\" \"text\"",
        ),
        (
            "[log]\nlevel = \"loud=loud\"",
            "log.level: \"loud=loud\" is not a log level",
        ),
        (
            "[defaults]\nname = \"x\"",
            "defaults.name: a name belongs to one endpoint",
        ),
        (
            "[defaults]\ntimeout = \"x\"",
            "defaults.timeout: \"x\" is not a duration",
        ),
        (
            "[[endpoint]]\nname = \"crm\"\nurl = \"https://b.example\"",
            "\"crm\" is also the name of the endpoint at config.toml:2:8",
        ),
    ] {
        let found = problems(&with(lines));
        assert!(
            found.contains(expected) && found.lines().count() <= 1,
            "{lines}\n{found}"
        );
        assert_eq!(found.is_empty(), expected.is_empty(), "{lines}");
    }
}

/// C4, C8: batches that could never be sent, and keys of them that nothing would read, are said where they are written.
#[test]
fn c4_c8_batches_that_cant_work() {
    let xml = "template = '<a>{{ batch.size }}</a>'";
    for (batch, body, expected) in [
        (
            "max_events = 2",
            "format = \"xml\"\n@",
            "4:24: endpoint.crm.batch.max_events: one body can't hold several",
        ),
        (
            "max_events = 2, shape = \"ndjson\"",
            "format = \"soap\"\n@",
            "4:35: endpoint.crm.batch.shape: one body can't",
        ),
        ("max_events = 2, shape = \"template\"", "format = \"xml\"\n@", ""),
        ("max_events = 1, shape = \"array\"", "format = \"xml\"\n@", ""),
        (
            "max_events = 1",
            "format = \"xml\"\nwrap = \"leads\"\n@",
            "body.wrap: wrap puts JSON into a field",
        ),
        (
            "max_events = 2",
            "format = \"form\"",
            "batch.max_events: a form holds one event",
        ),
        (
            "max_events = 2, shape = \"wrapped\"",
            "format = \"form\"",
            "batch.shape: a form holds one event",
        ),
        ("max_events = 1", "format = \"form\"", ""),
        (
            "max_events = 2, shape = \"template\"",
            "format = \"event\"",
            "batch.shape: there is no body.template",
        ),
        (
            "max_events = 2, shape = \"template\"",
            "format = \"json\"",
            "add one that loops over batch.events",
        ),
        ("max_events = 1, shape = \"template\"", "format = \"json\"", ""),
        ("max_events = 2, shape = \"template\"", "format = \"text\"\n@", ""),
        (
            "max_events = 2, shape = \"wrapped\"",
            "format = \"csv\"",
            "batch.shape: lines of text can't stand",
        ),
        (
            "max_events = 2, shape = \"wrapped\"",
            "format = \"text\"\n@",
            "batch.shape: lines of text can't stand",
        ),
        (
            "max_events = 2",
            "format = \"csv\"\nwrap = \"leads\"",
            "body.wrap: lines of text can't stand",
        ),
        ("max_events = 2", "format = \"csv\"", ""),
        ("max_events = 2, shape = \"ndjson\"", "format = \"text\"\n@", ""),
        ("max_events = 2", "format = \"data\"\nwrap = \"leads\"", ""),
        ("max_events = 2", "format = \"none\"", ""),
        (
            "items = \"response.list\"",
            "",
            "4:19: endpoint.crm.batch.items: nothing reads it where each event goes alone",
        ),
        ("max_events = 2, items = \"response.list\"", "", ""),
    ] {
        let lines = format!(
            "batch = {{ {batch} }}\n[endpoint.body]\n{}",
            body.replace('@', xml)
        );
        let found = problems(&with(&lines));
        assert!(
            found.contains(expected) && found.lines().count() <= 1,
            "{lines}\n{found}"
        );
        assert_eq!(found.is_empty(), expected.is_empty(), "{lines}\n{found}");
    }
    let step = "[[endpoint.step]]\nname = \"a\"\nurl = \"https://s.example/\"\nbody = { format = \"form\", wrap = \"x\" }";
    let found = problems(&with(step));
    assert!(
        found.contains("step[1].body.wrap: wrap puts JSON into a field"),
        "{found}"
    );
    // What is inherited may wait for what the endpoint says, or stay unused; a clash is told of the endpoint that has it.
    let defaults = |keys: &str| format!("[defaults.batch]\nmax_events = 9\n{keys}\n");
    for (keys, lines, expected) in [
        (
            "shape = \"template\"",
            "body = { format = \"json\", template = \"{{ batch.size }}\" }",
            "",
        ),
        ("items = \"response.list\"", "batch = { max_events = 1 }", ""),
        (
            "",
            "body = { format = \"form\" }",
            "endpoint.crm.body.format: a form holds one event",
        ),
    ] {
        let found = problems(&(defaults(keys) + &with(lines)));
        assert!(found.contains(expected), "{lines}\n{found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{lines}\n{found}");
    }
}

/// C2, C4: of two fields that stand in each other's way one would be lost; names of flat formats don't.
#[test]
fn c2_c4_fields_inside_each_other() {
    for (body, expected) in [
        (
            "format = \"json\", fields = { \"contact.email\" = \"data.e\", contact = \"data.c\" }",
            "4:38: endpoint.crm.body.fields.contact.email: the field contact.email lies inside the field contact",
        ),
        (
            "format = \"json\", fields = { \"a.b.c\" = \"data.e\", \"a.b\" = \"data.c\" }",
            "the field a.b.c lies inside the field a.b",
        ),
        (
            "format = \"json\", fields = { \"a.b\" = \"data.e\", \"a.bc\" = \"data.c\", ab = \"data.c\" }",
            "",
        ),
        (
            "format = \"form\", fields = { \"a.b\" = \"data.e\", a = \"data.c\" }",
            "",
        ),
    ] {
        let found = problems(&with(&format!("body = {{ {body} }}")));
        assert!(
            found.contains(expected) && found.lines().count() <= 1,
            "{body}\n{found}"
        );
        assert_eq!(found.is_empty(), expected.is_empty(), "{body}\n{found}");
    }
}

/// Syntax errors come with their place, all of them, and without the line.
#[test]
fn syntax_errors_are_all_reported() {
    let found = read("a = \n[store]\npath = 30s\n").unwrap_err();
    let lines: Vec<_> = found.0.iter().map(|problem| problem.line).collect();
    assert!(lines.contains(&1) && lines.contains(&3), "{found}");
    assert!(
        found
            .0
            .iter()
            .all(|p| p.excerpt.is_none() && p.message.starts_with("not valid TOML")),
        "{found}"
    );
}

/// D7: http:// only to this machine, or where it is allowed.
#[test]
fn d7_http_needs_a_reason() {
    for (url, lines, sound) in [
        ("https://a.example/", "", true),
        ("http://127.0.0.1:80/", "", true),
        ("http://localhost/", "", true),
        ("http://a.example/", "", false),
        ("http://a.example/", "allow_http = true", true),
        ("http://a.example/", "[network]\nhttps_only = false", true),
        ("/hook", "", false),
        ("https://a.example/{{ data.id }}", "", true),
        ("http://a.example/{{ data.id }}", "", false),
        ("http://{{ data.host }}/", "", true),
    ] {
        let text = format!("[[endpoint]]\nname = \"a\"\nurl = \"{url}\"\n{lines}\n");
        assert_eq!(problems(&text).is_empty(), sound, "{url} {lines}");
    }
}

/// F1: the three forms of delays, and that an endpoint's form replaces the one of `[defaults]` whole.
#[test]
fn f1_schedules() {
    let seconds = |list: &[u64]| Schedule::Listed(list.iter().map(|s| Duration::from_secs(*s)).collect());
    let exponential = |initial, factor, max| Schedule::Exponential {
        initial: Duration::from_secs(initial),
        factor,
        max: Duration::from_secs(max),
    };
    for (lines, expected) in [
        ("retry.schedule = [\"0s\", \"1m\"]", seconds(&[0, 60])),
        ("retry.delay = \"7s\"", seconds(&[7])),
        ("retry.initial = \"2s\"", exponential(2, 2.0, 3600)),
        ("retry.initial = \"2h\"", exponential(7200, 2.0, 7200)),
        (
            "retry = { factor = 3, max = \"1m\" }\n[defaults.retry]\nschedule = [\"1s\"]",
            exponential(1, 3.0, 60),
        ),
        (
            "retry.jitter = 0\n[defaults.retry]\ndelay = \"9s\"",
            seconds(&[9]),
        ),
    ] {
        assert_eq!(only(&with(lines)).retry.schedule, expected, "{lines}");
    }
}

#[test]
fn defaults_lie_beneath_every_endpoint() {
    let text = with(concat!(
        "headers = { X-A = \"own\" }\nconcurrency = 4\n[endpoint.breaker]\nfailures = 9\n",
        "[defaults]\ntimeout = \"9s\"\nheaders = { x-a = \"default\", X-B = \"b\" }\nconcurrency = { max = 8 }\n",
        "[defaults.breaker]\nfailures = 3\nopen = \"7s\"\n[[defaults.sign]]\nsecrets = [\"${env:CRM_SECRET}\"]",
    ));
    let endpoint = only(&text);
    let headers: Vec<_> = endpoint
        .request
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.fixed().unwrap()))
        .collect();
    assert_eq!(headers, [("x-a", "own"), ("x-b", "b")]);
    assert_eq!(endpoint.request.timeout, Duration::from_secs(9));
    assert_eq!(endpoint.concurrency, Concurrency { min: 4, max: 4 });
    assert_eq!(
        (endpoint.breaker.failures, endpoint.breaker.open),
        (9, Duration::from_secs(7))
    );
    assert_eq!(endpoint.sign[0].secrets[0].key.0.len(), 24);
}

#[test]
fn included_files_add_endpoints_and_report_their_own_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let included = folder.path().join("endpoints.d");
    fs::create_dir(&included).unwrap();
    for (name, text) in [
        ("b.toml", "b"),
        ("a.toml", "a"),
        (".hidden.toml", "h"),
        ("c.toml~", "c"),
    ] {
        let text = format!("[[endpoint]]\nname = \"{text}\"\nurl = \"https://{text}.example/\"\n");
        fs::write(included.join(name), text).unwrap();
    }
    let loaded = read_at(&path, &with("")).unwrap();
    let names: Vec<_> = loaded.config.endpoints.iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["crm", "a", "b"]);
    assert_eq!(
        loaded.files,
        [path.clone(), included.join("a.toml"), included.join("b.toml")]
    );

    fs::write(included.join("a.toml"), "[store]\npath = \"/x\"\n").unwrap();
    fs::write(included.join("b.toml"), "endpoint = 1").unwrap();
    let found = read_at(
        &path,
        "include = [\"endpoints.d/*.toml\", \"none.toml\", \"*/x.toml\"]",
    )
    .unwrap_err();
    let found = found
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "");
    for expected in [
        "config.toml:1:47: include: \"*/x.toml\" can't be included",
        "none.toml: the file can't be read: No such file",
        "endpoints.d/a.toml:1:2: store: unknown key `store`",
        "endpoints.d/b.toml:1:12: endpoint: 1 has to be an array, not a whole number; write each as [[endpoint]]",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
}

#[test]
fn the_hash_changes_with_any_file() {
    let one = read(&with("")).unwrap().config.hash;
    assert_eq!(one.len(), 16);
    assert_eq!(one, read(&with("")).unwrap().config.hash);
    assert_ne!(one, read(&with("# a comment")).unwrap().config.hash);
}

/// D6 and the rest of what is doubtful but works.
#[test]
fn d6_warnings() {
    for (text, expected) in [
        ("".to_owned(), "there is no endpoint"),
        (
            with("tls.verify = false"),
            "the server's certificate is not verified",
        ),
        (
            with("[[endpoint]]\nname = \"b\"\nurl = \"https://a.example/\""),
            "the same URL gets the same events",
        ),
    ] {
        let warnings = read(&text).unwrap().warnings;
        assert!(
            warnings.len() == 1 && warnings[0].to_string().contains(expected),
            "{warnings:?}"
        );
    }
    assert_eq!(read(&with("")).unwrap().warnings, []);
}

/// C6: `effective` shows what is in force under the file's names; written down again it means the same,
/// but for the secrets, which are masked.
#[test]
fn c6_effective_is_a_configuration_without_secrets() {
    let text = with(concat!(
        "headers = { Authorization = \"Bearer hunter2\" }\nretry = { initial = \"2s\", retry_on = [\"4xx\", 500, \"dns\"] }\n",
        "sign = [{ secrets = [\"${env:CRM_SECRET}\"] }]\n[store]\nmin_free = \"3GiB\"\npath = \"/data\"\n",
    ));
    let config = read(&text).unwrap().config;
    let shown = effective(&config);
    let endpoint = &shown["endpoint"][0];
    assert_eq!(endpoint["headers"]["authorization"], "***");
    assert_eq!(endpoint["sign"][0]["secrets"], serde_json::json!(["***"]));
    let again = toml::to_string(&shown)
        .unwrap()
        .replace("secrets = [\"***\"]", &format!("secrets = [\"{SECRET}\"]"));
    let mut again = read(&again.replace("\"***\"", "\"Bearer hunter2\""))
        .unwrap()
        .config;
    again.hash.clone_from(&config.hash);
    assert_eq!(again, config);
}

/// C6: wherever a secret stands and whatever else is wrong, no report and no dump shows it.
#[test]
fn c6_secrets_are_never_printed() {
    let holders = [
        "headers = { X-Key = \"S3CRET\" }",
        "headers = { X-Key = [\"S3CRET\"] }",
        "headers = \"S3CRET\"",
        "headers = { \"bad name\" = \"S3CRET\" }",
        "headres = { X-Key = \"S3CRET\" }",
        "auth = { type = \"bearer\", token = \"S3CRET\" }",
        "sign = [{ secrets = [\"S3CRET\"] }]",
        "sign = [{ secrets = \"S3CRET\" }]",
        "sign = [{ secrts = [\"S3CRET\"] }]",
        "sign = [{ secrets = [\"\"\"\nS3CRET\"\"\"], scheme = \"x\" }]",
        "sign = [{ secrets = [\"S3CRET ${env:NONE}\"] }]",
        "sign = [{ secrets = [\"S3CRET ]",
        "sign = [{ secrets = [S3CRET] }]",
    ];
    let urls = [
        "https://u:S3CRET@a.example/?k=S3CRET",
        "ftp://S3CRET/",
        "http://S3CRET@a.example",
        "S3CRET{{",
    ];
    for holder in holders {
        for url in urls {
            let text =
                format!("[[endpoint]]\nname = \"a\" # S3CRET\nurl = \"{url}\"\n{holder}\ntimeout = \"x\"\n");
            let found = read(&text).unwrap_err();
            let printed = format!("{found} {found:?}");
            assert!(!printed.contains("S3CRET"), "{text}\n{printed}");
        }
    }
    let text = with("headers = { X = \"S3CRET\" }").replace("a.example/", "u:S3CRET@a.example/?k=S3CRET");
    let loaded = read(&text).unwrap();
    let printed = format!("{loaded:?} {}", effective(&loaded.config));
    assert!(!printed.contains("S3CRET"), "{printed}");
}

proptest! {
    /// Whatever stands in the file, reading it ends with a configuration or with problems.
    #[test]
    fn garbage_never_panics(text in "\\PC{0,200}") {
        let _ = read(&text).map_err(|problems| problems.to_string());
    }

    /// The same for what looks like TOML: known keys with values of all kinds at all places.
    #[test]
    fn shuffled_toml_never_panics(lines in proptest::collection::vec((0usize..400, 0usize..14, 0usize..9), 0..12)) {
        let keys = all_keys();
        let values = ["\"${env:CRM_SECRET}\"", "\"5s\"", "1", "-1", "1e400", "nan", "true", "[]", "[\"5xx\", 1]", "{}",
            "{ a = \"ä\", min = 3 }", "1979-05-27", "\"\"\"\nä\n\"\"\"", "99999999999999999999"];
        let headers = ["", "[store]", "[[endpoint]]", "[endpoint]", "[defaults.retry]", "[defaults]", "[endpoint.retry]",
            "[[endpoint.sign]]", "# ä"];
        let mut text = String::new();
        for (key, value, header) in lines {
            writeln!(text, "{}\n{} = {}", headers[header], keys[key % keys.len()], values[value]).unwrap();
        }
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(!problems.to_string().contains(SECRET));
        }
    }
}

/// Every key's own name, whatever its section.
fn all_keys() -> Vec<&'static str> {
    let mut found = Vec::new();
    for_each_working(&keys::FILE, &mut |_, key| found.push(key));
    found
}

/// Calls `each` for every key that works, sections first.
fn for_each_working(section: &'static Section, each: &mut dyn FnMut(&'static str, &'static str)) {
    for (key, kind) in section.keys {
        match kind {
            Kind::NotYet => continue,
            Kind::Table(inner) | Kind::Tables(inner) => for_each_working(inner, each),
            _ => {}
        }
        each(section.name, key);
    }
}

/// Every key of the table is read by somebody: a date, which no key takes, is refused at each.
#[test]
fn every_known_key_is_read() {
    for_each_working(&keys::FILE, &mut |section, key| {
        let text = match section {
            "endpoint" if ["name", "url"].contains(&key) => {
                format!("[[endpoint]]\n{key} = 1979-05-27")
            }
            "endpoint.sign" => with(&format!("[[endpoint.sign]]\n{key} = 1979-05-27")),
            "endpoint.step" => with(&format!("[[endpoint.step]]\n{key} = 1979-05-27")),
            "endpoint.step.cache" => with(&format!(
                "[[endpoint.step]]\n[endpoint.step.cache]\n{key} = 1979-05-27"
            )),
            "endpoint.test" => with(&format!("[[endpoint.test]]\n{key} = 1979-05-27")),
            "endpoint.route" => with(&format!("[[endpoint.route]]\n{key} = 1979-05-27")),
            "ingest.allow" => format!("[[ingest.allow]]\n{key} = 1979-05-27"),
            "" => format!("{key} = 1979-05-27"),
            _ if section.starts_with("endpoint") => {
                with(&format!("[{section}]\n{key} = 1979-05-27")).replace("[endpoint]\n", "")
            }
            _ => format!("[{section}]\n{key} = 1979-05-27"),
        };
        let found = problems(&text);
        assert!(found.contains(&format!("{key}: ")), "{section} {key}\n{found}");
        assert!(!found.contains("unknown key"), "{section} {key}\n{found}");
    });
}

const SHIPPED: &str = include_str!("../../config.toml");

/// The shipped file with the `#` taken off its examples.
fn shipped_with_examples() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
        _ => line,
    };
    SHIPPED.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// The shipped file loads as it stands, and with its examples.
#[test]
fn the_shipped_file_loads() {
    let loaded = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")).unwrap();
    assert_eq!(loaded.config.store, StoreConfig::default());
    assert_eq!(loaded.config.endpoints.len(), 0);
    let example = only(&shipped_with_examples());
    assert_eq!((&*example.name, example.sign.len()), ("crm-sync", 1));
}

/// What the shipped file writes as defaults are the defaults: it means the same as an empty one.
#[test]
fn the_shipped_file_shows_the_defaults() {
    let mut shipped = read(&format!("{SHIPPED}\n{}", with(""))).unwrap().config;
    let bare = read(&with("")).unwrap().config;
    shipped.hash.clone_from(&bare.hash);
    assert_eq!(shipped, bare);
}

/// Every key that works stands in the shipped file.
#[test]
fn the_shipped_file_has_every_key() {
    let text = shipped_with_examples();
    let document = DeTable::parse(&text).unwrap();
    let mut written = Vec::new();
    collect_keys("", document.get_ref(), &mut written);
    for_each_working(&keys::FILE, &mut |section, key| {
        let path = format!("{section}.{key}");
        // What excludes the keys of the example is named in its comment.
        let alternative = match (section, key) {
            ("endpoint.retry", "delay") => "delay = \"1m\"",
            _ => "\0",
        };
        let is_shown = written.contains(&path) || text.contains(alternative);
        assert!(is_shown, "{path} is missing from config.toml");
    });
}

/// The dotted path of every key, `defaults` counted as `endpoint`.
fn collect_keys(section: &str, table: &DeTable<'_>, found: &mut Vec<String>) {
    for (key, value) in table {
        let key: &str = key.get_ref();
        found.push(format!("{section}.{key}"));
        let name = if key == "defaults" { "endpoint" } else { key };
        let inner = if section.is_empty() {
            name.to_owned()
        } else {
            format!("{section}.{name}")
        };
        match value.get_ref() {
            DeValue::Table(table) => collect_keys(&inner, table, found),
            DeValue::Array(items) => {
                items
                    .iter()
                    .filter_map(|item| item.get_ref().as_table())
                    .for_each(|t| collect_keys(&inner, t, found));
            }
            _ => {}
        }
    }
}

/// C6: a credential at a key that is shown is pointed out, and so is a secret file that everybody can read.
#[test]
fn c6_secrets_at_the_wrong_place_are_warnings() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "S3CRET").unwrap();
    let shown = with(&format!("description = \"${{file:{}}}\"", file.path().display()));
    let warnings = read(&shown).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].message.contains("is shown in listings"),
        "{warnings:?}"
    );
    let private = with(&format!(
        "headers = {{ X = \"${{file:{}}}\" }}",
        file.path().display()
    ));
    assert_eq!(read(&private).unwrap().warnings, []);

    let named = "[[endpoint]]\nname = \"${env:NAME}\"\nurl = \"https://a.example\"\n".repeat(2);
    let variable = |_: &str| Some("s3cret".to_owned());
    let found = load_text(Path::new("config.toml"), named, &Secrets { variable: &variable }).unwrap_err();
    assert!(
        found.to_string().contains("\"${env:NAME}\" is also the name"),
        "{found}"
    );
}

/// C8, F6, F7: how events are put together, paced and ordered is read as written, and shown so.
#[test]
fn c8_f6_f7_batch_rate_and_order_are_read() {
    let endpoint = only(&with(
        "rate = \"5000/m\"\norder = \"key\"\n[endpoint.batch]\nmax_events = 100\nmax_wait = \"60s\"\nshape = \"wrapped\"\n[endpoint.body]\nwrap = \"leads\"",
    ));
    let rate = endpoint.rate.unwrap();
    assert_eq!((rate.count(), rate.per()), (5000, Duration::from_secs(60)));
    let batch = endpoint.batch.as_ref().unwrap();
    assert_eq!(
        (batch.events_max, batch.bytes_max, batch.wait_max),
        (100, 1 << 20, Duration::from_secs(60))
    );
    let loaded = read(&with(
        "rate = \"5000/m\"\norder = \"key\"\nbatch = { max_events = 7 }",
    ))
    .unwrap();
    let shown = effective(&loaded.config);
    assert_eq!(shown["endpoint"][0]["rate"], "5000/m");
    assert_eq!(shown["endpoint"][0]["order"], "key");
    assert_eq!(shown["endpoint"][0]["batch"]["max_events"], 7);
    assert_eq!(shown["limits"]["batch_memory"], "64MiB");
    let plain = only(&with(""));
    assert_eq!((plain.rate, plain.batch.is_none()), (None, true));
}

/// The endpoints that docs/INTEGRATIONS.md shows load as they stand there.
#[test]
fn the_integrations_manual_loads() {
    let manual = include_str!("../../docs/INTEGRATIONS.md");
    let blocks = manual.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let endpoints: Vec<_> = blocks
        .iter()
        .filter(|block| block.starts_with("[[endpoint]]\n"))
        .collect();
    assert!(endpoints.len() > 6);
    for block in endpoints {
        let text = block.replace("${env:SLACK_URL}", "https://hooks.example.com/x");
        let text = text.replace("${env:SCORE_TOKEN}", "token");
        assert_eq!(problems(&text), "", "{block}");
    }
}
