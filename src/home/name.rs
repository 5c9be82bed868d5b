//! Names: DNS labels (RFC 1035 §2.3.1, RFC 1123 §2.1), in lower case.

/// Octets of a label (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
/// Octets of a whole name in presentation form without the final dot (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;

/// Names that mean something else to somebody: a home gives them to nobody.
const RESERVED: &[&str] = &[
    // special-use names (RFC 6761, RFC 6762, RFC 8375) and the roots of the reverse trees
    "arpa",
    "example",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
    // what resolvers and browsers look for by themselves
    "broadcasthost",
    "isatap",
    "localdomain",
    "wpad",
    // the home itself
    "dns",
    "domicile",
    "home",
    "ns",
    "ns1",
    "root",
];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than a label or a name can hold.
    #[error(
        "a name has 1 to {LABEL_MAX} characters between dots and {NAME_MAX} in all, and this one has {0}"
    )]
    Length(usize),
    /// Something else than letters, digits and hyphens, or a hyphen at an end.
    #[error(
        "the name \"{0}\" is not a DNS label: use letters, digits and hyphens, not beginning or ending with a hyphen"
    )]
    Characters(String),
    /// Only digits: it would be taken for a number.
    #[error("the name \"{0}\" consists of digits only and would be taken for a number: add a letter")]
    Digits(String),
    /// `??--…` (RFC 5890 §2.3.1): encoded names can look like others.
    #[error(
        "the name \"{0}\" has hyphens in third and fourth place, which DNS keeps for encoded names: choose another"
    )]
    Encoded(String),
    /// One of the reserved words.
    #[error("the name \"{0}\" is reserved: choose another")]
    Reserved(String),
}

/// Checks one label and brings it to lower case.
pub fn label(text: &str) -> Result<String, NameError> {
    if text.is_empty() || text.len() > LABEL_MAX {
        return Err(NameError::Length(text.chars().count()));
    }
    let shown = || text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !good || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Characters(shown()));
    }
    let lower = text.to_ascii_lowercase();
    if lower.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameError::Digits(lower));
    }
    if lower.get(2..4) == Some("--") {
        return Err(NameError::Encoded(lower));
    }
    if RESERVED.contains(&lower.as_str()) {
        return Err(NameError::Reserved(lower));
    }
    Ok(lower)
}

/// Checks a domain, such as `home.example.org`; its labels may be reserved words.
pub fn domain(text: &str) -> Result<String, NameError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > NAME_MAX {
        return Err(NameError::Length(text.chars().count()));
    }
    let labels = text.split('.').map(|part| match label(part) {
        Err(NameError::Reserved(name) | NameError::Encoded(name) | NameError::Digits(name)) => Ok(name),
        other => other,
    });
    Ok(labels.collect::<Result<Vec<_>, _>>()?.join("."))
}

/// A label that a machine's own name suggests: what is no part of a label is left out.
pub fn suggestion(text: &str) -> Option<String> {
    let first = text.split('.').next().unwrap_or_default();
    let kept: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(LABEL_MAX).collect();
    label(kept.trim_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_name_and_what_is_not() {
        assert_eq!(label("Alice"), Ok("alice".to_owned()));
        assert_eq!(label("web-2"), Ok("web-2".to_owned()));
        assert_eq!(label(&"a".repeat(63)), Ok("a".repeat(63)));
        for bad in ["", "-a", "a-", "a.b", "a_b", "ä", "a b", "a\n", &"a".repeat(64)] {
            assert!(matches!(label(bad), Err(NameError::Length(_) | NameError::Characters(_))), "{bad}");
        }
        assert!(matches!(label("123"), Err(NameError::Digits(_))));
        assert!(matches!(label("xn--bcher-kva"), Err(NameError::Encoded(_))));
        assert!(matches!(label("LocalHost"), Err(NameError::Reserved(_))));
        assert_eq!(domain("Home.Example.org."), Ok("home.example.org".to_owned()));
        assert!(domain("a..b").is_err() && domain("").is_err() && domain(&"a.".repeat(128)).is_err());
        assert_eq!(suggestion("Alice's laptop.lan"), Some("aliceslaptop".to_owned()));
        assert_eq!(suggestion("localhost"), None);
    }

    proptest! {
        #[test]
        fn a_checked_name_is_fit_for_dns_and_stays_what_it_is(text in "\\PC{0,70}") {
            if let Ok(name) = label(&text) {
                prop_assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert_eq!(label(&name), Ok(name));
            }
        }
    }
}
