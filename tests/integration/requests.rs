//! What goes over the wire: addresses, routes, queries and bodies made from the event, as the endpoint's keys say.

use serde_json::{Value, json};

use crate::harness::servers::{Scripted, Target, header};
use crate::harness::{Daemon, endpoint};

/// The lead that the tests send.
fn lead() -> String {
    let data = json!({
        "email": "ann@example.com", "phone": "(555) 123-4567", "first_name": "Ann", "state": "CA", "value": 150, "tags": ["a", "b"],
    });
    json!({"type": "lead.new", "id": "lead-1", "source": "/web", "data": data}).to_string()
}

/// B4: the path and the query are built from the event, and a condition sends it elsewhere with another method.
#[test]
fn b4_the_event_says_where_it_goes() {
    let mut target = Target::new();
    let keys = format!(
        "bind = \"lead\"\nquery = {{ source = \"{{{{ event.source }}}}\" }}\nheaders = {{ X-State = \"{{{{ lead.state }}}}\" }}\n\
         [[endpoint.route]]\nwhen = \"lead.value > 1000\"\nurl = \"{}\"\n\
         [[endpoint.route]]\nwhen = \"lead.state in ['CA', 'TX']\"\nmethod = \"PUT\"\ntimeout = \"3s\"",
        target.url("/premium")
    );
    let daemon = Daemon::start(&endpoint(
        "crm",
        &target.url("/v2/leads/{{ lead.state }}/validate"),
        &keys,
    ));
    daemon.accept(&lead());
    let got = target.next();
    assert_eq!(
        (got.method.as_str(), &*got.path),
        ("PUT", "/v2/leads/CA/validate?source=%2Fweb")
    );
    assert_eq!(header(&got, "x-state"), "CA");
    daemon.accept(&lead().replace("150", "1500").replace("lead-1", "lead-2"));
    let got = target.next();
    assert_eq!(
        (got.method.as_str(), &*got.path),
        ("POST", "/premium?source=%2Fweb")
    );
}

/// B4: event data can't leave its segment, nor add a line to a header: such an event is a dead letter that says why.
#[test]
fn b4_c3_event_data_stays_in_its_place() {
    let mut target = Target::new();
    let keys = "headers = { X-Name = \"{{ data.name }}\" }";
    let daemon = Daemon::start(&endpoint("crm", &target.url("/a/{{ data.path }}/b"), keys));
    daemon.accept(r#"{"type":"t","id":"ok","data":{"path":"../../admin?x=1#y","name":"n"}}"#);
    assert_eq!(&*target.next().path, "/a/..%2F..%2Fadmin%3Fx%3D1%23y/b");
    daemon.accept(r#"{"type":"t","id":"evil","data":{"path":"p","name":"n\r\nX-Evil: 1"}}"#);
    let dead = daemon.until_dead("crm", 1);
    assert_eq!(dead[0]["reason"], "render");
    assert!(
        dead[0].to_string().contains("X-Name") || dead[0].to_string().contains("x-name"),
        "{}",
        dead[0]
    );
}

/// B5: requests go round, and to the fallback within the same attempt when the first address is down.
#[test]
fn b5_several_addresses_and_fallbacks() {
    let (mut one, mut two) = (Target::new(), Target::new());
    let urls = format!(
        "urls = [\"{}\", \"{}\"]\nconcurrency = 1",
        one.url("/1"),
        two.url("/2")
    );
    let daemon = Daemon::start(&format!("[[endpoint]]\nname = \"crm\"\n{urls}\n"));
    daemon.accept_many("t", "e", 4);
    assert_eq!((one.take(2).len(), two.take(2).len()), (2, 2));
    daemon.until_settled("crm");

    let broken = Scripted::new(|_| "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned());
    let mut backup = Target::new();
    let keys = format!("fallback_urls = [\"{}\"]", backup.url("/backup"));
    let daemon = Daemon::start(&endpoint("crm", &broken.url(), &keys));
    daemon.accept(&lead());
    assert_eq!(header(&backup.next(), "x-posthaste-attempt"), "1");
    daemon.until_settled("crm");
    assert_eq!(broken.requests(), 1);
    assert_eq!(daemon.row("crm")["attempts"]["delivered"], 1);
}

/// C2: the bodies that integrations ask for.
#[test]
fn c2_bodies() {
    for (body, content_type, expected) in [
        (
            "format = \"json\"\nfields = { \"contact.email\" = \"data.email\", \"contact.phone\" = \"data.phone|digits\", score = \"data.value\" }",
            "application/json",
            r#"{"contact":{"email":"ann@example.com","phone":"5551234567"},"score":150}"#,
        ),
        (
            "format = \"json\"\ntemplate = '{\"email\": \"{{ data.email }}\", \"tags\": {{ data.tags }}}'",
            "application/json",
            r#"{"email": "ann@example.com", "tags": ["a","b"]}"#,
        ),
        (
            "format = \"form\"\nfields = { email = \"data.email\", firstName = \"data.first_name\" }",
            "application/x-www-form-urlencoded",
            "email=ann%40example.com&firstName=Ann",
        ),
        (
            "format = \"xml\"\ntemplate = \"<lead><email>{{ data.email }}</email></lead>\"",
            "application/xml",
            "<lead><email>ann@example.com</email></lead>",
        ),
        (
            "format = \"csv\"\norder = [\"email\", \"phone\", \"first_name\"]",
            "text/csv; charset=utf-8",
            "ann@example.com,(555) 123-4567,Ann\n",
        ),
        (
            "format = \"delimited\"\norder = [\"email\", \"state\"]",
            "text/plain; charset=utf-8",
            "ann@example.com|CA\n",
        ),
        (
            "format = \"fixed\"\norder = [\"first_name\", \"state\"]\nwidths = { first_name = 6, state = 3 }",
            "text/plain; charset=utf-8",
            "Ann   CA \n",
        ),
        (
            "format = \"text\"\ntemplate = \"New lead: {{ data.first_name }}\"",
            "text/plain; charset=utf-8",
            "New lead: Ann\n",
        ),
    ] {
        let mut target = Target::new();
        let daemon = Daemon::start(&endpoint(
            "crm",
            &target.url("/"),
            &format!("[endpoint.body]\n{body}"),
        ));
        daemon.accept(&lead());
        let got = target.next();
        assert_eq!(String::from_utf8_lossy(&got.body), expected, "{body}");
        assert_eq!(header(&got, "content-type"), content_type, "{body}");
        drop(daemon);
    }
}

/// C2: what a template makes of an event goes only if it is a whole document; else the dead letter says where it is not.
#[test]
fn c2_what_is_no_document_is_not_sent() {
    for (format, template, expected) in [
        (
            "json",
            "{\"state\": \"{{ data.state }}\"{% if data.vip %},{% endif %}}",
            "line 1 column 16",
        ),
        (
            "xml",
            "<lead><state>{{ data.state }}{% if not data.vip %}</state>{% endif %}</lead>",
            "line 1 column 16",
        ),
        (
            "soap",
            "<l:state>{{ data.state }}{% if not data.vip %}</l:state>{% endif %}",
            "line 2",
        ),
    ] {
        let mut target = Target::new();
        let keys = format!("[endpoint.body]\nformat = \"{format}\"\ntemplate = '''{template}'''");
        let daemon = Daemon::start(&endpoint("crm", &target.url("/"), &keys));
        daemon.accept(r#"{"type":"t","id":"no","data":{"state":"CA","vip":true}}"#);
        let dead = daemon.until_dead("crm", 1);
        assert_eq!(dead[0]["reason"], "render");
        assert!(dead[0].to_string().contains(expected), "{}", dead[0]);
        daemon.accept(r#"{"type":"t","id":"yes","data":{"state":"CA","vip":false}}"#);
        assert_eq!(header(&target.next(), "webhook-id"), "yes", "{format}");
    }
}

/// C2: the envelope of type, time and data.
#[test]
fn c2_envelope() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint(
        "crm",
        &target.url("/"),
        "body = { format = \"envelope\" }",
    ));
    daemon.accept(&lead());
    let body: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(
        (&body["event"], &body["data"]["email"]),
        (&json!("lead.new"), &json!("ann@example.com"))
    );
    assert!(
        body["timestamp"]
            .as_str()
            .is_some_and(|time| time.starts_with("20"))
    );
}

/// C7: the body is packed, and says so.
#[test]
fn c7_compressed_bodies() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint(
        "crm",
        &target.url("/"),
        "body = { compress = \"gzip\" }",
    ));
    daemon.accept(&lead());
    let got = target.next();
    assert_eq!(header(&got, "content-encoding"), "gzip");
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*got.body), &mut unpacked).unwrap();
    assert!(unpacked.contains("ann@example.com"), "{unpacked}");
}

