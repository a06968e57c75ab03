//! A template that is only text and printed values, taken apart so that it needs no engine: texts go to the sink as they
//! are, and what is [`Quick`] is worked out at once. Whatever does not go smoothly here is left to the engine, which has
//! more to say about it.

use minijinja::Value;
use minijinja::machinery::{Token, parse_expr, tokenize};

use super::engine::{ENGINE, shown, syntax};
use super::quick::Quick;
use super::scope::Scope;
use super::sink::{Sink, TEXT};
use super::target::Target;

/// Printed values that need the engine, each with the bounds of a rendering of its own.
const COMPUTED_MAX: usize = 8;
/// Events above it are left to the engine, which gives them less fuel.
const EVENT_BYTES_MAX: usize = 16 << 10;

/// The pieces of a template in their order.
pub(super) struct Pieces(Vec<Piece>);

enum Piece {
    Text(Box<str>),
    /// What needs no engine either.
    Quick(Quick),
    /// Anything else between braces.
    Computed(minijinja::Expression<'static, 'static>),
}

impl Pieces {
    /// Takes `source` apart, which has passed the lint; `None`: there is more in it than text and printed values.
    pub(super) fn of(source: &str) -> Option<Self> {
        let (mut pieces, mut begin, mut computed) = (Vec::new(), None, 0);
        for token in tokenize(source, false, syntax()) {
            match token.ok()? {
                (Token::TemplateData(text), _) => pieces.push(Piece::Text(text.into())),
                (Token::VariableStart, span) => begin = Some(span.end_offset as usize),
                (Token::VariableEnd, span) => {
                    let text = source.get(begin.take()?..span.start_offset as usize)?;
                    let piece = Piece::printed(text)?;
                    computed += usize::from(matches!(piece, Piece::Computed(_)));
                    pieces.push(piece);
                }
                (Token::BlockStart | Token::BlockEnd, _) => return None,
                _ if begin.is_some() => {}
                _ => return None,
            }
        }
        (computed <= COMPUTED_MAX).then_some(Self(pieces))
    }

    /// Writes all of it; `None`: the engine has to, from the beginning.
    pub(super) fn write(&self, scope: &Scope, target: Target, sink: &mut Sink) -> Option<()> {
        if scope.event_bytes() > EVENT_BYTES_MAX {
            return None;
        }
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => sink.text(text).ok()?,
                Piece::Quick(quick) => match quick.text(scope) {
                    Some(text) => printed(target, sink, TEXT, &text)?,
                    None => print(target, sink, &quick.value(scope)?)?,
                },
                Piece::Computed(code) => {
                    print(
                        target,
                        sink,
                        &code.eval(Value::from_dyn_object(scope.0.clone())).ok()?,
                    )?;
                }
            }
        }
        Some(())
    }
}

impl Piece {
    fn printed(text: &str) -> Option<Self> {
        if let Some(quick) = Quick::of(&parse_expr(text).ok()?) {
            return Some(Self::Quick(quick));
        }
        let code = ENGINE.env.compile_expression_owned(text.to_owned()).ok()?;
        Some(Self::Computed(code))
    }
}

fn print(target: Target, sink: &mut Sink, value: &Value) -> Option<()> {
    if value.is_undefined() {
        return None;
    }
    let (kind, text) = shown(value).ok()?;
    printed(target, sink, kind, &text)
}

fn printed(target: Target, sink: &mut Sink, kind: char, text: &str) -> Option<()> {
    match target.refuses(text) {
        Some(_) => None,
        None => sink.printed(kind, text).ok(),
    }
}
