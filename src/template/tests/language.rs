//! What users write, as tables: the constructs of the documents that users bring, and what must not pass.

use bytes::Bytes;
use serde_json::json;

use super::super::{Expression, Part, Scope, Secrets, Target, Template, from_json, to_json};

/// 2026-01-15T10:30:00Z, a Thursday.
const NOW_MS: u64 = 1_768_473_000_000;

fn scope() -> Scope {
    // As text: members keep the order in which the producer wrote them.
    let event = r#"{"type": "lead.created", "id": "e1", "source": "/web", "data": {
        "email": "a\"b@example.com", "first_name": "Ada", "phone": "+1 (555) 123-4567", "state": "CA",
        "score": 85, "big": 9007199254740993, "half": 0.5, "corporate": true, "none": null,
        "birth_date": "1990-01-16", "tags": ["a", "b,c"], "zip": 90210, "crlf": "a\r\nx-evil: 1"}}"#;
    Scope::new(Bytes::from_static(event.as_bytes()), NOW_MS)
        .bind("lead")
        .with(
            "vars",
            from_json(json!({"flow": "spring", "base": "https://api.example.com/v2"})),
        )
        .with_secrets(Secrets::new([("crm_key".into(), "hunter2".into())]))
}

fn rendered(text: &str, target: Target) -> String {
    match Template::compile(text, target) {
        Ok(template) => template
            .render(&scope())
            .unwrap_or_else(|error| format!("render: {error}")),
        Err(problem) => format!("compile: {problem}"),
    }
}

/// C4: defaults, choices, filters, dates, digests.
#[test]
fn c4_what_users_write_comes_out() {
    for (text, expected) in [
        ("{{ lead.first_name }}", "Ada"),
        (
            "{{ data.first_name }} {{ event.type }} {{ vars.flow }}",
            "Ada lead.created spring",
        ),
        ("{{ lead.phone_type or 'unknown' }}", "unknown"),
        ("{{ lead.nothing|default('-') }}", "-"),
        ("{{ 'B2B' if lead.corporate else 'B2C' }}", "B2B"),
        ("{{ 'x' if lead.none }}", ""),
        ("{{ lead.phone|digits }}", "15551234567"),
        ("{{ lead.zip|digits }}", "90210"),
        ("{{ lead.birth_date|date('%m/%d/%Y') }}", "01/16/1990"),
        ("{{ lead.birth_date|years }}", "35"),
        ("{{ [lead.first_name, lead.state]|join(',') }}", "Ada,CA"),
        (
            "{{ [lead.first_name, 'a \"b\", c']|csv }}",
            "Ada,\"a \"\"b\"\", c\"",
        ),
        ("{{ lead.tags|join('|') }}", "a|b,c"),
        ("{{ lead|items|map(attribute=0)|first }}", "email"),
        (
            "[{{ lead.first_name|ljust(5) }}][{{ lead.score|rjust(5, '0') }}]",
            "[Ada  ][00085]",
        ),
        (
            "{{ 'ab'|sha256 }}",
            "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603",
        ),
        (
            "{{ 'user:pass'|b64 }} {{ 'dXNlcg'|b64decode }}",
            "dXNlcjpwYXNz user",
        ),
        ("{{ 'x'|hmac_sha256('k')|length }}", "64"),
        (
            "{{ lead.corporate }}|{{ lead.none }}|{{ lead.half }}|{{ lead.big }}",
            "true||0.5|9007199254740993",
        ),
        ("{{ lead.tags }}", "[\"a\",\"b,c\"]"),
        (
            "{{ now }} {{ now.hour }} {{ now.weekday }} {{ now.unix }}",
            "2026-01-15T10:30:00Z 10 4 1768473000",
        ),
        ("{{ (now|tz('America/New_York')).hour }}", "5"),
        ("{{ lead.score|float * 2 + 1 }}", "171.0"),
        (
            "{{ merge(lead|pick('state'), {'id': event.id}) }}",
            "{\"state\":\"CA\",\"id\":\"e1\"}",
        ),
        ("{{ secrets.crm_key }}", "hunter2"),
        ("{{ secrets }}", "***"),
        (
            "{% for t in lead.tags %}{{ t }}{% if not loop.last %};{% endif %}{% endfor %}",
            "a;b,c",
        ),
        ("{{ lead.state.lower().startswith('c') }}", "true"),
        (
            "{{ '%05d'|format(lead.score) }} {{ lead.half|fixed(2) }}",
            "00085 0.50",
        ),
        ("line\n", "line\n"),
    ] {
        assert_eq!(rendered(text, Target::Text), expected, "{text}");
    }
}

