//! The control socket: HTTP and JSON over a Unix socket that only its owner may open. `docs/control-api.md` describes it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::error::Error;
use crate::api::home::HomeRequest;
use crate::api::trust::ForgetRequest;
use crate::api::{ErrandRequest, ErrorReply, PeerRequest};

/// Octets of a request body.
const MAX_BODY: usize = 16 << 10;
/// Requests that wait for the event loop.
const QUEUE: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `GET /v1/status`
    Status,
    /// `POST /v1/peer`
    Peer(PeerRequest),
    /// `POST /v1/connect`
    Connect(PeerRequest),
    /// `POST /v1/disconnect`
    Disconnect(PeerRequest),
    /// `POST /v1/rekey`
    Rekey(PeerRequest),
    /// `POST /v1/home`
    Home(HomeRequest),
    /// `GET /v1/trust`
    Trust,
    /// `GET /v1/trust/keys`
    TrustKeys,
    /// `POST /v1/trust/forget`
    Forget(ForgetRequest),
    /// `POST /v1/take`
    Take(ErrandRequest),
    /// `POST /v1/leave`
    Leave(ErrandRequest),
    /// `POST /v1/reload`
    Reload,
    /// `POST /v1/down`
    Down,
}

/// A document, or why there is none.
pub type Reply = Result<serde_json::Value, ErrorReply>;

/// A request with the way back.
pub struct Call {
    /// What.
    pub request: Request,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Reply>,
}

/// The socket; its file goes with it.
pub(super) struct Socket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket. The file of a dead daemon is replaced, a living one is an error.
pub(super) fn open(path: &Path) -> Result<(Socket, mpsc::Receiver<Call>), Error> {
    let failed = |what| move |error| Error::Path { path: path.to_owned(), what, error };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(failed("making its directory"))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(Error::Running(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("removing what a dead daemon left"))?;
        }
        Err(_) => {}
    }
    // Nobody may connect between bind and chmod: the umask covers that moment.
    let listener =
        with_private_umask(|| UnixListener::bind(path)).map_err(failed("opening the control socket"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(failed("protecting the control socket"))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(sender)).await {
            tracing::warn!(%error, "the control socket failed");
        }
    });
    Ok((Socket { path: path.to_owned(), task }, receiver))
}

fn with_private_umask<T>(act: impl FnOnce() -> T) -> T {
    let before = crate::io::sys::umask(0o177);
    let result = act();
    crate::io::sys::umask(before);
    result
}

fn router(calls: mpsc::Sender<Call>) -> Router {
    type Calls = State<mpsc::Sender<Call>>;
    Router::new()
        .route("/v1/status", get(|State(calls): Calls| ask(calls, Request::Status)))
        .route("/v1/peer", post(|State(calls): Calls, body: Body| with(calls, body, Request::Peer)))
        .route("/v1/connect", post(|State(calls): Calls, body: Body| with(calls, body, Request::Connect)))
        .route(
            "/v1/disconnect",
            post(|State(calls): Calls, body: Body| with(calls, body, Request::Disconnect)),
        )
        .route("/v1/rekey", post(|State(calls): Calls, body: Body| with(calls, body, Request::Rekey)))
        .route(
            "/v1/home",
            post(|State(calls): Calls, body: Body<HomeRequest>| with(calls, body, Request::Home)),
        )
        .route("/v1/trust", get(|State(calls): Calls| ask(calls, Request::Trust)))
        .route("/v1/trust/keys", get(|State(calls): Calls| ask(calls, Request::TrustKeys)))
        .route(
            "/v1/trust/forget",
            post(|State(calls): Calls, body: Body<ForgetRequest>| with(calls, body, Request::Forget)),
        )
        .route(
            "/v1/take",
            post(|State(calls): Calls, body: Body<ErrandRequest>| with(calls, body, Request::Take)),
        )
        .route(
            "/v1/leave",
            post(|State(calls): Calls, body: Body<ErrandRequest>| with(calls, body, Request::Leave)),
        )
        .route("/v1/reload", post(|State(calls): Calls| ask(calls, Request::Reload)))
        .route("/v1/down", post(|State(calls): Calls| ask(calls, Request::Down)))
        .fallback(|| async {
            refuse(StatusCode::NOT_FOUND, "there is no such request: docs/control-api.md lists them")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(calls)
}

type Body<T = PeerRequest> = Result<Json<T>, axum::extract::rejection::JsonRejection>;

async fn with<T>(calls: mpsc::Sender<Call>, body: Body<T>, make: fn(T) -> Request) -> Response {
    match body {
        Ok(Json(request)) => ask(calls, make(request)).await,
        Err(rejection) => refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    }
}

async fn ask(calls: mpsc::Sender<Call>, request: Request) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = tokio::time::timeout(Duration::from_secs(5), calls.send(Call { request, reply })).await;
    if !matches!(sent, Ok(Ok(()))) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is too busy or is ending: try again");
    }
    match answer.await {
        Ok(Ok(document)) => Json(document).into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, Json(error)).into_response(),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon ended before it could answer"),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(ErrorReply { stage: "request".to_owned(), error: error.to_owned() })).into_response()
}
