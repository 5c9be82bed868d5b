//! `domicile join`: from a code or a request to a configuration that works. The private key never leaves the machine.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv6Net;
use zeroize::Zeroizing;

use super::args::{Cli, JoinArgs};
use super::exit::{FAILURE, Failed, USAGE};
use super::init::{config_flag, host_name, quoted, socket_for};
use super::output::write;
use super::request;
use crate::addr::plan::agent_of;
use crate::addr::six_to_four::home_prefix;
use crate::addr::special::special;
use crate::crypto::identity::PrivateKey;
use crate::daemon::config::{self, edit};
use crate::daemon::join::{Asker, join, resolve};
use crate::home::code::Code;
use crate::home::name;
use crate::home::talk::Membership;
use crate::pki::{Root, pem};

pub(super) fn run(cli: &Cli, args: &JoinArgs) -> Result<(), Failed> {
    let path = &cli.config;
    let code = args.wanted.is_none().then(|| code(args)).transpose()?;
    let home = resolve(&args.host).map_err(|error| Failed::new(FAILURE, error.to_string()))?;
    let prefix = args.home.unwrap_or_else(|| home_prefix(*home.ip()));
    if args.home.is_none()
        && !args.allow_special
        && let Some(special) = special(*home.ip())
    {
        return Err(Failed::new(
            FAILURE,
            format!(
                "{} is {} ({}), where no home on the Internet can be: add --allow-special for a laboratory or an intranet",
                home.ip(),
                special.name,
                special.source
            ),
        ));
    }
    let label = args.name.clone().unwrap_or_else(host_name);
    let label = name::suggestion(&label).ok_or_else(|| {
        Failed::new(USAGE, format!("--name: '{label}' is no name: letters, digits and dashes make one"))
    })?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(dir)
        .map_err(|error| Failed::new(FAILURE, format!("{} cannot be made: {error}", dir.display())))?;
    let fresh = !path.exists();
    if !fresh {
        let known = config::load(path)?;
        if known.entities.iter().any(|entity| entity.name == label) {
            return Err(Failed::new(
                FAILURE,
                format!("{} has an entity \"{label}\" already: choose another --name", path.display()),
            ));
        }
    }
    let key_file = dir.join(format!("{label}.key"));
    let key = key_for(&key_file)?;
    let agent = agent_of(prefix);
    let asker = Asker { home, agent, key: &key, label: Some(&label), timeout: args.timeout };
    let member = match (&code, &args.wanted) {
        (Some(code), _) => Some(join(&asker, code).map_err(|error| Failed::new(FAILURE, error.to_string()))?),
        (None, Some(wanted)) => request::wait(args, &asker, wanted, &dir.join(root_name(prefix)))?,
        (None, None) => None,
    };
    let Some(member) = member else { return Ok(()) };
    let files = Files { dir, label: &label };
    let root = files.write(&member)?;
    // A name is kept, because its address may change.
    let derived = args.home.is_none() && args.host.parse::<std::net::Ipv4Addr>().is_ok();
    let endpoint = (!derived).then(|| args.host.clone());
    let text =
        entry(&label, &member, &root, endpoint.map(|at| (prefix, at)), path, fresh, args.allow_special)?;
    if fresh {
        edit::write_private(path, text.as_bytes(), false).map_err(|error| {
            Failed::new(FAILURE, format!("{} cannot be written: {error}", path.display()))
        })?;
        config::load(path)?;
    } else {
        edit::append(path, &text)?;
    }
    let name = member.full_name.as_deref().unwrap_or(&member.name);
    write(&format!(
        "This machine is {} now: {name}.\nThe home is {prefix}; its root has the fingerprint\n  {}\n\nThen:\n  sudo domicile{} up\n",
        member.address,
        root.fingerprint(),
        config_flag(path),
    ))
}

