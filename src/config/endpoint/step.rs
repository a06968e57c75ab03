//! `[[endpoint.step]]`: requests to other services around the delivery, and which waits for which.

use std::time::Duration;

use super::{auth, batch, network, request, response, sign};
use crate::config::NetworkConfig;
use crate::config::language::{self, Names, optional};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::step::{Waits, awaited, circle};
use crate::domain::endpoint::{BodyFormat, CachePolicy, OnError, RequestPolicy, ResponsePolicy, Stage, Step};

/// Most steps of one endpoint.
const STEPS_MAX: usize = 16;
/// Most tries of one step beside the first.
const RETRIES_MAX: u32 = 5;
/// How old a value may be that stands in for an answer, if the step doesn't say.
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// The steps of an endpoint as far as they have to be known to read anything of it.
pub(super) struct Written<'a> {
    tables: Vec<Table<'a>>,
    /// Their names; empty where one has none.
    pub names: Vec<Box<str>>,
    stages: Vec<Stage>,
    after: Vec<Vec<Box<str>>>,
}

impl<'a> Written<'a> {
    /// Those in `table`, which holds an endpoint.
    pub(super) fn of(table: &Table<'a>) -> Self {
        let tables = table.tables("step");
        if tables.len() > STEPS_MAX {
            let wrong = Wrong::whole(format!("there are more than {STEPS_MAX} steps"), "");
            table.reject_key(&["step"], &wrong);
        }
        let mut written = Self {
            names: Vec::new(),
            stages: tables.iter().map(stage).collect(),
            after: Vec::new(),
            tables,
        };
        for table in &written.tables {
            let name = name(table, &written.names);
            written.names.push(name);
        }
        for index in 0..written.tables.len() {
            let after = written.after(index);
            written.after.push(after);
        }
        written.reject_circle();
        written
    }

    /// The names of those that have been there when the delivery's request is made.
    pub(super) fn before(&self) -> Vec<Box<str>> {
        let all = self.names.iter().zip(&self.stages);
        let before = all.filter(|(_, stage)| **stage == Stage::Before);
        before.map(|(name, _)| name.clone()).collect()
    }

    /// The steps whole. `table` holds their endpoint, `bind` is its second name of data.
    pub(super) fn steps(&self, table: &Table<'_>, network: &NetworkConfig, bind: &str) -> Vec<Step> {
        let proxy = network::proxy(table);
        let step = |index| {
            let mut step = self.step(index, network, bind);
            if !self.tables[index].has("proxy") {
                step.request.proxy.clone_from(&proxy);
            }
            step
        };
        (0..self.tables.len()).map(step).collect()
    }

    fn step(&self, index: usize, network: &NetworkConfig, bind: &str) -> Step {
        let (table, stage) = (&self.tables[index], self.stages[index]);
        if !table.is_written("url") && !table.has("urls") {
            table.missing("url");
        }
        let known = self.seen_by(index);
        let names = match stage {
            Stage::Before => Names::of_event(bind),
            Stage::After => Names::with(bind, &["response"]),
        };
        let names = names.behind(&known);
        let seen = response::Seen {
            bind,
            before: &known,
            all: &known,
        };
        let answer = Names::with(bind, &["response"]).behind(&known);
        let cache = cache(table, &names);
        let on_error = on_error(table, stage, cache.is_some());
        let (default, flag) = default(table, on_error);
        let request = request_of(table, network, &names);
        batch::check(table, None, &request.body);
        Step {
            name: self.names[index].clone(),
            stage,
            when: table
                .read("when", optional(language::expression(&names)))
                .flatten(),
            after: self.after[index].clone(),
            request,
            auth: auth::auth(table, network),
            sign: table.tables("sign").iter().filter_map(sign::sign).collect(),
            response: response_of(&table.table("response"), seen),
            retries: table.read("retry", values::count(0..=RETRIES_MAX)).unwrap_or(0),
            store: response::named(table, "store", &answer),
            cache,
            on_error,
            default,
            flag,
        }
    }

    /// The steps that have been there when the one at `index` has its turn.
    fn seen_by(&self, index: usize) -> Vec<Box<str>> {
        let mut seen = match self.stages[index] {
            Stage::Before => Vec::new(),
            Stage::After => self.before(),
        };
        let waited = awaited(&self.names[index], &self.waits());
        for name in waited {
            if !seen.iter().any(|known| **known == *name) {
                seen.push(name.into());
            }
        }
        seen
    }

