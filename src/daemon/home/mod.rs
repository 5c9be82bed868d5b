//! The home that this machine is: its directory with registry and root key, and what is asked of it.
//!
//! ```text
//! home/               mode 0700
//!   registry.db       who has which address, who may join, what was issued
//!   root.key          the root key (PKCS#8 PEM, mode 0600): without it nobody can be certified any more
//!   root.pem          the root certificate, which others pin
//! ```

mod moving;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use zeroize::Zeroizing;

use super::config::edit::write_private;
use super::system::{NoRandomness, random, unix};
use crate::api::ErrorReply;
use crate::api::home::HomeRequest;
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::home::entity::{By, Grant, Issued};
use crate::home::registry::{Registry, check_backup};
use crate::home::verbs::{self, HomeReply, Outcome, RANDOM_LEN};
use crate::pki::{Authority, MAX_LEAF_LIFETIME, Root, pem};

pub use serve::{SharedHome, complete};

const REGISTRY: &str = "registry.db";
const ROOT_KEY: &str = "root.key";
const ROOT: &str = "root.pem";

/// Why there is no home. One sentence each.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] crate::home::Error),
    /// The directory has something in it.
    #[error("{} exists already, and nothing is overwritten: this machine is a home, or name another directory", .0.display())]
    Exists(PathBuf),
    /// The registry is gone; an empty one in its place would give addresses out again.
    #[error("{} is not there: bring it back with 'domicile home restore'", .0.display())]
    Lost(PathBuf),
    /// A file.
    #[error("{} cannot be {what}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A file says something else than it should.
    #[error("{}: {why}: restore it from your backup", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// The root certificate of the home in a directory.
pub fn root_of(directory: &Path) -> Result<Root, HomeError> {
    let path = directory.join(ROOT);
    let text = std::fs::read_to_string(&path).map_err(|error| HomeError::File {
        path: path.clone(),
        what: "read",
        error,
    })?;
    let all = pem::decode(&text);
    let root = all.and_then(|all| Root::from_der(all.first().map_or(&[][..], Vec::as_slice)));
    root.map_err(|error| HomeError::Content { path, why: error.to_string() })
}

/// A home in its directory.
pub struct HomeDesk {
    registry: Registry,
    authority: Authority,
    /// Of the certificates that it issues, in seconds.
    lifetime: u64,
    /// A laboratory or an intranet: it may move to addresses that are not on the Internet.
    allow_special: bool,
}

