//! An answer as templates and expressions see it, under the name `response`. Pure; the body is parsed, and the headers
//! are listed, when somebody first asks for them, and once.
//!
//! `status_code`, `headers`, `body` and `text` are always ours; every other name is a member of the parsed body, so a
//! body's own `status_code` is `response.body.status_code`. The methods look at the text: `xpath("//Id")`, `split("|")`
//! and `match("regex")`. Whatever is asked of a hostile answer has a bound: its bytes, its depth, the steps of a
//! search, and how often it is searched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use minijinja::value::{Enumerator, ObjectRepr};
use minijinja::{Error, ErrorKind, State};
use uppsala::dom::Document;
use uppsala::xpath::{XPathEvaluator, XPathValue};

use super::fields::Fields;
use super::send::Answer;
use crate::domain::endpoint::Parse;
use crate::template::{Object, Scope, Value, json_value, search};

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest XML that is parsed, in bytes.
const XML_BYTES_MAX: usize = 256 << 10;
/// The longest tag in it, in bytes: the parser compares each attribute of a tag with all others.
const TAG_BYTES_MAX: usize = 8 << 10;
/// Parts that a text is split into; the last one is the rest.
const PARTS_MAX: usize = 10_000;
/// Method calls on one answer: each may look at all of it.
const CALLS_MAX: u32 = 1000;

/// One answer.
pub struct Response {
    status: u16,
    headers: Arc<Fields>,
    headers_seen: OnceLock<Value>,
    bytes: Bytes,
    text: OnceLock<Arc<str>>,
    parse: Parse,
    body: OnceLock<Result<Value, String>>,
    xml: OnceLock<Result<Xml, String>>,
    calls: AtomicU32,
}

impl Response {
    /// Wraps `answer`, whose body is taken for what `parse` says.
    #[must_use]
    pub fn new(answer: &Answer, parse: Parse) -> Self {
        Self {
            status: answer.status.as_u16(),
            headers: Arc::clone(&answer.headers),
            headers_seen: OnceLock::new(),
            bytes: answer.body.clone(),
            text: OnceLock::new(),
            parse,
            body: OnceLock::new(),
            xml: OnceLock::new(),
            calls: AtomicU32::new(0),
        }
    }

    /// `scope` where `answer` is known as `response`, and what [`Response::check`] says of it.
    pub fn seen(scope: Scope, answer: &Answer, parse: Parse) -> (Scope, Result<(), String>) {
        let response = Self::new(answer, parse);
        let parsed = response.check();
        let scope = scope.with("response", Value::from_object(response));
        (scope.weighing(answer.body.len()), parsed)
    }

    /// Whether the body is what it was said to be; anything is, unless `parse` demands JSON or XML.
    ///
    /// # Errors
    /// One sentence saying why it is not.
    pub fn check(&self) -> Result<(), String> {
        match self.parse {
            Parse::Json => self.body().as_ref().map(|_| ()).map_err(Clone::clone),
            Parse::Xml => self.xml().as_ref().map(|_| ()).map_err(Clone::clone),
            Parse::Auto | Parse::Text | Parse::None => Ok(()),
        }
    }

    fn body(&self) -> &Result<Value, String> {
        self.body.get_or_init(|| match self.parse {
            Parse::None => Ok(Value::UNDEFINED),
            Parse::Json => self.json(),
            Parse::Auto if is_json(&self.headers) => self.json().or_else(|_| Ok(self.whole())),
            Parse::Auto | Parse::Xml | Parse::Text => Ok(self.whole()),
        })
    }

    fn json(&self) -> Result<Value, String> {
        let bytes = match std::str::from_utf8(&self.bytes) {
            Ok(_) => self.bytes.clone(),
            Err(_) => Bytes::copy_from_slice(self.text().as_bytes()),
        };
        // A parser may ignore a byte order mark (RFC 8259, section 8.1).
        let begin = if bytes.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let bytes = bytes.slice(begin..);
        json_value(bytes).map_err(|error| format!("the answer is not JSON: {error}"))
    }

    /// The body as text; what is not UTF-8 in it is replaced.
    fn text(&self) -> &Arc<str> {
        self.text
            .get_or_init(|| String::from_utf8_lossy(&self.bytes).into())
    }

    fn whole(&self) -> Value {
        Value::from(Arc::clone(self.text()))
    }

    fn xml(&self) -> &Result<Xml, String> {
        self.xml.get_or_init(|| Xml::parse(self.text()))
    }

