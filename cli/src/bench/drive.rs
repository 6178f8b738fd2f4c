//! Keeps a connection busy: so many requests on the way, each reply held against what it must say.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Failed;
use super::figures::Tally;
use super::line::Line;
use super::work::points::Work;
use super::work::znodes;

/// When a run counts: what comes before warms up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    pub(super) fn new(warm_up: Duration, length: Duration) -> Window {
        let from = Instant::now() + warm_up;
        Window { from, until: from + length }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    fn is_over_at(&self, at: Instant) -> bool {
        at >= self.until
    }

    pub(super) fn contains(&self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }

    pub(super) fn from(&self) -> Instant {
        self.from
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn length(&self) -> Duration {
        self.until - self.from
    }
}

/// Runs until the window is over and all that was asked is answered, and clears up.
pub(super) async fn drive(
    mut line: Line,
    mut work: Work,
    depth: usize,
    window: Window,
    progress: &AtomicU64,
) -> Result<Tally, Failed> {
    let mut tally = Tally::default();
    let (mut over, mut now) = (false, Instant::now());
    loop {
        while !over && line.outstanding() < depth {
            line.put(&work.next(), now)?;
        }
        if line.outstanding() == 0 {
            break;
        }
        line.flush().await?;
        let mut next = Some(line.answer().await?);
        let mut answered = 0;
        while let Some(answer) = next {
            tally.count_at(&window, answer.came, answer.came - answer.asked);
            work.check(answer)?;
            answered += 1;
            next = line.answer_at_hand();
        }
        progress.fetch_add(answered, Relaxed);
        now = Instant::now();
        over = over || window.is_over_at(now);
    }
    znodes::remove(&mut line, work.left()).await?;
    line.close().await?;
    Ok(tally)
}
