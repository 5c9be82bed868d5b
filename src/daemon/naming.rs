//! Names for the machine: what the home answers, and how applications come to ask. A task of its own, because the system
//! bus may be slow and packets must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::Config;
use super::home::SharedHome;
use crate::names::{self, HomeDomain, Names, Setup, Zone};

/// How long systemd-resolved has to forget us at the end; it does so anyway when the device goes.
const GOODBYE: Duration = Duration::from_secs(1);

/// systemd-resolved that refuses, or does not run yet, is told again: after this long, then after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Names at work.
pub(super) struct Naming {
    homes: watch::Sender<Vec<HomeDomain>>,
    task: JoinHandle<()>,
}

/// Starts what there is to start, now or when a home with a domain comes to be known. Problems are told, and none of them
/// is a reason not to be up: addresses work without names.
pub(super) fn start(config: &Config, home: Option<&SharedHome>, seed: [u8; 32]) -> Naming {
    let mut setup = Setup::new(&config.interface, seed);
    let homes = homes(config);
    let own = homes.iter().find(|home| Some(home.prefix) == config.home_prefix);
    if let (Some(home), Some(own)) = (home, own) {
        match Zone::new(&own.domain, own.prefix) {
            Ok(zone) => setup.served = Some((zone, Arc::new(home.clone()))),
            Err(error) => tracing::warn!("names of this home are not answered: {error}"),
        }
    }
    let (sender, known) = watch::channel(homes);
    Naming { homes: sender, task: tokio::spawn(run(setup, known)) }
}

impl Naming {
    /// The configuration may know other homes now.
    pub(super) fn follow(&self, config: &Config) {
        let homes = homes(config);
        self.homes.send_if_modified(|known| {
            let other = *known != homes;
            *known = homes;
            other
        });
    }

    /// Ends, and lets systemd-resolved forget.
    pub(super) async fn stop(self) {
        let Self { homes, mut task } = self;
        drop(homes);
        if timeout(GOODBYE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// The homes that this machine trusts and that have a domain; short names are completed with those of its own.
fn homes(config: &Config) -> Vec<HomeDomain> {
    let known = config.roots.iter().filter_map(|root| {
        let prefix = root.prefix();
        let search = config.entities.iter().any(|entity| prefix.contains(&entity.address));
        Some(HomeDomain { domain: root.domain()?.to_owned(), prefix, search })
    });
    known.collect()
}

async fn run(mut setup: Setup, mut known: watch::Receiver<Vec<HomeDomain>>) {
    if known.wait_for(|homes| !homes.is_empty()).await.is_err() {
        return;
    }
    setup.homes = known.borrow_and_update().clone();
    let mut names = names::start(setup).await;
    for problem in names.problems() {
        tracing::warn!("{problem}");
    }
    advise(&names);
    let mut pause = FIRST_RETRY;
    loop {
        tokio::select! {
            changed = known.changed() => {
                if changed.is_err() {
                    break;
                }
                let homes = known.borrow_and_update().clone();
                match names.set_homes(homes).await {
                    Ok(()) => advise(&names),
                    Err(error) => tracing::warn!("{error}"),
                }
                pause = FIRST_RETRY;
            }
            () = tokio::time::sleep(pause), if names.is_untold() => {
                pause = (pause * 2).min(LAST_RETRY);
                if names.try_again().await {
                    tracing::info!("systemd-resolved knows the names of this machine's homes");
                }
            }
        }
    }
    names.stop().await;
}

fn advise(names: &Names) {
    if let Some(advice) = names.advice() {
        tracing::info!("{advice}");
    }
}
