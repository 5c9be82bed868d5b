//! Exit codes, and the one sentence that goes with each failure.

/// Done.
pub(super) const OK: u8 = 0;
/// It did not work: a peer cannot be reached, a file cannot be written.
pub(super) const FAILURE: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// The configuration is wrong.
pub(super) const CONFIG: u8 = 3;
/// The user may not do this.
pub(super) const PERMISSION: u8 = 4;
/// No daemon answers.
pub(super) const NOT_RUNNING: u8 = 5;

/// Standard output cannot be written.
pub(super) const OUTPUT: u8 = 7;

/// What `--help` says of them.
pub(super) const HELP: &str = "\
Exit codes: 0 done, 1 failure, 2 wrong usage, 3 wrong configuration, 4 missing permission, 5 no daemon is running, \
6 a daemon is running already or its port or interface is taken, 7 the result could not be written.";

/// A failure: what to say and how to exit.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<crate::daemon::Error> for Failed {
    fn from(error: crate::daemon::Error) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<crate::daemon::config::Problems> for Failed {
    fn from(problems: crate::daemon::config::Problems) -> Self {
        Self::new(if problems.denied { PERMISSION } else { CONFIG }, problems.to_string())
    }
}

impl From<crate::daemon::config::edit::EditError> for Failed {
    fn from(error: crate::daemon::config::edit::EditError) -> Self {
        use crate::daemon::config::edit::EditError;
        match error {
            EditError::Invalid(problems) => problems.into(),
            EditError::Entry(_) => Self::new(USAGE, error.to_string()),
            EditError::Refused(_) | EditError::Io { .. } => Self::new(FAILURE, error.to_string()),
        }
    }
}