    /// What `path` finds: the text of the first node, or the value; undefined when it finds nothing.
    fn xpath(&self, path: &str) -> Result<Value, String> {
        let Xml { document, evaluator } = self.xml().as_ref().map_err(Clone::clone)?;
        let found = evaluator.evaluate(document, document.root(), path);
        Ok(
            match found.map_err(|error| format!("xpath({path:?}): {error}"))? {
                XPathValue::Boolean(holds) => Value::from(holds),
                XPathValue::Number(number) => Value::from(number),
                XPathValue::String(text) => Value::from(text),
                XPathValue::NodeSet(nodes) => nodes.first().map_or(Value::UNDEFINED, |first| {
                    Value::from(XPathValue::NodeSet(vec![*first]).to_string_value(document))
                }),
            },
        )
    }

    fn split(&self, separator: &str) -> Result<Value, String> {
        if separator.is_empty() {
            return Err("split needs a text to split at".to_owned());
        }
        Ok(self
            .text()
            .splitn(PARTS_MAX, separator)
            .map(Value::from)
            .collect())
    }

    /// The whole match and its groups; an empty list when there is none.
    fn find(&self, pattern: &str) -> Result<Value, String> {
        let groups = search::regex(pattern)?.captures(self.text());
        let text = |group: Option<regex::Match<'_>>| group.map(|group| Value::from(group.as_str()));
        Ok(groups
            .iter()
            .flat_map(|groups| groups.iter())
            .map(|group| text(group).unwrap_or(Value::from(())))
            .collect())
    }

    fn search(&self, method: &str, argument: &str) -> Option<Result<Value, String>> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX {
            return Some(Err(format!("the answer is searched more than {CALLS_MAX} times")));
        }
        match method {
            "xpath" => Some(self.xpath(argument)),
            "split" => Some(self.split(argument)),
            "match" => Some(self.find(argument)),
            _ => None,
        }
    }
}

/// An answer's XML, and what searches it.
struct Xml {
    document: Document<'static>,
    evaluator: XPathEvaluator,
}

impl Xml {
    /// Paths name things as the document does: prefixes stand for what they are first declared as, and a name without one is
    /// found in whatever namespace is the default, which XPath itself has no way to say (XPath 1.0, section 2.3).
    fn parse(text: &str) -> Result<Self, String> {
        check_xml(text)?;
        let parsed = uppsala::parse_bytes(text.as_bytes());
        let mut document = parsed.map_err(|error| format!("the answer is not XML: {error}"))?;
        let mut prefixes: BTreeMap<String, String> = BTreeMap::new();
        for node in document.descendants(document.root()) {
            let Some(element) = document.element_mut(node) else {
                continue;
            };
            if element.name.prefix.is_none() {
                element.name.namespace_uri = None;
            }
            for (prefix, uri) in &element.namespace_declarations {
                prefixes
                    .entry(prefix.to_string())
                    .or_insert_with(|| uri.to_string());
            }
        }
        document.prepare_xpath();
        let mut evaluator = search::xpaths();
        prefixes
            .into_iter()
            .for_each(|(prefix, uri)| evaluator.add_namespace(prefix, uri));
        Ok(Self { document, evaluator })
    }
}

/// By its status: what an answer says may be private.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[response {}]", self.status)
    }
}

