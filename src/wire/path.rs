//! Messages of path control (ours): the plaintext of ESP dummy packets, next header 59 (RFC 4303 §2.6), on the control
//! child SA. ESP has authenticated them and has cut its own padding off before they come here.
//!
//! Dummy packets of other implementations hold anything (RFC 4303 §2.6 lets the sender choose): our magic number and
//! the exact lengths tell ours from theirs, so [`ParseError::Foreign`] is no fault of anybody.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |                 magic: 64 6f 6d 69 ("domi")                   |
//! +---------------+---------------+---------------+---------------+
//! |  version: 1   |     type      |     flags     |  reserved: 0  |
//! +---------------+---------------+---------------+---------------+
//! |        moves: how often the sender's addresses changed        |
//! +---------------+---------------+---------------+---------------+
//! |                      body, by type …                          |
//!
//! type 1, Candidates: exactly 12 + 8 n octets of body
//! +---------------+---------------+---------------+---------------+
//! |              generation: the highest replaces all             |
//! +---------------+---------------+---------------+---------------+
//! |   acknowledged: the highest generation seen from the peer     |
//! +---------------+---------------+---------------+---------------+
//! | n, at most 8  |                 reserved: 0                   |
//! +---------------+---------------+---------------+---------------+
//! |     kind      |  reserved: 0  |             port              |  \
//! |                         IPv4 address                          |  / n times
//! +---------------+---------------+---------------+---------------+
//!
//! type 2, Challenge (RFC 9000 §8.2.1): at least 8 octets of body
//! +---------------+---------------+---------------+---------------+
//! |                        token, 8 octets                        |
//! |                                                               |
//! +---------------+---------------+---------------+---------------+
//! |   zeros, until the message has the size that is to be proven  |
//!
//! type 3, Response (RFC 9000 §8.2.2): exactly 16 octets of body
//! +---------------+---------------+---------------+---------------+
//! |                the challenge's token, 8 octets                |
//! |                                                               |
//! +---------------+---------------+---------------+---------------+
//! |    source IPv4 address of the challenge; 0 when relayed       |
//! |    its source port            |           reserved: 0         |
//! +---------------+---------------+---------------+---------------+
//! ```
//!
//! Flags: bit 0 (`01`) the sender has data to send; bit 1 (`02`, Candidates only) an answer, which is not answered
//! again. Other flags and reserved octets are sent as zero and ignored on receipt.

use std::net::{Ipv4Addr, SocketAddrV4};

/// First four octets of every message.
pub const MAGIC: [u8; 4] = *b"domi";
/// The version that is spoken here.
pub const VERSION: u8 = 1;
/// Most candidates in one message.
pub const MAX_CANDIDATES: usize = 8;
/// Octets of the smallest challenge.
pub const MIN_CHALLENGE: u16 = (HEADER_LEN + TOKEN_LEN) as u16;

const HEADER_LEN: usize = 12;
const TOKEN_LEN: usize = 8;
const LIST_HEADER_LEN: usize = 12;
const CANDIDATE_LEN: usize = 8;

const TYPE_CANDIDATES: u8 = 1;
const TYPE_CHALLENGE: u8 = 2;
const TYPE_RESPONSE: u8 = 3;

const FLAG_IN_USE: u8 = 1;
const FLAG_ANSWER: u8 = 2;

/// Where a candidate address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// 1: an address of one of the sender's interfaces.
    Interface,
    /// 2: the sender's address as its home agent sees it.
    Observed,
}

/// An address at which the sender may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// Where it comes from.
    pub kind: CandidateKind,
    /// Address and UDP port.
    pub address: SocketAddrV4,
}

/// At most [`MAX_CANDIDATES`] candidates, in the sender's order.
#[derive(Clone, Copy)]
pub struct CandidateList {
    entries: [Candidate; MAX_CANDIDATES],
    len: usize,
}

impl CandidateList {
    /// No candidate.
    pub const EMPTY: Self = Self {
        entries: [Candidate {
            kind: CandidateKind::Interface,
            address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        }; MAX_CANDIDATES],
        len: 0,
    };

