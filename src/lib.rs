//! **domicile**: permanent IPv6 addresses for users and services, carried end to end in userspace IPsec.
//!
//! The folder listing is the architecture, lowest layer first. `scripts/check-layers` holds the code against this table:
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`addr`] | address arithmetic: 6to4, a home's subnet plan, special-purpose checks | std |
//! | [`wire`] | bytes to meaning and back; no clock, no crypto, no logging | `addr` |
//! | [`crypto`] | wrappers around cryptographic crates; no protocol state | crates |
//! | [`api`] | the documents that the control socket speaks: what `status` shows | serde |
//! | [`pki`] | a home's certificates, and the roots, keys and redirects that a node trusts; no I/O | `addr`, `crypto` |
//! | [`policy`] | the SPD (what is protected) and the PAD (which key proves which address) | `addr`, `wire`, `crypto`, `pki` |
//! | [`esp`] | one security association: sequence, seal, open, replay | `addr`, `wire`, `crypto` |
//! | [`dataplane`] | published tables, outbound and inbound functions, the worker loops | `addr`, `esp`, `policy`, `wire` |
//! | [`ike`] | IKEv2 as a sans-IO state machine | `addr`, `wire`, `crypto`, `policy`, `dataplane::event` |
//! | [`mobility`] | bindings: the node's side and the home agent's, sans-IO | `addr`, `wire`, `crypto` |
//! | [`path`] | paths between two nodes, relayed or direct, as a sans-IO state machine | `addr`, `wire` |
//! | [`node`] | the only composition of the cores; still sans-IO | everything above |
//! | [`home`] | a home: registry in SQLite, invitations, names; no network | `addr`, `wire`, `crypto`, `pki`, `api` |
//! | [`names`] | DNS: what a home answers, the machine's forwarder, systemd-resolved | `addr`, `home` |
//! | [`io`] | TUN, UDP, netlink, nftables, BPF: the only `unsafe` | `wire::ip`, `dataplane::batch`, `dataplane::event`, `dataplane::offload` |
//! | [`daemon`] | configuration, event loop, control socket | everything above |
//! | [`cli`] | one file per verb | `api`, `addr`, `crypto::identity`, `pki`, `policy::pad`, `dataplane::offload`, `home`, `daemon` |
//! | [`sim`] | a simulated hostile network on virtual time | `node`, `home::talk` and everything above it |

pub mod addr;
pub mod api;
pub mod cli;
pub mod crypto;
pub mod daemon;
pub mod dataplane;
pub mod esp;
pub mod home;
pub mod ike;
pub mod io;
pub mod mobility;
pub mod names;
pub mod node;
pub mod path;
pub mod pki;
pub mod policy;
pub mod sim;
pub mod wire;
