//! `domicile home export`: what strongSwan needs to speak as one of this home, with a certificate and without joining.

use std::net::Ipv6Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::args::ExportArgs;
use super::{ask, directory};
use crate::api::home::{CertificateDocument, EntityDetail, EntityDocument, HomeRequest};
use crate::cli::args::Cli;
use crate::cli::exit::{FAILURE, Failed};
use crate::cli::output::say;
use crate::daemon::config::edit::write_private;
use crate::daemon::home::HomeDesk;
use crate::daemon::system::{random, unix};
use crate::pki::export::{ExportedFile, StrongSwan, strongswan};
use crate::pki::{pem, request};

pub(super) fn run(cli: &Cli, args: &ExportArgs) -> Result<(), Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed::new(FAILURE, error.to_string());
    if let Some(file) = &args.request {
        let text = std::fs::read(file)
            .map_err(|error| Failed::new(FAILURE, format!("{} cannot be read: {error}", file.display())))?;
        let key = request::requested_key(&text)
            .map_err(|error| Failed::new(FAILURE, format!("{}: {error}", file.display())))?;
        let set = HomeRequest::KeySet { who: args.who.clone(), public_key: key.to_string() };
        ask::<EntityDocument>(cli, set)?;
    }
    let peer = match args.peer.parse::<Ipv6Addr>() {
        Ok(address) => address,
        Err(_) => ask::<EntityDetail>(cli, HomeRequest::Show { who: args.peer.clone() })?.entity.address,
    };
    let issued: CertificateDocument = ask(cli, HomeRequest::Certify { who: args.who.clone() })?;
    let leaf = pem::decode(&issued.certificate).map_err(|error| failed(&error))?;
    let serial = random().map_err(|error| failed(&error))?;
    // strongSwan 5.9 cannot parse the name constraints of the root that others pin.
    let desk = HomeDesk::open(&directory(cli)?)?;
    let root = desk.authority().root_without_constraints(unix(), *serial).map_err(|error| failed(&error))?;
    let machine = StrongSwan {
        name: &args.who,
        root: &root,
        leaf: leaf.first().map_or(&[], Vec::as_slice),
        key: None,
        peer,
        endpoint: args.endpoint.as_deref(),
    };
    for file in strongswan(&machine).map_err(|error| failed(&error))? {
        put(&args.directory, &file)?;
    }
    say(format_args!(
        "{} is {}. Bring {} into /etc/swanctl there, beside its own key in private/, and run 'swanctl --load-all'.\n\
         The certificate ends within a day: run this again and bring x509/ over before it does.",
        issued.name,
        issued.address,
        args.directory.display()
    ))
}

/// A certificate replaces an earlier one; what somebody may have changed since stays as it is.
fn put(directory: &Path, file: &ExportedFile) -> Result<(), Failed> {
    let path = directory.join(&file.path);
    let unwritten = |error: std::io::Error| {
        Failed::new(FAILURE, format!("{} cannot be written: {error}", path.display()))
    };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(unwritten)?;
    }
    let fresh = !path.exists();
    if fresh || file.path.starts_with("x509/") {
        write_private(&path, file.content.as_bytes(), !fresh).map_err(unwritten)?;
    }
    Ok(())
}
