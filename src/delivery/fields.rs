//! The header fields of a message (RFC 9110 §5), in the order in which they were added. A list and no table: a message has
//! a handful of them and few are ever looked for, so hashing each name would cost more than it saves.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The fields of one message. Names may stand there several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<(HeaderName, HeaderValue)>,
}

impl Fields {
    /// None yet, with room for `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self {
            list: Vec::with_capacity(count),
        }
    }

    /// A copy with room for `more` fields.
    #[must_use]
    pub fn with_room(&self, more: usize) -> Self {
        let mut copy = Self::with_capacity(self.len() + more);
        copy.list.extend_from_slice(&self.list);
        copy
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get<N: ?Sized>(&self, name: &N) -> Option<&HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        self.get_all(name).next()
    }

    /// Every value of `name`.
    pub fn get_all<'a, N: ?Sized>(&'a self, name: &N) -> impl Iterator<Item = &'a HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        let named = move |(own, value): &'a (HeaderName, HeaderValue)| (own == name).then_some(value);
        self.list.iter().filter_map(named)
    }

    /// Whether there is one of that name.
    #[must_use]
    pub fn contains<N: ?Sized>(&self, name: &N) -> bool
    where
        HeaderName: PartialEq<N>,
    {
        self.get(name).is_some()
    }

    /// Adds a field behind all others.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.list.push((name, value));
    }

    /// Puts a field in the place of all of its name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        match self.list.iter_mut().find(|(own, _)| *own == name) {
            Some((_, first)) => *first = value,
            None => return self.append(name, value),
        }
        let mut is_first = true;
        self.list
            .retain(|(own, _)| *own != name || std::mem::take(&mut is_first));
    }

    /// Adds a field, unless there is one of its name.
    pub fn insert_if_none(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.contains(&name) {
            self.append(name, value);
        }
    }

    /// Takes away every field of that name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.list.retain(|(own, _)| own != name);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.list.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self {
            list: fields.into_iter().collect(),
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(table: HeaderMap) -> Self {
        // A table gives the name of several values once, with the first of them.
        let mut last = None;
        let named = |(name, value): (Option<HeaderName>, HeaderValue)| {
            last = name.or(last.take());
            Some((last.clone()?, value))
        };
        table.into_iter().filter_map(named).collect()
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut table = Self::with_capacity(fields.len());
        for (name, value) in fields.list {
            table.append(name, value);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, SET_COOKIE, VIA};

    use super::*;

    fn fields(pairs: &[(&HeaderName, &'static str)]) -> Fields {
        let field = |(name, value): &(&HeaderName, &'static str)| {
            (HeaderName::clone(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    #[test]
    fn an_insert_replaces_all_of_its_name_and_keeps_their_place() {
        let (a, one, two) = (HeaderValue::from_static("a"), "1", "2");
        for (before, after) in [
            (fields(&[]), fields(&[(&VIA, "a")])),
            (fields(&[(&ACCEPT, one)]), fields(&[(&ACCEPT, one), (&VIA, "a")])),
            (
                fields(&[(&VIA, one), (&ACCEPT, one), (&VIA, two), (&SET_COOKIE, two)]),
                fields(&[(&VIA, "a"), (&ACCEPT, one), (&SET_COOKIE, two)]),
            ),
        ] {
            let mut inserted = before.clone();
            inserted.insert(VIA, a.clone());
            assert_eq!(inserted, after, "{before:?}");
            let mut kept = before.clone();
            kept.insert_if_none(VIA, a.clone());
            assert_eq!(kept.get(&VIA), before.get(&VIA).or(Some(&a)));
            kept.remove(&VIA);
            assert!(!kept.contains("Via") && kept.contains("Accept") == before.contains(&ACCEPT));
        }
    }

    #[test]
    fn a_table_has_the_same_fields() {
        let list = fields(&[(&SET_COOKIE, "a"), (&VIA, "b"), (&SET_COOKIE, "c")]);
        let table = HeaderMap::from(list.clone());
        let cookies: Vec<_> = table.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, list.get_all("set-cookie").collect::<Vec<_>>());
        let back = Fields::from(table.clone());
        assert_eq!((back.len(), HeaderMap::from(back)), (3, table));
    }
}
