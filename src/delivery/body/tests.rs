//! Every format, byte for byte.

use super::*;
use crate::delivery::tests::endpoint;
use crate::domain::endpoint::fixture::fixed;
use crate::domain::endpoint::{Compression, Fields, LineLayout};
use crate::domain::time::Timestamp;
use crate::template::{Expression, Target};

const LEAD: &str = r#"{"type":"lead.new","time":"2026-01-15T10:30:00Z","data":{"email":"a@x","name":"Ann \"A\", B","n":7,"tags":["x"],"none":null}}"#;
const OTHER: &str = r#"{"type":"lead.new","data":{"email":"b@x","name":"Bo","n":8,"tags":[],"none":null}}"#;

fn fields(list: &[(&str, &str)]) -> Fields {
    let of = |(name, text): &(&str, &str)| ((*name).into(), Expression::compile(text).unwrap());
    Fields::Mapped(list.iter().map(of).collect())
}

fn document(kind: DocumentKind, template: &str) -> BodyFormat {
    let target = match kind {
        DocumentKind::Json => Target::Json,
        DocumentKind::Xml | DocumentKind::Soap => Target::Xml,
        DocumentKind::Text => Target::Text,
    };
    BodyFormat::Document {
        kind,
        template: fixed(template, target),
    }
}

fn policy(format: BodyFormat) -> BodyPolicy {
    BodyPolicy {
        format,
        ..BodyPolicy::default()
    }
}

