//! Names for the machine: what the home answers, and how applications come to ask.

use std::sync::Arc;

use super::config::Config;
use super::home::SharedHome;
use crate::names::{self, HomeDomain, Names, Setup, Zone};

/// Starts what there is to start; `None` when no home here has a domain. Problems are told, and none of them is a reason
/// not to be up: addresses work without names.
pub(super) async fn start(config: &Config, home: Option<&SharedHome>, seed: [u8; 32]) -> Option<Names> {
    let homes: Vec<HomeDomain> = config
        .roots
        .iter()
        .filter_map(|root| {
            let prefix = root.prefix();
            let search = config.entities.iter().any(|entity| prefix.contains(&entity.address));
            Some(HomeDomain { domain: root.domain()?.to_owned(), prefix, search })
        })
        .collect();
    if homes.is_empty() {
        return None;
    }
    let mut setup = Setup::new(&config.interface, seed);
    let own = homes.iter().find(|home| Some(home.prefix) == config.home_prefix);
    if let (Some(home), Some(own)) = (home, own) {
        match Zone::new(&own.domain, own.prefix) {
            Ok(zone) => setup.served = Some((zone, Arc::new(home.clone()))),
            Err(error) => tracing::warn!("names of this home are not answered: {error}"),
        }
    }
    setup.homes = homes;
    let started = names::start(setup).await;
    for problem in started.problems() {
        tracing::warn!("{problem}");
    }
    if let Some(advice) = started.advice() {
        tracing::info!("{advice}");
    }
    Some(started)
}
