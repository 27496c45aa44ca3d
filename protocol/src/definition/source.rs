//! A TOML text with the place of every value. Invariant: each value is reached by a dotted path, each problem has a
//! line and a column, and a table that was read through [`Section`] complains of every key that nobody asked for.

use super::{Problem, Severity, names, units};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where everything stands; outlives the parse, so that later checks can point at it too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places {
    file: String,
    text: String,
    spans: BTreeMap<String, Range<usize>>,
}

impl Places {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into(), spans: BTreeMap::new() }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether something stands at a dotted path.
    pub(crate) fn has(&self, at: &str) -> bool {
        self.spans.contains_key(at)
    }

    /// The problem at a dotted path, or at the nearest place above it; at `token` inside of it, if that stands there.
    pub(crate) fn problem(&self, at: &str, token: Option<&str>, message: String, hint: Option<String>) -> Problem {
        let mut path = at;
        let span = loop {
            if let Some(span) = self.spans.get(path) {
                break span.clone();
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = path.get(..cut).unwrap_or_default(),
                None => break 0..0,
            }
        };
        let inside = token.and_then(|t| self.text.get(span.clone())?.find(t)).unwrap_or(0);
        self.problem_at(span.start + inside, message, hint)
    }

    pub(crate) fn problem_at(&self, offset: usize, message: String, hint: Option<String>) -> Problem {
        let (line, column) = position(&self.text, offset);
        Problem { file: self.file.clone(), line, column, severity: Severity::Error, message, hint }
    }
}

/// Line and column, both from 1, of a byte offset; columns count characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// Collects places and problems while a document is read.
pub(crate) struct Reader {
    places: RefCell<Places>,
    problems: RefCell<Vec<Problem>>,
}

impl Reader {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self { places: RefCell::new(Places::new(file, text)), problems: RefCell::default() }
    }
    /// Notes a problem at a dotted path.
    pub(crate) fn complain(&self, at: &str, message: impl Into<String>, hint: Option<String>) {
        let problem = self.places.borrow().problem(at, None, message.into(), hint);
        self.push(problem);
    }
    pub(crate) fn complain_at(&self, offset: usize, message: String, hint: Option<String>) {
        let problem = self.places.borrow().problem_at(offset, message, hint);
        self.push(problem);
    }
    fn push(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    fn place(&self, path: &str, span: Range<usize>) {
        // Super-tables made by a header or a dotted key alone carry no span of their own; their key's serves.
        self.places.borrow_mut().spans.entry(path.to_owned()).or_insert(span);
    }
    pub(crate) fn finish(self) -> (Places, Vec<Problem>) {
        (self.places.into_inner(), self.problems.into_inner())
    }
}

/// A table whose keys are known.
pub(crate) struct Section<'r> {
    pub(crate) reader: &'r Reader,
    pub(crate) path: String,
    table: &'r DeTable<'r>,
    asked: RefCell<BTreeSet<&'static str>>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Item<'r> {
    pub(crate) reader: &'r Reader,
    pub(crate) path: String,
    value: &'r Spanned<DeValue<'r>>,
}

impl<'r> Section<'r> {
    pub(crate) fn root(reader: &'r Reader, table: &'r DeTable<'r>) -> Self {
        Self { reader, path: String::new(), table, asked: RefCell::default() }
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn item(&self, key: &Spanned<toml::de::DeString<'r>>, value: &'r Spanned<DeValue<'r>>) -> Item<'r> {
        let path = self.below(key.get_ref());
        let span = if value.get_ref().is_table() { key.span() } else { value.span() };
        self.reader.place(&path, span);
        Item { reader: self.reader, path, value }
    }

    /// The value of a key, if it is there. Asking makes the key known.
    pub(crate) fn get(&self, key: &'static str) -> Option<Item<'r>> {
        self.asked.borrow_mut().insert(key);
        self.table.get_key_value(key).map(|(k, v)| self.item(k, v))
    }

    /// Like [`Self::get`], with a problem when it is missing.
    pub(crate) fn need(&self, key: &'static str, example: &str) -> Option<Item<'r>> {
        let found = self.get(key);
        if found.is_none() {
            let place = if self.path.is_empty() { "the definition".into() } else { format!("[{}]", self.path) };
            self.reader.complain(
                &self.path,
                format!("{place} lacks `{key}`"),
                Some(format!("add `{key} = {example}`")),
            );
        }
        found
    }

    /// The named values of a table whose keys the author chooses, in the order of the text.
    pub(crate) fn entries(&self) -> Vec<(String, Item<'r>)> {
        let mut all: Vec<_> =
            self.table.iter().map(|(k, v)| (k.span().start, k.get_ref().to_string(), self.item(k, v))).collect();
        all.sort_by_key(|(at, ..)| *at);
        all.into_iter().map(|(_, name, item)| (name, item)).collect()
    }

    /// The entries of the table below `key`; none when it is absent.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(String, Item<'r>)> {
        self.get(key).and_then(|i| i.section()).map(|s| s.entries()).unwrap_or_default()
    }

    /// Complains of every key that nobody asked for.
    pub(crate) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            let known = || asked.iter().copied();
            let hint = names::meant(name, known())
                .or_else(|| synonym(name, &asked))
                .unwrap_or_else(|| format!("known here: {}", known().collect::<Vec<_>>().join(", ")));
            let place = if self.path.is_empty() { "here".to_owned() } else { format!("in [{}]", self.path) };
            self.reader.complain_at(key.span().start, format!("unknown key {name:?} {place}"), Some(hint));
        }
    }
}

/// Words of neighbouring formats whose letters are too far away to be guessed.
fn synonym(word: &str, known: &BTreeSet<&'static str>) -> Option<String> {
    let pairs = [
        ("env", "environment"),
        ("cmd", "command"),
        ("entrypoint", "command"),
        ("description", "summary"),
        ("health", "healthcheck"),
        ("requires", "depends_on"),
        ("networks", "allow"),
        ("permissions", "allow"),
        ("config", "file"),
        ("variables", "param"),
        ("image", "artifact"),
        ("dependencies", "include"),
    ];
    let (_, ours) = pairs.iter().find(|(theirs, ours)| *theirs == word && known.contains(ours))?;
    Some(format!("this is called `{ours}` here"))
}

impl<'r> Item<'r> {
    fn found(&self) -> String {
        match self.value.get_ref() {
            DeValue::String(s) => format!("the text {:?}", s.chars().take(40).collect::<String>()),
            DeValue::Integer(n) => format!("the number {}", n.as_str()),
            DeValue::Float(n) => format!("the number {}", n.as_str()),
            DeValue::Boolean(b) => format!("{b}"),
            DeValue::Datetime(_) => "a date".into(),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        }
    }

