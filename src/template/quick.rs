//! Expressions that need no engine, because all they do is name values, compare them and join conditions: most of those
//! that users write. What is not there, or not as simple as it looked, is left to the engine, which has more to say of it.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::filters::{Change, change};
use super::members::Written;
use super::scope::Scope;
use super::sink::{JSON, TEXT, VERBATIM};

/// The longest text that is changed without the engine.
const CHANGED_BYTES_MAX: usize = 4 << 10;

/// Such an expression.
pub(super) enum Quick {
    /// A name and its members: `response.lead.id`.
    Named(Box<[Box<str>]>),
    Constant(Value),
    Not(Box<Self>),
    /// The second if the first holds, else the first.
    And(Box<[Self; 2]>),
    /// The first if it holds, else the second.
    Or(Box<[Self; 2]>),
    Compared(Comparison, Box<[Self; 2]>),
    /// A text made of one that is named.
    Changed(Change, Box<[Box<str>]>),
}

type Comparison = fn(&Value, &Value) -> bool;

impl Quick {
    /// `None`: it needs the engine.
    pub(super) fn of(expression: &Expr<'_>) -> Option<Self> {
        match expression {
            Expr::Var(_) | Expr::GetAttr(_) => path(expression).map(|path| Self::Named(path.into())),
            Expr::Const(constant) => Some(Self::Constant(constant.value.clone())),
            Expr::UnaryOp(operation) => match operation.op {
                UnaryOpKind::Not => Some(Self::Not(Box::new(Self::of(&operation.expr)?))),
                UnaryOpKind::Neg => None,
            },
            Expr::BinOp(operation) => {
                let both = Box::new([Self::of(&operation.left)?, Self::of(&operation.right)?]);
                match operation.op {
                    BinOpKind::ScAnd => Some(Self::And(both)),
                    BinOpKind::ScOr => Some(Self::Or(both)),
                    op => Some(Self::Compared(comparison(op)?, both)),
                }
            }
            Expr::Filter(filter) if filter.args.is_empty() => Some(Self::Changed(
                change(filter.name)?,
                path(filter.expr.as_ref()?)?.into(),
            )),
            _ => None,
        }
    }

    /// What is printed of it in `scope`, and which kind of text that is, without a value in between; `None`: that does not
    /// come easily.
    pub(super) fn printed<'a>(&'a self, scope: &'a Scope) -> Option<(char, Cow<'a, str>)> {
        match self {
            Self::Named(path) => Some(match scope.0.written(path)? {
                // What needs an escape is written with one.
                Written::Text(text) => (VERBATIM, text.into()),
                Written::Integer(digits) => (JSON, digits.into()),
            }),
            Self::Constant(value) => value.as_str().map(|text| (TEXT, text.into())),
            Self::Or(both) => {
                let first = both[0].printed(scope);
                first.filter(|(kind, text)| *kind != JSON && !text.is_empty())
            }
            Self::Changed(change, path) => {
                let Written::Text(text) = scope.0.written(path)? else {
                    return None;
                };
                Some((TEXT, changed(*change, text)?.into()))
            }
            Self::Not(_) | Self::And(_) | Self::Compared(..) => None,
        }
    }

    /// Its value in `scope`; `None`: something is not there or has no simple answer, so the engine has to find out.
    pub(super) fn value(&self, scope: &Scope) -> Option<Value> {
        Some(match self {
            Self::Named(path) => scope.0.follow(path)?,
            Self::Constant(value) => value.clone(),
            Self::Not(inner) => Value::from(!inner.value(scope)?.is_true()),
            Self::And(both) => {
                let first = both[0].value(scope)?;
                if first.is_true() {
                    both[1].value(scope)?
                } else {
                    first
                }
            }
            Self::Or(both) => {
                let first = both[0].value(scope)?;
                if first.is_true() {
                    first
                } else {
                    both[1].value(scope)?
                }
            }
            Self::Compared(how, both) => Value::from(how(&both[0].value(scope)?, &both[1].value(scope)?)),
            Self::Changed(change, path) => Value::from(changed(*change, scope.0.follow(path)?.as_str()?)?),
        })
    }
}

/// `None`: the text is long, and the engine counts what is done to long ones.
fn changed(change: Change, text: &str) -> Option<String> {
    (text.len() <= CHANGED_BYTES_MAX).then(|| change(text))
}

/// How the engine compares; `None`: `operator` does something else.
fn comparison(operator: BinOpKind) -> Option<Comparison> {
    Some(match operator {
        BinOpKind::Eq => |one, other| one == other,
        BinOpKind::Ne => |one, other| one != other,
        BinOpKind::Lt => |one, other| one < other,
        BinOpKind::Lte => |one, other| one <= other,
        BinOpKind::Gt => |one, other| one > other,
        BinOpKind::Gte => |one, other| one >= other,
        _ => return None,
    })
}

