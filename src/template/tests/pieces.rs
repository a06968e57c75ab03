//! C4: a template that needs no engine comes out as the engine would have it: the same text, or the same error at the same
//! place.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::super::pieces::Pieces;
use super::super::{Given, GivenForm, Scope, Secrets, Target, Template, from_json};

/// Does nothing, and nothing but the engine can do it.
const ENGINE_ONLY: &str = "{% if true %}{% endif %}";

/// What templates are made of.
const PARTS: [&str; 50] = [
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
    for text in [
        "{{ data.s }}",
        "a {{- data.s -}} b{# c #}",
        "{% raw %}{{ x }}{% endraw %}{{ data.n }}",
    ] {
        assert!(Pieces::of(text).is_some(), "{text}");
    }
    assert!(Pieces::of(&format!("{{{{ data.s }}}}{ENGINE_ONLY}")).is_none());
    assert!(Pieces::of("{% for x in data.list %}{{ x }}{% endfor %}").is_none());
}
