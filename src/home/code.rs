//! The join code: 128 random bits that are said or copied once.
//!
//! ```text
//! 7ZK4D-Q0T8M-…   30 symbols of Crockford's base32 in six groups: 128 bits of code, then the first 22 bits of
//!                 SHA-256("domicile join code check" | code), so that a typing error is told at once
//! PRK       = HKDF-Extract(salt = "domicile join code v1", ikm = code)        (RFC 5869)
//! lookup id = HKDF-Expand(PRK, "lookup id", 16)   names the invitation
//! PSK       = HKDF-Expand(PRK, "psk", 32)         proves both sides of the join (RFC 7296 §2.15)
//! ```
//!
//! The home keeps neither code nor lookup id, only [`LookupId::digest`], and the PSK covered with a pad that only the
//! lookup id gives ([`LookupId::cover`]): a stolen registry or backup lets nobody join.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::prf::{prf, prf_plus};
use crate::crypto::secret::Secret;

/// Octets of a code.
pub const CODE_LEN: usize = 16;
/// Octets of a lookup id.
pub const LOOKUP_LEN: usize = 16;
/// Octets of the PSK.
pub const PSK_LEN: usize = 32;

/// Crockford's alphabet: without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SYMBOLS: usize = 30;
const GROUP: usize = 5;
const CHECK_BITS: u32 = 22;
/// Longer texts are not looked at.
const TEXT_MAX: usize = 256;

/// Why a text is no code. None of them repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too few or too many symbols.
    #[error("a join code has {SYMBOLS} letters and digits, and this one has {0}: copy all of it")]
    Length(usize),
    /// A character of no code.
    #[error("character {0} of this join code is in no join code: copy it again")]
    Character(usize),
    /// The check characters do not fit.
    #[error("this join code has a typing error in it: compare it with what 'domicile home invite' printed")]
    Check,
}

/// A join code. Wiped on drop; `Debug` hides it, and there is no `Display`: [`text`](Self::text) is asked for.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Code(Zeroizing<[u8; CODE_LEN]>);

impl Code {
    /// From 128 random bits.
    pub fn new(random: [u8; CODE_LEN]) -> Self {
        Self(Zeroizing::new(random))
    }

    fn check(&self) -> u32 {
        let mut hash = Sha256::new();
        hash.update(b"domicile join code check");
        hash.update(&self.0[..]);
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        u32::from_be_bytes([a, b, c, d]) >> (32 - CHECK_BITS)
    }

    /// What is shown to a person, once.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bits = u128::from_be_bytes(*self.0);
        let mut tail = (u64::from((bits & 0b111) as u8) << CHECK_BITS) | u64::from(self.check());
        let mut symbols = [0; SYMBOLS];
        let (head, last) = symbols.split_at_mut(25);
        bits >>= 3;
        for symbol in head.iter_mut().rev() {
            *symbol = (bits & 31) as u8;
            bits >>= 5;
        }
        for symbol in last.iter_mut().rev() {
            *symbol = (tail & 31) as u8;
            tail >>= 5;
        }
        // With room for all of it, so that no copy stays behind in the heap.
        let mut text = Zeroizing::new(String::with_capacity(SYMBOLS + SYMBOLS / GROUP));
        for (at, symbol) in symbols.iter().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET.get(usize::from(*symbol)).copied().unwrap_or_default()));
        }
        symbols.zeroize();
        text
    }

    fn prk(&self) -> Secret {
        Secret::from(&prf(b"domicile join code v1", &[&self.0[..]])[..])
    }

    /// What names the invitation in the join.
    pub fn lookup_id(&self) -> LookupId {
        let mut id = expand(&self.prk(), b"lookup id");
        // In 8000::/2: where IKE has addresses as identities, it is nobody's permanent address and no stranger's key.
        id[0] = 0x80 | id[0] & 0x3f;
        LookupId(id)
    }

    /// What proves both sides of the join.
    pub fn psk(&self) -> Secret {
        Secret::new(expand::<PSK_LEN>(&self.prk(), b"psk").to_vec())
    }
}

fn expand<const N: usize>(prk: &Secret, label: &[u8]) -> Zeroizing<[u8; N]> {
    #[expect(clippy::unwrap_used, reason = "a PRK of 32 octets gives up to 8,160 (RFC 5869 §2.3)")]
    let output = prf_plus(prk, &[label], N).unwrap();
    let mut octets = Zeroizing::new([0; N]);
    octets.copy_from_slice(output.expose());
    octets
}

impl FromStr for Code {
    type Err = CodeError;

