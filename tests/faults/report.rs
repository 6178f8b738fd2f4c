//! Medians and maxima.

use std::fmt;
use std::time::Duration;

/// Times of one kind.
#[derive(Clone, Debug)]
pub struct Times {
    what: &'static str,
    times: Vec<Duration>,
}

impl Times {
    /// None yet.
    pub fn of(what: &'static str) -> Times {
        Times { what, times: Vec::new() }
    }

    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// The middle one, the higher of two.
    pub fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, count) = (self.what, self.times.len());
        let (median, max) = (self.median().as_millis(), self.max().as_millis());
        write!(f, "{what}: {count} times, median {median} ms, most {max} ms")
    }
}

/// Processes that wanted to run in the last minute, for every processor: how far times can be
/// trusted.
pub fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("load {} on {cores} cores", load.split(' ').next().unwrap_or("unknown"))
}
