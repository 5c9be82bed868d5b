//! Host names in certificates.

/// Octets of a name (RFC 1035 §2.3.4, without the final dot).
const MAX_NAME: usize = 253;
/// Octets of a label.
const MAX_LABEL: usize = 63;

/// A host name in the one form that we issue and accept: lower-case letters, digits and hyphens in labels (RFC 1123
/// §2.1), at least two labels, no final dot, no wildcard.
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.contains('.') && name.split('.').all(label)
}

/// Is the name in the domain, or the domain itself (RFC 5280 §4.2.1.10)?
pub(super) fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for good in ["web.example.org", "a-1.b", "xn--bcher-kva.example"] {
            assert!(is_host_name(good), "{good}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for bad in [
            "",
            "web",
            "Web.example.org",
            "web.example.org.",
            "*.example.org",
            "-a.b",
            "a-.b",
            "a..b",
            "a,b.c",
            &long,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_domain_ends_at_a_dot() {
        assert!(is_within("web.example.org", "example.org") && is_within("example.org", "example.org"));
        assert!(!is_within("badexample.org", "example.org") && !is_within("example.org", "web.example.org"));
    }
}
