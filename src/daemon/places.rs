//! Where homes may be reached: where their roots say that they are, where the configuration says so, where their
//! addresses tell, in this order. Host names are looked up again and again, on threads of their own and never by way of
//! our own DNS; which place is used, the node decides.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::config::Config;
use super::lookup;
use crate::mobility::CareOfPolicy;
use crate::names::LookupError;
use crate::node::HomeConfig;
use crate::policy::trust::Trust;

/// How often the name of a home that answers is looked up.
const REGULAR: Duration = Duration::from_secs(60);
/// How often the name of a home that does not answer is looked up, and one without an address.
const HURRIED: Duration = Duration::from_secs(5);
/// Addresses of one name.
const MOST: usize = 4;

/// What a look-up came to.
pub(super) struct Answer {
    name: String,
    found: Result<Vec<SocketAddrV4>, LookupError>,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    found: Vec<SocketAddrV4>,
    /// The last question, and the next one.
    asked: Option<Instant>,
    due: Option<Instant>,
    under_way: bool,
    /// That it has no address was told.
    told: bool,
}

/// The places of all homes.
pub(super) struct Places {
    trust: Arc<Trust>,
    names: BTreeMap<String, Name>,
    /// What the node was told.
    told: Option<Vec<HomeConfig>>,
    sender: mpsc::UnboundedSender<Answer>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Places {
    pub(super) fn new(trust: Arc<Trust>) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { trust, names: BTreeMap::new(), told: None, sender, answers }
    }

    /// The homes of the configuration with their places, if they are not what this told the last time.
    pub(super) fn changed(&mut self, now: Instant, unix: u64, config: &Config) -> Option<Vec<HomeConfig>> {
        let mut wanted = BTreeMap::new();
        let homes: Vec<HomeConfig> = config
            .trusted_homes()
            .into_iter()
            .map(|mut home| {
                home.places = self.places(unix, config, &home, &mut wanted);
                home
            })
            .collect();
        // Names that nobody mentions any more are forgotten, new ones are looked up at once.
        self.names = wanted;
        for name in self.names.values_mut() {
            name.due.get_or_insert(now);
        }
        if self.told.as_ref() == Some(&homes) {
            return None;
        }
        self.told = Some(homes.clone());
        Some(homes)
    }

