//! Every format, byte for byte.

use proptest::prelude::*;

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

/// C2, C3: what an event holds makes neither a second line of it in a batch of lines, nor an envelope out of what stands in one.
#[test]
fn c3_an_event_stays_one_line_and_in_its_envelope() {
    let forged = r#"{"id":"e","type":"t","data":{"x":"1\nLEAD forged"}}"#;
    let envelope = r#"{"id":"e","type":"t","data":{"x":"Envelope"}}"#;
    let lines = policy(document(DocumentKind::Text, "LEAD {{ data.x }}\n"));
    assert_eq!(
        written(&lines, Shape::Single, &[forged]).unwrap(),
        "LEAD 1\nLEAD forged\n\n"
    );
    let wrong = written(&lines, Shape::Lines, &[envelope, forged]).unwrap_err();
    assert!(wrong.contains("line break"), "{wrong}");
    let several = policy(document(DocumentKind::Text, "LEAD\n{{ data.x }}"));
    assert_eq!(
        written(&several, Shape::Lines, &[forged]).unwrap(),
        "LEAD\n1\nLEAD forged\n"
    );

    let soap = policy(document(DocumentKind::Soap, "<a>{{ data.x }}</a>"));
    let body = written(&soap, Shape::Single, &[envelope]).unwrap();
    assert!(body.contains("<soap:Body><a>Envelope</a></soap:Body>"), "{body}");
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

/// C8: what needs no scope is put together as what has one.
#[test]
fn c8_plain_events_share_a_body_as_others_do() {
    let policy = policy(BodyFormat::Event);
    for texts in [&[LEAD][..], &[LEAD, r#"{"n":1}"#, r#"{"n":2}"#]] {
        let events: Vec<_> = texts
            .iter()
            .map(|text| crate::delivery::tests::event("e", text))
            .collect();
        for shape in [Shape::Single, Shape::Array, Shape::Lines, Shape::Wrapped("a\"b")] {
            let body = plain(&policy, shape, &events).unwrap();
            assert_eq!(body, written(&policy, shape, texts).unwrap(), "{shape:?}");
        }
    }
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
        let packed = plain(&policy, Shape::Single, std::slice::from_ref(&event)).unwrap();
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

/// Texts full of what ends a field or a line somewhere.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => any::<char>().prop_map(String::from),
        5 => prop::sample::select(vec![
            ",", "|", ";", "\t", ":", "::", "\"", "\"\"", "\r", "\n", "\r\n", "&", "=", "+", "%", "%26", "#", "\\", " ", "\0",
            "\u{85}", "\u{FEFF}", "é",
        ]).prop_map(String::from),
        1 => "[a-z]{1,3}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn of_two(one: &str, other: &str) -> String {
    serde_json::json!({ "type": "t", "data": { "v": one, "w": other } }).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// C3: readers of forms find the names and the values that the event had, and no others.
    #[test]
    fn c3_forms_read_back(name in nasty(), one in nasty(), other in nasty()) {
        let mapped = policy(BodyFormat::Form(fields(&[("v", "data.v"), ("w", "data.w")])));
        let body = written(&mapped, Shape::Single, &[&of_two(&one, &other)]).unwrap();
        let pairs: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        prop_assert_eq!(pairs, [("v".to_owned(), one.clone()), ("w".to_owned(), other)]);
        let event = serde_json::json!({ "type": "t", "data": { &*name: one } }).to_string();
        let body = written(&policy(BodyFormat::Form(Fields::Data)), Shape::Single, &[&event]).unwrap();
        let pairs: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        prop_assert_eq!(pairs, [(name, one)]);
    }

    /// C3: one record with the fields that the event had, whatever stands between them.
    #[test]
    fn c3_separated_lines_read_back(one in nasty(), other in nasty(), delimiter in prop::sample::select(b",|;\t".to_vec())) {
        // Readers take a mark at the very beginning for one of byte order.
        let columns = fields(&[("k", "'k'"), ("v", "data.v"), ("w", "data.w")]);
        let events = [of_two(&one, &other), of_two(&other, &one)];
        let events = [&*events[0], &*events[1]];
        let body = written(&policy(separated(columns, delimiter)), Shape::Array, &events).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(body.as_bytes());
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        let read: Vec<Vec<&str>> = records.iter().map(|record| record.iter().collect()).collect();
        prop_assert_eq!(read, [["k", &*one, &*other], ["k", &*other, &*one]]);
    }

    /// C3: a value that would end its field or its line is refused; the others stand where they belong.
    #[test]
    fn c3_joined_lines_read_back(one in nasty(), other in nasty(), delimiter in prop::sample::select(vec!["::", "||", "\t", ", "])) {
        let columns = fields(&[("v", "data.v"), ("w", "data.w")]);
        let joined = policy(BodyFormat::Line(LineLayout::Joined { columns, delimiter: delimiter.into() }));
        match written(&joined, Shape::Single, &[&of_two(&one, &other)]) {
            Ok(line) => prop_assert_eq!(
                line.strip_suffix('\n').unwrap().split(delimiter).collect::<Vec<_>>(),
                [&*one, &*other]
            ),
            Err(why) => {
                let ends = |text: &str| text.contains(['\r', '\n']) || text.contains(delimiter);
                let first = delimiter.chars().next().unwrap();
                prop_assert!(ends(&one) || ends(&other) || one.ends_with(first), "{}", why);
            }
        }
    }

    /// C3: every field is as wide as it is, and nothing in it moves what follows.
    #[test]
    fn c3_fixed_lines_keep_their_columns(one in nasty(), other in nasty(), width in 1_usize..9) {
        let column = |text: &str| Expression::compile(text).unwrap();
        let columns = vec![(column("data.v"), width), (column("'|'"), 1), (column("data.w"), width)];
        let fixed = policy(BodyFormat::Line(LineLayout::Fixed { columns }));
        let line = written(&fixed, Shape::Single, &[&of_two(&one, &other)]).unwrap();
        let line: Vec<char> = line.strip_suffix('\n').unwrap().chars().collect();
        prop_assert_eq!((line.len(), line[width]), (2 * width + 1, '|'));
        prop_assert!(line.iter().all(|character| !character.is_control()));
    }
}