impl Object for Response {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "status_code" => Some(Value::from(self.status)),
            "headers" => Some(self.headers_seen.get_or_init(|| headers(&self.headers)).clone()),
            "text" => Some(self.whole()),
            "body" => self.body().clone().ok(),
            _ => {
                let member = self.body().as_ref().ok()?.get_attr(key).ok()?;
                (!member.is_undefined()).then_some(member)
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let [argument] = args else {
            let says = "xpath, split and match each take one text";
            return Err(Error::new(ErrorKind::InvalidOperation, says));
        };
        let text = argument
            .as_str()
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{method} takes a text")))?;
        match self.search(method, text) {
            Some(found) => found.map_err(|says| Error::new(ErrorKind::InvalidOperation, says)),
            None => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// By lower-case names; the values of one name with commas between them (RFC 9110, section 5.3).
fn headers(headers: &Fields) -> Value {
    let joined = |name: &http::HeaderName| {
        let texts: Vec<_> = headers
            .get_all(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        Value::from(texts.join(", "))
    };
    Value::from_pairs(
        headers
            .iter()
            .map(|(name, _)| (name.as_str().to_owned(), joined(name))),
    )
}

/// Whether the body of `answer` looks like JSON and is not taken for it.
pub fn is_unread_json(answer: &Answer, parse: Parse) -> bool {
    let begins = answer.body.trim_ascii_start().first();
    parse == Parse::Auto && !is_json(&answer.headers) && matches!(begins, Some(b'{' | b'['))
}

/// Whether the content type says JSON (RFC 6839, section 3.1, for `+json`).
fn is_json(headers: &Fields) -> bool {
    let content_type = headers.get(&CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim();
    let (_, suffix) = essence.rsplit_once('+').unwrap_or_default();
    let are = ["application/json", "text/json"];
    are.iter().any(|name| essence.eq_ignore_ascii_case(name)) || suffix.eq_ignore_ascii_case("json")
}

/// Refuses XML that could take long or grow in the parser.
fn check_xml(text: &str) -> Result<(), String> {
    if text.len() > XML_BYTES_MAX {
        return Err(format!("the answer has more than {XML_BYTES_MAX} bytes of XML"));
    }
    if text.contains("<!DOCTYPE") {
        return Err("the answer is XML with a <!DOCTYPE>, which is refused".to_owned());
    }
    let longest = text.split('<').skip(1).map(tag_bytes).max().unwrap_or(0);
    if longest > TAG_BYTES_MAX {
        return Err(format!(
            "the answer is XML with a tag of more than {TAG_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// Bytes from behind a `<` to the `>` outside quotes that ends its tag. Comments and character data are no tags.
fn tag_bytes(after: &str) -> usize {
    if after.starts_with('!') {
        return 0;
    }
    let mut quote = None;
    for (at, byte) in after.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    after.len()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, StatusCode};

    use super::*;
    use crate::template::{Expression, to_json_text};

    fn answer(content_type: &str, body: &str) -> Answer {
        let headers = [
            (CONTENT_TYPE, content_type.parse().unwrap()),
            (HeaderName::from_static("x-id"), "7".parse().unwrap()),
        ];
        Answer {
            status: StatusCode::CREATED,
            headers: headers.into_iter().collect::<Fields>().into(),
            body: body.to_owned().into(),
            is_cut: false,
            broken: None,
        }
    }

    fn eval(answer: &Answer, parse: Parse, expression: &str) -> Result<String, String> {
        let response = Value::from_object(Response::new(answer, parse));
        let scope = Scope::without_event(0).with("response", response);
        let value = Expression::compile(expression).unwrap().eval(&scope);
        let value = value.map_err(|error| error.to_string())?;
        Ok(match value.is_undefined() {
            true => "undefined".to_owned(),
            false => to_json_text(&value).unwrap(),
        })
    }

    const JSON: &str =
        r#"{"status":"created","status_code":9,"lead":{"id":"12345","score":87,"tags":["a",{"b":1.5}]}}"#;
    const XML: &str =
        "<response><status ok='yes'>success</status><leadId>12345</leadId><leadId>2</leadId></response>";

    /// E3: members of a JSON body by their paths, numbers, objects and arrays as what they are; our names go first.
    #[test]
    fn e3_paths_into_json() {
        let answer = answer("application/json; charset=utf-8", JSON);
        for (expression, expected) in [
            ("response.status", r#""created""#),
            ("response.lead.id", r#""12345""#),
            ("response.lead.score", "87"),
            ("response.lead.tags", r#"["a",{"b":1.5}]"#),
            ("response.lead.tags[1]", r#"{"b":1.5}"#),
            ("response.status_code", "201"),
            ("response.body.status_code", "9"),
            ("response.headers['x-id']", r#""7""#),
            ("response.nothing", "undefined"),
            ("response.text|length", "94"),
            ("response.match('\"id\":\"([0-9]+)\"')[1]", r#""12345""#),
        ] {
            let expected = expected.replace("94", &JSON.len().to_string());
            assert_eq!(
                eval(&answer, Parse::Auto, expression),
                Ok(expected),
                "{expression}"
            );
        }
    }

    /// E3: XPath, split text and regular expressions.
    #[test]
    fn e3_xpath_split_and_match() {
        let xml = answer("text/xml", XML);
        let text = answer("text/plain", "ok|12345|87");
        for (answer, expression, expected) in [
            (&xml, "response.xpath('//leadId')", r#""12345""#),
            (&xml, "response.xpath('//status/@ok')", r#""yes""#),
            (&xml, "response.xpath('count(//leadId)')", "2.0"),
            (&xml, "response.xpath('//none')", "undefined"),
            (&xml, "response.body[:10]", r#""<response>""#),
            (&text, "response.split('|')[1]", r#""12345""#),
            (&text, "response.split('|')", r#"["ok","12345","87"]"#),
            (
                &text,
                r"response.match('(\\d+)\\|(x)?')",
                r#"["12345|","12345",null]"#,
            ),
            (&text, "response.match('none')", "[]"),
            (&text, "response.match('none')[1]", "undefined"),
            (&text, "response.body", r#""ok|12345|87""#),
        ] {
            assert_eq!(
                eval(answer, Parse::Auto, expression).as_deref(),
                Ok(expected),
                "{expression}"
            );
        }
        let spaced = answer(
            "text/xml",
            "<soap:Envelope xmlns:soap='urn:s'><soap:Body><Lead xmlns='urn:l' xmlns:p='urn:p'><Id>7</Id><p:Id>8</p:Id></Lead>\
             </soap:Body></soap:Envelope>",
        );
        for (expression, expected) in [
            ("response.xpath('/soap:Envelope/soap:Body/Lead/Id')", r#""7""#),
            ("response.xpath('//p:Id')", r#""8""#),
            ("response.xpath('//Body')", "undefined"),
        ] {
            let found = eval(&spaced, Parse::Auto, expression);
            assert_eq!(found.as_deref(), Ok(expected), "{expression}");
        }
        for (answer, expression, expected) in [
            (&text, "response.xpath('//a')", "not XML"),
            (&xml, "response.xpath('//' ~ '[')", "xpath("),
            (&text, "response.match('(' ~ '')", "match("),
            (&text, "response.split('')", "a text to split at"),
            (&text, "[response][0].find('x')", "no method named find"),
            (&text, "response.match(5)", "takes a text"),
            (&text, "response.match()", "one text"),
        ] {
            let found = eval(answer, Parse::Auto, expression).unwrap_err();
            assert!(found.contains(expected), "{expression}: {found}");
        }
    }

    /// E3: what a body is taken for, and what is demanded of it.
    #[test]
    fn e3_bodies_are_taken_for_what_parse_says() {
        for (content_type, body, parse, is_fine, shown) in [
            ("application/json", "[1]", Parse::Auto, true, "[1]"),
            ("application/problem+json", "[1]", Parse::Auto, true, "[1]"),
            ("application/json", "\u{feff}[1]", Parse::Json, true, "[1]"),
            ("application/json", "[1", Parse::Auto, true, r#""[1""#),
            ("text/plain", "[1]", Parse::Auto, true, r#""[1]""#),
            ("text/plain", "[1]", Parse::Json, true, "[1]"),
            ("application/json", "[1", Parse::Json, false, "undefined"),
            ("application/json", "", Parse::Json, false, "undefined"),
            ("application/json", "[1]", Parse::Text, true, r#""[1]""#),
            ("application/json", "[1]", Parse::None, true, "undefined"),
            ("text/html", "<a/>", Parse::Xml, true, r#""<a/>""#),
            ("text/xml", "<a>", Parse::Xml, false, r#""<a>""#),
        ] {
            let answer = answer(content_type, body);
            assert_eq!(
                Response::new(&answer, parse).check().is_ok(),
                is_fine,
                "{body} {parse:?}"
            );
            assert_eq!(
                eval(&answer, parse, "response.body").as_deref(),
                Ok(shown),
                "{body} {parse:?}"
            );
        }
    }

    /// E3: a body that says it is JSON and is not UTF-8 can still be read, but for what is wrong in it.
    #[test]
    fn e3_what_is_not_utf8_is_replaced() {
        let mut answer = answer("application/json", "");
        answer.body = Bytes::from_static(b"{\"message\":\"caf\xe9\",\"id\":7}");
        for (expression, expected) in [
            ("response.message", "\"caf\u{fffd}\""),
            ("response.id", "7"),
            ("response.text[12:15]", "\"caf\""),
        ] {
            assert_eq!(eval(&answer, Parse::Auto, expression).as_deref(), Ok(expected));
        }
    }

    /// E6: answers that would take long or grow are refused before they are parsed; searching has a bound.
    #[test]
    fn e6_hostile_answers_are_refused() {
        let long_tag = format!("<a {}/>", "b='' ".repeat(TAG_BYTES_MAX / 5 + 1));
        let quoted = format!("<a b='{}'/>", ">".repeat(TAG_BYTES_MAX + 1));
        let long = format!("<a>{}</a>", "x".repeat(XML_BYTES_MAX));
        let deep = format!("{}{}", "<a>".repeat(10_000), "</a>".repeat(10_000));
        for (xml, expected) in [
            ("<!DOCTYPE a><a/>", "DOCTYPE"),
            (&long_tag, "a tag of more"),
            (&quoted, "a tag of more"),
            (&long, "bytes of XML"),
            (&deep, "not XML"),
        ] {
            let found = Response::new(&answer("text/xml", xml), Parse::Xml)
                .check()
                .unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
        let huge = eval(
            &answer("text/plain", "x"),
            Parse::Auto,
            "response.match('(a{1000}' ~ '){1000}')",
        );
        assert!(huge.unwrap_err().contains("match("));
        let response = Response::new(&answer("text/plain", "a"), Parse::Auto);
        let calls = (0..=CALLS_MAX).map(|_| response.search("split", "|").unwrap().is_ok());
        assert_eq!(calls.filter(|fine| *fine).count(), CALLS_MAX as usize);
    }
}