fn written(policy: &BodyPolicy, shape: Shape<'_>, events: &[&str]) -> Result<String, String> {
    let endpoint = endpoint("http://127.0.0.1/");
    let item = |json: &&str| {
        let json = Bytes::copy_from_slice(json.as_bytes());
        Item {
            scope: endpoint.scope(&json, Timestamp(0)),
            json,
        }
    };
    let items: Vec<Item> = events.iter().map(item).collect();
    let list: Vec<_> = items
        .iter()
        .map(|item| item.scope.event().value().clone())
        .collect();
    let whole = items[0].scope.clone().with(
        "batch",
        crate::template::Value::from_pairs([("events", crate::template::Value::from(list))]),
    );
    let body = write(policy, shape, &items, &whole)?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn separated(columns: Fields, delimiter: u8) -> BodyFormat {
    BodyFormat::Line(LineLayout::Separated { columns, delimiter })
}

/// C2: one event in every format, with its media type.
#[test]
fn c2_every_format() {
    let mapped = || {
        fields(&[
            ("email", "data.email"),
            ("name", "data.name"),
            ("missing", "data.missing"),
        ])
    };
    for (format, expected, kind) in [
        (BodyFormat::Event, LEAD, "application/json"),
        (BodyFormat::CloudEvents, LEAD, "application/cloudevents+json"),
        (
            BodyFormat::Envelope,
            r#"{"event":"lead.new","timestamp":"2026-01-15T10:30:00Z","data":{"email":"a@x","name":"Ann \"A\", B","n":7,"tags":["x"],"none":null}}"#,
            "application/json",
        ),
        (
            BodyFormat::Data,
            r#"{"email":"a@x","name":"Ann \"A\", B","n":7,"tags":["x"],"none":null}"#,
            "application/json",
        ),
        (
            BodyFormat::JsonFields(fields(&[
                ("contact.email", "data.email"),
                ("contact.name", "data.name"),
                ("n", "data.n"),
                ("tags", "data.tags"),
                ("missing", "data.missing"),
                ("source", "'web'"),
            ])),
            r#"{"contact":{"email":"a@x","name":"Ann \"A\", B"},"n":7,"tags":["x"],"source":"web"}"#,
            "application/json",
        ),
        (
            document(
                DocumentKind::Json,
                r#"{"email": "{{ data.email }}", "name": {{ data.name }}, "n": {{ data.n }}}"#,
            ),
            r#"{"email": "a@x", "name": "Ann \"A\", B", "n": 7}"#,
            "application/json",
        ),
        (
            document(
                DocumentKind::Xml,
                "<lead name=\"{{ data.name }}\">{{ data.email }}</lead>",
            ),
            "<lead name=\"Ann &quot;A&quot;, B\">a@x</lead>",
            "application/xml",
        ),
        (
            document(DocumentKind::Soap, "<l:Email>{{ data.email }}</l:Email>"),
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body><l:Email>a@x</l:Email></soap:Body></soap:Envelope>",
            "text/xml; charset=utf-8",
        ),
        (
            document(DocumentKind::Text, "{{ data.name }}: {{ data.n }}"),
            "Ann \"A\", B: 7\n",
            "text/plain; charset=utf-8",
        ),
        (
            BodyFormat::Form(mapped()),
            "email=a%40x&name=Ann+%22A%22%2C+B",
            "application/x-www-form-urlencoded",
        ),
        (
            BodyFormat::Form(Fields::Data),
            "email=a%40x&name=Ann+%22A%22%2C+B&n=7&tags=%5B%22x%22%5D&none=",
            "application/x-www-form-urlencoded",
        ),
        (
            separated(mapped(), b','),
            "a@x,\"Ann \"\"A\"\", B\",\n",
            "text/csv; charset=utf-8",
        ),
        (
            separated(mapped(), b'|'),
            "a@x|\"Ann \"\"A\"\", B\"|\n",
            "text/plain; charset=utf-8",
        ),
        (
            BodyFormat::Line(LineLayout::Joined {
                columns: mapped(),
                delimiter: "||".into(),
            }),
            "a@x||Ann \"A\", B||\n",
            "text/plain; charset=utf-8",
        ),
        (
            BodyFormat::Line(LineLayout::Fixed {
                columns: vec![
                    (Expression::compile("data.email").unwrap(), 5),
                    (Expression::compile("data.name").unwrap(), 3),
                ],
            }),
            "a@x  Ann\n",
            "text/plain; charset=utf-8",
        ),
    ] {
        let policy = policy(format);
        assert_eq!(written(&policy, Shape::Single, &[LEAD]).unwrap(), expected);
        assert_eq!(content_type(&policy, Shape::Single).unwrap(), kind);
    }
    let none = policy(BodyFormat::None);
    assert_eq!(written(&none, Shape::Single, &[LEAD]).unwrap(), "");
    assert_eq!(content_type(&none, Shape::Single), None);
}

/// C8: batches in every shape.
#[test]
fn c8_shapes() {
    let data = policy(BodyFormat::JsonFields(fields(&[("n", "data.n")])));
    let lines = policy(separated(fields(&[("n", "data.n"), ("e", "data.email")]), b','));
    let looped = policy(document(
        DocumentKind::Json,
        r#"{"leads": [{% for e in batch.events %}{"n": {{ e.data.n }}}{% if not loop.last %},{% endif %}{% endfor %}]}"#,
    ));
    for (policy, shape, expected) in [
        (&data, Shape::Array, r#"[{"n":7},{"n":8}]"#),
        (&data, Shape::Lines, "{\"n\":7}\n{\"n\":8}\n"),
        (&data, Shape::Wrapped("a\"b"), r#"{"a\"b":[{"n":7},{"n":8}]}"#),
        (&lines, Shape::Array, "7,a@x\n8,b@x\n"),
        (&looped, Shape::Template, r#"{"leads": [{"n": 7},{"n": 8}]}"#),
    ] {
        assert_eq!(written(policy, shape, &[LEAD, OTHER]).unwrap(), expected);
    }
    assert_eq!(written(&data, Shape::Array, &[LEAD]).unwrap(), r#"[{"n":7}]"#);
    let xml = policy(document(DocumentKind::Xml, "<a/>"));
    assert!(
        written(&xml, Shape::Array, &[LEAD, OTHER])
            .unwrap_err()
            .contains("batch.shape")
    );
}

/// C3: a value can't end its field or its line.
#[test]
fn c3_values_stay_in_their_place() {
    let evil = r#"{"data":{"v":"a|b\nc,\"d\"\t"}}"#;
    let v = || fields(&[("v", "data.v"), ("w", "'w'")]);
    let separated = policy(separated(v(), b'|'));
    assert_eq!(
        written(&separated, Shape::Single, &[evil]).unwrap(),
        "\"a|b\nc,\"\"d\"\"\t\"|w\n"
    );
    let joined = policy(BodyFormat::Line(LineLayout::Joined {
        columns: v(),
        delimiter: "::".into(),
    }));
    assert!(
        written(&joined, Shape::Single, &[evil])
            .unwrap_err()
            .contains("value of v")
    );
    let fixed = policy(BodyFormat::Line(LineLayout::Fixed {
        columns: vec![(Expression::compile("data.v").unwrap(), 12)],
    }));
    assert_eq!(
        written(&fixed, Shape::Single, &[evil]).unwrap(),
        "a|b c,\"d\"   \n"
    );
}

/// C7: what is packed unpacks to what it was.
#[test]
fn c7_compressed() {
    use std::io::Read;
    for compress in [Compression::Gzip, Compression::Zstd] {
        let policy = BodyPolicy {
            compress,
            ..BodyPolicy::default()
        };
        let event = crate::delivery::tests::event("e", LEAD);
        let packed = plain(&policy, &event).unwrap();
        let mut unpacked = Vec::new();
        match compress {
            Compression::Gzip => flate2::read::GzDecoder::new(&*packed)
                .read_to_end(&mut unpacked)
                .map(drop),
            _ => zstd::stream::copy_decode(&*packed, &mut unpacked),
        }
        .unwrap();
        assert_eq!(unpacked, LEAD.as_bytes());
        assert!(content_encoding(compress).is_some());
    }
}

/// C5: metadata and a hash over body and secret.
#[test]
fn c5_enrichment() {
    let enriched = policy(BodyFormat::JsonFields(fields(&[
        ("email", "data.email"),
        ("metadata.flow", "endpoint.name"),
        ("hash", "(data.email ~ 's3cret')|sha256"),
    ])));
    let body = written(&enriched, Shape::Single, &[LEAD]).unwrap();
    // sha256("a@xs3cret")
    assert!(
        body.starts_with(r#"{"email":"a@x","metadata":{"flow":"test"},"hash":""#),
        "{body}"
    );
    assert_eq!(
        body.len(),
        r#"{"email":"a@x","metadata":{"flow":"test"},"hash":""}"#.len() + 64
    );
}
