//! From the text to what stands in it. Whatever is wrong is told and taken out, and reading goes on without it, so that
//! one mistake hides no other.

use std::collections::HashSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::file::File;
use super::problem::Collector;

/// More mistakes than this are not told: the file is something else.
const MOST: usize = 100;

/// The file without what could not be read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) file: File,
    /// Where the table begins, and the key in it that was taken out.
    taken: HashSet<(usize, String)>,
    /// The text is not TOML: what seems to be missing may only have been misread.
    pub(super) broken: bool,
}

impl Read {
    /// A key that is not there needs no second complaint.
    pub(super) fn was_told(&self, table: &Range<usize>, key: &str) -> bool {
        self.broken || self.taken.contains(&(table.start, key.to_owned()))
    }
}

pub(super) fn read(text: &str, problems: &mut Collector<'_>) -> Read {
    let (mut root, mistakes) = DeTable::parse_recoverable(text);
    let mut read = Read { broken: !mistakes.is_empty(), ..Read::default() };
    for mistake in mistakes.iter().take(MOST) {
        match mistake.span() {
            Some(span) => problems.syntax(span, mistake.message().replace('\n', " ")),
            None => problems.whole(mistake.message().replace('\n', " ")),
        }
    }
    for _ in 0..MOST {
        let error = match File::deserialize(Deserializer::from(root.clone())) {
            Ok(file) => {
                read.file = file;
                return read;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let start = root.span().start;
        let Some(taken) = take_from_table(root.get_mut(), start, &span) else {
            problems.at(span, error.message().replace('\n', " "));
            break;
        };
        problems.at(span, sentence(&error, &taken.key));
        read.taken.insert((taken.table, taken.key));
    }
    read.broken = true;
    read
}

/// An entry that is gone: where its table begins, and its key.
struct Taken {
    table: usize,
    key: String,
}

/// Takes out the entry that an error is about: its span is the one of the key or of the value.
fn take_from_table(table: &mut DeTable<'_>, start: usize, span: &Range<usize>) -> Option<Taken> {
    for (key, value) in table.iter_mut() {
        let inside = match take_from_value(value, start, key.get_ref(), span) {
            None if key.span() == *span || value.span() == *span => break,
            inside => inside,
        };
        if inside.is_some() {
            return inside;
        }
    }
    let same = |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| key.span() == *span || value.span() == *span;
    let key = table.iter().find(|(key, value)| same(key, value))?.0.clone();
    table.remove(&key)?;
    Some(Taken { table: start, key: key.into_inner().into_owned() })
}

fn take_from_value(
    value: &mut Spanned<DeValue<'_>>,
    outer: usize,
    key: &str,
    span: &Range<usize>,
) -> Option<Taken> {
    let start = value.span().start;
    match value.get_mut() {
        DeValue::Table(table) => take_from_table(table, start, span),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                if let Some(taken) = take_from_value(item, outer, key, span) {
                    return Some(taken);
                }
            }
            items.iter().find(|item| item.span() == *span)?;
            let mut kept = DeArray::new();
            std::mem::replace(items, DeArray::new())
                .into_iter()
                .filter(|item| item.span() != *span)
                .for_each(|item| kept.push(item));
            *items = kept;
            Some(Taken { table: outer, key: key.to_owned() })
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}

/// What serde says, in words of the file and not of Rust.
fn sentence(error: &Error, key: &str) -> String {
    let message = error.message().replace('\n', " ");
    if message.contains("map, expected a sequence") {
        return format!("there can be several of these: write [[{key}]] with two brackets");
    }
    let Some((found, expected)) = message.split_once(", expected ") else {
        return format!("{key}: {message}");
    };
    if found.starts_with("unknown field") {
        return message;
    }
    let expected = match expected {
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" | "usize" => "a number from 0",
        "f64" => "a number like 0.1",
        "a sequence" => "a list in [ ]",
        "a boolean" => "true or false",
        "a string" | "str" => "a text in quotes",
        other if other.starts_with("struct") => "a table",
        other => other,
    };
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    format!("{key} cannot be {found}: write {expected}")
}
