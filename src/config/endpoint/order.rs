//! `order` and `order_key`: in which order an endpoint gets its events.

use crate::config::language::{self, Names, optional};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{Order, OrderPolicy};
use crate::template::Expression;

const ORDERS: &[(&str, OrderPolicy)] = &[
    ("none", OrderPolicy::None),
    ("endpoint", OrderPolicy::Endpoint),
    ("key", OrderPolicy::Key),
];

/// What differs from try to try, or may not be told, and so makes no key.
const NO_KEYS: &[&str] = &["now", "delivery", "batch", "appended", "secrets"];

/// What is kept in order; `bind`: the second name of data.
pub(super) fn order(table: &Table<'_>, bind: &str) -> Order {
    let names = Names::of_event(bind);
    let policy = table.read("order", values::choice(ORDERS)).unwrap_or_default();
    let key = table.read("order_key", optional(key(&names))).flatten();
    if key.is_some() && policy != OrderPolicy::Key {
        let wrong = Wrong::whole(
            "nothing is kept in order by it",
            "add order = \"key\", or remove it",
        );
        table.reject_key(&["order_key"], &wrong);
    }
    Order { policy, key }
}

/// An expression over the event, which gives the same whenever it is worked out.
fn key<'n>(names: &'n Names<'n>) -> impl Fn(&Value<'_>) -> Read<Expression> + 'n {
    let expression = language::expression(names);
    move |value| {
        let key = expression(value)?;
        let unfit = key.names().find(|name| NO_KEYS.contains(name));
        let wrong = unfit.map(|name| {
            Wrong::whole(
                format!("`{name}` can't make a key"),
                "the key of an event has to be the same whenever it is worked out: use event, data, vars or with",
            )
        });
        wrong.map_or(Ok(key), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::load_text;
    use crate::config::secrets::Secrets;
    use crate::config::{Loaded, Problems, effective};

    fn read(lines: &str) -> Result<Loaded, Problems> {
        let text = format!(
            "[secrets]\nkey = \"x\"\n[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n{lines}\n"
        );
        load_text(Path::new("config.toml"), text, &Secrets { variable: &|_| None })
    }

    /// F7: an expression over the event, shown as it is written; empty is none.
    #[test]
    fn f7_order_key_is_read() {
        for (lines, policy, key) in [
            ("", OrderPolicy::None, ""),
            ("order = \"key\"\norder_key = \"\"", OrderPolicy::Key, ""),
            (
                "bind = \"lead\"\norder = \"key\"\norder_key = \"lead.owner or event.source\"",
                OrderPolicy::Key,
                "lead.owner or event.source",
            ),
        ] {
            let config = read(lines).unwrap().config;
            let order = &config.endpoints[0].order;
            assert_eq!(order.policy, policy, "{lines}");
            assert_eq!(order.key.as_ref().map_or("", |key| key.source()), key);
            assert_eq!(effective(&config)["endpoint"][0]["order_key"], *key);
        }
    }

    /// F7: what would give another key at another time, or none, is refused where it is written.
    #[test]
    fn f7_what_makes_no_key_is_refused() {
        for (lines, expected) in [
            (
                "order_key = \"data.id\"",
                "config.toml:6:13: endpoint.crm.order_key: nothing is kept in order by it; add order = \"key\"",
            ),
            (
                "order = \"endpoint\"\norder_key = \"data.id\"",
                "nothing is kept in order by it",
            ),
            (
                "order = \"key\"\norder_key = \"now\"",
                "`now` can't make a key; the key of an event has to be the same",
            ),
            (
                "order = \"key\"\norder_key = \"delivery.attempt\"",
                "`delivery` can't make a key",
            ),
            (
                "order = \"key\"\norder_key = \"secrets.key\"",
                "`secrets` can't make a key",
            ),
            (
                "order = \"key\"\norder_key = \"data.\"",
                "config.toml:7:13: endpoint.crm.order_key: at character 5",
            ),
            ("order = \"key\"\norder_key = 5", "5 has to be a string"),
        ] {
            let found = read(lines).unwrap_err().to_string();
            assert!(found.contains(expected), "{lines}\n{found}");
        }
    }
}