    fn waits(&self) -> Vec<Waits<'_>> {
        let all = self.names.iter().zip(&self.after);
        all.map(|(name, after)| (&**name, after.iter().map(|name| &**name).collect()))
            .collect()
    }

    /// The names in `after` of the step at `index` that are steps which can have been there.
    fn after(&self, index: usize) -> Vec<Box<str>> {
        let list = self.tables[index].value("after");
        let items = list.and_then(|list| list.items("write it like [\"validate\"]"));
        let read = |value: &Value<'_>| self.awaited_name(value, self.stages[index]);
        let items = items.unwrap_or_default();
        items.iter().filter_map(|item| item.read(read)).collect()
    }

    fn awaited_name(&self, value: &Value<'_>, stage: Stage) -> Read<Box<str>> {
        let name = values::text(value)?;
        let Some(at) = self.names.iter().position(|known| **known == *name) else {
            let known: Vec<&str> = self.names.iter().map(|name| &**name).collect();
            return Err(Wrong::new(
                "is no step of this endpoint",
                format!("its steps are {}", known.join(", ")),
            ));
        };
        if (stage, self.stages[at]) == (Stage::Before, Stage::After) {
            return Err(Wrong::new(
                "runs after the delivery, so nothing before it can wait for it",
                "write stage = \"after\" here as well, or stage = \"before\" there",
            ));
        }
        Ok(name.into())
    }

    fn reject_circle(&self) {
        let waits = self.waits();
        let Some(names) = circle(&waits) else { return };
        let first = names.first().copied().unwrap_or_default();
        let at = self.names.iter().position(|name| **name == *first);
        if let Some(table) = at.and_then(|at| self.tables.get(at)) {
            let round: Vec<&str> = names.iter().chain(names.first()).copied().collect();
            let says = format!("steps wait for each other: {}", round.join(" for "));
            table.reject_key(&["after"], &Wrong::whole(says, "let one of them begin"));
        }
    }
}

fn stage(table: &Table<'_>) -> Stage {
    table
        .read("stage", values::choice(Stage::NAMES))
        .unwrap_or_default()
}

fn name(table: &Table<'_>, others: &[Box<str>]) -> Box<str> {
    if !table.has("name") {
        table.missing("name");
    }
    let read = |value: &Value<'_>| {
        let name = values::text(value)?;
        if !language::is_name(&name) {
            let help = "use letters, digits and _, so that templates can read appended.NAME";
            return Err(Wrong::new("is not a name", help));
        }
        if others.iter().any(|other| **other == *name) {
            return Err(Wrong::new(
                "is also the name of another step",
                "give each its own",
            ));
        }
        Ok(name)
    };
    table.read("name", read).unwrap_or_default().into()
}

/// What is asked. A step that only fetches something sends no body unless it says so.
fn request_of(table: &Table<'_>, network: &NetworkConfig, names: &Names<'_>) -> RequestPolicy {
    let mut request = request::request(table, network, names);
    let fetches = request.method.as_ref().and_then(|method| method.fixed()) == Some("GET");
    if fetches && !table.table("body").has("format") {
        request.body.format = BodyFormat::None;
    }
    request
}

/// What is kept of an answer has a key of its own.
fn response_of(table: &Table<'_>, seen: response::Seen<'_>) -> ResponsePolicy {
    let wrong = Wrong::whole(
        "a step keeps what it needs of its answer by `store`",
        "write store = { … }",
    );
    if table.has("capture") {
        table.reject_key(&["capture"], &wrong);
    }
    if table.has("emit") {
        let wrong = Wrong::whole("no event is born from a step", "write it in [endpoint.response]");
        table.reject_key(&["emit"], &wrong);
    }
    response::response(table, seen)
}

fn cache(table: &Table<'_>, names: &Names<'_>) -> Option<CachePolicy> {
    let table = table.table("cache");
    table.place()?;
    for key in ["key", "ttl"] {
        if !table.has(key) {
            table.missing(key);
        }
    }
    let ttl = table.read("ttl", values::duration).unwrap_or_default();
    let max_age = table.read("max_age", values::some_duration);
    Some(CachePolicy {
        key: table.read("key", language::expression(names))?,
        ttl,
        max_age: max_age.unwrap_or(MAX_AGE_DEFAULT),
    })
}

