//! C3: whatever an event holds, it stays in its place: what readers of each format find there is the value that was
//! printed, or the rendering is an error. And whatever a template says, compiling it ends.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Expression, Scope, Target, Template};

fn rendered(text: &str, target: Target, value: &Value) -> Result<String, String> {
    let event = json!({ "data": { "x": value } }).to_string();
    let template = Template::compile(text, target).unwrap();
    template
        .render(&Scope::new(Bytes::from(event), 0))
        .map_err(|error| error.to_string())
}

/// Texts full of what has a meaning somewhere.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        4 => prop::sample::select(vec![
            "\"", "\\", "'", "<", ">", "&", "]]>", "]", "--", "-->", "?>", "{{ data.x }}", "{%", "\r\n", "\n", "\t",
            "\0", "..", ".", "/", "?", "#", "%2e", "%", "&a=b", "=", ",", ";", " ", "\u{2028}", "\u{FEFF}", "\u{FFFE}", "é",
        ]).prop_map(String::from),
        1 => "[a-z]{1,5}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Any JSON value with such texts in it.
fn nasty_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        nasty().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((nasty(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn is_xml(text: &str) -> bool {
    text.chars().all(
        |c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn c3_json(value in nasty_json(), text in nasty()) {
        let whole = rendered(r#"{"a": {{ data.x }}, "b": [{{ data.x|tojson }}]}"#, Target::Json, &value).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), json!({"a": value, "b": [value]}));
        let text = Value::from(text);
        let inside = r#"{"a": "{{ data.x }}", "{{ data.x }}b": "-{{ data.x }}-\"{{ data.x }}"}"#;
        let inside = rendered(inside, Target::Json, &text).unwrap();
        let x = text.as_str().unwrap();
        let mut expected = json!({"a": x});
        expected[format!("{x}b")] = format!("-{x}-\"{x}").into();
        prop_assert_eq!(serde_json::from_str::<Value>(&inside).unwrap(), expected);
    }

    #[test]
    fn c3_xml(text in nasty()) {
        let template = "<r a=\"{{ data.x }}\" b='{{ data.x }}'><t>{{ data.x }}</t><c><![CDATA[{{ data.x }}{{ data.x }}]]{{ data.x }}]]></c></r>";
        let xml = match rendered(template, Target::Xml, &text.clone().into()) {
            Ok(xml) => xml,
            Err(error) => {
                prop_assert!(!is_xml(&text), "{}", error);
                return Ok(());
            }
        };
        prop_assert!(is_xml(&text));
        let document = uppsala::parse(&xml).map_err(|error| TestCaseError::fail(format!("{error} in {xml}")))?;
        let root = document.document_element().unwrap();
        prop_assert_eq!(document.get_attribute(root, "a"), Some(&*text));
        prop_assert_eq!(document.get_attribute(root, "b"), Some(&*text));
        let of = |name: &str| document.text_content_deep(document.get_elements_by_tag_name(name)[0]);
        prop_assert_eq!(of("t"), text.clone());
        // Line ends in a CDATA section can't be escaped; readers may normalise them (XML 1.0, section 2.11).
        let normal = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(normal(&of("c")), normal(&format!("{text}{text}]]{text}")));
    }

    #[test]
    fn c3_url(text in nasty()) {
        let template = "https://h.example/a/{{ data.x }}/b?k={{ data.x }}&l=1#{{ data.x }}";
        let written = match rendered(template, Target::Url, &text.clone().into()) {
            Ok(written) => written,
            Err(error) => {
                prop_assert!(text == "." || text == "..", "{}", error);
                return Ok(());
            }
        };
        let parsed = url::Url::parse(&written).unwrap();
        prop_assert_eq!(parsed.host_str(), Some("h.example"));
        let segments: Vec<_> = parsed.path_segments().unwrap().map(decoded).collect();
        prop_assert_eq!(segments, ["a", &*text, "b"]);
        let pairs: Vec<_> = parsed.query_pairs().into_owned().collect();
        prop_assert_eq!(pairs, [("k".to_owned(), text.clone()), ("l".to_owned(), "1".to_owned())]);
        prop_assert_eq!(decoded(parsed.fragment().unwrap()), text);
    }

    #[test]
    fn c3_header(text in nasty()) {
        match rendered("v={{ data.x }}", Target::Header, &text.clone().into()) {
            Ok(value) => {
                let header = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
                let expected = format!("v={text}");
                prop_assert_eq!(header.as_bytes(), expected.as_bytes());
            }
            Err(_) => prop_assert!(text.chars().any(|c| c.is_control() && c != '\t')),
        }
    }

    #[test]
    fn c3_form_and_csv(text in nasty(), other in nasty()) {
        let form = rendered("a={{ data.x|urlencode }}&b=1", Target::Text, &text.clone().into()).unwrap();
        let pairs: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        prop_assert_eq!(pairs, [("a".to_owned(), text.clone()), ("b".to_owned(), "1".to_owned())]);
        let fields = json!(["k", text, other, ""]);
        let line = rendered("{{ data.x|csv }}", Target::Text, &fields).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), 1);
        prop_assert_eq!(records[0].iter().collect::<Vec<_>>(), ["k", &*text, &*other, ""]);
    }

    /// Whatever is written, compiling it gives a template or a problem, and rendering ends.
    #[test]
    fn templates_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..25)) {
        let text = pieces.concat();
        let scope = Scope::new(Bytes::from_static(br#"{"data":{"x":[1,"a",{"b":null}]}}"#), 0);
        for target in [Target::Text, Target::Json, Target::Xml, Target::Url, Target::Header] {
            if let Ok(template) = Template::compile(&text, target) {
                let _ = (template.render(&scope), template.trial());
            }
        }
        if let Ok(expression) = Expression::compile(&text) {
            let _ = (expression.text(&scope), expression.test(&scope));
        }
    }
}

/// What templates are made of, and what they should not be made of.
const PIECES: [&str; 40] = [
    "{{ ",
    " }}",
    "{% if ",
    " %}",
    "{% endif %}",
    "{% for i in ",
    "{% endfor %}",
    "{% else %}",
    "{% elif ",
    "{#",
    "#}",
    "data",
    ".x",
    "[0]",
    "[1:]",
    "|upper",
    "|join(',')",
    "|date",
    "|tojson",
    "|items",
    "|default(1)",
    " or ",
    " and ",
    " not ",
    " is defined",
    " in ",
    " ~ ",
    " + ",
    " * ",
    " ** ",
    "(",
    ")",
    "'a'",
    "1",
    "-1",
    "9e99",
    "i",
    "{% set a = ",
    "<a b=\"",
    "é\u{0}",
];

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

/// C3: an event may say which host a request goes to where that is all the host, not where it only ends it.
#[test]
fn c3_events_do_not_end_a_host() {
    for (text, is_fine) in [
        ("https://api.example.com{{ data.x }}/hook", false),
        ("https://api.example.com{{ data.x }}", false),
        ("https://{{ vars.host }}{{ data.x }}?a=b", false),
        ("https://api.example.com{{ data.x }}:8080/hook", false),
        ("https://api.example.com:80{{ data.x }}/hook", false),
        ("https://{{ data.user }}:x@api.example.com/hook", true),
        ("https://{{ data.a }}.{{ data.b }}/hook", false),
        ("https://api.example.com/{{ data.x }}/hook", true),
        ("https://api.example.com:{{ vars.port }}/{{ data.x }}", true),
        ("https://{{ data.tenant }}.example.com/hook", true),
        ("https://{{ data.host }}/hook", true),
        ("https://{{ vars.host }}/{{ data.x }}", true),
        ("https://api.{{ vars.domain }}/{{ data.x }}", true),
        ("https://api.{{ with.domain }}/{{ data.x }}", true),
        ("{{ vars.base }}/{{ data.x }}", true),
        ("https://api.example.com{% if data.x %}/a{% endif %}", true),
    ] {
        let compiled = Template::compile(text, Target::Url);
        let says = compiled.as_ref().err().map_or("", |problem| &problem.says);
        assert_eq!(says.is_empty(), is_fine, "{text}: {says}");
    }
}
