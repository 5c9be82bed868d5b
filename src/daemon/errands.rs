//! Errands: what somebody at this machine wants of its home (`take`, `leave`), asked over the SA with the home. Questions
//! are idempotent and asked again until they are answered or too late.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use tokio::sync::oneshot;

use super::config::Config;
use super::control::Reply;
use crate::addr::plan::{USERS, agent_of};
use crate::api::{Done, ErrandRequest, ErrorReply};
use crate::home::talk::{About, Ask, Tell};
use crate::node::Node;

/// A question without an answer is asked again after this long.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an errand may take unless told otherwise, and at most; seconds.
const TIMEOUT: f64 = 15.0;
const LONGEST: f64 = 600.0;
/// Errands at once.
const MOST: usize = 16;

struct Errand {
    about: About,
    local: Ipv6Addr,
    agent: Ipv6Addr,
    again: Instant,
    until: Instant,
    reply: oneshot::Sender<Reply>,
}

/// Those under way.
#[derive(Default)]
pub(super) struct Errands(Vec<Errand>);

fn refusal(error: impl Into<String>) -> ErrorReply {
    ErrorReply { stage: "request".to_owned(), error: error.into() }
}

/// Which of our entities goes: the named one, or the only one that can.
pub fn who(
    about: About,
    named: Option<&str>,
    entities: &[(&str, Ipv6Addr)],
    homes: &[Ipv6Net],
) -> Result<(Ipv6Addr, Ipv6Net), String> {
    let home = |address: &Ipv6Addr| homes.iter().find(|home| home.contains(address)).copied();
    let fits = |address: Ipv6Addr| match about {
        About::Take => is_device(address),
        About::Leave => !is_floating(address),
    };
    let what = match about {
        About::Take => "the device of a user",
        About::Leave => "of a home that this machine joined",
    };
    if let Some(name) = named {
        let (_, address) = entities
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("there is no entity \"{name}\" here: 'domicile status' shows them"))?;
        let home = home(address).filter(|_| fits(*address));
        return home.map(|home| (*address, home)).ok_or_else(|| format!("{name} is not {what}"));
    }
    let mut candidates =
        entities.iter().filter(|(_, address)| fits(*address)).filter_map(|(_, at)| Some((*at, home(at)?)));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(format!("nothing on this machine is {what}: 'domicile join' makes it that")),
        (Some(_), Some(_)) => {
            Err("several entities of this machine could: say which with --entity".to_owned())
        }
    }
}

fn number(address: Ipv6Addr) -> u32 {
    let [.., high, low] = address.segments();
    u32::from(high) << 16 | u32::from(low)
}

fn is_device(address: Ipv6Addr) -> bool {
    address.segments()[3] == USERS && number(address) != 0
}

fn is_floating(address: Ipv6Addr) -> bool {
    address.segments()[3] == USERS && number(address) == 0
}

