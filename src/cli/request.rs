//! `domicile join HOST --as WHO`: asking a home to be let in, and waiting until somebody there decides.

use std::path::Path;
use std::time::Duration;

use super::args::JoinArgs;
use super::exit::{FAILURE, Failed, USAGE};
use super::output::write;
use crate::daemon::config::edit;
use crate::daemon::join::{Answer, Asker, JoinError, request};
use crate::home::talk::Membership;
use crate::pki::{Root, pem};

/// How often a machine that waits asks again; the home lets a source ask sixteen times in twenty seconds.
const AGAIN: Duration = Duration::from_secs(5);
/// Hexadecimal digits of a fingerprint.
const DIGITS: usize = 32;

/// Asks until somebody decides; with `--no-wait` once, which may give nothing yet. `pin` is where the root is kept that
/// answered first.
pub(super) fn wait(
    args: &JoinArgs,
    asker: &Asker<'_>,
    wanted: &str,
    pin: &Path,
) -> Result<Option<Membership>, Failed> {
    let given = args.fingerprint.as_deref().map(fingerprint).transpose()?;
    let mut told = false;
    loop {
        let kept = kept(pin)?;
        let meant = given.clone().or_else(|| kept.as_ref().map(Root::fingerprint));
        match request(asker, wanted, meant.as_deref()) {
            Ok((Answer::Joined(member), _)) => return Ok(Some(*member)),
            Ok((Answer::Waiting, root)) => {
                if !pin.exists() {
                    keep(pin, &root)?;
                }
                if !told {
                    tell(args, asker, wanted, &root)?;
                    told = true;
                }
                if args.no_wait {
                    return Ok(None);
                }
            }
            // It may be restarting; whoever waits has time.
            Err(JoinError::Ike { .. } | JoinError::Socket(..)) if told => {}
            Err(error @ JoinError::OtherRoot { .. }) if given.is_none() => {
                return Err(Failed::new(
                    FAILURE,
                    format!("{error}; the other one answered first and is kept in {}", pin.display()),
                ));
            }
            Err(error) => return Err(Failed::new(FAILURE, error.to_string())),
        }
        std::thread::sleep(AGAIN);
    }
}

fn tell(args: &JoinArgs, asker: &Asker<'_>, wanted: &str, root: &Root) -> Result<(), Failed> {
    let compared = if args.fingerprint.is_some() {
        "It is the one that you gave."
    } else {
        "Compare it with what 'domicile home info' shows there: another one means that somebody is in between."
    };
    let then = if args.no_wait {
        "Give the same command again to fetch the answer."
    } else {
        "Waiting until somebody there decides …"
    };
    write(&format!(
        "Asked to join as {wanted}. The key of this machine has the fingerprint\n  {}\n\
         which 'domicile home pending list' shows at the home, too. The home's root has the fingerprint\n  {}\n\
         {compared}\n{then}\n",
        asker.key.public().fingerprint(),
        root.fingerprint(),
    ))
}

/// The root that answered an earlier request.
fn kept(pin: &Path) -> Result<Option<Root>, Failed> {
    if !pin.exists() {
        return Ok(None);
    }
    let bad = |error: &dyn std::fmt::Display| {
        Failed::new(FAILURE, format!("{} is in the way ({error}): move it away", pin.display()))
    };
    let text = std::fs::read_to_string(pin).map_err(|error| bad(&error))?;
    let ders = pem::decode(&text).map_err(|error| bad(&error))?;
    let der = ders.first().ok_or_else(|| bad(&"it holds no certificate"))?;
    Root::from_der(der).map(Some).map_err(|error| bad(&error))
}

fn keep(pin: &Path, root: &Root) -> Result<(), Failed> {
    let failed = |error: &dyn std::fmt::Display| {
        Failed::new(FAILURE, format!("{} cannot be written: {error}", pin.display()))
    };
    let text = pem::encode(root.der()).map_err(|error| failed(&error))?;
    edit::write_private(pin, text.as_bytes(), false).map_err(|error| failed(&error))
}

/// As we write it: people leave dashes out, or write capitals.
pub(super) fn fingerprint(text: &str) -> Result<String, Failed> {
    let digits: Vec<char> =
        text.chars().filter(|c| !" -:.".contains(*c)).map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() != DIGITS || digits.iter().any(|c| !c.is_ascii_hexdigit()) {
        return Err(Failed::new(
            USAGE,
            "--fingerprint: write the eight groups of four that 'domicile home info' shows at the home",
        ));
    }
    Ok(digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_how_people_write() {
        let ours = "0123-4567-89ab-cdef-0123-4567-89ab-cdef";
        for text in [
            ours,
            &ours.replace('-', ""),
            &ours.to_uppercase(),
            &ours.replace('-', ":"),
            &ours.replace('-', " "),
            &ours.replace('-', "."),
        ] {
            assert_eq!(fingerprint(text).unwrap(), ours);
        }
        for text in ["", "0123", &ours[1..], &format!("{ours}0"), &ours.replace('a', "g")] {
            assert!(fingerprint(text).is_err(), "{text}");
        }
    }
}