    /// Case, dashes and spaces do not matter; O is 0, and I and L are 1.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > TEXT_MAX {
            return Err(CodeError::Length(text.chars().count()));
        }
        let (mut head, mut tail, mut count) = (Zeroizing::new(0u128), Zeroizing::new(0u64), 0);
        for (at, character) in text.chars().enumerate() {
            if character.is_whitespace() || matches!(character, '-' | '_' | '\u{2010}'..='\u{2015}') {
                continue;
            }
            let symbol = match character.to_ascii_uppercase() {
                'O' => b'0',
                'I' | 'L' => b'1',
                other => u8::try_from(other).map_err(|_| CodeError::Character(at + 1))?,
            };
            let value = ALPHABET.iter().position(|known| *known == symbol);
            let value = value.ok_or(CodeError::Character(at + 1))? as u64;
            if count < 25 {
                *head = *head << 5 | u128::from(value);
            } else {
                // Symbols beyond the last one are only counted.
                *tail = (*tail << 5 | value) & ((1 << 25) - 1);
            }
            count += 1;
        }
        if count != SYMBOLS {
            return Err(CodeError::Length(count));
        }
        let code = Self::new((*head << 3 | u128::from(*tail >> CHECK_BITS)).to_be_bytes());
        if u64::from(code.check()) == *tail & ((1 << CHECK_BITS) - 1) {
            Ok(code)
        } else {
            Err(CodeError::Check)
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// Names an invitation: sent inside the join, before its proof. With the registry it gives the PSK, so it is wiped and
/// hidden, too.
#[derive(Clone)]
pub struct LookupId(Zeroizing<[u8; LOOKUP_LEN]>);

impl LookupId {
    /// From what a joining machine sent.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// What a joining machine sends.
    pub fn as_bytes(&self) -> &[u8; LOOKUP_LEN] {
        &self.0
    }

    /// What the registry finds the invitation by.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0[..]).into()
    }

    /// Covers or uncovers a PSK: exclusive or with HKDF-Expand(lookup id, "psk cover"). Each lookup id covers one PSK.
    pub fn cover(&self, psk: &[u8; PSK_LEN]) -> Zeroizing<[u8; PSK_LEN]> {
        let prk = Secret::from(&prf(b"domicile join code v1", &[&self.0[..]])[..]);
        let mut covered = expand(&prk, b"psk cover");
        for (octet, secret) in covered.iter_mut().zip(psk) {
            *octet ^= secret;
        }
        covered
    }
}

impl fmt::Debug for LookupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookupId(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_format_stays_what_it_is() {
        let code = Code::new(*b"0123456789abcdef");
        assert_eq!(&*code.text(), VECTOR_TEXT);
        assert_eq!(hex(&code.lookup_id().0[..]), VECTOR_LOOKUP);
        assert_eq!(hex(code.psk().expose()), VECTOR_PSK);
        assert_eq!(format!("{code:?} {:?}", code.lookup_id()), "Code(…) LookupId(…)");
    }

    // Computed with Python's hashlib and hmac.
    const VECTOR_TEXT: &str = "60RK4-CSM6M-V3EE1-SC5H6-6S35C-S1H65";
    const VECTOR_LOOKUP: &str = "ad529c7885eac6f9594e8ff783b70bbd";
    const VECTOR_PSK: &str = "b91f142eaa83c8b58592649f2af5aaa8857fa715cf0a651f1ee97d6244df9fde";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn a_code_survives_how_people_write(random: [u8; 16], lower: bool, dashes in "[-_ \t–]{0,3}") {
            let code = Code::new(random);
            let text = code.text().replace('-', &dashes).replace('0', "o").replace('1', if lower { "l" } else { "I" });
            let text = if lower { text.to_lowercase() } else { text };
            prop_assert_eq!(text.parse::<Code>(), Ok(code));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,300}") {
            let _ = text.parse::<Code>();
        }

        #[test]
        fn the_lookup_id_uncovers_what_it_covered(random: [u8; 16], other: [u8; 16]) {
            let code = Code::new(random);
            let psk: [u8; PSK_LEN] = code.psk().expose().try_into().unwrap();
            let covered = code.lookup_id().cover(&psk);
            prop_assert_eq!(code.lookup_id().as_bytes()[0] >> 6, 2);
            prop_assert_eq!(*code.lookup_id().cover(&covered), psk);
            if random != other {
                prop_assert_ne!(*Code::new(other).lookup_id().cover(&covered), psk);
            }
        }
    }

    #[test]
    fn every_wrong_and_every_exchanged_character_is_noticed() {
        let text = VECTOR_TEXT.replace('-', "");
        for at in 0..30 {
            let mut texts: Vec<String> = ALPHABET
                .iter()
                .map(|symbol| format!("{}{}{}", &text[..at], char::from(*symbol), &text[at + 1..]))
                .collect();
            let mut exchanged = text.clone().into_bytes();
            exchanged.swap(at, (at + 1) % 30);
            texts.push(String::from_utf8(exchanged).unwrap());
            for wrong in texts.into_iter().filter(|wrong| *wrong != text) {
                assert_eq!(wrong.parse::<Code>(), Err(CodeError::Check), "{wrong}");
            }
        }
    }

    #[test]
    fn lengths_and_strangers_are_told() {
        assert_eq!("".parse::<Code>(), Err(CodeError::Length(0)));
        assert_eq!("0".repeat(31).parse::<Code>(), Err(CodeError::Length(31)));
        assert_eq!("0".repeat(1000).parse::<Code>(), Err(CodeError::Length(1000)));
        assert_eq!("00U00".parse::<Code>(), Err(CodeError::Character(3)));
    }
}
