//! Whether a daemon does its work: asked over a socket that only this user can open, so that it needs no port, no token and no certificate.
//!
//! ```text
//! rwasm health ──▶ RUNTIME/daemons/PID.sock ──▶ one line of JSON, and the end
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rwasm_node::Node;
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// How long a daemon may take to answer: its threads for the network are all that is asked of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const BYTES_MAX: u64 = 4096;
/// The pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// What a daemon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Whether its node and the head hear each other.
    pub(crate) joined: bool,
}

/// The socket of a daemon.
pub(super) fn socket(dir: &Path, pid: u32) -> PathBuf {
    dir.join(format!("{pid}.sock"))
}

/// Answers for as long as the daemon runs. Without the socket, the daemon works all the same: the path may be longer than sockets allow.
pub(super) fn serve(socket: &Path, node: Node, scope: &Scope) {
    // Left by a process of the same number.
    let _ = fs::remove_file(socket);
    let listener = match UnixListener::bind(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, socket = %socket.display(), "`rwasm health` cannot ask this daemon");
            return;
        }
    };
    scope.spawn("health", OnEnd::Continue, async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let health = Health { joined: node.is_joined() };
            // Fits into the socket's buffer, so nobody is waited for.
            let _ = stream.write_all(&serde_json::to_vec(&health).unwrap_or_default()).await;
        }
    });
}

/// Asks a daemon.
///
/// # Errors
///
/// [`Code::UNWELL`] if it does not answer.
pub(super) async fn ask(socket: &Path) -> Result<Health> {
    let answer = async {
        let mut bytes = Vec::new();
        UnixStream::connect(socket).await?.take(BYTES_MAX).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>(serde_json::from_slice(&bytes)?)
    };
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(health)) => Ok(health),
        Ok(Err(error)) => Err(Error::new(Code::UNWELL, format!("it runs and cannot be asked: {error}"))),
        Err(_) => Err(Error::new(Code::UNWELL, format!("it runs and does not answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}