impl HomeDesk {
    /// Makes a home in a directory that is not there yet.
    pub fn create(directory: &Path, prefix: Ipv6Net, domain: Option<&str>) -> Result<Self, HomeError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                return HomeError::Exists(directory.to_owned());
            }
            HomeError::File { path: directory.to_owned(), what: "made", error }
        })?;
        let made = Self::fill(directory, prefix, domain);
        if made.is_err() {
            // Half a home would only stand in the way of the next attempt. Nobody has seen its key.
            let _ = std::fs::remove_dir_all(directory);
        }
        made
    }

    fn fill(directory: &Path, prefix: Ipv6Net, domain: Option<&str>) -> Result<Self, HomeError> {
        let path = |name| directory.join(name);
        let mut registry = Registry::open(&path(REGISTRY))?;
        let home = registry.init(By { now: unix(), who: "home init" }, prefix, domain)?;
        let key = PrivateKey::from_seed(&*random()?);
        let text = key.to_pem();
        let content =
            |why: &dyn std::fmt::Display| HomeError::Content { path: path(ROOT), why: why.to_string() };
        let authority = Authority::create(key, home.prefix, home.domain.as_deref(), unix(), *random()?)
            .map_err(|error| content(&error))?;
        let root = pem::encode(authority.root().der()).map_err(|error| content(&error))?;
        for (name, bytes) in [(ROOT_KEY, text.as_bytes()), (ROOT, root.as_bytes())] {
            write_private(&path(name), bytes, false).map_err(|error| HomeError::File {
                path: path(name),
                what: "written",
                error,
            })?;
        }
        Ok(Self { registry, authority, lifetime: MAX_LEAF_LIFETIME, allow_special: false })
    }

    /// Whether the registry of a home is missing.
    pub fn is_lost(directory: &Path) -> bool {
        directory.join(ROOT_KEY).exists() && !directory.join(REGISTRY).exists()
    }

    /// Opens the home of a directory.
    pub fn open(directory: &Path) -> Result<Self, HomeError> {
        let path = |name| directory.join(name);
        let read = |name| {
            let text = std::fs::read_to_string(path(name));
            text.map_err(|error| HomeError::File { path: path(name), what: "read", error })
        };
        let content =
            |name, why: &dyn std::fmt::Display| HomeError::Content { path: path(name), why: why.to_string() };
        let key = Zeroizing::new(read(ROOT_KEY)?);
        let key = PrivateKey::from_pem(&key).map_err(|error| content(ROOT_KEY, &error))?;
        let ders = pem::decode(&read(ROOT)?).map_err(|error| content(ROOT, &error))?;
        let der = ders.first().ok_or_else(|| content(ROOT, &"it holds no certificate"))?;
        let root = Root::from_der(der).map_err(|error| content(ROOT, &error))?;
        let authority = Authority::new(root, key).map_err(|error| content(ROOT, &error))?;
        if !path(REGISTRY).exists() {
            return Err(HomeError::Lost(path(REGISTRY)));
        }
        let registry = Registry::open(&path(REGISTRY))?;
        let prefix = registry.home()?.prefix;
        if prefix != authority.root().prefix() {
            return Err(content(
                ROOT,
                &format!("it is the root of another home than the registry's, {prefix}"),
            ));
        }
        Ok(Self { registry, authority, lifetime: MAX_LEAF_LIFETIME, allow_special: false })
    }

    /// How long the certificates are valid that it issues from now on.
    pub const fn set_certificate_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime.as_secs();
    }

    /// Whether it may move to addresses that are not on the Internet.
    pub const fn set_allow_special(&mut self, allow: bool) {
        self.allow_special = allow;
    }

    /// The registry.
    pub const fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The certificate authority.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Answers a request of the control socket or the command line.
    pub fn answer(&mut self, who: &str, request: HomeRequest) -> Result<Outcome, ErrorReply> {
        let now = unix();
        if let Some(answer) = self.answer_about_places(By { now, who }, &request) {
            return answer;
        }
        let failed =
            |error: NoRandomness| ErrorReply { stage: "internal".to_owned(), error: error.to_string() };
        let octets = random::<RANDOM_LEN>().map_err(failed)?;
        let (authority, lifetime) = (&self.authority, self.lifetime);
        let mut issue = |grant: &Grant| issue(authority, lifetime, grant, now);
        let mut outcome = verbs::answer(&mut self.registry, By { now, who }, *octets, request, &mut issue)?;
        if let HomeReply::Home(home) = &mut outcome.reply {
            home.root = Some(self.authority.root().fingerprint());
        }
        Ok(outcome)
    }

    /// Adds the node that this machine is, with its key.
    pub fn add_own_node(&mut self, name: &str, key: &PublicKey) -> Result<std::net::Ipv6Addr, HomeError> {
        let by = By { now: unix(), who: "home init" };
        let node = self.registry.node_add(by, name)?;
        self.registry.key_set(by, &node.name, key)?;
        Ok(node.address)
    }
}

/// A certificate; nodes renew it at two thirds of its lifetime.
fn issue(authority: &Authority, lifetime: u64, grant: &Grant, now: u64) -> Result<Issued, String> {
    let octets = random().map_err(|error| error.to_string())?;
    grant.certificate(authority, now, lifetime, *octets)
}

/// Brings a registry back where none is left: `directory` has root key and root certificate, and no registry.
pub fn restore_without(directory: &Path, backup: &Path) -> Result<(), HomeError> {
    // Before an empty registry is there.
    check_backup(backup)?;
    let mut registry = Registry::open(&directory.join(REGISTRY))?;
    registry.restore(By { now: unix(), who: "home restore" }, backup)?;
    Ok(())
}

