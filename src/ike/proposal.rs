//! What we offer and what we accept: SA payloads (RFC 7296 §3.3, §2.7).

use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::wire::ike::{Proposal, Transform};

/// X25519 (RFC 8031).
pub(super) const GROUP_X25519: u16 = 31;
const PRF_HMAC_SHA2_256: u16 = 5;
const PROTOCOL_IKE: u8 = 1;
const PROTOCOL_ESP: u8 = 3;

const ENCR: u8 = 1;
const PRF: u8 = 2;
const INTEG: u8 = 3;
const KE: u8 = 4;
const ESN: u8 = 5;

const NO_INTEGRITY: Transform = transform(INTEG, 0, None);
const NO_EXCHANGE: Transform = transform(KE, 0, None);

const fn transform(kind: u8, id: u16, key_length: Option<u16>) -> Transform {
    Transform { kind, id, key_length, unknown_attribute: false }
}

/// An offer for an IKE SA: one proposal with every AEAD, so that the responder chooses by its own order too.
pub(super) fn offer_ike(suites: &[IkeSuite], spi: Option<u64>) -> Vec<Proposal> {
    let mut transforms: Vec<Transform> = suites
        .iter()
        .map(|suite| transform(ENCR, suite.encryption_id(), suite.key_length_attribute()))
        .collect();
    transforms.push(transform(PRF, PRF_HMAC_SHA2_256, None));
    transforms.push(transform(KE, GROUP_X25519, None));
    vec![ike_proposal(1, spi, transforms)]
}

fn ike_proposal(number: u8, spi: Option<u64>, transforms: Vec<Transform>) -> Proposal {
    let spi = spi.map_or_else(Vec::new, |spi| spi.to_be_bytes().to_vec());
    Proposal { number, protocol: PROTOCOL_IKE, spi, transforms }
}

/// What was chosen for an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IkeChoice {
    pub(super) number: u8,
    pub(super) suite: IkeSuite,
    /// The sender's SPI, when the proposal carried one (rekey).
    pub(super) spi: Option<u64>,
    /// INTEG NONE was offered, and is part of the answer.
    no_integrity: bool,
}

impl IkeChoice {
    /// The proposal that answers.
    pub(super) fn answer(&self, spi: Option<u64>) -> Vec<Proposal> {
        let mut offer = offer_ike(&[self.suite], spi);
        if let Some(proposal) = offer.first_mut() {
            proposal.number = self.number;
            proposal.transforms.extend(self.no_integrity.then_some(NO_INTEGRITY));
        }
        offer
    }
}

/// An answer takes one of the proposals offered, by its number, adds nothing to it, and has at most one transform of a
/// type (RFC 7296 §2.7, §3.3.1, §3.3.6). NONE, said or not, is the same.
fn is_answer(answer: &[Proposal], offered: &[Proposal]) -> bool {
    let [chosen] = answer else { return false };
    let transforms = &chosen.transforms;
    let alone = |kind: u8| transforms.iter().filter(|other| other.kind == kind).count() == 1;
    offered.iter().filter(|offer| (offer.number, offer.protocol) == (chosen.number, chosen.protocol)).any(
        |offer| {
            let known = |transform| {
                offer.transforms.contains(transform) || [NO_INTEGRITY, NO_EXCHANGE].contains(transform)
            };
            transforms.iter().all(|transform| known(transform) && alone(transform.kind))
        },
    )
}

/// Reads the answer to an offer of ours.
pub(super) fn read_ike_answer(
    answer: &[Proposal],
    offered: &[Proposal],
    ours: &[IkeSuite],
) -> Option<IkeChoice> {
    is_answer(answer, offered).then(|| choose_ike(answer, ours)).flatten()
}

