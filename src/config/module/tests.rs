//! H9: modules as those who use them meet them: each built-in one makes its request, and mistakes are shown where they are.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::BUILT_IN;
use crate::config::load::load_text;
use crate::config::secrets::Secrets;
use crate::config::{Loaded, Problems, effective};
use crate::delivery::Couriers;
use crate::delivery::render::OutgoingRequest;
use crate::delivery::scene::Load;
use crate::domain::event::{Event, EventHead};
use crate::domain::time::Timestamp;

const EVENT: &str = r#"{"specversion":"1.0","id":"e1","source":"/shop","type":"contact.created","time":"2025-01-15T10:30:00Z","data":{"email":"a@example.com","last_name":"O\"Hara"}}"#;

fn read_at(path: &Path, lines: &str) -> Result<Loaded, Problems> {
    let text = format!("[[endpoint]]\nname = \"crm\"\n{lines}\n");
    let variable = |name: &str| (name == "KEY").then(|| "hunter2-hunter2".to_owned());
    load_text(path, text, &Secrets { variable: &variable })
}

fn read(lines: &str) -> Result<Loaded, Problems> {
    read_at(Path::new("/nowhere/config.toml"), lines)
}

fn event() -> Event {
    Event {
        head: EventHead::new("e1", "/shop", "contact.created", Timestamp(0)),
        json: Bytes::from_static(EVENT.as_bytes()),
    }
}

fn request(loaded: &Loaded) -> OutgoingRequest {
    let courier = Couriers::new().prepare(&loaded.config.endpoints[0]).unwrap();
    let event = event();
    let load = Load::alone(&event, 1, Timestamp(1_736_937_000_000));
    courier.request(&load).unwrap()
}

