//! What a template may contain. The engine bounds steps, not memory: a few `set` lines or a `*` on a text can ask for
//! all there is. So everything that could is refused when the template is compiled, and names nobody knows with it.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CallType, Expr, Stmt};
use minijinja::machinery::{Token, parse, parse_expr, tokenize};

use super::engine::{ENGINE, syntax};
use super::limits::{CONCATENATIONS_MAX, ELIF_MAX, LOOP_DEPTH_MAX, TAG_TOKENS_MAX};
use super::problem::Problem;
use super::quick::Quick;
use super::search;
use super::target::Target;

/// What the lint learnt of a source that it lets pass.
#[derive(Default)]
pub(super) struct Findings {
    /// The names that are read from the scope: `event`, `data`, `vars` …
    pub(super) names: BTreeSet<Box<str>>,
    /// Which of the operator's own values are read, and of which steps: `vars.flow`, `secrets.crm_key`, `appended.validate`.
    pub(super) settings: BTreeSet<Box<str>>,
    /// How many `~` and `+` there are.
    pub(super) concatenations: usize,
    /// How many values the lists and objects written out in it hold that are no constants.
    pub(super) listed: usize,
    /// The expression, if it needs no engine.
    pub(super) quick: Option<Quick>,
    /// The text begins with a printed value of the operator's own (`vars.…`, `secrets.…`).
    pub(super) base_from_config: bool,
}

impl Findings {
    /// How often all of the event may be copied by `~` and `+`.
    pub(super) fn copies(&self) -> usize {
        self.concatenations.saturating_mul(1 + self.listed)
    }
}

/// Checks the source of a template.
pub(super) fn template(source: &str, target: Target) -> Result<Findings, Problem> {
    count_tokens(source, false)?;
    let parsed = parse(source, "", syntax()).map_err(|error| Problem::from_engine(&error, source))?;
    let mut lint = Lint::new(source);
    lint.statement(&parsed)?;
    if let Stmt::Template(template) = &parsed {
        if let Some(Stmt::EmitExpr(emit)) = template.children.first() {
            lint.found.base_from_config = is_from_config(&emit.expr);
        }
        if target == Target::Url {
            lint.host(&template.children)?;
        }
    }
    Ok(lint.found)
}

/// Checks the source of an expression.
pub(super) fn expression(source: &str) -> Result<Findings, Problem> {
    count_tokens(source, true)?;
    let parsed = parse_expr(source).map_err(|error| Problem::from_engine(&error, source))?;
    let mut lint = Lint::new(source);
    lint.expression(&parsed)?;
    lint.found.quick = Quick::of(&parsed);
    Ok(lint.found)
}

/// The engine's parser and compiler recurse over chains of operators without a bound of their own.
fn count_tokens(source: &str, is_expression: bool) -> Result<(), Problem> {
    let (mut in_tag, mut elifs) = (0, 0);
    for token in tokenize(source, is_expression, syntax()) {
        let (token, span) = token.map_err(|error| Problem::from_engine(&error, source))?;
        match token {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::Ident("elif") => elifs += 1,
            Token::Comma | Token::Colon | Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => {}
            Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Float(_) => {}
            _ => in_tag += 1,
        }
        if in_tag > TAG_TOKENS_MAX || elifs > ELIF_MAX {
            let problem = Problem::new("it is too long to be taken apart", "split it into smaller pieces");
            return Err(problem.at(source, span.start_offset as usize));
        }
    }
    Ok(())
}

/// `vars.a.b`, `secrets.a`, and references of the configuration itself.
fn is_from_config(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Var(name) => ["vars", "secrets", super::REFERENCES].contains(&name.id),
        Expr::GetAttr(attribute) => is_from_config(&attribute.expr),
        Expr::GetItem(item) => is_from_config(&item.expr) && matches!(item.subscript_expr, Expr::Const(_)),
        _ => false,
    }
}