/// C3: the same value in each place of each format.
#[test]
fn c3_values_are_escaped_for_their_place() {
    for (target, text, expected) in [
        (
            Target::Json,
            r#"{"e": "{{ lead.email }}"}"#,
            r#"{"e": "a\"b@example.com"}"#,
        ),
        (
            Target::Json,
            r#"{"e": {{ lead.email }}}"#,
            r#"{"e": "a\"b@example.com"}"#,
        ),
        (
            Target::Json,
            r#"{"s": {{ lead.score }}, "n": {{ lead.none }}, "t": "{{ lead.tags }}"}"#,
            r#"{"s": 85, "n": null, "t": "[\"a\",\"b,c\"]"}"#,
        ),
        (Target::Json, r#"{{ lead.tags|tojson }}"#, r#"["a","b,c"]"#),
        (
            Target::Json,
            r#"{"{{ lead.email }}": 1}"#,
            r#"{"a\"b@example.com": 1}"#,
        ),
        (
            Target::Json,
            r#"{"q": "\"{{ lead.state }}\\"}"#,
            r#"{"q": "\"CA\\"}"#,
        ),
        (
            Target::Xml,
            "<a b=\"{{ lead.email }}\">{{ '<&]]>' }}</a>",
            "<a b=\"a&quot;b@example.com\">&lt;&amp;]]&gt;</a>",
        ),
        (
            Target::Xml,
            "<![CDATA[{{ 'a]]>b' }}]]>",
            "<![CDATA[a]]]><![CDATA[]]]><![CDATA[>b]]>",
        ),
        (
            Target::Url,
            "https://x.example/{{ 'CA/../x?y#z' }}/v?s={{ 'a&b=c' }}",
            "https://x.example/CA%2F..%2Fx%3Fy%23z/v?s=a%26b%3Dc",
        ),
        (
            Target::Url,
            "{{ vars.base }}/leads/{{ lead.state }}",
            "https://api.example.com/v2/leads/CA",
        ),
        (Target::Header, "Bearer {{ secrets.crm_key }}", "Bearer hunter2"),
    ] {
        assert_eq!(rendered(text, target), expected, "{text}");
    }
}

/// C3: what no escaping can make right is an error, which names it.
#[test]
fn c3_what_cant_stand_there_is_an_error() {
    for (target, text, message) in [
        (Target::Json, r#"{"e": {{ lead.email }}"#, "is not JSON"),
        (
            Target::Json,
            r#"{"e": "\{{ lead.email }}"}"#,
            "right after a backslash",
        ),
        (Target::Xml, "<a {{ lead.state }}/>", "outside quotes"),
        (Target::Xml, "<!-- {{ lead.state }} -->", "inside a comment"),
        (Target::Xml, "<a>{{ '\u{1}' }}</a>", "U+0001"),
        (
            Target::Url,
            "https://x.example/{{ '..' }}/admin",
            "leads elsewhere",
        ),
        (
            Target::Url,
            "https://x.example/.{{ '.' }}/admin",
            "leads elsewhere",
        ),
        (
            Target::Url,
            "{{ lead.state }}://x.example/%2e{{ '.' }}",
            "leads elsewhere",
        ),
        (Target::Header, "{{ lead.crlf }}", "U+000D"),
        (
            Target::Text,
            "{{ lead.emial }}",
            "line 1, column 4: `lead.emial` is undefined",
        ),
        (Target::Text, "a\nb {{ lead.x >= 5 }}", "line 2, column"),
    ] {
        let outcome = rendered(text, target);
        assert!(
            outcome.starts_with("render: ") && outcome.contains(message),
            "{text}: {outcome:.300}"
        );
    }
}

/// Templates that could ask for more than there is are refused, and say what to write.
#[test]
fn what_has_no_bound_is_refused_at_load() {
    for (text, message) in [
        ("{% set s = 'a' %}", "{% set %} is not part of the language"),
        ("{% with s = 'a' %}{% endwith %}", "not part"),
        ("{% filter upper %}a{% endfilter %}", "not part"),
        ("{{ 'a' * 100000000 }}", "`*` multiplies numbers"),
        ("{{ lead.n * 2 }}", "|float"),
        ("{{ 'a'|uper }}", "did you mean `upper`?"),
        ("{{ namespace() }}", "no function"),
        ("{{ 'a'|safe }}", "no filter"),
        ("{% include 'x' %}", "can't be read"),
        (
            "{% for a in [data.s ~ data.s] %}{% endfor %}",
            "put together by ~",
        ),
        ("{{ lead.a || 'b' }}", "write `or`"),
        ("{{#each batch.leads}}{{/each}}", "can't be read"),
        ("{{ lead.a ? 1 : 2 }}", "if condition else"),
        ("\n {{ range }}", "line 2, column 5: `range` is a function"),
        ("a\0b", "control character"),
    ] {
        let outcome = rendered(text, Target::Text);
        assert!(
            outcome.starts_with("compile: ") && outcome.contains(message),
            "{text}: {outcome:.300}"
        );
    }
    for chain in ["-", "not ", "data."] {
        let outcome = rendered(&format!("{{{{ {}x }}}}", chain.repeat(9_000)), Target::Text);
        assert!(outcome.contains("too long"), "{outcome}");
    }
}

/// Hostile templates end with an error within bounds.
#[test]
fn what_costs_too_much_ends() {
    let chained = format!(
        "{{{{ 'aaaaaaaaaa'{} }}}}",
        "|replace('a', 'aaaaaaaaaa')".repeat(14)
    );
    for (text, message) in [
        (
            "{% for a in range(1000) %}{% for b in range(1000) %}{{ b }}{% endfor %}{% endfor %}",
            "steps",
        ),
        (&*chained, "bytes, at most"),
        ("{{ ['a']|join('x'|ljust(100000000)) }}", "width"),
        ("{{ '%1000000000d'|format(1) }}", "three digits"),
        (
            "{% for a in range(100000) %}{% endfor %}{% for a in range(1000) %}{{ range(100000)|sum }}{% endfor %}",
            "steps",
        ),
        (
            "{{ 'a'.join(range(100000)|map('string')) ~ 'x'.replace('x', 'y'|ljust(65536)).replace(' ', 'y'|ljust(65536)) }}",
            "bytes, at most",
        ),
    ] {
        let outcome = rendered(text, Target::Text);
        assert!(
            outcome.starts_with("render: ") && outcome.contains(message),
            "{text}: {outcome:.300}"
        );
    }
}

/// What is broken whatever the event holds is found without one; what an event may mend is not complained of.
#[test]
fn a_trial_finds_broken_documents() {
    for (target, text, message) in [
        (Target::Json, r#"{"a": {{ data.a }},}"#, "not JSON"),
        (Target::Json, r#"{"a": "{{ data.a }}}"#, "not JSON"),
        (Target::Xml, "<a><!-- {{ data.a }} --></a>", "inside a comment"),
        (Target::Xml, "<a>{{ data.a }}</a", "ends inside a tag"),
    ] {
        let problem = Template::compile(text, target).unwrap().trial().unwrap_err();
        assert!(problem.says.contains(message), "{text}: {problem}");
    }
    for (target, text) in [
        (
            Target::Json,
            r#"{"a": {{ data.a.b.c }}, "d": "{{ data.d|date('%Y') }}"}"#,
        ),
        (
            Target::Json,
            r#"[{% for x in data.list %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}]"#,
        ),
        (Target::Xml, "<a b='{{ data.a|upper }}'>{{ data.b|int + 1 }}</a>"),
        (Target::Url, "https://a.example/{{ data.a }}?b={{ data.b.c }}"),
    ] {
        assert_eq!(Template::compile(text, target).unwrap().trial(), Ok(()), "{text}");
    }
    assert!(
        Template::compile(r#"{"a": }"#, Target::Json).is_err(),
        "fixed text is checked at once"
    );
}

/// References of the configuration are data, whatever they hold, and never shown.
#[test]
fn references_are_data() {
    let parts = [
        Part::Written(r#"{"k": ""#),
        Part::Reference("{{ data.x }}\""),
        Part::Written(r#""}"#),
    ];
    let template = Template::compile_parts(&parts, Target::Json).unwrap();
    assert_eq!(template.render(&scope()).unwrap(), r#"{"k": "{{ data.x }}\""}"#);
    assert_eq!(template.render(&scope().masked()).unwrap(), r#"{"k": "***"}"#);
    assert!(template.has_secret() && !format!("{template:?}").contains("data.x"));
    let fixed = Template::compile_parts(
        &[Part::Written("Bearer "), Part::Reference("t0k")],
        Target::Header,
    )
    .unwrap();
    assert_eq!(fixed.fixed(), Some("Bearer t0k"));
    assert_eq!(fixed.render(&scope().masked()).unwrap(), "Bearer ***");
    let inside = [Part::Written("{{ '"), Part::Reference("x"), Part::Written("' }}")];
    assert!(
        Template::compile_parts(&inside, Target::Text)
            .unwrap_err()
            .help
            .contains("[secrets]")
    );
    for failing in [
        "{{ secrets.crm_key|int }}",
        "{{ secrets.crm_key - 1 }}",
        "{{ now|tz(secrets.crm_key) }}",
    ] {
        let template = Template::compile(failing, Target::Text).unwrap();
        let error = template.render(&scope()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{failing}: {error}");
        let expression = Expression::compile(failing.trim_matches(['{', '}', ' '])).unwrap();
        let error = expression.eval(&scope()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{failing}: {error}");
    }
    let masked = Template::compile("{{ secrets.crm_key|b64 }}", Target::Text).unwrap();
    assert_eq!(masked.render(&scope().masked()).unwrap(), "Kioq");
}

/// Expressions keep integers, lists and objects; conditions take what is missing for false.
#[test]
fn expressions_give_values() {
    let eval = |text: &str| to_json(&Expression::compile(text).unwrap().eval(&scope()).unwrap()).unwrap();
    assert_eq!(eval("data.big"), json!(9_007_199_254_740_993_u64));
    assert_eq!(eval("data.tags"), json!(["a", "b,c"]));
    assert_eq!(eval("{'a': data.score, 'b': none}"), json!({"a": 85, "b": null}));
    assert_eq!(
        eval("data.score >= 50 and data.state in ['CA', 'TX']"),
        json!(true)
    );
    assert_eq!(eval("now.hour < 9 or now.hour > 17"), json!(false));
    let test = |text: &str| Expression::compile(text).unwrap().test(&scope()).unwrap();
    assert!(!test("data.vip") && test("data.corporate") && test("data.vip is undefined"));
    let error = Expression::compile("data.nothing >= 50")
        .unwrap()
        .test(&scope())
        .unwrap_err();
    assert!(error.says.contains("`data.nothing` is undefined"), "{error}");
    assert!(Expression::compile("data.score >=").is_err());
    assert!(
        Expression::compile("{{ data.score }}")
            .unwrap_err()
            .help
            .contains("without")
    );
    assert_eq!(
        Expression::compile("data.state").unwrap().text(&scope()).unwrap(),
        "CA"
    );
}