    /// Appends a candidate; false, and nothing changed, when the list is full.
    pub fn push(&mut self, candidate: Candidate) -> bool {
        let Some(place) = self.entries.get_mut(self.len) else { return false };
        *place = candidate;
        self.len += 1;
        true
    }

    /// The candidates.
    pub fn as_slice(&self) -> &[Candidate] {
        self.entries.get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for CandidateList {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for CandidateList {}

impl std::fmt::Debug for CandidateList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The first [`MAX_CANDIDATES`] of them.
impl FromIterator<Candidate> for CandidateList {
    fn from_iter<I: IntoIterator<Item = Candidate>>(iter: I) -> Self {
        let mut list = Self::EMPTY;
        for candidate in iter {
            if !list.push(candidate) {
                break;
            }
        }
        list
    }
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// All addresses at which the sender may be reached.
    Candidates {
        /// The highest generation replaces all before it.
        generation: u32,
        /// The highest generation that the sender has seen from the receiver; 0 for none.
        acknowledged: u32,
        /// This answers the receiver's candidates and is not answered again.
        answer: bool,
        /// The addresses.
        list: CandidateList,
    },
    /// Asks for a [`Response`](Self::Response) on the same path.
    Challenge {
        /// Unpredictable octets.
        token: [u8; TOKEN_LEN],
        /// Octets of the whole message; less than [`MIN_CHALLENGE`] is sent as [`MIN_CHALLENGE`].
        size: u16,
    },
    /// The sender got the challenge.
    Response {
        /// The challenge's token.
        token: [u8; TOKEN_LEN],
        /// From where the challenge came; `None` when it was relayed.
        observed: Option<SocketAddrV4>,
    },
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// How often the sender's own addresses changed since it started: what it said before it moved is void.
    pub moves: u32,
    /// The sender has data for the receiver; paths that nobody uses are left to die.
    pub in_use: bool,
    /// The rest.
    pub body: Body,
}

/// Not a message that is understood here. The receiver ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another implementation's dummy packet.
    #[error("dummy packet without the magic number of path control")]
    Foreign,
    /// A version that we do not speak.
    #[error("path control version {0} is not supported")]
    Version(u8),
    /// A type that the version does not have.
    #[error("unknown path control message type {0}")]
    Type(u8),
    /// Fewer or more octets than the type has.
    #[error("path control message of type {0} with a wrong length")]
    Length(u8),
    /// More than [`MAX_CANDIDATES`].
    #[error("{0} candidates in one message")]
    TooMany(u8),
    /// A kind that the version does not have.
    #[error("unknown candidate kind {0}")]
    Kind(u8),
}

impl Message {
    /// Reads a dummy packet's plaintext.
    pub fn parse(plaintext: &[u8]) -> Result<Self, ParseError> {
        let (magic, rest) = plaintext.split_first_chunk::<4>().ok_or(ParseError::Foreign)?;
        if *magic != MAGIC {
            return Err(ParseError::Foreign);
        }
        let (&[version, kind, flags, _], rest) = rest.split_first_chunk::<4>().ok_or(ParseError::Foreign)?;
        if version != VERSION {
            return Err(ParseError::Version(version));
        }
        let (moves, body) = rest.split_first_chunk::<4>().ok_or(ParseError::Length(kind))?;
        let body = match kind {
            TYPE_CANDIDATES => parse_candidates(flags, body)?,
            TYPE_CHALLENGE => {
                let token = *body.first_chunk().ok_or(ParseError::Length(kind))?;
                let size = u16::try_from(plaintext.len()).map_err(|_| ParseError::Length(kind))?;
                Body::Challenge { token, size }
            }
            TYPE_RESPONSE => parse_response(body)?,
            other => return Err(ParseError::Type(other)),
        };
        Ok(Self { moves: u32::from_be_bytes(*moves), in_use: flags & FLAG_IN_USE != 0, body })
    }

    /// Octets on the wire, before ESP.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Candidates { list, .. } => {
                HEADER_LEN + LIST_HEADER_LEN + list.as_slice().len() * CANDIDATE_LEN
            }
            Body::Challenge { size, .. } => usize::from((*size).max(MIN_CHALLENGE)),
            Body::Response { .. } => HEADER_LEN + TOKEN_LEN + 8,
        }
    }

    /// Never: every message has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The plaintext of the dummy packet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        let (kind, answer) = match &self.body {
            Body::Candidates { answer, .. } => (TYPE_CANDIDATES, *answer),
            Body::Challenge { .. } => (TYPE_CHALLENGE, false),
            Body::Response { .. } => (TYPE_RESPONSE, false),
        };
        let flags = if self.in_use { FLAG_IN_USE } else { 0 } | if answer { FLAG_ANSWER } else { 0 };
        out.extend(MAGIC);
        out.extend([VERSION, kind, flags, 0]);
        out.extend(self.moves.to_be_bytes());
        match &self.body {
            Body::Candidates { generation, acknowledged, list, .. } => {
                out.extend(generation.to_be_bytes());
                out.extend(acknowledged.to_be_bytes());
                // At most MAX_CANDIDATES, so the conversion cuts nothing off.
                out.extend([list.as_slice().len() as u8, 0, 0, 0]);
                for candidate in list.as_slice() {
                    let kind = match candidate.kind {
                        CandidateKind::Interface => 1,
                        CandidateKind::Observed => 2,
                    };
                    out.extend([kind, 0]);
                    out.extend(candidate.address.port().to_be_bytes());
                    out.extend(candidate.address.ip().octets());
                }
            }
            Body::Challenge { token, .. } => {
                out.extend(token);
                out.resize(self.len(), 0);
            }
            Body::Response { token, observed } => {
                let source = observed.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
                out.extend(token);
                out.extend(source.ip().octets());
                out.extend(source.port().to_be_bytes());
                out.extend([0, 0]);
            }
        }
        out
    }
}