    fn places(
        &mut self,
        unix: u64,
        config: &Config,
        home: &HomeConfig,
        wanted: &mut BTreeMap<String, Name>,
    ) -> Vec<SocketAddrV4> {
        let mut resolve = |text: String, first: Option<SocketAddrV4>| {
            if let Ok(place) = text.parse() {
                return vec![place];
            }
            let name = wanted.entry(text).or_insert_with_key(|text| {
                let fresh = || Name { found: first.into_iter().collect(), ..Name::default() };
                self.names.remove(text).unwrap_or_else(fresh)
            });
            name.found.clone()
        };
        let redirect = self.trust.read(|store| store.redirect_of(home.prefix).cloned());
        // Another machine is asked to follow there: not to what cannot be a home.
        let policy = CareOfPolicy { allow_special: config.homes.allows_special(), ..CareOfPolicy::default() };
        let signed: Vec<SocketAddrV4> = redirect
            .iter()
            .flat_map(|redirect| redirect.in_force(unix))
            .flat_map(|locator| resolve(locator.to_string(), None))
            .filter(|place| policy.allows(*place))
            .collect();
        let own = match config.home_names.get(&home.prefix) {
            Some(name) => resolve(name.clone(), home.places.first().copied()),
            None => home.places.clone(),
        };
        let mut places: Vec<SocketAddrV4> = Vec::new();
        for place in signed.into_iter().chain(own) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// This home does not answer: is it somewhere else by now?
    pub(super) fn hurry(&mut self, now: Instant) {
        for name in self.names.values_mut() {
            let soon = name.asked.map_or(now, |asked| now.max(asked + HURRIED));
            name.due = Some(name.due.map_or(soon, |due| due.min(soon)));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.names.values().filter(|name| !name.under_way).filter_map(|name| name.due).min()
    }

    /// Starts the look-ups that are due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (text, name) in &mut self.names {
            if name.under_way || name.due.is_none_or(|due| due > now) {
                continue;
            }
            (name.under_way, name.asked, name.due) = (true, Some(now), Some(now + REGULAR));
            let (text, sender) = (text.clone(), self.sender.clone());
            std::thread::spawn(move || {
                let found = lookup::endpoints(&text);
                // Nobody listens any more when the daemon ends.
                let _ = sender.send(Answer { name: text, found });
            });
        }
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// What a look-up found. A failure leaves what was known: resolvers are silent more often than homes move.
    pub(super) fn take(&mut self, now: Instant, answer: Answer) {
        let Some(name) = self.names.get_mut(&answer.name) else { return };
        name.under_way = false;
        match answer.found {
            Ok(mut found) => {
                found.truncate(MOST);
                // Resolvers turn the list around each time: what is known stays in front.
                found.sort_by_key(|place| name.found.iter().position(|known| known == place).unwrap_or(MOST));
                if found != name.found {
                    let places: Vec<String> = found.iter().map(ToString::to_string).collect();
                    tracing::info!("{} is at {} now", answer.name, places.join(", "));
                }
                (name.found, name.told) = (found, false);
            }
            Err(error) => {
                if name.found.is_empty() {
                    name.due = Some(now + HURRIED);
                }
                if !std::mem::replace(&mut name.told, true) {
                    tracing::warn!("a home is not found by its name now: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "time starts somewhere")]
mod tests {
    use super::*;
    use crate::crypto::identity::PrivateKey;
    use crate::daemon::config::check_text;
    use crate::daemon::home::HomeDesk;
    use crate::daemon::trust;
    use crate::pki::redirect::Redirect;
    use crate::pki::{TrustStore, pem};

    const UNIX: u64 = 1_800_000_000;

    /// A member of a home, whose configuration names it or not.
    fn member(dir: &std::path::Path, home: &str, special: bool) -> (Config, HomeDesk) {
        let prefix = "2002:808:808::/48".parse().unwrap();
        let desk = HomeDesk::create(&dir.join("home"), prefix, None).unwrap();
        std::fs::write(dir.join("root.pem"), pem::encode(desk.authority().root().der()).unwrap()).unwrap();
        let key = dir.join("a.key");
        std::fs::write(&key, PrivateKey::from_seed(&[1; 32]).to_pem()).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "[node]\nallow_special_homes = {special}\n[[entity]]\nname = \"a\"\naddress = \"2002:808:808:1::1\"\nkey_file = \"a.key\"\n[[trust]]\nroot = \"root.pem\"\n{home}"
        );
        (check_text(&dir.join("domicile.toml"), &text).unwrap(), desk)
    }

    fn redirect(desk: &HomeDesk, until: u64, places: &[&str]) -> Redirect {
        let locators = places.iter().map(|place| place.parse().unwrap()).collect();
        let home = desk.authority().root().prefix();
        Redirect::sign(home, 1, until, locators, desk.authority().key()).unwrap()
    }

    fn shown(homes: Option<Vec<HomeConfig>>) -> Vec<String> {
        homes.unwrap().iter().flat_map(|home| &home.places).map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn what_the_root_signed_comes_first_until_it_ends_and_nothing_leads_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (config, desk) = member(dir.path(), "", false);
        let trust = trust::remembered(TrustStore::default());
        trust::apply(&config, &trust).unwrap();
        let mut places = Places::new(Arc::clone(&trust));
        let now = Instant::now();
        assert_eq!(shown(places.changed(now, UNIX, &config)), ["8.8.8.8:4500"]);
        assert_eq!(places.changed(now, UNIX, &config), None, "told once");
        let at = ["127.0.0.1:4500", "10.0.0.1:4500", "9.9.9.9:53", "224.0.0.1:4500", "9.9.9.9:4501"];
        let signed = redirect(&desk, UNIX + 60, &at);
        trust.change(|store| store.redirect(signed)).unwrap();
        assert_eq!(shown(places.changed(now, UNIX, &config)), ["9.9.9.9:4501", "8.8.8.8:4500"]);
        assert_eq!(shown(places.changed(now, UNIX + 60, &config)), ["8.8.8.8:4500"], "it has ended");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_and_what_is_known_stays_while_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let entry = "[[home]]\nprefix = \"2002:808:808::/48\"\nendpoint = \"localhost:4500\"\n";
        let (config, _) = member(dir.path(), entry, true);
        let trust = trust::remembered(TrustStore::default());
        trust::apply(&config, &trust).unwrap();
        let mut places = Places::new(trust);
        let start = Instant::now();
        assert_eq!(shown(places.changed(start, UNIX, &config)), ["127.0.0.1:4500"], "from the first look-up");
        assert_eq!(places.deadline(), Some(start));
        places.handle_timeout(start);
        assert_eq!(places.deadline(), None, "one question at a time");
        let answer = places.answer().await.unwrap();
        places.take(start, answer);
        assert_eq!(places.changed(start, UNIX, &config), None, "nothing new");
        assert_eq!(places.deadline(), Some(start + REGULAR));
        places.hurry(start);
        assert_eq!(places.deadline(), Some(start + HURRIED), "not more often, whatever happens");
        let name = "localhost:4500".to_owned();
        let found = vec!["9.9.9.9:4500".parse().unwrap(), "9.9.9.10:4500".parse().unwrap()];
        places.take(start, Answer { name: name.clone(), found: Ok(found.clone()) });
        assert_eq!(shown(places.changed(start, UNIX, &config)), ["9.9.9.9:4500", "9.9.9.10:4500"]);
        let turned = found.into_iter().rev().collect();
        places.take(start, Answer { name: name.clone(), found: Ok(turned) });
        assert_eq!(places.changed(start, UNIX, &config), None, "the order of resolvers means nothing");
        places.take(start, Answer { name, found: Err(LookupError::NoAddress("localhost".into())) });
        assert_eq!(places.changed(start, UNIX, &config), None);
    }
}