/// The parts of a name with members behind it.
fn path(expression: &Expr<'_>) -> Option<Vec<Box<str>>> {
    match expression {
        Expr::Var(name) => Some(vec![name.id.into()]),
        Expr::GetAttr(attribute) => {
            let mut parts = path(&attribute.expr)?;
            parts.push(attribute.name.into());
            Some(parts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse_expr;
    use serde_json::json;

    use super::*;
    use crate::template::engine::{ENGINE, shown};
    use crate::template::{from_json, to_json};

    fn by_engine(text: &str, scope: &Scope) -> Value {
        let code = ENGINE.env.compile_expression_owned(text.to_owned()).unwrap();
        code.eval(Value::from_dyn_object(scope.0.clone())).unwrap()
    }

    /// C4: what is worked out quickly is what the engine says of it.
    #[test]
    fn c4_quick_values_are_the_engines() {
        let values = json!({"n": 1, "half": 0.5, "big": 9007199254740993_i64, "none": null, "yes": true, "no": false,
            "empty": "", "text": "a", "list": [1], "nothing": [], "map": {"n": 1, "in": {"x": "y"}}});
        let scope = Scope::without_event(0).with("d", from_json(values));
        let engine = |text: &str| by_engine(text, &scope);
        let names = [
            "d.n",
            "d.half",
            "d.big",
            "d.none",
            "d.yes",
            "d.no",
            "d.empty",
            "d.text",
            "d.list",
            "d.map.in.x",
            "d.nothing",
            "1",
            "1.0",
            "'a'",
            "true",
            "none",
            "(not d.n)",
            "d.missing",
            "missing",
        ];
        for one in names {
            for other in names {
                for operator in ["and", "or", "==", "!=", "<", "<=", ">", ">="] {
                    let text = format!("{one} {operator} {other}");
                    let quick = Quick::of(&parse_expr(&text).unwrap());
                    let Some(quick) = quick.and_then(|quick| quick.value(&scope)) else {
                        assert!(text.contains("missing"), "{text}");
                        continue;
                    };
                    assert_eq!(
                        to_json(&quick).unwrap(),
                        to_json(&engine(&text)).unwrap(),
                        "{text}"
                    );
                }
            }
        }
        for filter in [
            "upper",
            "lower",
            "string",
            "digits",
            "urlencode",
            "squeeze",
            "trim",
        ] {
            for name in names {
                let text = format!("{name}|{filter}");
                let quick = parse_expr(&text).ok().and_then(|parsed| Quick::of(&parsed));
                let Some(value) = quick.and_then(|quick| quick.value(&scope)) else {
                    assert_ne!(name, "d.text", "{text}");
                    continue;
                };
                assert_eq!(value, engine(&text), "{text}");
            }
        }
        for text in [
            "d.list[0]",
            "d.text|upper|lower",
            "d.text|ljust(3)",
            "'a'|upper",
            "d.list|length",
            "-d.n",
            "1 < d.n < 2",
            "d.n in d.list",
            "d.n + 1",
            "d.text.upper()",
        ] {
            assert!(Quick::of(&parse_expr(text).unwrap()).is_none(), "{text}");
        }
    }

    /// C4: what is printed as it stands in the event is what is printed of its value.
    #[test]
    fn c4_what_is_printed_is_the_value() {
        let json = r#"{"id":"e","note":"x\"y","data":{"plain":" Ann  ü ","empty":"","escaped":"a\nb","n":5,"half":0.5,
            "nought":0,"minus":-7,"minus_nought":-0,"big":1234567890123456,"exp":1e3,
            "none":null,"list":["a"],"in":{"deep":"d","n":0},"long":"LONG"}}"#;
        let json = json.replace("LONG", &"x".repeat(CHANGED_BYTES_MAX + 1));
        let scope = Scope::new(json.into(), 0).bind("lead");
        let shadowed = scope.clone().with("lead", "another");
        let mut easy = 0;
        for text in [
            "event.id",
            "event.note",
            "event.data.plain",
            "data.plain",
            "lead.plain",
            "lead.plain|trim",
            "lead.plain|upper",
            "lead.empty",
            "lead.empty or 'none'",
            "lead.missing or 'none'",
            "lead.plain or lead.empty",
            "lead.escaped",
            "lead.escaped|squeeze",
            "lead.n",
            "lead.n or 1",
            "lead.nought",
            "lead.nought or 1",
            "lead.minus",
            "lead.minus_nought",
            "lead.big",
            "lead.exp",
            "lead.in.n",
            "lead.n|digits",
            "lead.half",
            "lead.none",
            "lead.list",
            "lead.in.deep",
            "lead.long",
            "lead.long|upper",
            "lead",
            "'text'",
            "not lead.plain",
            "missing",
        ] {
            for scope in [&scope, &shadowed] {
                let quick = Quick::of(&parse_expr(text).unwrap()).unwrap();
                let Some((kind, taken)) = quick.printed(scope) else {
                    continue;
                };
                easy += 1;
                let value = by_engine(text, scope);
                let (expected_kind, expected) = shown(&value).unwrap();
                assert_eq!(taken, expected, "{text}");
                let is_text = [TEXT, VERBATIM].contains(&kind);
                assert_eq!(is_text, expected_kind == TEXT, "{text}");
                let escaped = to_json(&value).unwrap().to_string();
                assert!(kind != VERBATIM || escaped == format!("\"{taken}\""), "{text}");
            }
        }
        assert_eq!(easy, 17, "of those there are so many");
    }
}
