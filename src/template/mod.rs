//! Templates and expressions: what the configuration says in the language of minijinja, compiled once, rendered for
//! each event, bounded in steps, bytes and depth, with every printed value escaped for where it lands.
//!
//! Pure: knows no clock, no socket, no store and no configuration files, and imports no other room. Read in this
//! order: [`Target`] (where a text goes) · [`Scope`] (what it sees) · [`Template`] and [`Expression`] (compile,
//! render) · [`Problem`] (what can be wrong) · `lint` and `limits` (what is allowed) · `engine` and `filters` (what
//! there is to call; [`search`]: of answers) · `sink`, `xml` and `value` (how it is printed) · `members`,
//! `cursor`, `pieces` and `quick` (what is parsed late, and what needs no engine).

mod compiled;
mod cursor;
mod engine;
mod expression;
mod filters;
mod given;
mod limits;
mod lint;
mod members;
mod moment;
mod pieces;
mod problem;
mod quick;
mod scope;
pub mod search;
mod sink;
mod target;
#[cfg(test)]
mod tests;
mod value;
mod xml;

pub use compiled::{Part, Template};
pub use expression::Expression;
pub use given::{Given, GivenForm};
pub use members::json_value;
pub use minijinja::Value;
pub use minijinja::value::Object;
pub use problem::{Problem, RenderError};
pub use scope::{LazyEvent, Lookup, Scope, Secrets};
pub use target::Target;
pub use value::{append_json, from_json, quote, to_json, to_json_text};

/// The hidden name under which a template finds the configuration's own references (`${env:…}`).
const REFERENCES: &str = "__references__";
