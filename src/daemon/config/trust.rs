//! Certificates and roots that the configuration names.

use std::io::Read as _;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::check::Checker;
use super::{TrustEntry, file};
use crate::crypto::identity::PublicKey;
use crate::dataplane::relay::{Limits, Rate};
use crate::pki::trust::PinPolicy;
use crate::pki::{MAX_LEAF_LIFETIME, Root, TrustError, leaf, pem};

/// Octets of a file with certificates: five of them with text around.
const MAX_FILE: u64 = 64 * 1024;
/// Renewal begins at two thirds of a life and is tried every few seconds.
const SHORTEST_LEAF: Duration = Duration::from_secs(30);

impl Checker<'_> {
    /// `[[trust]]`: homes whose certificates prove their entities.
    pub(super) fn roots(&mut self, entries: &[Spanned<file::Trust>]) -> (Vec<Root>, Vec<TrustEntry>) {
        let mut roots: Vec<Root> = Vec::new();
        let mut trusted = Vec::new();
        for entry in entries {
            let (span, entry) = (entry.span(), entry.get_ref());
            let remedy = "write the file with the root certificate of the home";
            let file = self.required(&entry.root, &span, "[[trust]]", "root", remedy);
            let Some((file, root)) = file.and_then(|file| Some((file, self.root(file)?))) else { continue };
            if roots.iter().any(|other| other.prefix() == root.prefix()) {
                let message = format!("{} has a [[trust]] entry already: remove one", root.prefix());
                self.problems.at(file.span(), message);
            }
            self.confirmed(entry.fingerprint.as_ref(), file, &root);
            trusted.push(TrustEntry {
                prefix: root.prefix(),
                file: file.get_ref().clone(),
                confirmed: entry.fingerprint.is_some(),
            });
            roots.push(root);
        }
        (roots, trusted)
    }

    /// `fingerprint`: the file may have been replaced since.
    fn confirmed(&mut self, said: Option<&Spanned<String>>, file: &Spanned<String>, root: &Root) {
        let Some(said) = said.filter(|said| !same_fingerprint(said.get_ref(), &root.fingerprint())) else {
            return;
        };
        let message = format!(
            "the root in {} has the fingerprint {}: it is another one than was trusted, or name its fingerprint",
            file.get_ref(),
            root.fingerprint()
        );
        self.problems.at(said.span(), message);
    }

    fn root(&mut self, file: &Spanned<String>) -> Option<Root> {
        let root = self.first_certificate(file)?;
        self.understood(file, Root::from_der(&root))
    }

    /// `certificate` of an entity: for its address, and for its key.
    pub(super) fn certificate(
        &mut self,
        file: Option<&Spanned<String>>,
        address: Option<Ipv6Addr>,
        key: Option<PublicKey>,
    ) -> Option<Vec<u8>> {
        let file = file?;
        let der = self.first_certificate(file)?;
        let certified = self.understood(file, leaf::read(&der))?;
        let wrong = if address.is_some_and(|address| address != certified.address) {
            format!("is for {}: join again, or name the right file", certified.address)
        } else if key.is_some_and(|key| key != certified.key) {
            "is for another key than the one in key_file: join again, or name the right files".to_owned()
        } else {
            return Some(der);
        };
        self.problems.at(file.span(), format!("the certificate in {} {wrong}", file.get_ref()));
        None
    }

    /// `[home_agent] certificate_lifetime`: long enough for a renewal that needs several attempts.
    pub(super) fn certificate_lifetime(&mut self, agent: Option<&file::HomeAgent>) -> Duration {
        let longest = Duration::from_secs(MAX_LEAF_LIFETIME);
        let written = agent.map(|agent| &agent.certificate_lifetime);
        written.and_then(|written| self.duration(written, SHORTEST_LEAF..=longest)).unwrap_or(longest)
    }

    /// `[home_agent] relay_…`: octets a second. Less than a packet's worth would be nothing at all.
    pub(super) fn relay_limits(&mut self, agent: Option<&file::HomeAgent>) -> Limits {
        let mut limits = Limits::default();
        let Some(agent) = agent else { return limits };
        let mut rate = |value, rate: &mut Rate, name| {
            let hint = "250000000 octets a second are 2 Gbit/s";
            rate.per_second = self.number(value, rate.per_second, 10_000..=100_000_000_000, name, hint);
        };
        rate(&agent.relay_member_bytes, &mut limits.binding, "relay_member_bytes");
        rate(&agent.relay_source_bytes, &mut limits.source, "relay_source_bytes");
        limits
    }

    /// `[node] pin`.
    pub(super) fn pin(&mut self, node: &file::Node) -> PinPolicy {
        match node.pin.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
            None | Some(("tell", _)) => PinPolicy::Tell,
            Some(("strict", _)) => PinPolicy::Strict,
            Some((other, span)) => {
                let message =
                    format!("pin = \"{other}\" is unknown: say \"tell\" (the default) or \"strict\"");
                self.problems.at(span, message);
                PinPolicy::Tell
            }
        }
    }

    /// A peer that lists neither key nor secret is known by its home's certificate, if that home is trusted.
    pub(super) fn no_proof(&mut self, name: Option<&Spanned<String>>, span: &Range<usize>) {
        if self.read.was_told(span, "public_key") || self.read.was_told(span, "psk_file") {
            return;
        }
        let span = name.map_or_else(|| span.clone(), Spanned::span);
        let name = name.map_or("", |name| name.get_ref());
        let message = format!(
            "peer \"{name}\" needs a public_key (from 'domicile key show' there), a psk_file, or a [[trust]] entry for its home"
        );
        self.problems.at(span, message);
    }

    fn first_certificate(&mut self, file: &Spanned<String>) -> Option<Vec<u8>> {
        let path = super::beside(self.path, file.get_ref());
        let mut text = String::new();
        let read =
            std::fs::File::open(&path).and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text));
        if let Err(error) = read {
            let message = format!("{}: {error}: name a PEM file with a certificate", path.display());
            self.problems.at(file.span(), message);
            return None;
        }
        let all = self.understood(file, pem::decode(&text))?;
        all.into_iter().next()
    }

    fn understood<T>(&mut self, file: &Spanned<String>, result: Result<T, TrustError>) -> Option<T> {
        if let Err(error) = &result {
            self.problems.at(file.span(), format!("{}: {error}", file.get_ref()));
        }
        result.ok()
    }
}

/// Fingerprints are read aloud and typed: case, and what stands between the digits, do not matter.
pub fn same_fingerprint(said: &str, fingerprint: &str) -> bool {
    let digits = |text: &str| -> String {
        text.chars().filter(|c| !" -:.".contains(*c)).map(|c| c.to_ascii_lowercase()).collect()
    };
    !said.is_empty() && digits(said) == digits(fingerprint)
}
