//! `domicile check`

use super::args::{CheckArgs, Cli};
use super::exit::Failed;
use super::output::say;
use super::render::count;
use crate::daemon::config;

pub(super) fn run(cli: &Cli, args: &CheckArgs) -> Result<(), Failed> {
    let path = args.file.as_ref().unwrap_or(&cli.config);
    let config = config::load(path)?;
    say(format_args!(
        "{} is valid: {}, {}, {}",
        path.display(),
        count(config.entities.len(), "entity", "entities"),
        count(config.peers.len(), "peer", "peers"),
        count(config.spd.policies().len(), "policy", "policies")
    ))?;
    for (hidden, by) in config.spd.shadowed() {
        say(format_args!(
            "note: policy {} never matches, because policy {} takes in all of it",
            hidden + 1,
            by + 1
        ))?;
    }
    Ok(())
}