impl Errands {
    /// Begins one, or tells at once why not.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        node: &mut Node,
        config: &Config,
        (about, request): (About, &ErrandRequest),
        reply: oneshot::Sender<Reply>,
    ) {
        // What a home put on our entities asks for nothing.
        let own = config.entities.iter().filter(|entity| entity.host.is_none());
        let entities: Vec<_> = own.map(|entity| (entity.name.as_str(), entity.address)).collect();
        let homes: Vec<_> = config
            .roots
            .iter()
            .map(|root| root.prefix())
            .filter(|home| Some(*home) != config.home_prefix)
            .collect();
        let chosen = who(about, request.entity.as_deref(), &entities, &homes);
        let chosen = chosen.and_then(|chosen| {
            if self.0.len() < MOST {
                Ok(chosen)
            } else {
                Err("too much is asked of the home at once".to_owned())
            }
        });
        match chosen {
            Ok((local, home)) => {
                let patience = request.timeout.unwrap_or(TIMEOUT).clamp(0.1, LONGEST);
                let until = now + Duration::from_secs_f64(patience);
                let agent = agent_of(home);
                self.0.push(Errand { about, local, agent, again: now, until, reply });
                self.handle_timeout(now, node);
            }
            Err(error) => drop(reply.send(Err(refusal(error)))),
        }
    }

    /// A document came over the SA between these two. True: it was the answer to an errand.
    pub(super) fn hear(&mut self, local: Ipv6Addr, remote: Ipv6Addr, document: &[u8]) -> bool {
        let (about, answer) = match Tell::parse(document) {
            Ok(Tell::Done { about, message }) => {
                (about, serde_json::to_value(Done { message }).map_err(|error| refusal(error.to_string())))
            }
            Ok(Tell::Denied { about, error }) => (about, Err(refusal(format!("the home refused: {error}")))),
            Ok(_) | Err(_) => return false,
        };
        let mine = |errand: &mut Errand| (errand.about, errand.local, errand.agent) == (about, local, remote);
        for errand in self.0.extract_if(.., mine) {
            // Whoever hung up does not need the answer.
            let _ = errand.reply.send(answer.clone());
        }
        true
    }

    /// Asks again, and gives up where it is too late.
    pub(super) fn handle_timeout(&mut self, now: Instant, node: &mut Node) {
        for errand in self.0.extract_if(.., |errand| errand.until <= now) {
            let error = format!(
                "the home agent {} has not answered: 'domicile status' shows whether it is reachable; it may have done it all the same",
                errand.agent
            );
            let _ = errand.reply.send(Err(refusal(error)));
        }
        for errand in self.0.iter_mut().filter(|errand| errand.again <= now) {
            errand.again = now + AGAIN;
            let ask = match errand.about {
                About::Take => Ask::Take {},
                About::Leave => Ask::Leave {},
            };
            if let Some(ike) = node.ike_with(errand.local, errand.agent) {
                node.tell(now, ike, ask.to_bytes());
            }
        }
    }

    /// When `handle_timeout` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|errand| errand.again.min(errand.until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_one_that_can_goes_and_others_are_named() {
        let home: Ipv6Net = "2002:c633:6401::/48".parse().unwrap();
        let other: Ipv6Net = "2002:c633:6402::/48".parse().unwrap();
        let (laptop, floating) = (address("2002:c633:6401:1:0:1:0:1"), address("2002:c633:6401:1:0:1::"));
        let (server, elsewhere) = (address("2002:c633:6401:100::1"), address("2002:c633:6402:1:0:1:0:1"));
        let all = [("laptop", laptop), ("alice", floating), ("server", server), ("away", elsewhere)];
        // One device, though the floating address and a node are there, too.
        assert_eq!(who(About::Take, None, &all, &[home]), Ok((laptop, home)));
        assert_eq!(who(About::Take, Some("away"), &all, &[home, other]), Ok((elsewhere, other)));
        for (about, named, homes) in [
            (About::Take, None, &[home, other][..]),
            (About::Take, None, &[]),
            (About::Take, Some("server"), &[home]),
            (About::Take, Some("alice"), &[home]),
            (About::Take, Some("away"), &[home]),
            (About::Take, Some("nobody"), &[home]),
            (About::Leave, None, &[home]),
            // The floating address stays with the user; a device leaves.
            (About::Leave, Some("alice"), &[home]),
            (About::Leave, Some("away"), &[home]),
        ] {
            assert!(who(about, named, &all, homes).is_err(), "{about:?} {named:?}");
        }
        assert_eq!(who(About::Leave, Some("server"), &all, &[home]), Ok((server, home)));
        assert_eq!(who(About::Leave, None, &all[..2], &[home]), Ok((laptop, home)));
    }

    #[test]
    fn an_answer_reaches_whoever_asked_that_of_that_home() {
        let (local, agent) = (address("2002:c633:6401:1:0:1:0:1"), address("2002:c633:6401::1"));
        #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
        let now = Instant::now();
        let mut errands = Errands::default();
        let mut begin = |about| {
            let (reply, answer) = oneshot::channel();
            errands.0.push(Errand { about, local, agent, again: now, until: now, reply });
            answer
        };
        let (mut take, mut leave) = (begin(About::Take), begin(About::Leave));
        let done = |about| Tell::Done { about, message: "good".to_owned() }.to_bytes();
        // Of another home, for another entity, or about something else: nobody's answer.
        assert!(errands.hear(local, address("2002:c633:6402::1"), &done(About::Take)));
        assert!(errands.hear(agent, agent, &done(About::Take)));
        assert!(!errands.hear(local, agent, &Tell::Refused { error: "no".to_owned() }.to_bytes()));
        assert!(!errands.hear(local, agent, b"nonsense"));
        assert!(take.try_recv().is_err() && leave.try_recv().is_err());
        assert!(errands.hear(local, agent, &done(About::Take)));
        assert_eq!(take.try_recv().unwrap().unwrap()["message"], "good");
        assert!(leave.try_recv().is_err() && errands.deadline() == Some(now));
        let denied = Tell::Denied { about: About::Leave, error: "it hosts web".to_owned() };
        assert!(errands.hear(local, agent, &denied.to_bytes()));
        assert_eq!(leave.try_recv().unwrap().unwrap_err().error, "the home refused: it hosts web");
        assert_eq!(errands.deadline(), None);
    }
}