/// H9: every module that comes with posthaste loads, and makes this request of the sample.
#[test]
fn h9_each_built_in_module_makes_its_request() {
    let cases = [
        (
            "standard/json_post",
            "url = \"https://a.example/{{ data.email }}\"\nmethod = \"PUT\"\nheaders = { X-Key = \"${env:KEY}\" }\nfields = { \"c.mail\" = \"data.email\" }",
            "PUT https://a.example/a%40example.com",
            r#"{"c":{"mail":"a@example.com"}}"#,
        ),
        (
            "standard/xml_post",
            "url = \"https://a.example/\"\ntemplate = \"<n>{{ data.last_name }}</n>\"",
            "POST https://a.example/",
            "<n>O&quot;Hara</n>",
        ),
        (
            "standard/soap",
            "url = \"https://a.example/\"\naction = \"urn:add\"\nbody = \"<n>{{ data.email }}</n>\"",
            "POST https://a.example/",
            "<soap:Body><n>a@example.com</n></soap:Body>",
        ),
        (
            "standard/form_post",
            "url = \"https://a.example/\"\nfields = { mail = \"data.email\" }",
            "POST https://a.example/",
            "mail=a%40example.com",
        ),
        (
            "standard/webhook",
            "url = \"https://a.example/\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]",
            "POST https://a.example/",
            r#""type":"contact.created""#,
        ),
        (
            "slack/message",
            "url = \"https://hooks.slack.com/services/${env:KEY}\"\ntext = \"New: {{ data.last_name }}\"",
            "POST https://hooks.slack.com/services/hunter2-hunter2",
            r#"{"text":"New: O\"Hara"}"#,
        ),
        (
            "discord/message",
            "url = \"https://discord.com/api/webhooks/1/x\"\ntext = \"{{ data.email }}\"",
            "POST https://discord.com/api/webhooks/1/x",
            r#"{"content":"a@example.com","username":"posthaste","allowed_mentions":{"parse":[]}}"#,
        ),
        (
            "teams/message",
            "url = \"https://t.example/\"\ntext = \"{{ data.last_name }}\"",
            "POST https://t.example/",
            r#""wrap": true, "text": "O\"Hara""#,
        ),
        (
            "pagerduty/event",
            "routing_key = \"${env:KEY}\"",
            "POST https://events.pagerduty.com/v2/enqueue",
            r#"{"routing_key":"hunter2-hunter2","event_action":"trigger","dedup_key":"e1","payload":{"summary":"contact.created from /shop","source":"/shop","severity":"error""#,
        ),
        (
            "hubspot/contact",
            "token = \"${env:KEY}\"",
            "POST https://api.hubapi.com/crm/v3/objects/contacts",
            r#"{"properties":{"email":"a@example.com","firstname":"","lastname":"O\"Hara","phone":""}}"#,
        ),
        (
            "salesforce/create_lead",
            "instance = \"x.my.salesforce.com\"\nclient_id = \"id\"\nclient_secret = \"${env:KEY}\"",
            "POST https://x.my.salesforce.com/services/data/v61.0/sobjects/Lead",
            r#"{"LastName":"O\"Hara","FirstName":"","Company":"unknown","Email":"a@example.com","Phone":"","LeadSource":"/shop"}"#,
        ),
    ];
    for (name, with, line, body) in cases {
        let loaded = read(&format!("use = \"{name}\"\n[endpoint.with]\n{with}"));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let request = request(&loaded);
        assert_eq!(format!("{} {}", request.method, request.url), line, "{name}");
        let sent = String::from_utf8_lossy(&request.body);
        assert!(sent.contains(body), "{name}: {sent}");
        let shown = format!("{} {:?}", effective(&loaded.config), loaded.config);
        assert!(!shown.contains("hunter2"), "{name}: {shown}");
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
    let tested: Vec<_> = cases.iter().map(|(name, ..)| *name).collect();
    let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    assert_eq!(tested, known);
}

/// H9: a key of the endpoint goes before the module's, and the module's before that of `[defaults]`.
#[test]
fn h9_the_endpoint_is_over_its_module_over_defaults() {
    let lines = "use = \"slack/message\"\nmethod = \"PATCH\"\n[endpoint.with]\nurl = \"https://a.example/\"\n\
                 [defaults]\nrate = \"7/s\"\nmethod = \"PUT\"\ndescription = \"d\"";
    let loaded = read(lines).unwrap();
    let endpoint = &loaded.config.endpoints[0];
    assert_eq!(request(&loaded).method, "PATCH");
    assert_eq!(endpoint.rate.map(crate::domain::rate::Rate::count), Some(1));
    assert_eq!(&*endpoint.description, "d");
    let shown = effective(&loaded.config);
    assert_eq!(shown["endpoint"][0]["use"], "slack/message");
    assert_eq!(shown["endpoint"][0]["with"]["text"], "{{ event.type }}");
    assert_eq!(shown["endpoint"][0]["with"]["url"], "***");
}

/// H9, C4: a misspelt module is answered with the nearest built-in one, and nothing is said of the URL that it would bring.
#[test]
fn h9_c4_the_nearest_module_is_named() {
    for (name, help) in [
        ("jsonpost", "did you mean \"standard/json_post\"?"),
        ("standard/jsonpost", "did you mean \"standard/json_post\"?"),
        ("slack", "did you mean \"slack/message\"?"),
        (
            "our/crm",
            "beside the configuration; built in are standard/json_post",
        ),
    ] {
        let found = read(&format!("use = \"{name}\"")).unwrap_err();
        assert!(
            found.0.len() == 1 && found.0[0].help.contains(help),
            "{name}: {found}"
        );
    }
}

/// H9: what is missing, unknown or of another type is shown with its file, line and key.
#[test]
fn h9_mistakes_are_shown_where_they_are() {
    for (lines, expected) in [
        (
            "use = \"slack/mesage\"",
            "config.toml:3:7: endpoint.crm.use: \"slack/mesage\" is no integration module",
        ),
        (
            "use = \"../etc/passwd\"",
            "endpoint.crm.use: \"../etc/passwd\" is no integration module",
        ),
        (
            "use = \"slack/message\"",
            "config.toml:3:7: endpoint.crm.use: the module slack/message needs with.url; add url = … under [endpoint.with]",
        ),
        (
            "use = \"slack/message\"\nwith = { url = \"https://a.example/\", txt = \"x\" }",
            "config.toml:4:38: endpoint.crm.with.txt: the module slack/message has no variable `txt`; it has text, url",
        ),
        (
            "use = \"slack/message\"\nwith = { url = 5 }",
            "config.toml:4:16: endpoint.crm.with.url: the value has to be a string, not a whole number",
        ),
        (
            "use = \"standard/form_post\"\nwith = { url = \"https://a.example/\", fields = \"x\" }",
            "endpoint.crm.with.fields: \"x\" has to be a table, not a string",
        ),
        (
            "use = \"standard/form_post\"\nwith = { url = \"https://a.example/\", fields = { a = \"dat.x\" } }",
            "endpoint.crm.with.fields.a: there is nothing called `dat` here",
        ),
        (
            "use = \"slack/message\"\nwith = { url = \"https://a.example/\", text = \"{{ with.url }}\" }",
            "endpoint.crm.with.text: with.url can't be read here",
        ),
        (
            "url = \"https://a.example/\"\nwhen = \"with.x\"",
            "endpoint.crm.when: with.x can't be read here",
        ),
        (
            "url = \"https://a.example/\"\nwith = { x = 1 }",
            "endpoint.crm.with: nothing reads `with` without `use`",
        ),
    ] {
        let found = read(lines).unwrap_err().to_string();
        assert!(found.contains(expected), "{lines}\n{found}");
    }
}

/// H5: a saved case that can't be run is shown where it is.
#[test]
fn h5_cases_are_judged_when_they_are_read() {
    let case = |lines: &str| {
        read(&format!(
            "url = \"https://a.example/\"\n[[endpoint.test]]\n{lines}"
        ))
    };
    for (lines, expected) in [
        ("name = \"x\"", "endpoint.crm.test[1]: expect is missing"),
        (
            "name = \"x\"\nevent = '{}'\nexpect = \"true\"",
            "config.toml:6:9: endpoint.crm.test[1].event: '{}' is not an event as JSON",
        ),
        (
            "name = \"x\"\nevent = '{\"type\":\"a\"}'\nexpect = \"outcom == 'delivered'\"",
            "endpoint.crm.test[1].expect: there is nothing called `outcom` here",
        ),
    ] {
        let found = case(lines).unwrap_err().to_string();
        assert!(found.contains(expected), "{lines}\n{found}");
    }
    let sound =
        case("name = \"x\"\nevent = '{\"type\":\"a\"}'\nexpect = \"response.id == data.id\"").unwrap();
    assert_eq!(
        effective(&sound.config)["endpoint"][0]["test"][0]["expect"],
        "response.id == data.id"
    );
}

/// H9: modules of one's own stand beside the configuration; what is wrong in them is shown there.
#[test]
fn h9_modules_of_ones_own_are_read_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::create_dir_all(folder.path().join("integrations/our")).unwrap();
    let module = folder.path().join("integrations/our/crm.toml");
    let lines = "use = \"our/crm\"\n[endpoint.with]\nhost = \"a.example\"";
    let sound = "[variables.host]\ntype = \"string\"\n[variables.size]\ntype = \"number\"\ndefault = 5\n\
                 [endpoint]\nurl = \"https://${with:host}/{{ with.size + 1 }}\"";
    fs::write(&module, sound).unwrap();
    let loaded = read_at(&config, lines).unwrap();
    assert_eq!(request(&loaded).url.as_str(), "https://a.example/6");
    assert_eq!(loaded.files, [config.clone(), module.clone()]);
    for (text, expected) in [
        (
            "[variables.host]\ntype = \"txt\"",
            "crm.toml:2:8: variables.host.type: \"txt\" is not known here",
        ),
        (
            "[variables.host]\ntpe = 1",
            "crm.toml:2:1: variables.host.tpe: unknown key `tpe`; did you mean `type`?",
        ),
        (
            "[variables.host]\n[endpoint]\nname = \"x\"",
            "crm.toml:3:8: endpoint.name: a module has no `name`",
        ),
        (
            "[variables.host]\n[endpoint]\nurl = \"https://${with:hst}/\"",
            "crm.toml:3:7: endpoint.url: the module our/crm has no variable `hst`; it has host",
        ),
        (
            "[variables.host]\n[endpoint]\nurl = \"https://a.example/\"\nwhen = \"with.hst\"",
            "crm.toml:4:8: endpoint.when: the module our/crm has no variable `hst`",
        ),
        ("[variables.host", "crm.toml:1:16: not valid TOML"),
        ("[variables.host]", "endpoint.crm: url is missing"),
    ] {
        fs::write(&module, text).unwrap();
        let found = read_at(&config, lines).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}\n{found}");
    }
}