/// Chooses as responder: our order of preference decides among what the initiator offers.
pub(super) fn choose_ike(proposals: &[Proposal], ours: &[IkeSuite]) -> Option<IkeChoice> {
    ours.iter().find_map(|suite| {
        proposals.iter().filter(|proposal| proposal.protocol == PROTOCOL_IKE).find_map(|proposal| {
            let wanted = [
                transform(ENCR, suite.encryption_id(), suite.key_length_attribute()),
                transform(PRF, PRF_HMAC_SHA2_256, None),
                transform(KE, GROUP_X25519, None),
            ];
            let complete = wanted.iter().all(|transform| proposal.transforms.contains(transform));
            if !complete || !only_types(proposal, &[ENCR, PRF, KE, INTEG]) || needs_integrity(proposal) {
                return None;
            }
            let spi = match proposal.spi.len() {
                0 => None,
                _ => Some(u64::from_be_bytes(proposal.spi.as_slice().try_into().ok()?)),
            };
            let no_integrity = proposal.transforms.contains(&NO_INTEGRITY);
            Some(IkeChoice { number: proposal.number, suite: *suite, spi, no_integrity })
        })
    })
}

/// A type that we do not know makes a proposal unacceptable (RFC 7296 §3.3.6).
fn only_types(proposal: &Proposal, known: &[u8]) -> bool {
    proposal.transforms.iter().all(|transform| known.contains(&transform.kind))
}

/// With an AEAD there is no integrity transform, or NONE (RFC 7296 §3.3.3, RFC 5282 §8).
fn needs_integrity(proposal: &Proposal) -> bool {
    let mut integrity = proposal.transforms.iter().filter(|transform| transform.kind == INTEG).peekable();
    integrity.peek().is_some() && integrity.all(|transform| transform.id != 0)
}

/// An offer for a child SA: one proposal per form of IV (implicit first), one for integrity alone. `pfs` adds a key
/// exchange, for CREATE_CHILD_SA only.
pub(super) fn offer_child(suites: &[EspSuite], spi: u32, esn: bool, pfs: bool) -> Vec<Proposal> {
    let group = |filter: fn(&EspSuite) -> bool| suites.iter().copied().filter(filter).collect::<Vec<_>>();
    let groups = [
        group(|suite| suite.is_confidential() && suite.iv_len() == 0),
        group(|suite| suite.is_confidential() && suite.iv_len() != 0),
        group(|suite| !suite.is_confidential()),
    ];
    (1..)
        .zip(groups.iter().filter(|group| !group.is_empty()))
        .map(|(number, group)| child_proposal(number, group, spi, esn, pfs))
        .collect()
}

fn child_proposal(number: u8, suites: &[EspSuite], spi: u32, esn: bool, pfs: bool) -> Proposal {
    let mut transforms: Vec<Transform> = suites
        .iter()
        .map(|suite| transform(ENCR, suite.encryption_id(), suite.key_length_attribute()))
        .collect();
    transforms
        .extend(suites.iter().filter_map(|suite| suite.integrity_id()).map(|id| transform(INTEG, id, None)));
    if pfs {
        transforms.push(transform(KE, GROUP_X25519, None));
    }
    if esn {
        transforms.push(transform(ESN, 1, None));
    }
    transforms.push(transform(ESN, 0, None));
    Proposal { number, protocol: PROTOCOL_ESP, spi: spi.to_be_bytes().to_vec(), transforms }
}

/// What was chosen for a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildChoice {
    number: u8,
    pub(super) suite: EspSuite,
    pub(super) esn: bool,
    /// The sender's SPI: what it receives on.
    pub(super) spi: u32,
    /// A key exchange is part of it.
    pub(super) pfs: bool,
    /// NONE was offered for a type and is part of the answer: exactly one transform of each type (RFC 7296 §3.3.6).
    no_integrity: bool,
    no_exchange: bool,
}

impl ChildChoice {
    /// The proposal that answers.
    pub(super) fn answer(&self, spi: u32) -> Vec<Proposal> {
        let mut proposal = child_proposal(self.number, &[self.suite], spi, self.esn, self.pfs);
        proposal.transforms.retain(|transform| transform.kind != ESN || transform.id == u16::from(self.esn));
        proposal.transforms.extend(self.no_integrity.then_some(NO_INTEGRITY));
        proposal.transforms.extend(self.no_exchange.then_some(NO_EXCHANGE));
        vec![proposal]
    }
}

