//! Path control: a conversation between two nodes starts relayed through the home agents and moves to the best direct
//! path; the relay stays as fallback. Sans-IO, one [`Agent`] for each peer node, shared by all SAs of the two nodes.
//!
//! ```text
//!                 data flows, or the peer asks
//!   Relayed  ------------------------------------->  Candidates <-> Candidates   (over the relay)
//!      ^                                                  | up to 5 small challenges to each address: NATs open
//!      |                                              Opening
//!      | idle 2 min, 4 unanswered                         | answered: the peer is there (RFC 9000 §8.2)
//!      | challenges, somebody moved,                   Proving
//!      | address withdrawn                                | full-size challenge answered, or else one of 1,280
//!      '----------------  Direct  <-----------------  Usable: ranked by a pure function
//! ```
//!
//! # Contract
//!
//! - Commands and inputs: `handle_*`. All times come from one monotonic clock. What comes in was authenticated by ESP
//!   and checked against replay before; nothing unauthenticated is ever handed in.
//! - After every input drain [`Agent::poll_transmit`], then [`Agent::poll_event`], then arm a timer for
//!   [`Agent::poll_timeout`] and call [`Agent::handle_timeout`] when it is due.
//! - Both ends keep an agent for as long as their two processes know each other (by their node tokens): generations and
//!   moves are counted from its birth, and a peer ignores lower ones.
//! - An agent is not made for a peer whose only SA is integrity-only: addresses would be told to everybody.
//!
//! # Example
//!
//! Two nodes on the public Internet. The caller carries messages, here by hand:
//!
//! ```
//! use std::time::Instant;
//!
//! use domicile::path::{Agent, Config, Event, Path, datagram_len};
//! use domicile::wire::path::{Candidate, CandidateKind, Message};
//!
//! let now = Instant::now();
//! let addresses = ["192.0.2.1:4500".parse().unwrap(), "198.51.100.2:4500".parse().unwrap()];
//! let mut agents = [1, 2].map(|seed| Agent::new(Config::default(), [seed; 32]));
//! for (agent, address) in agents.iter_mut().zip(addresses) {
//!     agent.handle_local_candidates(now, &[Candidate { kind: CandidateKind::Observed, address }]);
//! }
//! agents[0].handle_data_sent(now); // at least once a second while data flows
//!
//! let mut carried = true;
//! while carried {
//!     carried = false;
//!     for from in [0, 1] {
//!         while let Some(transmit) = agents[from].poll_transmit() {
//!             // Sealed with next header 59 on the control child SA, opened at the other end.
//!             let plaintext = transmit.message.to_bytes();
//!             let octets = datagram_len(plaintext.len());
//!             let came = match transmit.path {
//!                 Path::Relayed => Path::Relayed,
//!                 Path::Direct { remote, .. } => Path::Direct { local: Some(remote), remote: addresses[from] },
//!             };
//!             let message = Message::parse(&plaintext).unwrap();
//!             agents[1 - from].handle_message(now, came, octets, &message);
//!             carried = true;
//!         }
//!     }
//! }
//! let Some(Event::PathChanged { path: Path::Direct { remote, .. }, reason }) = agents[0].poll_event() else {
//!     panic!("still relayed");
//! };
//! assert_eq!(remote, addresses[1]);
//! assert_eq!(reason.to_string(), "a direct path was proven");
//! let (due, why) = agents[0].poll_timeout().unwrap();
//! assert!(due > now && why == "is the path alive?");
//! ```

mod agent;
mod candidate;
mod clock;
mod exchange;
pub mod pmtu;
mod reason;
mod selection;
mod status;
#[cfg(test)]
mod tests;
mod validation;

use std::net::SocketAddrV4;

pub use agent::{Agent, Config, Event, Transmit};
pub use candidate::LanPolicy;
pub use reason::Reason;
pub use selection::{Class, Contender, choose};
pub use status::{PathStatus, State};
pub use validation::datagram_len;

/// One way to reach the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Through the home agents.
    Relayed,
    /// Between two UDP addresses.
    Direct {
        /// Our socket address. When sending, `None` leaves it to the machine's routes.
        local: Option<SocketAddrV4>,
        /// The peer's address as we see it.
        remote: SocketAddrV4,
    },
}
