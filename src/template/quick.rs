//! Expressions that need no engine, because all they do is name values, compare them and join conditions: most of those
//! that users write. What is not there, or not as simple as it looked, is left to the engine, which has more to say of it.

use minijinja::Value;
use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::scope::Scope;

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
            _ => None,
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
        })
    }
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
    use crate::template::engine::ENGINE;
    use crate::template::{from_json, to_json};

    /// C4: what is worked out quickly is what the engine says of it.
    #[test]
    fn c4_quick_values_are_the_engines() {
        let values = json!({"n": 1, "half": 0.5, "big": 9007199254740993_i64, "none": null, "yes": true, "no": false,
            "empty": "", "text": "a", "list": [1], "nothing": [], "map": {"n": 1, "in": {"x": "y"}}});
        let scope = Scope::without_event(0).with("d", from_json(values));
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
                    let code = ENGINE.env.compile_expression_owned(text.clone()).unwrap();
                    let whole = code.eval(Value::from_dyn_object(scope.0.clone())).unwrap();
                    assert_eq!(to_json(&quick).unwrap(), to_json(&whole).unwrap(), "{text}");
                }
            }
        }
        for text in [
            "d.list[0]",
            "d.text|upper",
            "-d.n",
            "1 < d.n < 2",
            "d.n in d.list",
            "d.n + 1",
            "d.text.upper()",
        ] {
            assert!(Quick::of(&parse_expr(text).unwrap()).is_none(), "{text}");
        }
    }
}
