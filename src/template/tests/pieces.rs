//! C4: a template that needs no engine comes out as the engine would have it: the same text, or the same error at the same
//! place.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::super::pieces::Pieces;
use super::super::sink::Place;
use super::super::{Given, GivenForm, Scope, Secrets, Target, Template, from_json};

/// Does nothing, and nothing but the engine can do it.
const ENGINE_ONLY: &str = "{% if true %}{% endif %}";

/// What templates are made of.
const PARTS: [&str; 60] = [
    "text",
    " ",
    "\n",
    "\r\n",
    "  \n ",
    "\"",
    "\\",
    "<a b='",
    "'>",
    "</a>",
    "}",
    "%}",
    "{ ",
    "é",
    "&",
    "/",
    "https://a.example/",
    "{{ data.s }}",
    "{{- data.s -}}",
    "{{ data.s -}}",
    "{{-data.n}}",
    "{{ data.none }}",
    "{{ data.missing }}",
    "{{ data.missing.deeper }}",
    "{{ data.missing or 'd' }}",
    "{{ 'x' if data.none }}",
    "{{ data.list }}",
    "{{ data }}",
    "{{ data.n == 7 and data.s }}",
    "{{ not data.missing }}",
    "{{ data.none or data.n > 3 }}",
    "{{ data.s < 5 }}",
    "{{ data.s|upper }}",
    "{{ data['s'] }}",
    "{{ data.s|int }}",
    "{{ data.evil }}",
    "{{ event.id }}",
    "{{ now }}",
    "{{ secrets.key }}",
    "{{ secrets }}",
    "{{ with.made }}",
    "{{ with.broken }}",
    "{{ loop }}",
    "{{ '}}' ~ \"{{\" }}",
    "{{ {'a': {}} }}",
    "{# no #}",
    "{#- no -#}",
    "{% raw %}{{ x }}{% endraw %}",
    "{%- raw -%} {# {%- endraw -%}",
    "-",
    "[",
    "]",
    "{\"",
    "\":",
    ",",
    "1",
    ".5",
    "\\u00",
    "\\ud83d",
    "41",
];

fn scope() -> Scope {
    let event = json!({ "id": "e1", "data": {
        "s": "a\"b<c", "n": 7, "none": null, "list": [1, "x", null, { "a": 0.5 }], "evil": "a\r\n\u{1}/..]]>",
    }});
    let form = |text| GivenForm::Template(Template::compile(text, Target::Text).unwrap());
    Scope::new(Bytes::from(event.to_string()), 1_768_473_000_000)
        .with("vars", from_json(json!({ "flow": "spring" })))
        .with_secrets(Secrets::new([("key".into(), "hunter2".into())]))
        .with_given(Given::new([
            ("made".into(), form("<{{ data.s }}>")),
            ("broken".into(), form("{{ data.missing }}")),
        ]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn c4_pieces_are_what_the_engine_makes(parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..8)) {
        let text = parts.concat();
        let scope = scope();
        for target in [Target::Text, Target::Json, Target::Xml, Target::Url, Target::Header] {
            let Ok(template) = Template::compile(&text, target) else { continue };
            let whole = Template::compile(&format!("{text}{ENGINE_ONLY}"), target).unwrap();
            for scope in [scope.clone(), scope.masked()] {
                prop_assert_eq!(template.render(&scope), whole.render(&scope), "{:?} {}", target, text);
            }
        }
    }
}

/// What the test above is about: these need no engine, and those do.
#[test]
fn c4_which_templates_need_no_engine() {
    let pieces = |text| Pieces::of(text, Target::Text, Place::begin(Target::Text, false));
    for text in [
        "{{ data.s }}",
        "a {{- data.s -}} b{# c #}",
        "{% raw %}{{ x }}{% endraw %}{{ data.n }}",
    ] {
        assert!(pieces(text).is_some(), "{text}");
    }
    assert!(pieces(&format!("{{{{ data.s }}}}{ENGINE_ONLY}")).is_none());
    assert!(pieces("{% for x in data.list %}{{ x }}{% endfor %}").is_none());
}

/// C4: which templates make JSON whatever the event holds; all others are checked each time.
#[test]
fn c4_templates_that_surely_make_json() {
    for (text, expected) in [
        (r#"{"a": "{{ data.s }}", "b": {{ data.s }}, "c": [{{ data.n }}, {{ data.n }}]}"#, true),
        ("{{ data }}", true),
        (r#""\\\"{{ data.s }}\u0041{{ data.s }}{{ data.s }}""#, true),
        // A name, two values without a comma, part of a number, of a text, of an escape; quotes that are not closed.
        (r#"{{{ data.s }}: 1}"#, false),
        (r#"{"a": 1, {{ data.s }}: 1}"#, false),
        ("{{ data.n }}{{ data.n }}", false),
        ("1{{ data.n }}", false),
        ("-{{ data.n }}", false),
        ("{{ data.n }}.5", false),
        (r#"{"a": "b"{{ data.n }}}"#, false),
        (r#""\u{{ data.n }}0041""#, false),
        (r#""\u00{{ data.n }}41""#, false),
        (r#""\{{ data.s }}""#, false),
        (r#"{"a": "{{ data.s }}}"#, false),
        (r#"{"a": {{ data.s }},}"#, false),
    ] {
        let pieces = Pieces::of(text, Target::Json, Place::begin(Target::Json, false)).unwrap();
        assert_eq!(pieces.is_surely_json(), expected, "{text}");
    }
}
