//! `domicile check`

use super::args::{CheckArgs, Cli};
use super::exit::Failed;
use crate::daemon::config;

pub(super) fn run(cli: &Cli, args: &CheckArgs) -> Result<(), Failed> {
    let path = args.file.as_ref().unwrap_or(&cli.config);
    let config = config::load(path)?;
    println!(
        "{} is valid: {}, {}, {} policies",
        path.display(),
        super::render::count(config.entities.len(), "entity", "entities"),
        super::render::count(config.peers.len(), "peer", "peers"),
        config.spd.policies().len()
    );
    for (hidden, by) in config.spd.shadowed() {
        println!("note: policy {} never matches, because policy {} takes in all of it", hidden + 1, by + 1);
    }
    Ok(())
}