/// Which key exchange a choice may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pfs {
    /// IKE_AUTH: none can be (RFC 7296 §1.2); KE transforms in the offer other than NONE are ignored.
    Never,
    /// CREATE_CHILD_SA: taken when offered (`NONE` beside it is declined).
    WhenOffered,
}

/// Reads the answer to an offer of ours.
pub(super) fn read_child_answer(
    answer: &[Proposal],
    offered: &[Proposal],
    ours: &[EspSuite],
    pfs: Pfs,
) -> Option<ChildChoice> {
    // What was not offered is not in the answer: ESN as well.
    is_answer(answer, offered).then(|| choose_child(answer, ours, true, pfs)).flatten()
}

/// Chooses as responder by our order of preference, preferring ESN when both sides do it.
pub(super) fn choose_child(
    proposals: &[Proposal],
    ours: &[EspSuite],
    esn: bool,
    pfs: Pfs,
) -> Option<ChildChoice> {
    ours.iter().find_map(|suite| {
        proposals
            .iter()
            .filter(|proposal| proposal.protocol == PROTOCOL_ESP)
            .find_map(|proposal| fit_child(proposal, *suite, esn, pfs))
    })
}

/// Chooses as responder by the initiator's order: the first proposal is the one it likes best (RFC 7296 §3.3), and
/// its transforms are taken in the same way.
pub(super) fn choose_child_as_offered(
    proposals: &[Proposal],
    ours: &[EspSuite],
    esn: bool,
    pfs: Pfs,
) -> Option<ChildChoice> {
    proposals.iter().filter(|proposal| proposal.protocol == PROTOCOL_ESP).find_map(|proposal| {
        proposal.transforms.iter().filter(|transform| transform.kind == ENCR).find_map(|offered| {
            let id = (offered.id, offered.key_length);
            let same = |suite: &&EspSuite| (suite.encryption_id(), suite.key_length_attribute()) == id;
            fit_child(proposal, *ours.iter().find(same)?, esn, pfs)
        })
    })
}

fn fit_child(proposal: &Proposal, suite: EspSuite, esn: bool, pfs: Pfs) -> Option<ChildChoice> {
    let has = |kind: u8, id: u16, key_length: Option<u16>| {
        proposal.transforms.contains(&transform(kind, id, key_length))
    };
    let offers = |kind: u8| proposal.transforms.iter().any(|transform| transform.kind == kind);
    if !has(ENCR, suite.encryption_id(), suite.key_length_attribute())
        || !only_types(proposal, &[ENCR, INTEG, KE, ESN])
    {
        return None;
    }
    match suite.integrity_id() {
        Some(id) if !has(INTEG, id, None) => return None,
        None if needs_integrity(proposal) => return None,
        Some(_) | None => {}
    }
    let key_exchange = pfs == Pfs::WhenOffered && has(KE, GROUP_X25519, None);
    let no_exchange = !key_exchange && has(KE, 0, None);
    if pfs == Pfs::WhenOffered && offers(KE) && !key_exchange && !no_exchange {
        return None;
    }
    // An offer without any ESN transform means "no ESN" to old peers (RFC 7296 §3.3.3 wants one).
    let long = esn && has(ESN, 1, None);
    if !long && !has(ESN, 0, None) && offers(ESN) {
        return None;
    }
    let spi = u32::from_be_bytes(proposal.spi.as_slice().try_into().ok()?);
    (spi >= 256).then_some(ChildChoice {
        number: proposal.number,
        suite,
        esn: long,
        spi,
        pfs: key_exchange,
        no_integrity: suite.integrity_id().is_none() && has(INTEG, 0, None),
        no_exchange,
    })
}
