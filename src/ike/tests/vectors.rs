//! Values that were computed elsewhere (Python: hashlib, hmac, and `cryptography` for Ed25519) from RFC 7296 alone: what we
//! compute is what the other end computes, and not only what our own other end does.

use std::net::Ipv6Addr;

use crate::crypto::identity::PrivateKey;
use crate::crypto::prf::{IkeKeys, child_keys, ike_keys, skeyseed, skeyseed_rekey};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{EspSuite, IkeSuite};
use crate::dataplane::event::UdpPath;
use crate::ike::auth_data::SignedOctets;
use crate::ike::nat;
use crate::policy::pad::Proof;
use crate::wire::ike::{Identification, Payload, encode_payloads, notify_type as nt, parse_payloads};

const SPI_I: u64 = 0x0102_0304_0506_0708;
const SPI_R: u64 = 0x1112_1314_1516_1718;
const PSK: &[u8] = b"correct horse battery staple";
const MESSAGE: &[u8] = b"IKE_SA_INIT, the whole message";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nonces() -> (Vec<u8>, Vec<u8>) {
    ((0..32).collect(), (100..132).collect())
}

fn secret(octet: u8) -> Secret {
    Secret::new(vec![octet; 32])
}

fn first_keys() -> IkeKeys {
    let (ni, nr) = nonces();
    ike_keys(IkeSuite::Aes256Gcm, &skeyseed(&ni, &nr, &secret(0x42)), &ni, &nr, SPI_I, SPI_R).unwrap()
}

// §2.23: SHA-1(SPIi | SPIr | IP | port), SPIr being zero in the first request.
#[test]
fn nat_detection_hashes() {
    let ours = "198.51.100.1:4500".parse().unwrap();
    let theirs = "203.0.113.7:20002".parse().unwrap();
    assert_eq!(hex(&nat::hash(SPI_I, 0, ours)), "3455834292e52faaad06fdbe0dec8b17e57e785d");
    assert_eq!(hex(&nat::hash(SPI_I, SPI_R, theirs)), "71b371ca00eab39d207859284a32d547ccf72788");
}

#[test]
fn what_nat_detection_concludes() {
    let (ours, theirs) = ("198.51.100.1:4500".parse().unwrap(), "203.0.113.7:20002".parse().unwrap());
    let path = UdpPath::direct(ours, theirs);
    let detect = |payloads: &[Payload]| {
        let seen = nat::detect(payloads, SPI_I, SPI_R, path);
        (seen.ours, seen.theirs)
    };
    let notify = |kind, of| nat::status(kind, nat::hash(SPI_I, SPI_R, of).to_vec());
    let (source, destination) = (nt::NAT_DETECTION_SOURCE_IP, nt::NAT_DETECTION_DESTINATION_IP);
    assert_eq!(detect(&[]), (None, None));
    assert_eq!(detect(&[notify(source, theirs), notify(destination, ours)]), (Some(false), Some(false)));
    assert_eq!(detect(&[notify(source, ours), notify(destination, theirs)]), (Some(true), Some(true)));
    // Several sources: one that fits is enough.
    assert_eq!(detect(&[notify(source, ours), notify(source, theirs)]), (None, Some(false)));
    // One of us lies in NAT_DETECTION_SOURCE_IP and tells the truth in DOMICILE.
    assert_eq!(detect(&[notify(source, ours), nat::truth(SPI_I, SPI_R, theirs)]), (None, Some(false)));
    assert_eq!(detect(&[notify(source, theirs), nat::truth(SPI_I, SPI_R, ours)]), (None, Some(true)));
}

// §2.14: {SK_d | SK_ei | SK_er | SK_pi | SK_pr}, SK_a* absent with an AEAD (RFC 5282 §8).
#[test]
fn keys_of_an_ike_sa() {
    let keys = first_keys();
    assert_eq!(hex(keys.sk_d.expose()), "d439e460432fdf8843d8989c8bbe27ef62c39643a3194eb5c4e1e0325d395135");
    assert_eq!(
        hex(keys.sk_ei.expose()),
        "ddbc337fd6722dd730170ffd48b9cc9664261f39b6908d549b7bb09abf7dccceb8386d71"
    );
    assert_eq!(
        hex(keys.sk_er.expose()),
        "d7becd98979dbe159676aa683b56bceaab08c352c5c2f1c0dbaaa5feebd4e3562cfe16ba"
    );
    assert_eq!(hex(keys.sk_pi.expose()), "97b260b68b43fad7fdfca97f563762258a12bd4098b7334baf9d53e8cb997351");
    assert_eq!(hex(keys.sk_pr.expose()), "0811600e15953d319afd6ebf9638b672e84c88e686fb465a6c8a9236bcd8fd9f");
}