/// Before the delivery a failed step is in its way, unless it says otherwise; after it nothing can be in its way.
fn on_error(table: &Table<'_>, stage: Stage, has_cache: bool) -> OnError {
    let written = table.read("on_error", values::choice(OnError::NAMES));
    if written == Some(OnError::Cached) && !has_cache {
        let help = "add cache = { key = \"data.email\", ttl = \"1h\", max_age = \"24h\" }";
        table.reject_key(
            &["on_error"],
            &Wrong::whole("there is no cache to take a value from", help),
        );
    }
    written.unwrap_or(match stage {
        Stage::Before => OnError::Fail,
        Stage::After => OnError::Skip,
    })
}

/// The default and its flag.
fn default(
    table: &Table<'_>,
    on_error: OnError,
) -> (Option<serde_json::Map<String, serde_json::Value>>, Box<str>) {
    let is_used = matches!(on_error, OnError::Default | OnError::Cached);
    let written = table.value("default").filter(|value| !value.is_empty());
    let read = |value: &Value<'_>| match value.json()? {
        serde_json::Value::Object(members) => Ok(members),
        _ => Err(value
            .wrong_type("a table")
            .or_write("write it like { valid = false }")),
    };
    let default = written.as_ref().and_then(|value| value.read(read));
    let flag = table.read("flag", values::text).unwrap_or_default();
    let refuse =
        |key: &'static str, says: &str, help: &str| table.reject_key(&[key], &Wrong::whole(says, help));
    match (&written, is_used) {
        (Some(_), false) => refuse(
            "default",
            "it is never used",
            "write on_error = \"default\", or remove it",
        ),
        (None, _) if on_error == OnError::Default => refuse(
            "on_error",
            "there is no default",
            "add default = { … } with the fields of store",
        ),
        _ => {}
    }
    if written.is_none() && !flag.is_empty() {
        refuse(
            "flag",
            "there is no default that it could mark",
            "add default = { … }, or remove it",
        );
    }
    (default, flag.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::load::load_text;
    use crate::config::secrets::Secrets;
    use crate::config::{Loaded, Problems, effective};
    use crate::domain::endpoint::{BodyFormat, OnError, Stage};

    const URL: &str = "url = \"https://s.example/\"";

    fn read(lines: &str) -> Result<Loaded, Problems> {
        let text = format!("[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n{lines}\n");
        let variable = |name: &str| (name == "KEY").then(|| "hunter2".to_owned());
        load_text(Path::new("config.toml"), text, &Secrets { variable: &variable })
    }

    /// C9 to C12: steps are read as written, shown without their secrets, and what is not written has its default.
    #[test]
    fn c9_c10_c11_c12_steps_are_read_and_shown() {
        let loaded = read(&format!(
            "proxy = \"http://proxy.example:3128\"\nheaders = {{ X = \"{{{{ appended.geo.country }}}}\" }}\n\
             [endpoint.response]\ncapture = {{ ok = \"appended.verify.ok\" }}\n\
             [[endpoint.step]]\nname = \"geo\"\nmethod = \"GET\"\n{URL}\nheaders = {{ X-Key = \"${{env:KEY}}\" }}\n\
             auth = {{ type = \"bearer\", token = \"${{env:KEY}}\" }}\nstore = {{ country = \"response.country\" }}\n\
             cache = {{ key = \"data.ip\", ttl = \"1h\" }}\non_error = \"cached\"\n\
             default = {{ country = \"US\" }}\nflag = \"review\"\n\
             [[endpoint.step]]\nname = \"verify\"\nstage = \"after\"\n{URL}\nproxy = \"\"\n\
             when = \"response.needs_verification and appended.geo.country\"\nstore = {{ ok = \"response.ok\" }}\n",
        ));
        let loaded = loaded.unwrap();
        let endpoint = &loaded.config.endpoints[0];
        let [geo, verify] = &endpoint.steps[..] else {
            panic!("two steps");
        };
        assert_eq!((geo.stage, verify.stage), (Stage::Before, Stage::After));
        assert_eq!((geo.on_error, verify.on_error), (OnError::Cached, OnError::Skip));
        assert_eq!((&geo.request.body.format, geo.retries), (&BodyFormat::None, 0));
        assert_eq!(verify.request.body.format, BodyFormat::Event);
        assert_eq!(
            (geo.request.proxy.is_some(), verify.request.proxy.is_some()),
            (true, false)
        );
        let cache = geo.cache.as_ref().unwrap();
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        assert_eq!((cache.ttl, cache.max_age), (hours(1), hours(24)));

        let shown = &effective(&loaded.config)["endpoint"][0]["step"];
        assert_eq!(shown[0]["cache"]["key"], "data.ip");
        assert_eq!(shown[0]["default"]["country"], "US");
        assert_eq!(
            shown[1]["when"],
            "response.needs_verification and appended.geo.country"
        );
        let all = format!("{shown} {:?}", loaded.config);
        assert!(!all.contains("hunter2"), "{all}");
    }

    /// C9, C4: what can't work is said where it is written, and how to mend it.
    #[test]
    fn c9_c4_mistakes_in_steps() {
        let step = |name: &str, rest: &str| format!("[[endpoint.step]]\nname = \"{name}\"\n{URL}\n{rest}\n");
        for (lines, expected) in [
            ("[[endpoint.step]]\nname = \"a\"".to_owned(), "endpoint.crm.step[1]: url is missing"),
            (format!("[[endpoint.step]]\n{URL}"), "step[1]: name is missing"),
            (step("a-b", ""), "\"a-b\" is not a name; use letters, digits and _"),
            (step("a", "") + &step("a", ""), "config.toml:9:8: endpoint.crm.step[2].name: \"a\" is also the name of"),
            (step("a", "after = [\"b\"]"), "step[1].after: \"b\" is no step of this endpoint; its steps are a"),
            (step("a", "after = [\"a\"]"), "steps wait for each other: a for a"),
            (
                step("a", "after = [\"b\"]") + &step("b", "after = [\"a\"]"),
                "step[1].after: steps wait for each other: a for b for a; let one of them begin",
            ),
            (
                step("a", "after = [\"b\"]") + &step("b", "stage = \"after\""),
                "\"b\" runs after the delivery, so nothing before it can wait for it",
            ),
            (step("a", "stage = \"later\""), "\"later\" is not known here; write one of \"before\" \"after\""),
            (step("a", "") + &step("b", "when = \"appended.a.x\""), "appended.a is not there at this point"),
            (step("a", "when = \"response.x\""), "`response` is not there yet"),
            (step("a", "store = { x = \"appended.b.x\" }"), "appended.b is not there"),
            ("headers = { X = \"{{ appended.a.x }}\" }".to_owned(), "no step has been there"),
            (
                format!("headers = {{ X = \"{{{{ appended.a.x }}}}\" }}\n{}", step("a", "stage = \"after\"")),
                "appended.a is not there at this point",
            ),
            ("when = \"appended.a.x\"\n".to_owned() + &step("a", ""), "appended.a is not there at this point"),
            (step("a", "on_error = \"cached\""), "there is no cache to take a value from; add cache"),
            (step("a", "on_error = \"default\""), "there is no default; add default"),
            (step("a", "default = { x = 1 }"), "step[1].default: it is never used; write on_error"),
            (step("a", "flag = \"review\""), "there is no default that it could mark"),
            (step("a", "cache = { key = \"data.x\" }"), "step[1].cache: ttl is missing"),
            (step("a", "cache = { key = \"data.x\", ttl = \"1h\", stale = \"1h\" }"), "unknown key `stale`"),
            (step("a", "response = { capture = { x = \"1\" } }"), "keeps what it needs of its answer by `store`"),
            (step("a", "response = { emit = { type = \"t\" } }"), "no event is born from a step"),
            (step("a", "retry = 6"), "step[1].retry: 6"),
            (step("a", "concurrency = 1"), "unknown key `concurrency`"),
            (
                "[[endpoint.step]]\nname = \"a\"\nurl = \"http://s.example/\"".to_owned(),
                "http:// sends events and signatures readable for everybody",
            ),
            ((0..17).map(|n| step(&format!("s{n}"), "")).collect(), "more than 16 steps"),
            (
                "[[endpoint.test]]\nname = \"c\"\nevent = '{\"type\":\"t\"}'\nexpect = \"1\"\nsteps = { a = { status = 200 } }"
                    .to_owned(),
                "there is no step \"a\"; the endpoint has no steps",
            ),
        ] {
            let found = read(&lines).unwrap_err().to_string();
            assert!(found.contains(expected), "{lines}\n{found}");
        }
        read("when = \"data.x\"\nskip_reason = \"{{ data.appended }}\"").unwrap();
    }
}
