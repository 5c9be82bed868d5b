//! `domicile ping`: every stage on the way to an answer, and which one fails.
#![expect(clippy::disallowed_methods, reason = "round-trip times are measured here")]

use std::io::{ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use hyper::Method;
use socket2::{Domain, Protocol, Socket, Type};

use super::args::{Cli, PingArgs};
use super::client::ask;
use super::exit::{FAILURE, Failed};
use super::output::say;
use super::paths::{before, in_use};
use super::verbs::{bring_up, request};
use crate::api::paths::PathsStatus;
use crate::api::{ConnectReply, PeerStatus};

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const PAYLOAD: usize = 56;
/// How long the SA may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long its path may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);
/// Earlier paths that are told.
const EARLIER_PATHS: usize = 3;
/// Too short a wait would be none at all.
const LEAST_WAIT: Duration = Duration::from_millis(1);

pub(super) fn run(cli: &Cli, args: &PingArgs) -> Result<(), Failed> {
    // Stages daemon, name, policy and ike: the daemon's refusals begin with their stage.
    let up = bring_up(cli, &args.peer, CONNECT_TIMEOUT)?;
    if up.existing {
        say(format_args!("ike    {} is up, from {}", up.address, up.local))?;
    } else {
        say(format_args!("ike    {} is up after {:.1} ms, from {}", up.address, up.elapsed * 1e3, up.local))?;
    }
    let first = path_to(cli, &up)?;
    first.as_ref().map_or(Ok(()), say_path)?;
    let echo = Echo::open(up.local, up.address)?;
    let mut times = Vec::new();
    for number in 0..args.count {
        let sent = Instant::now();
        let (to, number) = (up.address, number + 1);
        match echo.exchange(number as u16, args.wait.max(LEAST_WAIT))? {
            Some(time) => {
                times.push(time);
                say(format_args!("echo   {to} seq={number} time={:.3} ms", time.as_secs_f64() * 1e3))?;
            }
            None => {
                say(format_args!("echo   {to} seq={number} no answer within {} s", args.wait.as_secs_f64()))?;
            }
        }
        if number < args.count {
            std::thread::sleep(args.interval.saturating_sub(sent.elapsed()));
        }
    }
    // It may have become another one meanwhile.
    let way = |path: &PathsStatus| (path.kind.clone(), path.remote);
    if let Some(now) = path_to(cli, &up)?.filter(|now| first.as_ref().map(way) != Some(way(now))) {
        say_path(&now)?;
    }
    say(summary(args.count, &mut times))?;
    if times.is_empty() {
        return Err(Failed::new(
            FAILURE,
            format!(
                "echo: the security association with {} is up, but nothing answers through it: is the other machine's ICMPv6 filtered?",
                up.address
            ),
        ));
    }
    Ok(())
}

/// Which way packets to the peer go; nothing when there is no SA any more.
fn path_to(cli: &Cli, up: &ConnectReply) -> Result<Option<PathsStatus>, Failed> {
    let status: PeerStatus =
        ask(cli, Method::POST, "/v1/peer", Some(&request(&up.address.to_string())), PATIENCE)?;
    Ok(status.paths.into_iter().find(|path| path.local == up.local))
}

/// Says it with why, and with what was before.
fn say_path(path: &PathsStatus) -> Result<(), Failed> {
    say(format_args!("path   {}", in_use(path)))?;
    before(path, EARLIER_PATHS).iter().try_for_each(|line| say(format_args!("       before: {line}")))
}

fn summary(sent: u32, times: &mut [Duration]) -> String {
    times.sort();
    let lost = 100.0 * (1.0 - times.len() as f64 / f64::from(sent));
    let counts = format!("{sent} sent, {} answered, {lost:.0}% lost", times.len());
    if let (Some(least), Some(most)) = (times.first(), times.last()) {
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        return format!("{counts}, rtt min/avg/max {:.3}/{:.3}/{:.3} ms", ms(*least), ms(mean), ms(*most));
    }
    counts
}

/// ICMPv6 echo through the kernel, so that routes and the TUN are part of the test.
struct Echo {
    socket: Socket,
    to: SocketAddrV6,
    /// With a raw socket the identifier is ours; the kernel sets it otherwise.
    identifier: u16,
}

impl Echo {
    fn open(from: Ipv6Addr, to: Ipv6Addr) -> Result<Self, Failed> {
        let failed =
            |what: &str, error: std::io::Error| Failed::new(FAILURE, format!("route: {what}: {error}"));
        let protocol = Some(Protocol::ICMPV6);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, protocol)
            .or_else(|_| Socket::new(Domain::IPV6, Type::RAW, protocol))
            .map_err(|error| failed("no ICMPv6 socket (try as root)", error))?;
        socket.bind(&SocketAddrV6::new(from, 0, 0, 0).into()).map_err(|error| {
            failed(
                &format!(
                    "{from} is not an address of this network namespace: run ping where the daemon runs"
                ),
                error,
            )
        })?;
        let to = SocketAddrV6::new(to, 0, 0, 0);
        socket.connect(&to.into()).map_err(|error| failed(&format!("no route to {}", to.ip()), error))?;
        Ok(Self { socket, to, identifier: std::process::id() as u16 })
    }

    fn exchange(&self, number: u16, wait: Duration) -> Result<Option<Duration>, Failed> {
        let mut request = [0; 8 + PAYLOAD];
        request[0] = ECHO_REQUEST;
        request[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        request[6..8].copy_from_slice(&number.to_be_bytes());
        let sent = Instant::now();
        if let Err(error) = self.socket.send(&request) {
            return Err(Failed::new(
                FAILURE,
                format!("route: a packet to {} does not leave: {error}", self.to.ip()),
            ));
        }
        while let Some(left) = wait.checked_sub(sent.elapsed()).filter(|left| !left.is_zero()) {
            let mut answer = [0; 1500];
            self.socket
                .set_read_timeout(Some(left))
                .map_err(|error| Failed::new(FAILURE, format!("echo: {error}")))?;
            match (&self.socket).read(&mut answer) {
                Ok(len) if len >= 8 && answer[0] == ECHO_REPLY && answer[6..8] == number.to_be_bytes() => {
                    return Ok(Some(sent.elapsed()));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // An ICMPv6 error about our request: no answer will come.
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}
