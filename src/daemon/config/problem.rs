//! What is wrong with a configuration, and where.
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub path: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
    /// It is not about what stands in the file: this user may not read it.
    pub denied: bool,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match problem.line {
                0 => write!(f, "{}: {}", self.path.display(), problem.message)?,
                line => write!(f, "{}:{line}:{}: {}", self.path.display(), problem.column, problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a text is checked.
pub(super) struct Collector<'a> {
    text: &'a str,
    list: Vec<Problem>,
    /// Lines that are not TOML: what else seems wrong there only follows from that.
    broken: HashSet<usize>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, list: Vec::new(), broken: HashSet::new() }
    }

    /// Line and column of an octet of the text.
    fn place(&self, octet: usize) -> (usize, usize) {
        let before = self.text.get(..octet).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// A problem at an octet range of the text.
    pub(super) fn at(&mut self, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = self.place(span.start);
        if !self.broken.contains(&line) {
            self.list.push(Problem { line, column, message: message.into() });
        }
    }

    /// Text that is not TOML; only the first mistake of a line is told.
    pub(super) fn syntax(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.at(span.clone(), message);
        self.broken.insert(self.place(span.start).0);
    }

    /// A problem of the file as a whole.
    pub(super) fn whole(&mut self, message: impl Into<String>) {
        self.list.push(Problem { line: 0, column: 0, message: message.into() });
    }

    /// All of them in the order of the file, if there are any.
    pub(super) fn finish(mut self, path: &Path) -> Result<(), Problems> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        Err(Problems { path: path.to_owned(), list: self.list, denied: false })
    }
}

/// The file cannot be read at all.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Problems {
    let message = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file: 'domicile init' makes one, '--config FILE' names another".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: only root may read it by default, try sudo".to_owned()
        }
        io::ErrorKind::IsADirectory => "this is a directory: name the file in it".to_owned(),
        io::ErrorKind::InvalidData => "this is not a text in UTF-8: name a configuration file".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    Problems { path: path.to_owned(), list: vec![Problem { line: 0, column: 0, message }], denied }
}
