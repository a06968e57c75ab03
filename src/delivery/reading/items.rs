//! What the answer to a batch says of each of its events (E5). Pure.

use std::collections::HashMap;

use minijinja::value::ValueKind;

use super::{Judged, Reader, said};
use crate::delivery::Item;
use crate::delivery::scene::Load;
use crate::domain::endpoint::ItemsPolicy;
use crate::domain::event::Event;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::template::{LazyEvent, RenderError, Value};

impl Reader {
    /// What the answer says of each event, each with the item itself; `None` where it is not asked.
    pub(super) fn items(
        &self,
        load: &Load<'_>,
        judged: &Judged<'_>,
    ) -> Result<Option<Vec<(Item, Value)>>, String> {
        let Some(policy) = &self.items else {
            return Ok(None);
        };
        let wrong =
            |key: &str, error: RenderError| format!("`{key}` can't be worked out: {}", said(&error.says));
        let list = policy
            .list
            .eval(&judged.scope)
            .map_err(|error| wrong("items", error))?;
        // Texts and objects could be gone through as well, and nothing at all.
        if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return Err("`items` is no list in the answer".to_owned());
        }
        let list = list.try_iter().map_err(|error| error.to_string())?;
        let mut by_id: HashMap<String, Vec<Value>> = HashMap::new();
        for item in list.checked() {
            let item = item.map_err(|error| format!("`items` can't be read: {error}"))?;
            // An item without an id is nobody's.
            if let Ok(id) = policy.id.text(&judged.scope.clone().with("item", item.clone())) {
                by_id.entry(id).or_default().push(item);
            }
        }
        let mut asked: HashMap<&str, usize> = HashMap::new();
        let mut of_event = |event: &Event| {
            let own = by_id.get_key_value(&*event.head.id);
            let found = own.or_else(|| by_id.get_key_value(&data_id(event)?));
            let item = found.and_then(|(id, items)| {
                let turn = asked.entry(id).or_default();
                *turn += 1;
                // One item speaks of all events with its id; of several, each speaks of one.
                if let [item] = &items[..] {
                    Some(item)
                } else {
                    items.get(*turn - 1)
                }
            });
            let Some(item) = item else {
                return (missing(judged), Value::UNDEFINED);
            };
            (self.item(policy, judged, item, event), item.clone())
        };
        Ok(Some(load.events.iter().map(&mut of_event).collect()))
    }

    fn item(&self, policy: &ItemsPolicy, judged: &Judged<'_>, item: &Value, event: &Event) -> Item {
        let scope = self.scene.within(&judged.scope, event).with("item", item.clone());
        match policy.success.test(&scope) {
            Ok(true) => Item {
                outcome: Outcome::Delivered,
                message: String::new(),
            },
            Ok(false) => Item {
                outcome: Outcome::Rejected,
                message: self.explained(&scope, &format!("{} and rejects this event", judged.answered())),
            },
            Err(error) => Item {
                outcome: Outcome::Error(ErrorClass::InvalidResponse),
                message: format!("`item_success` can't be worked out: {}", said(&error.says)),
            },
        }
    }
}

/// Nothing in the answer is about this event; nobody knows what became of it.
fn missing(judged: &Judged<'_>) -> Item {
    Item {
        outcome: Outcome::Error(ErrorClass::InvalidResponse),
        message: format!("{} and says nothing of this event", judged.answered()),
    }
}

/// The `id` in the event's data, as text.
fn data_id(event: &Event) -> Option<String> {
    let event = LazyEvent::new(event.json.clone());
    let id = event.data()?.get_attr("id").ok()?;
    (!id.is_undefined()).then(|| id.to_string())
}