    /// A problem of this value.
    pub(crate) fn complain(&self, message: impl Into<String>, hint: Option<String>) {
        self.reader.complain(&self.path, message, hint);
    }

    /// "expected …, found …".
    pub(crate) fn mismatch(&self, wanted: &str, hint: Option<String>) {
        self.complain(format!("expected {wanted}, found {}", self.found()), hint);
    }

    pub(crate) fn section(&self) -> Option<Section<'r>> {
        match self.value.get_ref() {
            DeValue::Table(table) => {
                Some(Section { reader: self.reader, path: self.path.clone(), table, asked: RefCell::default() })
            }
            _ => {
                self.mismatch("a table", None);
                None
            }
        }
    }

    /// A text without control characters.
    pub(crate) fn text(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(s) => match names::block(s) {
                Ok(()) => Some(s.to_string()),
                Err(why) => {
                    self.complain(why, None);
                    None
                }
            },
            DeValue::Integer(n) => {
                self.mismatch("a text", Some(format!("write \"{}\"", n.as_str())));
                None
            }
            _ => {
                self.mismatch("a text", None);
                None
            }
        }
    }

    /// A text, a number or a truth value, as text.
    pub(crate) fn scalar(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::Boolean(b) => Some(b.to_string()),
            DeValue::Integer(_) => self.int().map(|n| n.to_string()),
            _ => self.text(),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }
    pub(crate) fn is_int(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    pub(crate) fn int(&self) -> Option<i64> {
        let DeValue::Integer(n) = self.value.get_ref() else {
            self.mismatch("a whole number", None);
            return None;
        };
        let parsed = i64::from_str_radix(n.as_str(), n.radix());
        if parsed.is_err() {
            self.complain(format!("the number {} is too big", n.as_str()), None);
        }
        parsed.ok()
    }

    /// A whole number within bounds.
    pub(crate) fn within<T: TryFrom<i64>>(&self, min: i64, max: i64) -> Option<T> {
        let n = self.int()?;
        if n < min || n > max {
            self.complain(format!("{n} is not within {min} and {max}"), None);
            return None;
        }
        T::try_from(n).ok()
    }

    /// A number with decimals, in thousandths.
    pub(crate) fn thousandths(&self, max: u32) -> Option<u32> {
        let number = match self.value.get_ref() {
            DeValue::Integer(n) => n.as_str().parse::<f64>().ok(),
            DeValue::Float(n) => n.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let thousandths = number.map(|n| (n * 1000.0).round()).filter(|n| *n >= 1.0 && *n <= f64::from(max));
        if thousandths.is_none() {
            self.mismatch(&format!("a number above 0 and up to {}", max / 1000), None);
        }
        // Within 1 and `max` by the filter above: the cast cuts nothing.
        thousandths.map(|n| n as u32)
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        let found = self.value.get_ref().as_bool();
        if found.is_none() {
            self.mismatch("true or false", None);
        }
        found
    }

    pub(crate) fn items(&self) -> Vec<Item<'r>> {
        let DeValue::Array(list) = self.value.get_ref() else {
            let hint = self.value.get_ref().as_str().map(|s| format!("write [{s:?}]"));
            self.mismatch("a list", hint);
            return Vec::new();
        };
        let one = |(n, value): (usize, &'r Spanned<DeValue<'r>>)| {
            let path = format!("{}[{n}]", self.path);
            self.reader.place(&path, value.span());
            Item { reader: self.reader, path, value }
        };
        list.iter().enumerate().map(one).collect()
    }

    /// A list of texts; those that are none are complained of and left out.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Item::text).collect()
    }

    pub(crate) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        parse(&text).map_err(|why| self.complain(why, None)).ok()
    }

    pub(crate) fn size(&self) -> Option<u64> {
        if self.is_int() {
            self.mismatch("a size", Some("write a unit: \"512MiB\"".into()));
            return None;
        }
        self.parsed(units::size)
    }

    pub(crate) fn duration(&self) -> Option<crate::time::Span> {
        if self.is_int() {
            self.mismatch("a duration", Some("write a unit: \"30s\"".into()));
            return None;
        }
        self.parsed(units::duration)
    }

    /// One of a few words.
    pub(crate) fn one_of(&self, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text()?;
        let found = words.iter().copied().find(|w| *w == text);
        if found.is_none() {
            let hint = names::meant(&text, words.iter().copied());
            self.complain(format!("{text:?} is none of {}", words.join(", ")), hint);
        }
        found
    }
}
