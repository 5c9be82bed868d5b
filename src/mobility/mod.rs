//! Mobility: which address of the outside a permanent address is reached at (RFC 6275, RFC 3963, RFC 5555; a profile).
//!
//! [`Client`] is the node's side, [`Agent`] the home agent's. Both are sans-IO: `handle_*` and commands are inputs;
//! after each of them drain `poll_event` **first** (it may say what has to be persisted before anything is sent), then
//! `poll_transmit`, then arm a timer for `poll_timeout`.
//!
//! ```text
//!  Client                                                        Agent
//!  Binding Update (sequence, lifetime, prefixes)       ->    from an unproven address: the binding stays where it is
//!         <-   Binding Acknowledgement (observed address, challenge)
//!  Response (the challenge's cookie)                   ->    the binding moves: AgentEvent::Route to the data plane
//!         <-   Binding Acknowledgement (without a challenge: now it counts)
//! ```
//!
//! Every message is a whole inner IPv6 packet, in the SA between home address and home agent:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use domicile::mobility::{Agent, AgentConfig, Client, ClientConfig, OpenPolicy, Received, RegistrationConfig};
//!
//! let now = Instant::now();
//! let (device, home) = ("2002:c633:6401:1:0:7:0:1".parse()?, "2002:c633:6401::1".parse()?);
//! let mut client = Client::new(ClientConfig::default(), [1; 32], now);
//! client.register(now, RegistrationConfig { home_address: device, home_agent: home, prefixes: vec![], sequence: None });
//! client.handle_address_change(now, &["192.168.1.20".parse()?]);
//! client.handle_session_up(now, device, false); // the IKE SA with the home agent is there
//! let _persist = client.poll_event(); // Event::SequenceReserved
//! let update = client.poll_transmit().expect("a Binding Update");
//!
//! let mut agent = Agent::new(AgentConfig::new(home), [2; 32], now);
//! let from = "203.0.113.9:61000".parse()?; // the NAT, as the home agent saw the datagram
//! let received = Received { sender: device, from, proven: false, octets: 150, packet: &update.packet };
//! agent.handle_packet(now, &received, &OpenPolicy)?;
//! let acknowledgement = agent.poll_transmit().expect("a Binding Acknowledgement with a challenge");
//! assert_eq!(agent.care_of(device), None, "tentative: nothing goes there yet");
//!
//! client.handle_packet(now, &acknowledgement.packet)?;
//! let response = client.poll_transmit().expect("the response");
//! let received = Received { packet: &response.packet, ..received };
//! agent.handle_packet(now, &received, &OpenPolicy)?;
//! assert_eq!(agent.care_of(device), Some(from));
//! client.handle_packet(now, &agent.poll_transmit().expect("the acknowledgement that counts").packet)?;
//! assert!(client.status().all(|registration| registration.registered));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agent;
mod client;
mod sequence;
#[cfg(test)]
mod tests;

pub use agent::{
    Agent, AgentConfig, AgentEvent, AgentTransmit, BindingStatus, CareOfPolicy, Change, OpenPolicy, Policy,
    Received, Row, Totals,
};
pub use client::{Client, ClientConfig, ClientEvent, ClientTransmit, RegistrationConfig, RegistrationStatus};

use crate::wire::mobility::ParseError;

/// Why a packet was ignored. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Not a message.
    #[error("malformed mobility message: {0}")]
    Malformed(#[from] ParseError),
    /// Its IPv6 addresses are not those of the SA or of a registration.
    #[error("mobility message between addresses that do not belong to it")]
    Addresses,
    /// A message that only the other side sends, or a Binding Update that is no home registration.
    #[error("mobility message that makes no sense in this direction")]
    Unexpected,
    /// An answer to nothing that is open.
    #[error("mobility message that answers nothing")]
    Unmatched,
}