/// From the command line or, for servers, from a file.
fn code(args: &JoinArgs) -> Result<Code, Failed> {
    let text = match (&args.code, &args.code_file) {
        (Some(code), None) => Zeroizing::new(code.clone()),
        (None, Some(file)) => {
            Zeroizing::new(std::fs::read_to_string(file).map_err(|error| {
                Failed::new(FAILURE, format!("{} cannot be read: {error}", file.display()))
            })?)
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(Failed::new(
                USAGE,
                "join with the CODE that 'domicile home invite' printed, with --code-file FILE, or ask with --as WHO",
            ));
        }
    };
    text.trim().parse().map_err(|error: crate::home::code::CodeError| Failed::new(USAGE, error.to_string()))
}

/// A key that an earlier attempt made goes on being used: the home knows it by then.
fn key_for(file: &Path) -> Result<PrivateKey, Failed> {
    if !file.exists() {
        return super::key::generate(file);
    }
    let unreadable = |error: &dyn std::fmt::Display| {
        Failed::new(FAILURE, format!("{} is in the way ({error}): choose another --name", file.display()))
    };
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| unreadable(&error))?);
    PrivateKey::from_pem(&text).map_err(|error| unreadable(&error))
}

struct Files<'a> {
    dir: &'a Path,
    label: &'a str,
}

impl Files<'_> {
    fn certificate(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.label))
    }

    /// Writes certificate and root.
    fn write(&self, member: &Membership) -> Result<Root, Failed> {
        let bad = |error: &dyn std::fmt::Display| Failed::new(FAILURE, format!("the home's answer: {error}"));
        let root = Root::from_der(&member.root.0).map_err(|error| bad(&error))?;
        let leaf = pem::encode(&member.certificate.0).map_err(|error| bad(&error))?;
        let text = pem::encode(&member.root.0).map_err(|error| bad(&error))?;
        for (file, text) in [(self.certificate(), leaf), (self.dir.join(root_name(root.prefix())), text)] {
            edit::write_private(&file, text.as_bytes(), file.exists()).map_err(|error| {
                Failed::new(FAILURE, format!("{} cannot be written: {error}", file.display()))
            })?;
        }
        Ok(root)
    }
}

pub(super) fn root_name(prefix: Ipv6Net) -> String {
    let prefix = prefix.network().segments();
    format!("home-{:x}-{:x}-{:x}.pem", prefix[0], prefix[1], prefix[2])
}

/// What is added to a configuration, or a whole one.
fn entry(
    label: &str,
    member: &Membership,
    root: &Root,
    endpoint: Option<(Ipv6Net, String)>,
    path: &Path,
    fresh: bool,
    special: bool,
) -> Result<String, Failed> {
    let address: Ipv6Addr = member.address;
    let mut text = String::new();
    if fresh {
        let socket = quoted(&socket_for(path)?);
        text.push_str(
            "# domicile. 'domicile check' tells what is wrong with this file, and where.\n\n[node]\n",
        );
        text.push_str(&format!("control_socket = {socket}\n"));
        if special {
            text.push_str("# Homes that are not on the Internet are accepted: a laboratory or an intranet.\nallow_special_homes = true\n");
        }
    }
    let (name, key, certificate) =
        (quoted(label), quoted(&format!("{label}.key")), quoted(&format!("{label}.pem")));
    text.push_str(&format!(
        "\n# Given by its home, which renews the certificate.\n[[entity]]\nname = {name}\naddress = \"{address}\"\nkey_file = {key}\ncertificate = {certificate}\n"
    ));
    let trusted = !fresh
        && config::load(path)
            .is_ok_and(|known| known.roots.iter().any(|known| known.prefix() == root.prefix()));
    if !trusted {
        text.push_str(&format!(
            "\n# Whoever this home certifies may be spoken to.\n[[trust]]\nroot = {}\n",
            quoted(&root_name(root.prefix()))
        ));
        if let Some((prefix, endpoint)) = endpoint {
            let endpoint = if endpoint.contains(':') {
                endpoint
            } else {
                format!("{endpoint}:{}", crate::addr::home::PORT)
            };
            text.push_str(&format!(
                "\n# Where it answers.\n[[home]]\nprefix = \"{prefix}\"\nendpoint = {}\n",
                quoted(&endpoint)
            ));
        }
    }
    Ok(text)
}
