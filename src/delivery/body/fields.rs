//! Field mapping: names on the endpoint's side, values from the event.
//!
//! A value that is not there (undefined) leaves its field out; `null` stays `null` in JSON and is empty elsewhere.

use serde_json::{Map, Value as Json};

use crate::domain::endpoint::Fields;
use crate::template::{Expression, Scope, to_json};

/// A JSON object of `fields`; dotted names make objects inside it.
pub(super) fn json(fields: &Fields, scope: &Scope, event: &[u8]) -> Result<String, String> {
    let mapped = match fields {
        Fields::Data => return super::data(event),
        Fields::Mapped(list) => list,
    };
    let mut root = Branch::default();
    for (name, expression) in mapped {
        if let Some(value) = value(name, expression, scope)? {
            root.insert(name, value);
        }
    }
    let mut text = String::new();
    root.write(&mut text);
    Ok(text)
}

/// `fields` as a form.
pub(super) fn form(fields: &Fields, scope: &Scope, event: &[u8]) -> Result<String, String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in texts(fields, scope, event)? {
        if let Some(text) = value {
            form.append_pair(&name, &text);
        }
    }
    Ok(form.finish())
}

/// A field: its name, and its value as text if it has one.
type Named = (Box<str>, Option<String>);

/// Names and values as text, in order; `None` where there is no value.
pub(super) fn texts(fields: &Fields, scope: &Scope, event: &[u8]) -> Result<Vec<Named>, String> {
    match fields {
        Fields::Data => {
            let members: Map<String, Json> = serde_json::from_str(&super::data(event)?).map_err(|_| {
                "data is not an object, so it has no fields: name them under body.fields".to_owned()
            })?;
            let of = |(name, value): (String, Json)| (name.into_boxed_str(), Some(text(value)));
            Ok(members.into_iter().map(of).collect())
        }
        Fields::Mapped(list) => list
            .iter()
            .map(|(name, expression)| Ok((name.clone(), value(name, expression, scope)?.map(text))))
            .collect(),
    }
}

/// The value of the field `name`; `None`: it is not there.
pub(super) fn value(name: &str, expression: &Expression, scope: &Scope) -> Result<Option<Json>, String> {
    let failed = |problem| format!("body.fields.{name}: {problem}");
    let value = expression.eval(scope).map_err(failed)?;
    if value.is_undefined() {
        return Ok(None);
    }
    to_json(&value).map(Some).map_err(failed)
}

/// A value where only text can stand: nothing for null, JSON for what is not a text.
pub(super) fn text(value: Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// An object whose members stay in their order.
#[derive(Default)]
struct Branch(Vec<(String, Node)>);

enum Node {
    Leaf(Json),
    Branch(Branch),
}

impl Branch {
    /// Puts `value` at the dotted `path`; what stood there gives way.
    fn insert(&mut self, path: &str, value: Json) {
        let (head, rest) = match path.split_once('.') {
            Some((head, rest)) => (head, Some(rest)),
            None => (path, None),
        };
        let index = self
            .0
            .iter()
            .position(|(name, _)| name == head)
            .unwrap_or_else(|| {
                self.0.push((head.to_owned(), Node::Branch(Self::default())));
                self.0.len() - 1
            });
        let node = &mut self.0[index].1;
        match rest {
            None => *node = Node::Leaf(value),
            Some(rest) => {
                if let Node::Leaf(_) = node {
                    *node = Node::Branch(Self::default());
                }
                if let Node::Branch(branch) = node {
                    branch.insert(rest, value);
                }
            }
        }
    }

    fn write(&self, text: &mut String) {
        text.push('{');
        for (index, (name, node)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&Json::from(&**name).to_string());
            text.push(':');
            match node {
                Node::Leaf(value) => text.push_str(&value.to_string()),
                Node::Branch(branch) => branch.write(text),
            }
        }
        text.push('}');
    }
}
