//! Many services at once, from a file with their names.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::{ask, say};
use crate::api::home::{EntityDocument, HomeRequest};
use crate::cli::args::Cli;
use crate::cli::exit::{FAILURE, Failed};

/// Octets of such a file: more names than a home has room for.
const MAX_FILE: u64 = 16 << 20;

/// Adds a service for each name in a file, `-` being standard input, and prints "NAME is ADDRESS." for each. Ends at the
/// first one that is refused; those before it are added.
pub(super) fn add(cli: &Cli, file: &Path, node: &str, random: bool) -> Result<(), Failed> {
    let failed = |why: String| Failed::new(FAILURE, format!("{}: {why}", file.display()));
    let input: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| failed(format!("it cannot be opened: {error}")))?)
    };
    let mut added = 0_u64;
    for (line, number) in BufReader::new(input.take(MAX_FILE)).lines().zip(1_u64..) {
        let line = line.map_err(|error| failed(format!("it cannot be read: {error}")))?;
        let Some(name) = name_in(&line) else { continue };
        let request = HomeRequest::ServiceAdd { name: name.to_owned(), node: node.to_owned(), random };
        let service: EntityDocument = ask(cli, request).map_err(|refused| {
            let message = format!(
                "line {number} of {}: {} (services of earlier lines that were added: {added})",
                file.display(),
                refused.message
            );
            Failed::new(refused.code, message)
        })?;
        added += 1;
        say(format_args!("{} is {}.", service.full_name.as_ref().unwrap_or(&service.name), service.address))?;
    }
    Ok(())
}

/// The name in a line: whatever is not empty and no comment.
fn name_in(line: &str) -> Option<&str> {
    let name = line.split_once('#').map_or(line, |(before, _)| before).trim();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_name_or_nothing() {
        let cases = [("web", Some("web")), ("  web \r", Some("web")), ("web # the site", Some("web"))];
        for (line, name) in cases.into_iter().chain([("", None), ("  ", None), ("# nothing", None)]) {
            assert_eq!(name_in(line), name, "{line:?}");
        }
    }
}
