//! What an answer can be searched by: the methods of `response`, and what they are given. Whatever of it is written out in
//! a template or an expression is tried when that is compiled. Knows no answers.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};
use uppsala::xpath::XPathEvaluator;

/// The methods, each of which takes one text.
const METHODS: [&str; 3] = ["xpath", "split", "match"];
/// Nodes that one XPath may look at.
const XPATH_VISITS_MAX: usize = 200_000;
/// Size of one compiled regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Compiled regular expressions that are kept.
const REGEXES_MAX: usize = 256;

/// Looks for XPaths, within bounds.
#[must_use]
pub fn xpaths() -> XPathEvaluator {
    XPathEvaluator::new().with_max_node_visits(XPATH_VISITS_MAX)
}

/// The compiled `pattern`: compiling takes far longer than searching, and a configuration has few of them.
///
/// # Errors
/// One sentence saying what is wrong with it.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = compiled.get(pattern) {
        return Ok(known.clone());
    }
    let new = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| format!("match({pattern:?}): {error}"))?;
    if compiled.len() < REGEXES_MAX {
        compiled.insert(pattern.to_owned(), new.clone());
    }
    Ok(new)
}

/// Whether an answer can be asked for `method`, with `argument` where that is written out.
///
/// # Errors
/// One sentence saying why not.
pub(super) fn check(method: &str, argument: Option<&str>) -> Result<(), String> {
    match (method, argument) {
        ("match", Some(pattern)) => regex(pattern).map(drop),
        ("xpath", Some(path)) => {
            let nothing = uppsala::parse_bytes(b"<a/>").map_err(|error| error.to_string())?;
            let found = xpaths().evaluate(&nothing, nothing.root(), path);
            found
                .map(drop)
                .map_err(|error| format!("xpath({path:?}): {error}"))
        }
        (known, _) if METHODS.contains(&known) => Ok(()),
        _ => Err(format!(
            "an answer has no method `{method}`; there are {}",
            METHODS.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Expression, Target, Template};

    /// C4, E3: what an answer is searched by is looked at when the configuration is, not when the answer is there.
    #[test]
    fn c4_e3_searches_are_checked_when_they_are_compiled() {
        for (text, expected) in [
            ("response.xpath('//Id')", ""),
            ("response.xpath('//p:Id[@a=\\'b\\']')", ""),
            ("response.xpath(data.path)", ""),
            ("response.match('^a+(b)$')[1]", ""),
            ("response.split('|')[1]", ""),
            ("response.lead.name.upper()", ""),
            ("response.xpath('//[')", "xpath("),
            ("response.match('(')", "match("),
            ("response.mtch('a')", "no method `mtch`"),
            ("response.body.xpath('//[')", ""),
        ] {
            let compiled = Expression::compile(text);
            let says = compiled.err().map_or(String::new(), |problem| problem.says);
            assert_eq!(says.is_empty(), expected.is_empty(), "{text}: {says}");
            assert!(says.contains(expected), "{text}: {says}");
            let template = Template::compile(&format!("{{{{ {text} }}}}"), Target::Text);
            assert_eq!(template.is_ok(), expected.is_empty(), "{text}");
        }
    }
}
