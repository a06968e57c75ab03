//! A template that is only text and printed values, taken apart so that it needs no engine: texts go to the sink as they
//! are, and what is [`Quick`] is worked out at once. Whatever does not go smoothly here is left to the engine, which has
//! more to say about it.

use minijinja::Value;
use minijinja::machinery::{Token, parse_expr, tokenize};

use super::engine::{ENGINE, shown, syntax};
use super::quick::Quick;
use super::scope::Scope;
use super::sink::{Place, Sink};
use super::target::Target;
use super::value::is_json;

/// Printed values that need the engine, each with the bounds of a rendering of its own.
const COMPUTED_MAX: usize = 8;
/// Events above it are left to the engine, which gives them less fuel.
const EVENT_BYTES_MAX: usize = 16 << 10;

/// The pieces of a template in their order.
pub(super) struct Pieces {
    list: Vec<Piece>,
    is_surely_json: bool,
}

enum Piece {
    /// As it is, and the place it leads to.
    Text(Box<str>, Place),
    /// What needs no engine either.
    Quick(Quick),
    /// Anything else between braces.
    Computed(minijinja::Expression<'static, 'static>),
}

impl Pieces {
    /// Takes `source` apart, which has passed the lint and begins at `place`; `None`: there is more in it than text and
    /// printed values.
    pub(super) fn of(source: &str, target: Target, mut place: Place) -> Option<Self> {
        let (mut pieces, mut begin, mut computed) = (Vec::new(), None, 0);
        for token in tokenize(source, false, syntax()) {
            match token.ok()? {
                (Token::TemplateData(text), _) => {
                    place.advance(text);
                    pieces.push(Piece::Text(text.into(), place));
                }
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
        (computed <= COMPUTED_MAX).then(|| Self {
            is_surely_json: target == Target::Json && is_surely_json(&pieces),
            list: pieces,
        })
    }

    /// Whether what it makes is JSON whatever is printed, and need not be checked.
    pub(super) fn is_surely_json(&self) -> bool {
        self.is_surely_json
    }

    /// Writes all of it; `None`: the engine has to, from the beginning.
    pub(super) fn write(&self, scope: &Scope, target: Target, sink: &mut Sink) -> Option<()> {
        if scope.event_bytes() > EVENT_BYTES_MAX {
            return None;
        }
        for piece in &self.list {
            match piece {
                Piece::Text(text, place) => sink.text_up_to(text, *place).ok()?,
                Piece::Quick(quick) => match quick.printed(scope) {
                    Some((kind, text)) => printed(target, sink, kind, &text)?,
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

/// Whether `pieces` are JSON with any values in them. They are, if they are with a number in every place outside quotes
/// and with a text in every such place: a text ends where it ends, so what stands there is a value of its own, and no name,
/// for which no number would do. Inside quotes anything can stand, escaped, but not in the middle of `\u0041`.
fn is_surely_json(pieces: &[Piece]) -> bool {
    let with = |value: &str| {
        let (mut text, mut in_quotes) = (String::new(), false);
        for piece in pieces {
            match piece {
                Piece::Text(literal, place) => {
                    text.push_str(literal);
                    in_quotes = matches!(place, Place::Json { in_string: true, .. });
                }
                _ if in_quotes && ends_in_escape(&text) => return None,
                _ if in_quotes => {}
                _ => text.push_str(value),
            }
        }
        Some(text)
    };
    let is_fine = |value| with(value).is_some_and(|text| is_json(&text).is_ok());
    is_fine("0") && is_fine("\"\"")
}

/// Whether the end of `text` may be the beginning of an escape of six characters.
fn ends_in_escape(text: &str) -> bool {
    let last = text.len().saturating_sub(5);
    text.as_bytes()[last..].windows(2).any(|pair| pair == b"\\u")
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