impl std::fmt::Debug for HomeDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HomeDesk").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_ask_for_their_own_key_and_nothing_else_and_errands_are_for_oneself() {
        use crate::home::talk::{About, Ask, Tell};
        use crate::policy::stranger;
        let dir = tempfile::tempdir().unwrap();
        let prefix = "2002:c633:6401::/48".parse().unwrap();
        let mut home = HomeDesk::create(&dir.path().join("home"), prefix, None).unwrap();
        for name in ["alice", "bob"] {
            home.answer("uid 0", HomeRequest::UserAdd { name: name.to_owned() }).unwrap();
        }
        let [one, two] = [1, 2].map(|seed| PrivateKey::from_seed(&[seed; 32]).public());
        let source = "203.0.113.1".parse().unwrap();
        let who = stranger::identity(&one);
        let mut hear = |from, ask: Ask| home.hear(from, source, &ask.to_bytes());
        let member = "2002:c633:6401:1:0:1:0:1".parse().unwrap();
        for (from, ask) in [
            (who, Ask::request(&two, "alice", None)),
            (who, Ask::join(&one, None)),
            (who, Ask::Renew { subject: member, key: one.to_string() }),
            (who, Ask::Hosted { after: None }),
            (who, Ask::Take {}),
            (who, Ask::Leave {}),
            // Nobody else asks for a stranger's key, either.
            (member, Ask::request(&one, "alice", None)),
        ] {
            let (told, effects) = hear(from, ask.clone());
            assert!(matches!(told, Tell::Refused { .. }) && effects.is_empty(), "{ask:?}: {told:?}");
        }
        assert_eq!(hear(who, Ask::request(&one, "alice", Some("laptop"))).0, Tell::Waiting {});
        let fingerprint = one.fingerprint();
        let accept = HomeRequest::PendingAccept { which: fingerprint, whom: None };
        home.answer("uid 0", accept).unwrap();
        let mut hear = |from, ask: Ask| home.hear(from, source, &ask.to_bytes());
        let Tell::Joined(joined) = hear(who, Ask::request(&one, "alice", None)).0 else {
            panic!("not let in")
        };
        assert_eq!((joined.address, joined.name.as_str()), (member, "laptop.alice"));

        let (told, effects) = hear(member, Ask::Take {});
        assert!(matches!(told, Tell::Done { about: About::Take, ref message } if message.contains("alice")));
        let cut = |effect: &verbs::Effect| matches!(effect, verbs::Effect::Cut(_));
        assert!(!effects.iter().any(cut), "it had it before: {effects:?}");
        let floating = "2002:c633:6401:1:0:1::".parse().unwrap();
        let nobody = "2002:c633:6401:1:0:2:0:1".parse().unwrap();
        for from in [floating, nobody] {
            assert!(matches!(hear(from, Ask::Take {}).0, Tell::Denied { about: About::Take, .. }));
        }
        let (told, effects) = hear(member, Ask::Leave {});
        assert!(matches!(told, Tell::Done { about: About::Leave, .. }));
        assert!(effects.contains(&verbs::Effect::Cut(member)));
        assert!(matches!(hear(member, Ask::Leave {}).0, Tell::Denied { about: About::Leave, .. }));
    }

    #[test]
    fn a_home_is_made_once_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("home");
        let prefix = "2002:c633:6401::/48".parse().unwrap();
        let mut home = HomeDesk::create(&place, prefix, Some("home.example.org")).unwrap();
        let key = PrivateKey::from_seed(&[1; 32]).public();
        assert_eq!(home.add_own_node("server", &key).unwrap().to_string(), "2002:c633:6401:100::1");
        let root = home.authority().root().fingerprint();
        drop(home);
        assert!(matches!(HomeDesk::create(&place, prefix, None), Err(HomeError::Exists(_))));
        let mut home = HomeDesk::open(&place).unwrap();
        assert_eq!(home.authority().root().fingerprint(), root);
        home.answer("uid 0", HomeRequest::UserAdd { name: "alice".to_owned() }).unwrap();
        let file = dir.path().join("backup.db").display().to_string();
        home.answer("uid 0", HomeRequest::Backup { file: file.clone() }).unwrap();
        drop(home);
        // The registry is lost, the key is not.
        std::fs::remove_file(place.join(REGISTRY)).unwrap();
        assert!(matches!(HomeDesk::open(&place), Err(HomeError::Lost(_))));
        restore_without(&place, Path::new(&file)).unwrap();
        let mut home = HomeDesk::open(&place).unwrap();
        let outcome = home.answer("uid 0", HomeRequest::Info {}).unwrap();
        assert!(
            matches!(outcome.reply, HomeReply::Home(home) if home.users == 1 && home.nodes == 1 && home.root.as_ref() == Some(&root))
        );
        std::fs::write(place.join(ROOT_KEY), PrivateKey::from_seed(&[2; 32]).to_pem()).unwrap();
        assert!(matches!(HomeDesk::open(&place), Err(HomeError::Content { .. })));
        std::fs::remove_file(place.join(ROOT_KEY)).unwrap();
        assert!(matches!(HomeDesk::open(&place), Err(HomeError::File { .. })));
    }
}
