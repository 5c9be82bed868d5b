//! A home that moves to another place: what it signs, and what a machine does that the home has left.
//!
//! The registry of a home that moves is a copy, so two machines have it for a while. Only one of them may give out
//! addresses and keep bindings: the one that is reached where the redirect says. The other one is a signpost.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use serde::{Deserialize, Serialize};

use super::HomeDesk;
use crate::api::ErrorReply;
use crate::api::home::{HomeRequest, RedirectDocument};
use crate::home::Error;
use crate::home::entity::By;
use crate::home::verbs::{Effect, HomeReply, Outcome};
use crate::mobility::CareOfPolicy;
use crate::pki::redirect::{Locator, Redirect};

/// What the registry keeps of a redirect.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    redirect: Redirect,
    /// Said by a person: this machine is reached there.
    here: bool,
}

/// Is this an address of this machine? Whatever may be bound to is one.
fn is_own(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn refusal(error: &Error) -> ErrorReply {
    ErrorReply { stage: error.stage().to_owned(), error: error.to_string() }
}

impl HomeDesk {
    fn kept(&self) -> Option<Kept> {
        let kept = self.registry.redirect().inspect_err(|error| tracing::error!("{error}")).ok()??;
        serde_json::from_slice(&kept.document).inspect_err(|error| tracing::error!("redirect: {error}")).ok()
    }

    /// What members are told, if there is anything: also that an earlier one was taken back.
    pub fn redirect(&self) -> Option<Redirect> {
        self.kept().map(|kept| kept.redirect)
    }

    /// Where the home is, when this machine is not it any more.
    pub fn moved_away(&self, now: u64) -> Option<Locator> {
        let Kept { redirect, here } = self.kept()?;
        let places = redirect.in_force(now);
        let own = |place: &Locator| place.host().parse().is_ok_and(is_own);
        if here || places.iter().any(own) {
            return None;
        }
        places.first().cloned()
    }

    /// Answers what is about the place of the home, and what a machine refuses that the home has left.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not known to be harmless is refused")]
    pub(super) fn answer_about_places(
        &mut self,
        by: By<'_>,
        request: &HomeRequest,
    ) -> Option<Result<Outcome, ErrorReply>> {
        let outcome = match request {
            HomeRequest::Redirect {} => {
                let reply = HomeReply::Redirect(self.redirect_document(by.now));
                return Some(Ok(Outcome { reply, effects: Vec::new() }));
            }
            HomeRequest::RedirectSet { places, lifetime, here } => {
                self.places(places).and_then(|places| self.redirect_to(by, places, *lifetime, *here))
            }
            HomeRequest::RedirectClear {} => self.redirect_to(by, Vec::new(), None, false),
            HomeRequest::Info {}
            | HomeRequest::List { .. }
            | HomeRequest::Show { .. }
            | HomeRequest::Bindings { .. }
            | HomeRequest::Invitations {}
            | HomeRequest::Pending {}
            | HomeRequest::Log { .. }
            | HomeRequest::Issued { .. }
            | HomeRequest::IssuedVerify {}
            | HomeRequest::Backup { .. }
            | HomeRequest::Restore { .. } => return None,
            // Whatever else there is changes something.
            _ => {
                let place = self.moved_away(by.now)?;
                Err(Error::Invalid(format!(
                    "this home is at {place} now: do it there, or take that back with 'domicile home redirect clear'"
                )))
            }
        };
        Some(outcome.map_err(|error| refusal(&error)))
    }

    /// Where the home says that it is.
    fn redirect_document(&self, now: u64) -> RedirectDocument {
        let kept = self.kept();
        let redirect = kept.as_ref().map(|kept| &kept.redirect);
        RedirectDocument {
            number: redirect.map_or(0, |redirect| redirect.number),
            since: self.registry.redirect().ok().flatten().map_or(0, |kept| kept.at),
            until: redirect.map(|redirect| redirect.until).filter(|until| *until != 0),
            places: redirect.map_or_else(Vec::new, |redirect| {
                redirect.in_force(now).iter().map(ToString::to_string).collect()
            }),
            here: self.moved_away(now).is_none(),
        }
    }

    /// Places as a person wrote them: members follow only to what can be a machine on the Internet.
    fn places(&self, written: &[String]) -> Result<Vec<Locator>, Error> {
        let policy = CareOfPolicy { allow_special: self.allow_special, ..CareOfPolicy::default() };
        let place = |text: &String| {
            let locator = Locator::written(text).ok();
            let at = locator.as_ref().and_then(|locator| locator.to_string().parse::<SocketAddrV4>().ok());
            match (locator, at) {
                (Some(locator), Some(at)) if policy.allows(at) => Ok(locator),
                (_, Some(_)) => Err(Error::Invalid(format!(
                    "nobody on the Internet can reach a home at {text}: name a public address and a port from 1024 up"
                ))),
                _ => Err(Error::Invalid(format!(
                    "\"{text}\" is not IPV4 or IPV4:PORT: write it like 203.0.113.5 or 203.0.113.5:4500"
                ))),
            }
        };
        if written.is_empty() {
            return Err(Error::Invalid("name at least one place, like 203.0.113.5".to_owned()));
        }
        written.iter().map(place).collect()
    }

    /// Signs and keeps.
    fn redirect_to(
        &mut self,
        by: By<'_>,
        places: Vec<Locator>,
        lifetime: Option<u64>,
        here: bool,
    ) -> Result<Outcome, Error> {
        let (authority, home) = (&self.authority, self.registry.home()?.prefix);
        let until = lifetime.map_or(0, |lifetime| by.now.saturating_add(lifetime));
        let texts: Vec<String> = places.iter().map(ToString::to_string).collect();
        let mut sign = |number, _: &[String]| {
            let redirect = Redirect::sign(home, number, until, places.clone(), authority.key())
                .map_err(|error| error.to_string())?;
            serde_json::to_vec(&Kept { redirect, here }).map_err(|error| error.to_string())
        };
        self.registry.redirect_add(by, &texts, &mut sign)?;
        let reply = HomeReply::Redirect(self.redirect_document(by.now));
        Ok(Outcome { reply, effects: vec![Effect::Moved] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::talk::{Ask, Tell};
    use crate::pki::TrustStore;

    const SET: fn(&[&str], bool) -> HomeRequest = |places, here| HomeRequest::RedirectSet {
        places: places.iter().map(|place| (*place).to_owned()).collect(),
        lifetime: Some(3600),
        here,
    };

    fn desk(place: &std::path::Path) -> HomeDesk {
        HomeDesk::create(&place.join("home"), "2002:c633:6401::/48".parse().unwrap(), None).unwrap()
    }

    fn document(outcome: Outcome) -> RedirectDocument {
        let HomeReply::Redirect(document) = outcome.reply else { panic!("another document") };
        document
    }

    #[test]
    fn a_machine_that_the_home_left_points_to_the_new_place_and_gives_out_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut desk = desk(dir.path());
        let add = || HomeRequest::UserAdd { name: "alice".to_owned() };
        let none = document(desk.answer("x", HomeRequest::Redirect {}).unwrap());
        assert_eq!((none.number, none.here), (0, true));
        let outcome = desk.answer("x", SET(&["8.8.8.8", "9.9.9.9:4501"], false)).unwrap();
        assert_eq!(outcome.effects, [Effect::Moved]);
        let told = document(outcome);
        assert_eq!(
            (told.places, told.here),
            (vec!["8.8.8.8:4500".to_owned(), "9.9.9.9:4501".to_owned()], false)
        );
        let refused = desk.answer("x", add()).unwrap_err();
        assert!(refused.error.contains("8.8.8.8:4500"), "{}", refused.error);
        let (tell, _) =
            desk.hear("2002:c633:6401:1::1".parse().unwrap(), Ipv4Addr::LOCALHOST, &Ask::Take {}.to_bytes());
        assert!(matches!(tell, Tell::Refused { error } if error.contains("8.8.8.8:4500")));
        assert!(
            desk.answer("x", HomeRequest::List { kind: None, removed: false }).is_ok(),
            "looking is allowed"
        );
        // A node that pinned the root believes it.
        let mut store = TrustStore::default();
        store.pin(desk.authority().root().clone()).unwrap();
        assert_eq!(store.redirect(desk.redirect().unwrap()), Ok(true));
        // The machine at the new place, whose copy of the registry may have the redirect, too.
        desk.answer("x", SET(&["8.8.8.8"], true)).unwrap();
        assert!(desk.answer("x", add()).is_ok());
        desk.answer("x", SET(&["8.8.8.8"], false)).unwrap();
        assert_eq!(desk.moved_away(crate::daemon::system::unix() + 3600), None, "it has ended");
        let back = document(desk.answer("x", HomeRequest::RedirectClear {}).unwrap());
        assert!(back.places.is_empty() && back.here && back.number > told.number);
        assert_eq!(store.redirect(desk.redirect().unwrap()), Ok(true), "members are told that, too");
    }

    #[test]
    fn a_home_moves_only_to_where_a_home_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut desk = desk(dir.path());
        for wrong in
            ["", "host.example.org", "8.8.8.8:53", "8.8.8.8:0", "10.0.0.1", "127.0.0.1", "224.0.0.1", "::1"]
        {
            let error = desk.answer("x", SET(&[wrong], false)).unwrap_err();
            assert_eq!(error.stage, "request", "{wrong}: {}", error.error);
        }
        assert!(desk.answer("x", SET(&[], false)).is_err());
        assert!(desk.answer("x", SET(&["8.8.8.8"; 9], false)).is_err());
        desk.set_allow_special(true);
        assert!(desk.answer("x", SET(&["10.0.0.1"], false)).is_ok());
        assert!(desk.answer("x", SET(&["127.0.0.1"], false)).is_err());
    }
}
