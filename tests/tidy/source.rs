//! A Rust file as far as its reader's rules need it: what is code, what is a comment, what is only for tests, which
//! paths it names and how long its functions are. A scan, no parser: it knows literals, comments and braces, and
//! takes the rest as rustfmt leaves it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// One file under `src/`.
pub struct Source {
    /// As in messages: `src/store/mod.rs`.
    pub path: String,
    /// As written.
    pub text: String,
    /// The same, line for line, with blanks for comments, literals and items under `#[cfg(test)]`.
    pub code: String,
    /// Modules of their own file that are declared under `#[cfg(test)]`.
    test_modules: Vec<String>,
}

/// Every file under `src/` that is part of the product, in order of path; test modules are left out.
pub fn read_all() -> Vec<Source> {
    let mut sources = Vec::new();
    read_folder(Path::new("src"), &mut sources);
    let tests: HashSet<String> = sources.iter().flat_map(Source::test_files).collect();
    sources.retain(|source| {
        !tests
            .iter()
            .any(|test| source.path == format!("{test}.rs") || source.path.starts_with(&format!("{test}/")))
    });
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn read_folder(folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("tests run in the package's root") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            read_folder(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source is UTF-8");
            sources.push(Source::new(&path.to_string_lossy(), text));
        }
    }
}

impl Source {
    /// Scans `text`.
    pub fn new(path: &str, text: String) -> Self {
        let mut code = blank_comments_and_literals(text.as_bytes());
        let test_modules = blank_test_items(&mut code);
        let code = String::from_utf8(code).expect("only whole characters were blanked");
        Self {
            path: path.to_owned(),
            text,
            code,
            test_modules,
        }
    }

    /// The modules from the root of the crate to this file: `["store", "sled"]` for `src/store/sled/mod.rs`.
    pub fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/')
            .filter(|name| !["mod", "lib", "main"].contains(name))
            .collect()
    }

    /// The room this file is in; `None` for `lib.rs` and `main.rs`, which stand outside.
    pub fn room(&self) -> Option<&str> {
        self.modules().first().copied()
    }

    /// The comment that the file begins with.
    pub fn head(&self) -> String {
        self.text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect()
    }

    fn test_files(&self) -> Vec<String> {
        let folder = ["src"]
            .into_iter()
            .chain(self.modules())
            .collect::<Vec<_>>()
            .join("/");
        self.test_modules
            .iter()
            .map(|name| format!("{folder}/{name}"))
            .collect()
    }

    /// The lines (from 1) where `word` stands in the code, not as a part of a longer name.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        words(&self.code, word).map(|at| self.line_of(at)).collect()
    }

    /// The line, from 1, of a place in the code.
    fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes()[..at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1
    }

    /// Every path that begins with `root::`, groups taken apart, with its line: `use a::{b, c::D}` is `b`, `c::D`.
    pub fn paths_from(&self, root: &str) -> Vec<(usize, String)> {
        let start = format!("{root}::");
        let found = words(&self.code, &start).filter(|&at| !self.code[..at].ends_with("::"));
        found
            .flat_map(|at| at_line(self.line_of(at), expand(&self.code[at + start.len()..])))
            .collect()
    }

    /// Every path into the crate from its root, with its line, written as `crate::…` or as enough `super::`.
    pub fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut paths = self.paths_from("crate");
        let to_root = vec!["super"; self.modules().len()].join("::");
        if !to_root.is_empty() {
            paths.extend(self.paths_from(&to_root));
        }
        paths.retain(|(_, path)| !path.starts_with("super"));
        paths
    }

    /// Every function with a body: its first line, its name, and how many lines it has.
    pub fn functions(&self) -> Vec<(usize, &str, usize)> {
        let code = &self.code;
        let mut found = Vec::new();
        for at in words(code, "fn ") {
            let name = name_at(&code[at + 3..]);
            if let Some(body) = body_at(code.as_bytes(), at).filter(|_| !name.is_empty()) {
                let lines = code[at..=matching_brace(code.as_bytes(), body)].lines().count();
                found.push((self.line_of(at), name, lines));
            }
        }
        found
    }
}