/// `with.a`, which whoever uses a module has chosen.
fn is_given(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::GetAttr(attribute) if matches!(&attribute.expr, Expr::Var(name) if name.id == "with"))
}

struct Lint<'s> {
    source: &'s str,
    /// Names of the loops we are in.
    locals: Vec<Local>,
    loops: usize,
    /// How often variables were named that may be as large as a list that is written out.
    built: usize,
    found: Findings,
}

/// A loop's variable.
struct Local {
    name: Box<str>,
    /// It may be as large as a list that the template writes out.
    is_built: bool,
}

impl<'s> Lint<'s> {
    fn new(source: &'s str) -> Self {
        Self {
            source,
            locals: Vec::new(),
            loops: 0,
            built: 0,
            found: Findings::default(),
        }
    }

    fn refuse<T>(&self, at: u32, says: impl Into<String>, help: impl Into<String>) -> Result<T, Problem> {
        Err(Problem::new(says, help).at(self.source, at as usize))
    }

    /// A value of the event may be the whole host of a URL, where the operator wants that, or a part before its fixed end;
    /// at the end of a host that is fixed otherwise it would lead to `api.example.com.another.example`.
    fn host(&self, children: &[Stmt<'_>]) -> Result<(), Problem> {
        let (mut is_host, mut is_begun, mut last) = (false, false, None);
        for child in children {
            match child {
                Stmt::EmitRaw(raw) => {
                    let text = match (is_host, raw.raw.split_once("://")) {
                        (true, _) => raw.raw,
                        (false, Some((_, text))) => text,
                        (false, None) => return Ok(()),
                    };
                    is_host = true;
                    if last.is_some() && text.starts_with(['/', '?', '#', ':']) {
                        break;
                    }
                    let fixed = text.split(['/', '?', '#']).next().unwrap_or_default();
                    (is_begun, last) = (is_begun || !fixed.is_empty(), None);
                    if fixed.len() < text.len() {
                        break;
                    }
                }
                Stmt::EmitExpr(emit) if is_host && (is_from_config(&emit.expr) || is_given(&emit.expr)) => {
                    (is_begun, last) = (true, None);
                }
                Stmt::EmitExpr(emit) if is_host => last = Some(emit.span().start_offset),
                _ => return Ok(()),
            }
        }
        match last {
            Some(at) if is_begun => self.refuse(
                at,
                "a value of the event ends the host, so an event could lead the request to another one",
                "write / before it, or take what ends the host from vars",
            ),
            _ => Ok(()),
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) -> Result<(), Problem> {
        statements
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Problem> {
        let (at, tag) = match statement {
            Stmt::Template(template) => return self.statements(&template.children),
            Stmt::EmitRaw(_) => return Ok(()),
            Stmt::EmitExpr(emit) => return self.expression(&emit.expr),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.statements(&condition.true_body)?;
                return self.statements(&condition.false_body);
            }
            Stmt::ForLoop(each) => return self.each(each),
            Stmt::WithBlock(tag) => (tag.span(), "with"),
            Stmt::Set(tag) => (tag.span(), "set"),
            Stmt::SetBlock(tag) => (tag.span(), "set"),
            Stmt::AutoEscape(tag) => (tag.span(), "autoescape"),
            Stmt::FilterBlock(tag) => (tag.span(), "filter"),
            Stmt::Do(tag) => (tag.span(), "do"),
        };
        self.refuse(
            at.start_offset,
            format!("{{% {tag} %}} is not part of the language"),
            "there are {{ … }}, {% if %} and {% for %}; values that are used often go under [vars]",
        )
    }

    fn each(
        &mut self,
        each: &minijinja::machinery::ast::Spanned<minijinja::machinery::ast::ForLoop<'_>>,
    ) -> Result<(), Problem> {
        let at = each.span().start_offset;
        if each.recursive || self.loops >= LOOP_DEPTH_MAX {
            return self.refuse(
                at,
                format!("loops nest at most {LOOP_DEPTH_MAX} deep and never recurse"),
                "",
            );
        }
        let (concatenations, listed, built) = (self.found.concatenations, self.found.listed, self.built);
        self.expression(&each.iter)?;
        if self.found.concatenations != concatenations {
            // A loop variable that grows with each loop around it would double and double again.
            return self.refuse(
                at,
                "what a loop goes over can't be put together by ~ or +",
                "loop over a list",
            );
        }
        let (is_listed, is_of_built) = (self.found.listed != listed, self.built != built);
        if is_listed && is_of_built {
            // So would a list of lists of lists.
            return self.refuse(
                at,
                "what a loop goes over can't be written out of the variable of another loop that is",
                "loop over a list of the event's",
            );
        }
        let outside = self.locals.len();
        let mut names = vec!["loop".into()];
        targets(&each.target, &mut names);
        self.locals.extend(names.into_iter().map(|name| Local {
            name,
            is_built: is_listed || is_of_built,
        }));
        self.loops += 1;
        if let Some(filter) = &each.filter_expr {
            self.expression(filter)?;
        }
        self.statements(&each.body)?;
        self.locals.truncate(outside);
        self.loops -= 1;
        self.statements(&each.else_body)
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Result<(), Problem> {
        match expression {
            Expr::Const(_) => Ok(()),
            Expr::Var(name) => self.name(name.id, name.span().start_offset),
            Expr::GetAttr(attribute) => {
                if let Expr::Var(name) = &attribute.expr
                    && ["vars", "secrets", "with", "appended"].contains(&name.id)
                {
                    let setting = format!("{}.{}", name.id, attribute.name);
                    self.found.settings.insert(setting.into());
                }
                self.expression(&attribute.expr)
            }
            Expr::GetItem(item) => self.both(&item.expr, &item.subscript_expr),
            Expr::Slice(slice) => {
                self.expression(&slice.expr)?;
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .try_for_each(|part| self.expression(part))
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                self.operator(
                    operation.op,
                    &operation.left,
                    &operation.right,
                    expression.span().start_offset,
                )?;
                self.both(&operation.left, &operation.right)
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                compare.ops.iter().try_for_each(|op| self.expression(&op.expr))
            }
            Expr::IfExpr(choice) => {
                self.both(&choice.test_expr, &choice.true_expr)?;
                choice
                    .false_expr
                    .iter()
                    .try_for_each(|other| self.expression(other))
            }
            Expr::Filter(filter) => {
                self.known("filter", filter.name, &ENGINE.filters, filter.span().start_offset)?;
                filter.expr.iter().try_for_each(|inner| self.expression(inner))?;
                self.arguments(&filter.args)
            }
            Expr::Test(test) => {
                self.known("test", test.name, &ENGINE.tests, test.span().start_offset)?;
                self.expression(&test.expr)?;
                self.arguments(&test.args)
            }
            Expr::Call(call) => self.call(call, expression.span().start_offset),
            Expr::List(list) => self.written_out(&list.items),
            Expr::Tuple(tuple) => self.written_out(&tuple.items),
            Expr::Map(map) => {
                map.keys.iter().try_for_each(|key| self.expression(key))?;
                self.written_out(&map.values)
            }
        }
    }

    fn written_out(&mut self, values: &[Expr<'_>]) -> Result<(), Problem> {
        let is_constant = |value: &&Expr<'_>| matches!(value, Expr::Const(_));
        self.found.listed += values.len() - values.iter().filter(is_constant).count();
        values.iter().try_for_each(|value| self.expression(value))
    }

    fn both(&mut self, one: &Expr<'_>, other: &Expr<'_>) -> Result<(), Problem> {
        self.expression(one)?;
        self.expression(other)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Result<(), Problem> {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value),
            CallArg::PosSplat(value) | CallArg::KwargSplat(value) => self.expression(value),
        })
    }

    fn call(&mut self, call: &Call<'_>, at: u32) -> Result<(), Problem> {
        match call.identify_call() {
            CallType::Function(name) if self.local(name).is_some() => {}
            CallType::Function(name) => {
                self.known("function", name, &ENGINE.functions, at)?;
                if name == "dict" {
                    self.found.listed += call.args.len();
                }
            }
            CallType::Method(object, name) => {
                if matches!(object, Expr::Var(name) if name.id == "response") {
                    self.search(name, &call.args, at)?;
                }
                self.expression(object)?;
            }
            CallType::Object(_) => return self.refuse(at, "only functions and methods can be called", ""),
        }
        self.arguments(&call.args)
    }

    fn search(&self, method: &str, arguments: &[CallArg<'_>], at: u32) -> Result<(), Problem> {
        let argument = match arguments {
            [CallArg::Pos(Expr::Const(argument))] => argument.value.as_str(),
            _ => None,
        };
        search::check(method, argument).or_else(|why| self.refuse(at, why, ""))
    }

    /// The variable of the innermost loop that has one called `name`.
    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    fn name(&mut self, name: &str, at: u32) -> Result<(), Problem> {
        if ENGINE.functions.contains(name) {
            return self.refuse(
                at,
                format!("`{name}` is a function"),
                format!("call it: {name}(…)"),
            );
        }
        match self.local(name) {
            Some(local) => self.built += usize::from(local.is_built),
            None => {
                self.found.names.insert(name.into());
            }
        }
        Ok(())
    }

    fn known(&self, what: &str, name: &str, known: &BTreeSet<&'static str>, at: u32) -> Result<(), Problem> {
        if known.contains(name) {
            return Ok(());
        }
        let nearest = known
            .iter()
            .map(|known| (strsim::jaro_winkler(known, name), *known))
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .filter(|(likeness, _)| *likeness > 0.75);
        let help = nearest.map_or_else(
            || {
                format!(
                    "known are {}",
                    known.iter().copied().collect::<Vec<_>>().join(" ")
                )
            },
            |(_, nearest)| format!("did you mean `{nearest}`?"),
        );
        self.refuse(at, format!("there is no {what} `{name}`"), help)
    }

    fn operator(
        &mut self,
        operator: BinOpKind,
        left: &Expr<'_>,
        right: &Expr<'_>,
        at: u32,
    ) -> Result<(), Problem> {
        match operator {
            BinOpKind::Mul if !(is_number(left) && is_number(right)) => self.refuse(
                at,
                "`*` multiplies numbers, and these may be something else",
                "write |float or |int behind what is not written as a number: data.price|float * 2",
            ),
            BinOpKind::Concat | BinOpKind::Add => {
                self.found.concatenations += 1;
                if self.found.concatenations > CONCATENATIONS_MAX {
                    let says = format!("it has more than {CONCATENATIONS_MAX} of ~ and +");
                    return self.refuse(at, says, "print the values side by side, or use [a, b, c]|join");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whether `expression` can be nothing but a number: `*` on a text would repeat it.
fn is_number(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Const(constant) => constant.value.is_number(),
        Expr::UnaryOp(operation) => is_number(&operation.expr),
        Expr::BinOp(operation) => match operation.op {
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => true,
            BinOpKind::Add | BinOpKind::Mul => is_number(&operation.left) && is_number(&operation.right),
            _ => false,
        },
        Expr::Filter(filter) => [
            "int", "float", "round", "abs", "length", "count", "sum", "years", "unix",
        ]
        .contains(&filter.name),
        _ => false,
    }
}

fn targets(target: &Expr<'_>, names: &mut Vec<Box<str>>) {
    match target {
        Expr::Var(name) => names.push(name.id.into()),
        Expr::List(list) => list.items.iter().for_each(|item| targets(item, names)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| targets(item, names)),
        _ => {}
    }
}
