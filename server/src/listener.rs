//! Takes connections in, within the bounds, and owns the task of each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{TryFutureExt, select_all};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Shared;
use crate::connection;
use crate::counters::count;
use crate::limits::{ACCEPT_PAUSE_MS, STOP_MS_MAX};
use crate::net::{Listener, Stream};
use crate::roster::Peer;
use crate::seldom::Seldom;

/// Where clients come in.
pub(crate) struct Door {
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) address: SocketAddr,
    /// They speak TLS.
    pub(crate) is_secure: bool,
}

/// One that has come in.
struct Entrant {
    stream: Box<dyn Stream>,
    address: SocketAddr,
    is_secure: bool,
}

/// The next one at any of the doors. Dropping the future loses no connection.
async fn accept(doors: &mut [Door]) -> io::Result<Entrant> {
    let accepting = doors.iter_mut().map(|Door { listener, is_secure, .. }| {
        let is_secure = *is_secure;
        let entrant = move |(stream, address)| Entrant { stream, address, is_secure };
        listener.accept().map_ok(entrant)
    });
    select_all(accepting).await.0
}

/// Accepts until told to stop; then lets the connections end, and returns when they have.
pub(crate) async fn listen(
    mut doors: Vec<Door>,
    shared: Arc<Shared>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    let lines = Seldom::default();
    loop {
        tokio::select! {
            biased;
            // An error says that the server was dropped.
            _ = &mut stop => break,
            Some(ended) = tasks.join_next() => complain(ended),
            accepted = accept(&mut doors) => match accepted {
                Ok(entrant) => {
                    take_in(entrant, &shared, &mut tasks, &lines);
                    // None keeps those at another waiting.
                    doors.rotate_left(1);
                }
                Err(error) => {
                    // One that went away while it waited says nothing about the next.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            },
        }
    }
    drop(doors);
    shared.roster.close();
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            complain(ended);
        }
    };
    if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), all).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections did not end in time");
        tasks.shutdown().await;
    }
}

fn complain(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}

fn take_in(entrant: Entrant, shared: &Arc<Shared>, tasks: &mut JoinSet<()>, lines: &Seldom) {
    let Entrant { stream, address, is_secure } = entrant;
    let since_ms = shared.config.clock.wall_ms();
    let Some(peer) = shared.roster.enter(address, since_ms, &shared.config.limits) else {
        if let Some(kept_back) = lines.may_say(Instant::now()) {
            tracing::warn!(%address, kept_back, "too many connections: one is refused");
        }
        return count(&shared.counters.connections_rejected);
    };
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        // Off the roster however the task ends.
        let _on_roster = OnRoster { peer: Arc::clone(&peer), shared: Arc::clone(&shared) };
        connection::serve(stream, is_secure, peer, shared).await;
    });
}

struct OnRoster {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
}

impl Drop for OnRoster {
    fn drop(&mut self) {
        self.shared.roster.leave(&self.peer);
    }
}
