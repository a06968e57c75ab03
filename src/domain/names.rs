//! Values that people call by names: a list of pairs, read in either direction.

/// Names, each with what it means.
pub type Names<T> = [(&'static str, T)];

/// What `value` is called in `names`; empty if that is not there.
pub fn name_of<T: PartialEq>(names: &Names<T>, value: &T) -> &'static str {
    let named = names.iter().find(|(_, known)| known == value);
    named.map_or("", |(name, _)| name)
}

/// What is called `name` in `names`, if anything is.
pub fn called<T: Copy>(names: &Names<T>, name: &str) -> Option<T> {
    let known = names.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| *value)
}

/// The names alone, in their order.
pub fn list<T>(names: &Names<T>) -> Vec<&'static str> {
    names.iter().map(|(name, _)| *name).collect()
}
