//! Large events and careless templates: each rendering ends by itself, with an error of a bound or with a result within
//! the bounds.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::limits::BODY_BYTES_MAX;
use super::super::{Scope, Target, Template};

/// About a MiB: a long text, a list of 100,000 items, a wide object, a deep one.
fn large() -> Bytes {
    let wide = (0..10_000).map(|n| (format!("key{n}"), Value::from(n))).collect();
    let deep = (0..50).fold(json!("end"), |inner, _| json!({ "a": [inner] }));
    let event = json!({ "type": "large", "data": {
        "text": "x".repeat(300_000), "list": vec![1; 100_000], "words": vec!["word"; 20_000],
        "wide": Value::Object(wide), "deep": deep,
    }});
    Bytes::from(event.to_string())
}

/// What has to stop a rendering.
#[derive(Debug)]
enum Stopped {
    /// Nothing: it ends, and stays within the bytes.
    Not,
    /// The steps, or the bytes that filters look at.
    BySteps,
    /// The length of what it makes, or of what one filter makes.
    ByBytes,
}

/// C4: none of them is stopped by a clock.
#[test]
fn c4_careless_templates_on_large_events_end() {
    use Stopped::{ByBytes, BySteps, Not};
    let side_by_side = format!("{{{{ data.text{} }}}}", " ~ data.text".repeat(60));
    let many = vec!["data.text"; 140].join(", ");
    let (printed, titled) = (
        format!("{{{{ [{many}] }}}}"),
        format!("{{{{ [{many}]|title|length }}}}"),
    );
    let as_json = format!("{{% for one in [[{many}]] %}}{{{{ one|tojson|length }}}}{{% endfor %}}");
    let copied = format!("{{{{ ([{many}] ~ '' ~ '' ~ '')|length }}}}");
    let scope = Scope::new(large(), 0);
    for (text, stopped) in [
        ("{% for a in data.list %}{{ a }},{% endfor %}", BySteps),
        (
            "{% for a in data.list %}{% for b in data.list %}{% for c in data.list %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
            BySteps,
        ),
        (
            "{% for a in data.list %}{% if a in data.list and 'y' in data.text %}1{% endif %}{% endfor %}",
            BySteps,
        ),
        ("{% for a in data.list %}{{ data.list|sum }}{% endfor %}", BySteps),
        (
            "{% for a in data.wide|items %}{{ a[0] }}={{ a[1] }};{% endfor %}",
            BySteps,
        ),
        (
            "{% for a in data.words %}{{ data.text|replace('y', 'z')|length }}{% endfor %}",
            BySteps,
        ),
        ("{% for a in data.list %}{{ data.text }}{% endfor %}", ByBytes),
        ("{{ data.words|join(data.text) }}", ByBytes),
        ("{{ data.text|replace('x', data.text) }}", ByBytes),
        ("{{ data.text|replace('', data.text) }}", ByBytes),
        (&side_by_side, ByBytes),
        (&printed, ByBytes),
        (&titled, ByBytes),
        (&as_json, ByBytes),
        (&copied, ByBytes),
        ("{{ data.words|join(',') }}", Not),
        ("{{ data.list|unique|join(',') }}", Not),
        ("{{ data.text|upper|b64 }}", Not),
        ("{{ data.wide|tojson }}{{ data.deep }}", Not),
        ("{{ data.words[5] in data.words }}", Not),
        ("{{ event }}", Not),
    ] {
        let rendered = Template::compile(text, Target::Text).unwrap().render(&scope);
        let says = rendered.as_ref().err().map_or("", |error| &error.says);
        let holds = match stopped {
            Not => rendered.as_ref().is_ok_and(|text| text.len() <= BODY_BYTES_MAX),
            BySteps => says.contains("more steps"),
            ByBytes => says.contains("bytes"),
        };
        let length = rendered.as_ref().map(String::len);
        assert!(holds, "{text:.80}: {stopped:?}, but {length:?}");
    }
}

/// C4: a list of lists of lists would be as large as the product of their lengths, however small the event is.
#[test]
fn c4_lists_that_are_written_out_do_not_multiply() {
    for (text, is_fine) in [
        (
            "{% for a in [[data.x, data.x]] %}{% for b in [[a, a]] %}{{ b|length }}{% endfor %}{% endfor %}",
            false,
        ),
        (
            "{% for a in [[data.x]] %}{% for b in a %}{% for c in [b, b] %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
            false,
        ),
        (
            "{% for a in [[data.x]] %}{% for b in dict(c=a) %}{{ b }}{% endfor %}{% endfor %}",
            false,
        ),
        (
            "{% for a in data.list %}{% for b in [['x', a.x], ['y', a.y]] %}{{ b[0] }}{{ b[1] }}{% endfor %}{% endfor %}",
            true,
        ),
        (
            "{% for a in [[data.x]] %}{% for b in a %}{{ [b, b]|join }}{% endfor %}{% endfor %}",
            true,
        ),
        (
            "{% for a in ['x', 'y'] %}{% for b in [a, data.z] %}{{ b }}{% endfor %}{% endfor %}",
            true,
        ),
        (
            "{% for a in [data.x] %}{% endfor %}{% for a in data.list %}{% for b in [a] %}{% endfor %}{% endfor %}",
            true,
        ),
    ] {
        let compiled = Template::compile(text, Target::Text);
        let says = compiled.as_ref().err().map_or("", |problem| &problem.says);
        assert_eq!(says.is_empty(), is_fine, "{text}: {says}");
        assert!(is_fine || says.contains("written out"), "{text}: {says}");
    }
}