// §2.18: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr); here the former responder rekeys.
#[test]
fn keys_of_a_rekeyed_ike_sa() {
    let (ni, nr) = nonces();
    let seed = skeyseed_rekey(&first_keys().sk_d, &secret(0x43), &ni, &nr);
    let keys = ike_keys(IkeSuite::ChaCha20Poly1305, &seed, &ni, &nr, SPI_R, SPI_I).unwrap();
    assert_eq!(hex(keys.sk_d.expose()), "31b80dbaf9871512c1e1bf62e6a8d37bb3eacceb7f4425b408783d6e14d7ca16");
    assert_eq!(hex(keys.sk_pr.expose()), "7c484acd78241b34d8ea0db59b1ff80fd0068cfd68042d28cb97c3b2215ba476");
}

// §2.17: KEYMAT = prf+(SK_d, [g^ir (new) |] Ni | Nr), the initiator's direction first.
#[test]
fn keys_of_child_sas() {
    let (ni, nr) = nonces();
    let keymat = |suite, shared: Option<&Secret>| {
        let keys = child_keys(suite, &first_keys().sk_d, shared, &ni, &nr).unwrap();
        [hex(keys.initiator.expose()), hex(keys.responder.expose())]
    };
    assert_eq!(
        keymat(EspSuite::Aes256GcmIiv, None),
        [
            "b7fedef62b5bfdfb788c791e626375b875b2fd820457360fad6616cbd8f198db980c1738",
            "3275f9f22afbadfb0d1bd131e14ff4ef244a7386d06ca1da215f439a2f315660da234a55"
        ]
    );
    assert_eq!(
        keymat(EspSuite::ChaCha20Poly1305, Some(&secret(0x43))),
        [
            "04ca047a983b7821e733580124ebf09cc6c8ebcae3dc16cd01d4726ffdd86f03f00b73c1",
            "87f8d15b6616bb28d83712c8228036f2ffe82bc13c0f0e52b0bf6eeaccd1e36f1436a810"
        ]
    );
    assert_eq!(
        keymat(EspSuite::NullHmacSha256, None),
        [
            "b7fedef62b5bfdfb788c791e626375b875b2fd820457360fad6616cbd8f198db",
            "980c17383275f9f22afbadfb0d1bd131e14ff4ef244a7386d06ca1da215f439a"
        ]
    );
}

/// AUTH of `2002:c633:6401:1::10`, by PSK and by the key of seed 01 01 …, with the RESERVED octets given.
fn auth(reserved: [u8; 3]) -> [String; 2] {
    let address: Ipv6Addr = "2002:c633:6401:1::10".parse().unwrap();
    let id = Identification { reserved, ..Identification::from_address(address) };
    let (_, nr) = nonces();
    let keys = first_keys();
    let signed = SignedOctets { message: MESSAGE, nonce: &nr, sk_p: &keys.sk_pi, id: &id };
    let key = PrivateKey::from_seed(&[1; 32]);
    let proofs = [Proof::Psk(Secret::from(PSK)), Proof::PublicKey(*key.public().as_bytes())];
    proofs.map(|proof| {
        let Some(Payload::Auth { method, data }) = signed.prove(&proof, &key.seed()) else {
            panic!("no AUTH payload")
        };
        signed.verify(&proof, method, &data).unwrap();
        hex(&data)
    })
}

// §2.15, RFC 7427 §3, RFC 8420 §A.1: the identity is covered as it is on the wire, RESERVED octets included.
#[test]
fn auth_payloads() {
    let algorithm = "07300506032b6570";
    assert_eq!(
        auth([0; 3]),
        [
            "83dd96c01697267b307f22e68f7a39717b85dc85230125e000cc012242cbd956".to_owned(),
            format!(
                "{algorithm}76fc884610159294ab71f25b37e067223be8bc2584ff0bf1f87987805d2806ee\
                 86a66126e23d1122103faaf3cc1ef998c261e897ffcf51ed852ea258407b7c01"
            )
        ]
    );
    assert_eq!(
        auth([1, 2, 3]),
        [
            "c68a019e632a5ed397aa04f9f5ddc54322345407adfaebb230bcf1af07779fde".to_owned(),
            format!(
                "{algorithm}36c34bf4dafbe557e7e33b1789e1257d416f22d2abe494553783f4b78a5904e1\
                 4cedbcc8072cc70cfc41f47a17e6a13fb723ef3618a84575c0fb64a74209a60f"
            )
        ]
    );
}

#[test]
fn an_identity_is_kept_as_it_came() {
    let body = [5, 1, 2, 3, 0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let chain = [&[0, 0, 0, 24][..], &body].concat();
    let payloads = parse_payloads(35, &chain).unwrap();
    let Payload::IdInitiator(id) = &payloads[0] else { panic!("not an identity") };
    assert_eq!(id.body(), body);
    let mut again = Vec::new();
    encode_payloads(&payloads, &mut again);
    assert_eq!(again, chain);
}
