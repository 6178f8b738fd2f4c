//! Sessions: opened and closed, or many that rest.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use synod_core::model::Request;
use tokio::time::Instant;

use super::super::Failed;
use super::super::drive::Window;
use super::super::figures::Tally;
use super::super::line::{Line, SESSION_TIMEOUT_MS};

/// Connects, opens a session and closes it, again and again.
pub(crate) async fn churn(
    address: String,
    window: Window,
    progress: &AtomicU64,
) -> Result<Tally, Failed> {
    let mut tally = Tally::default();
    let mut last = None;
    while !window.is_over() {
        let begun = std::time::Instant::now();
        let line = Line::open(&address).await?;
        let session = line.session();
        if last.replace(session) == Some(session) {
            return Err(Failed::Wrong(format!("session {session} was opened twice")));
        }
        line.close().await?;
        tally.count(&window, begun.elapsed());
        progress.fetch_add(1, Relaxed);
    }
    Ok(tally)
}

/// Sessions that do nothing but stay.
pub(crate) struct Idle {
    lines: Vec<Line>,
}

impl Idle {
    /// Opens as many, spread over the servers.
    pub(crate) async fn open(
        addresses: &[String],
        count: u32,
        tally: &mut Tally,
        progress: &AtomicU64,
    ) -> Result<Idle, Failed> {
        let mut lines = Vec::with_capacity(count as usize);
        let mut sessions = HashSet::new();
        let mut pinged = Instant::now();
        let third = Duration::from_millis(SESSION_TIMEOUT_MS as u64 / 3);
        for number in 0..count as usize {
            let begun = std::time::Instant::now();
            let line = Line::open(&addresses[number % addresses.len()]).await?;
            tally.add(begun.elapsed());
            if !sessions.insert(line.session()) {
                return Err(Failed::Wrong(format!("session {} twice", line.session())));
            }
            lines.push(line);
            progress.fetch_add(1, Relaxed);
            if pinged.elapsed() > third {
                let mut idle = Idle { lines };
                idle.ping().await?;
                lines = idle.lines;
                pinged = Instant::now();
            }
        }
        Ok(Idle { lines })
    }

    /// Lets each ping: all must be there still.
    pub(crate) async fn ping(&mut self) -> Result<(), Failed> {
        for line in &mut self.lines {
            line.done(&Request::Ping).await?;
        }
        Ok(())
    }

    /// They have something to do now.
    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    /// Ends them all.
    pub(crate) async fn close(self) -> Result<(), Failed> {
        for line in self.lines {
            line.close().await?;
        }
        Ok(())
    }
}