fn at_line(line: usize, paths: Vec<String>) -> impl Iterator<Item = (usize, String)> {
    paths.into_iter().map(move |path| (line, path))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn name_at(code: &str) -> &str {
    &code[..code.bytes().position(|byte| !is_name(byte)).unwrap_or(code.len())]
}

/// The places of `word` where it is not a part of a longer name.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let open_end = word.bytes().last().is_some_and(is_name);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).is_some_and(|before| is_name(bytes[before]));
        let after = open_end && bytes.get(at + word.len()).is_some_and(|&byte| is_name(byte));
        !before && !after
    })
}

/// The paths that `tree`, the rest of a path or of a `use`, begins with.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    if tree.starts_with('{') {
        let group = &tree[1..matching_brace(tree.as_bytes(), 0)];
        return split_group(group).into_iter().flat_map(expand).collect();
    }
    let name = if tree.starts_with('*') { "*" } else { name_at(tree) };
    match tree[name.len()..].strip_prefix("::") {
        // A generic argument (`Vec::<u8>`) ends the path.
        Some(rest) if !rest.starts_with('<') => expand(rest)
            .into_iter()
            .map(|path| format!("{name}::{path}"))
            .collect(),
        _ => vec![name.to_owned()],
    }
}

fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = group.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).collect()
}

/// The brace that closes the one at `open`; the end when there is none.
fn matching_brace(code: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len() - 1
}