/// C8: a batch as one document, from a template that loops over it.
#[test]
fn c8_a_batch_from_a_template() {
    let mut target = Target::new();
    let template = "{\"batch_id\": \"{{ batch.id }}\", \"leads\": [{% for lead in batch.leads %}{\"email\": {{ lead.email }}}\
                    {% if not loop.last %},{% endif %}{% endfor %}]}";
    let keys = format!(
        "batch = {{ max_events = 2, max_wait = \"1h\", shape = \"template\" }}\n[endpoint.body]\nformat = \"json\"\nwrap = \"leads\"\ntemplate = '{template}'"
    );
    let daemon = Daemon::start(&endpoint("crm", &target.url("/"), &keys));
    daemon.accept(&lead());
    daemon.accept(&lead().replace("lead-1", "lead-2").replace("ann@", "bo@"));
    let got = target.next();
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(body["batch_id"], header(&got, "webhook-id"));
    assert_eq!(
        body["leads"],
        json!([{"email": "ann@example.com"}, {"email": "bo@example.com"}])
    );
    daemon.until_settled("crm");
}

/// C6: secrets and variables stand in requests, and nowhere else.
#[test]
fn c6_vars_and_secrets_in_requests() {
    let broken = Scripted::new(|_| "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n".to_owned());
    let keys = "headers = { X-Key = \"key {{ secrets.crm }}\", X-Flow = \"{{ vars.flow }}\" }";
    let text = format!(
        "{}\n[secrets]\ncrm = \"hunter2-hunter2\"\n[vars]\nflow = \"spring\"\n",
        endpoint("crm", &broken.url(), keys)
    );
    let daemon = Daemon::start(&text);
    daemon.accept(&lead());
    let dead = daemon.until_dead("crm", 1);
    let head = broken.heads().remove(0).to_lowercase();
    assert!(
        head.contains("x-key: key hunter2-hunter2") && head.contains("x-flow: spring"),
        "{head}"
    );
    let id = dead[0]["id"].as_str().unwrap();
    let shown = daemon.get(&format!("/v1/dead/{id}")).1.to_string()
        + &daemon.log()
        + &daemon.get("/v1/config").1.to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
}
