//! DNS messages on their way in and out: what a query asks, and how a response begins (RFC 1035 §4, RFC 6891).

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, PushError};
use domain::base::{Message, MessageBuilder, Name, StaticCompressor, ToName};

/// What a UDP response may have without EDNS (RFC 1035 §4.2.1), and the least that EDNS can say (RFC 6891 §6.2.3).
const UDP_MIN: u16 = 512;
/// What a UDP response has at most: with its headers it fits the smallest IPv6 MTU, so it is never fragmented.
pub(super) const UDP_MAX: u16 = 1232;
/// An OPT record without options.
const OPT_LEN: usize = 11;
/// Octets of a header.
const HEADER_LEN: usize = 12;

/// How a query came, and how much of an answer fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is no longer than was asked for, 512 octets unless EDNS says otherwise, 1,232 at most.
    Udp,
    /// In a stream: 65,535 octets.
    Tcp,
}

/// What the query's OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    size: u16,
    version: u8,
    dnssec_ok: bool,
}

/// A query with one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    message: &'a Message<[u8]>,
    pub(super) qtype: Rtype,
    pub(super) qclass: Class,
    edns: Option<Edns>,
}

/// Why there is no query in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoQuery {
    /// Less than a header, or a response: whoever answered that could be made to talk to itself.
    #[error("not a query")]
    Silence,
    /// It is answered, but not read.
    #[error("a query that cannot be read: {0}")]
    Refused(Rcode),
}

/// A message in the making.
pub(super) type Builder = StaticCompressor<Vec<u8>>;

impl<'a> Query<'a> {
    /// Reads one.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, NoQuery> {
        let message = Message::from_slice(octets).map_err(|_| NoQuery::Silence)?;
        let header = message.header();
        if header.qr() {
            return Err(NoQuery::Silence);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(NoQuery::Refused(Rcode::NOTIMP));
        }
        let bad = |_| NoQuery::Refused(Rcode::FORMERR);
        let question = message.sole_question().map_err(bad)?;
        Ok(Self {
            message,
            qtype: question.qtype(),
            qclass: question.qclass(),
            edns: edns(message).map_err(|Malformed| NoQuery::Refused(Rcode::FORMERR))?,
        })
    }

    /// The name asked for, in the case that it came in.
    pub(super) fn name(&self) -> Result<Name<Vec<u8>>, NoQuery> {
        let question = self.message.sole_question().map_err(|_| NoQuery::Refused(Rcode::FORMERR))?;
        Ok(question.qname().to_vec())
    }

    /// An EDNS version that nobody here knows (RFC 6891 §6.1.3).
    pub(super) fn has_unknown_edns(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version > 0)
    }

    /// The size that a response may have, its OPT record included.
    pub(super) fn limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => {
                usize::from(self.edns.map_or(UDP_MIN, |edns| edns.size.clamp(UDP_MIN, UDP_MAX)))
            }
            Transport::Tcp => usize::from(u16::MAX),
        }
    }

    /// A response: `sections` appends what there is to say. What does not fit is left out as a whole, and the
    /// response says so with TC.
    pub(super) fn respond(
        &self,
        limit: usize,
        rcode: OptRcode,
        authoritative: bool,
        sections: impl FnOnce(AnswerBuilder<Builder>) -> Result<AdditionalBuilder<Builder>, PushError>,
    ) -> Vec<u8> {
        let begin = |limit: usize| {
            let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?;
            builder.set_push_limit(limit);
            let mut answer = builder.start_answer(self.message, rcode.rcode()).ok()?;
            answer.header_mut().set_aa(authoritative);
            Some(answer)
        };
        let room = limit.saturating_sub(if self.edns.is_some() { OPT_LEN } else { 0 });
        let full = begin(room).map(sections);
        let additional = match full {
            Some(Ok(additional)) => Some(additional),
            Some(Err(_)) | None => begin(usize::MAX).map(|mut answer| {
                answer.header_mut().set_tc(true);
                answer.additional()
            }),
        };
        let finished = additional.and_then(|mut additional| {
            additional.clear_push_limit();
            if let Some(edns) = self.edns {
                additional
                    .opt(|opt| {
                        opt.set_udp_payload_size(UDP_MAX);
                        opt.set_rcode(rcode);
                        // RFC 3225 §3: copied, though nothing here is signed.
                        opt.set_dnssec_ok(edns.dnssec_ok);
                        Ok(())
                    })
                    .ok()?;
            }
            Some(additional.finish().into_target())
        });
        finished.unwrap_or_else(|| refuse(self.message.as_slice(), Rcode::SERVFAIL).unwrap_or_default())
    }

    /// A response with nothing but a code.
    pub(super) fn code(&self, rcode: OptRcode) -> Vec<u8> {
        self.respond(usize::from(UDP_MIN), rcode, false, |answer| Ok(answer.additional()))
    }
}

/// A header alone, which answers what could not be read.
pub(super) fn refuse(octets: &[u8], rcode: Rcode) -> Option<Vec<u8>> {
    let asked = octets.get(..HEADER_LEN)?;
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    let asked = domain::base::Header::for_message_slice(asked);
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_rcode(rcode);
    Some(builder.finish())
}

/// Something in the sections behind the question is not a record, or there is more than one OPT (RFC 6891 §6.1.1).
struct Malformed;

fn edns(message: &Message<[u8]>) -> Result<Option<Edns>, Malformed> {
    let mut found = None;
    let mut section = Some(message.answer().map_err(|_| Malformed)?);
    let mut number = 0;
    while let Some(mut records) = section {
        for record in records.by_ref() {
            let record = record.map_err(|_| Malformed)?;
            if record.rtype() != Rtype::OPT {
                continue;
            }
            let is_last_section = number == 2;
            if !is_last_section || found.is_some() || record.owner().label_count() != 1 {
                return Err(Malformed);
            }
            // RFC 6891 §6.1.3: the TTL holds extended code, version and flags.
            let [_, version, flags, _] = record.ttl().as_secs().to_be_bytes();
            found = Some(Edns { size: record.class().to_int(), version, dnssec_ok: flags & 0x80 != 0 });
        }
        section = records.next_section().map_err(|_| Malformed)?;
        number += 1;
    }
    Ok(found)
}