/// Where the braces of the item at `from` open; `None` if it ends with a semicolon.
fn body_at(code: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The last byte of the item, statement, field, variant or arm that begins at `from`.
fn end_of_item(code: &[u8], from: usize) -> usize {
    const WITH_BRACES_OR_SEMICOLON: &[&str] = &[
        "async", "const", "enum", "extern", "fn", "for", "if", "impl", "let", "loop", "match", "mod",
        "static", "struct", "trait", "type", "unsafe", "use", "while",
    ];
    let text = String::from_utf8_lossy(&code[from..]);
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let first = words.find(|word| !["", "pub", "crate", "super", "allow", "dead_code"].contains(word));
    if !first.is_some_and(|word| WITH_BRACES_OR_SEMICOLON.contains(&word)) {
        return end_of_part(code, from);
    }
    match body_at(code, from) {
        Some(open) => matching_brace(code, open),
        None => code[from..]
            .iter()
            .position(|&byte| byte == b';')
            .map_or(code.len() - 1, |at| from + at),
    }
}

/// The last byte of what ends with a comma, a semicolon or the braces around it.
fn end_of_part(code: &[u8], from: usize) -> usize {
    let mut depth = 0;
    for at in from..code.len() {
        match code[at] {
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b'>' if matches!(code[at - 1], b'-' | b'=') => {}
            b')' | b']' | b'}' | b'>' if depth == 0 => return at - 1,
            b')' | b']' | b'}' | b'>' => depth -= 1,
            b',' | b';' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len() - 1
}

fn blank(code: &mut [u8]) {
    code.iter_mut()
        .filter(|byte| **byte != b'\n')
        .for_each(|byte| *byte = b' ');
}

fn blank_comments_and_literals(text: &[u8]) -> Vec<u8> {
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let length = comment(&text[at..]).or_else(|| literal(text, at));
        let Some(length) = length else {
            at += 1;
            continue;
        };
        let end = text.len().min(at + length);
        blank(&mut code[at..end]);
        at = end;
    }
    code
}

/// The length of the comment that `text` begins with.
fn comment(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"//") {
        return Some(text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len()));
    }
    if !text.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of the string or character that begins at `at`; a lifetime is neither.
fn literal(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    match rest[0] {
        b'r' if at == 0 || !is_name(text[at - 1]) || text[at - 1] == b'b' => raw_string(rest),
        b'"' => Some(quoted(rest)),
        b'\'' if rest.get(1) == Some(&b'\\') => Some(quoted(rest)),
        b'\'' => {
            let character = std::str::from_utf8(&rest[1..rest.len().min(5)]);
            let valid = character.map_or_else(|error| error.valid_up_to(), str::len);
            let width = std::str::from_utf8(&rest[1..=valid])
                .ok()?
                .chars()
                .next()?
                .len_utf8();
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
        _ => None,
    }
}

fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != text[0] {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(text: &[u8]) -> Option<usize> {
    let hashes = text[1..].iter().take_while(|&&byte| byte == b'#').count();
    if text.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let start = 2 + hashes;
    let length = text[start..]
        .windows(end.len())
        .position(|window| window == end)?;
    Some(start + length + end.len())
}

/// Blanks every item under `#[cfg(test)]`; gives back the names of those that are modules of their own file.
fn blank_test_items(code: &mut [u8]) -> Vec<String> {
    const MARK: &[u8] = b"#[cfg(test)]";
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].windows(MARK.len()).position(|window| window == MARK) {
        let start = from + at;
        let item = start + MARK.len();
        let end = end_of_item(code, item);
        let declared = String::from_utf8_lossy(&code[item..end]);
        if let Some((_, name)) = declared.rsplit_once("mod ").filter(|_| code[end] == b';') {
            modules.push(name.trim().to_owned());
        }
        blank(&mut code[start..=end]);
        from = end;
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text.to_owned())
    }

    #[test]
    fn comments_literals_and_tests_are_not_code() {
        let text = r##"
// word
/* word /* word */ word */
const A: &str = "word \" word"; const B: &str = r#"word " word"#; const C: char = '"'; const D: u8 = b'\'';
fn f<'a>(x: &'a str) { word() } // 'word
#[cfg(test)]
mod tests { fn g() { word() } }
fn h() { a_word(); words(); word() }
"##;
        assert_eq!(source("src/a.rs", text).lines_with("word"), [5, 8]);
    }

    #[test]
    fn what_is_under_cfg_test_ends_where_it_ends() {
        let table = [
            "struct S { a: u8, #[cfg(test)] word: Map<u8, u8>, b: u8 }",
            "let s = S { a, #[cfg(test)] word: word() };",
            "match x { #[cfg(test)] A => { word() }, B => {} }",
            "#[cfg(test)] use a::{word, b};",
            "#[cfg(test)] pub(crate) fn f<A, B>(word: [u8; 4]) -> A { word() }",
            "fn f() { #[cfg(test)] if word { word() } g() }",
            "fn f() { #[cfg(test)] word.push(1, 2); g() }",
        ];
        for text in table {
            let text = format!("{text}\nfn last() {{ word() }}");
            let source = source("src/a.rs", &text);
            assert_eq!(source.lines_with("word"), [2], "{text}");
            assert_eq!(source.functions().last(), Some(&(2, "last", 1)), "{text}");
        }
    }

    #[test]
    fn groups_are_taken_apart() {
        let text =
            "use crate::{a::B, c::{self, D}, e};\nlet x = crate::f::g(1); my_crate::h();\nuse crate::i::*;";
        let paths = ["a::B", "c::self", "c::D", "e", "f::g", "i::*"];
        let found = source("src/a.rs", text).crate_paths();
        assert_eq!(
            found.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(),
            paths
        );
        assert_eq!(
            found.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [1, 1, 1, 1, 2, 3]
        );
    }

    #[test]
    fn enough_supers_reach_the_root() {
        let text = "use super::x::Y;\nuse super::super::z::W;";
        assert_eq!(
            source("src/a/mod.rs", text).crate_paths(),
            [(1, "x::Y".to_owned())]
        );
        assert_eq!(source("src/a/b.rs", text).crate_paths(), [(2, "z::W".to_owned())]);
        assert_eq!(source("src/a/b/c.rs", text).crate_paths(), []);
    }

    #[test]
    fn functions_are_measured_with_head_and_braces() {
        let text = "trait T {\n    fn declared(&self) -> [u8; 4];\n}\npub async fn long(\n    a: u8,\n) -> [u8; 4] {\n    let s = \"}\";\n}\nfn short() {}\n";
        assert_eq!(
            source("src/a.rs", text).functions(),
            [(4, "long", 5), (9, "short", 1)]
        );
    }

    #[test]
    fn modules_for_tests_are_known_by_their_files() {
        let text = "#[cfg(test)]\nmod suite;\n#[cfg(test)]\npub(crate) mod rig;\nmod real;";
        assert_eq!(
            source("src/a/mod.rs", text).test_files(),
            ["src/a/suite", "src/a/rig"]
        );
        assert_eq!(
            source("src/a/b.rs", text).test_files(),
            ["src/a/b/suite", "src/a/b/rig"]
        );
    }
}
