//! The client of the control socket.
#![expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::args::Cli;
use super::exit::{CONFIG, FAILURE, Failed, NOT_RUNNING, PERMISSION, USAGE};
use crate::api::ErrorReply;
use crate::daemon::config::{DEFAULT_SOCKET, MAX_SOCKET_PATH, socket_of};

/// Beyond what the request itself may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the daemon of this configuration listens.
pub(super) fn socket(cli: &Cli) -> PathBuf {
    cli.socket.clone().or_else(|| socket_of(&cli.config)).unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// Asks the daemon; `wait` is how long the request itself may take.
pub(super) fn ask<T: DeserializeOwned>(
    cli: &Cli,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
    wait: Duration,
) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(FAILURE, format!("the client cannot start: {error}")))?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(wait + PATIENCE, exchange(cli, method, path, body)).await.unwrap_or_else(|_| {
            Err(Failed::new(
                FAILURE,
                "the daemon does not answer on its control socket: is it stopped in a debugger?",
            ))
        })
    })?;
    serde_json::from_slice(&answer).map_err(|error| {
        Failed::new(
            FAILURE,
            format!("the daemon answers something else than expected ({error}): is it another version?"),
        )
    })
}

/// The path of a GET without body.
pub(super) const NO_BODY: Option<&()> = None;

async fn exchange(
    cli: &Cli,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Vec<u8>, Failed> {
    let socket = socket(cli);
    let stream = UnixStream::connect(&socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failed::new(
            NOT_RUNNING,
            format!(
                "no daemon is running (nothing answers on {}): start it with 'domicile up'",
                socket.display()
            ),
        ),
        io::ErrorKind::PermissionDenied => Failed::new(
            PERMISSION,
            format!(
                "{} belongs to another user: run this as the user that runs the daemon, usually root",
                socket.display()
            ),
        ),
        io::ErrorKind::InvalidInput => Failed::new(
            USAGE,
            format!(
                "{} has more than {MAX_SOCKET_PATH} octets, too many for a socket's path",
                socket.display()
            ),
        ),
        _ => Failed::new(FAILURE, format!("{} cannot be opened: {error}", socket.display())),
    })?;
    let broken =
        |error: &dyn std::fmt::Display| Failed::new(FAILURE, format!("the daemon broke off: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection);
    let body = match body {
        Some(body) => serde_json::to_vec(body).map_err(|error| broken(&error))?,
        None => Vec::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "domicile")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let bytes = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
    if status.is_success() {
        return Ok(bytes.to_vec());
    }
    Err(match serde_json::from_slice::<ErrorReply>(&bytes) {
        // Its problems have their places, like those that 'check' tells.
        Ok(reply) if reply.stage == "configuration" => Failed::new(CONFIG, reply.error),
        Ok(reply) => Failed::new(FAILURE, format!("{}: {}", reply.stage, reply.error)),
        Err(_) => Failed::new(FAILURE, format!("the daemon answers {status}")),
    })
}
