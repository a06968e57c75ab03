//! Which events an endpoint gets beyond their type: `filter` and `when`, and the name that templates give to data.

use crate::config::language::{self, Names, optional};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::Selection;
use crate::domain::filter::Filter;
use crate::template::{Expression, Target, Template};

pub(super) fn selection(table: &Table<'_>, bind: &str) -> Selection {
    let names = Names::of_event(bind);
    let reason = language::template(Target::Text, &names);
    let selection = Selection {
        filter: table.read("filter", filter).flatten(),
        when: table
            .read("when", optional(language::expression(&names)))
            .flatten(),
        skip_reason: table.read("skip_reason", optional(reason)).flatten(),
    };
    let when = selection.when.iter().flat_map(Expression::names);
    let reason = selection.skip_reason.iter().flat_map(Template::names);
    let used = when
        .map(|name| ("when", name))
        .chain(reason.map(|name| ("skip_reason", name)));
    for (key, _) in used.filter(|(_, name)| *name == "batch") {
        let wrong = Wrong::whole(
            "each event is chosen before there is a batch",
            "look at the event itself: data.…",
        );
        table.reject_key(&[key], &wrong);
    }
    if selection.skip_reason.is_some() && !table.has("when") {
        let wrong = Wrong::whole("nothing is skipped without `when`", "add when = …, or remove it");
        table.reject_key(&["skip_reason"], &wrong);
    }
    selection
}

/// The second name of data; `data` when there is none.
pub(super) fn bind(table: &Table<'_>) -> Box<str> {
    table
        .read("bind", bound_name)
        .unwrap_or_else(|| "data".to_owned())
        .into()
}

fn bound_name(value: &Value<'_>) -> Read<String> {
    let name = values::text(value)?;
    if name == "data" || (language::is_name(&name) && !language::is_taken(&name)) {
        return Ok(name);
    }
    Err(Wrong::new(
        "can't name data in templates",
        "use letters, digits and _, and none of the names that templates have already",
    ))
}

fn filter(value: &Value<'_>) -> Read<Option<Filter>> {
    if !value.is_table() {
        let wrong = value.wrong_type("a table");
        return Err(wrong.or_write("write it like { data = { score = { \"$gte\" = 50 } } }"));
    }
    Filter::compile(&value.json()?).map_err(|wrong| Wrong::whole(wrong.says, wrong.help))
}
