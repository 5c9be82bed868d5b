//! What is said: results on standard output, everything else on standard error. A reader that went away ends the verb
//! quietly, a full disk is one sentence; neither is a panic.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::exit::{Failed, OK, OUTPUT};

/// One line.
pub(super) fn say(line: impl Display) -> Result<(), Failed> {
    write(&format!("{line}\n"))
}

/// Text as it is, and it is on its way before this returns.
pub(super) fn write(text: &str) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| failed(&error))
}

/// What a failure to write means for the verb.
pub(super) fn failed(error: &io::Error) -> Failed {
    if error.kind() == ErrorKind::BrokenPipe {
        // Whoever read has seen enough (`| head`).
        return Failed::new(OK, "");
    }
    Failed::new(OUTPUT, format!("the result cannot be written to standard output: {error}"))
}

/// To standard error; when nobody reads that either, the exit code has to do.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