fn parse_candidates(flags: u8, body: &[u8]) -> Result<Body, ParseError> {
    const WRONG: ParseError = ParseError::Length(TYPE_CANDIDATES);
    let (generation, rest) = body.split_first_chunk::<4>().ok_or(WRONG)?;
    let (acknowledged, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    let (&[count, ..], rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    if usize::from(count) > MAX_CANDIDATES {
        return Err(ParseError::TooMany(count));
    }
    let (entries, []) = rest.as_chunks::<CANDIDATE_LEN>() else { return Err(WRONG) };
    if entries.len() != usize::from(count) {
        return Err(WRONG);
    }
    let mut list = CandidateList::EMPTY;
    for &[kind, _, high, low, a, b, c, d] in entries {
        let kind = match kind {
            1 => CandidateKind::Interface,
            2 => CandidateKind::Observed,
            other => return Err(ParseError::Kind(other)),
        };
        let address = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        list.push(Candidate { kind, address });
    }
    Ok(Body::Candidates {
        generation: u32::from_be_bytes(*generation),
        acknowledged: u32::from_be_bytes(*acknowledged),
        answer: flags & FLAG_ANSWER != 0,
        list,
    })
}

fn parse_response(body: &[u8]) -> Result<Body, ParseError> {
    let wrong = ParseError::Length(TYPE_RESPONSE);
    let (token, rest) = body.split_first_chunk().ok_or(wrong)?;
    let &[a, b, c, d, high, low, _, _] = rest else { return Err(wrong) };
    let source = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    Ok(Body::Response { token: *token, observed: (!source.ip().is_unspecified()).then_some(source) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = SocketAddrV4> {
        (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let kind = prop_oneof![Just(CandidateKind::Interface), Just(CandidateKind::Observed)];
        (kind, address()).prop_map(|(kind, address)| Candidate { kind, address })
    }

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            (any::<u32>(), any::<u32>(), any::<bool>(), proptest::collection::vec(candidate(), 0..=8))
                .prop_map(|(generation, acknowledged, answer, list)| Body::Candidates {
                    generation,
                    acknowledged,
                    answer,
                    list: list.into_iter().collect(),
                }),
            (any::<[u8; 8]>(), MIN_CHALLENGE..9000).prop_map(|(token, size)| Body::Challenge { token, size }),
            (any::<[u8; 8]>(), proptest::option::of(address())).prop_map(|(token, observed)| {
                Body::Response { token, observed: observed.filter(|from| !from.ip().is_unspecified()) }
            }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        (any::<u32>(), any::<bool>(), body()).prop_map(|(moves, in_use, body)| Message {
            moves,
            in_use,
            body,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(message in message()) {
            let bytes = message.to_bytes();
            prop_assert_eq!(bytes.len(), message.len());
            prop_assert_eq!(Message::parse(&bytes), Ok(message));
        }

        #[test]
        fn a_message_that_was_cut_or_lengthened_is_refused_unless_it_is_a_challenge(
            message in message(), cut in 1..40usize, more in 1..40usize,
        ) {
            let mut bytes = message.to_bytes();
            let short = &bytes[..bytes.len().saturating_sub(cut)];
            let is_challenge = matches!(message.body, Body::Challenge { .. });
            prop_assert!(Message::parse(short).is_err() || is_challenge);
            bytes.resize(bytes.len() + more, 0);
            prop_assert!(Message::parse(&bytes).is_err() || is_challenge);
        }

        #[test]
        fn hostile_octets_are_refused_or_mean_what_they_are_written_back_as(
            front in proptest::option::of((0..4u8, 0..5u8, any::<u8>())),
            rest in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = front.map_or_else(Vec::new, |(version, kind, flags)| {
                [&MAGIC[..], &[version, kind, flags, 0]].concat()
            });
            bytes.extend(rest);
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&message.to_bytes()), Ok(message));
                prop_assert_eq!(message.len(), bytes.len());
            }
        }
    }

    #[test]
    fn the_octets_are_those_of_the_diagram() {
        let candidate = Candidate {
            kind: CandidateKind::Observed,
            address: SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 4500),
        };
        let list = Body::Candidates {
            generation: 3,
            acknowledged: 0x0102_0304,
            answer: true,
            list: [candidate].into_iter().collect(),
        };
        let message = |in_use, body| Message { moves: 2, in_use, body }.to_bytes();
        let expected: &[u8] = &[
            0x64, 0x6f, 0x6d, 0x69, 1, 1, 3, 0, 0, 0, 0,
            2, // header: version 1, type 1, both flags, moves 2
            0, 0, 0, 3, 1, 2, 3, 4, 1, 0, 0, 0, // generation, acknowledged, count
            2, 0, 0x11, 0x94, 198, 51, 100, 7, // kind, port, address
        ];
        assert_eq!(message(true, list), expected);

        let token = *b"12345678";
        let expected = [&b"domi\x01\x02\0\0\0\0\0\x0212345678"[..], &[0; 4]].concat();
        assert_eq!(message(false, Body::Challenge { token, size: 24 }), expected);

        let observed = Some(candidate.address);
        let expected =
            [&b"domi\x01\x03\x01\0\0\0\0\x0212345678"[..], &[198, 51, 100, 7, 0x11, 0x94, 0, 0]].concat();
        assert_eq!(message(true, Body::Response { token, observed }), expected);
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let message = |body| Message { moves: 0, in_use: false, body }.to_bytes();
        let list = message(Body::Candidates {
            generation: 1,
            acknowledged: 0,
            answer: false,
            list: std::iter::repeat_n(
                Candidate { kind: CandidateKind::Interface, address: "192.0.2.1:4500".parse().unwrap() },
                9,
            )
            .collect(),
        });
        let with = |at: usize, octet| {
            let mut bytes = list.clone();
            bytes[at] = octet;
            Message::parse(&bytes)
        };
        assert_eq!(list.len(), 12 + 12 + 8 * 8, "the ninth candidate was left out");
        assert_eq!(Message::parse(&[]), Err(ParseError::Foreign));
        assert_eq!(Message::parse(&[0; 1400]), Err(ParseError::Foreign));
        assert_eq!(with(4, 2), Err(ParseError::Version(2)));
        assert_eq!(with(5, 4), Err(ParseError::Type(4)));
        assert_eq!(with(20, 9), Err(ParseError::TooMany(9)));
        assert_eq!(with(20, 7), Err(ParseError::Length(1)));
        assert_eq!(with(24, 3), Err(ParseError::Kind(3)));
        assert_eq!(Message::parse(&[&list[..], &[0]].concat()), Err(ParseError::Length(1)));
        assert_eq!(Message::parse(b"domi\x01\x03\0\0\0\0\0\0"), Err(ParseError::Length(3)));
    }
}
