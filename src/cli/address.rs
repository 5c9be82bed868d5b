//! `domicile address`

use super::args::AddressVerb;
use super::exit::{Failed, USAGE};
use super::output::say;
use crate::addr::plan;

pub(super) fn run(verb: &AddressVerb) -> Result<(), Failed> {
    match verb {
        AddressVerb::Derive { home, subnet, interface } => {
            let subnet = u16::try_from(subnet.unwrap_or(0))
                .map_err(|_| Failed::new(USAGE, "a subnet has 16 bits: 0 to 0xffff"))?;
            say(plan::in_subnet(*home, subnet, interface.unwrap_or(1)))
        }
        AddressVerb::Explain { address } => say(plan::explain(*address)),
    }
}
