//! What was measured, as numbers, a table and JSON.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::drive::Window;

/// Significant digits of a latency: each connection has a histogram, and with more of them most of
/// what it counts in would not be in a cache.
const DIGITS: u8 = 2;
/// Longest latency that is told apart from longer ones, in nanoseconds.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Latencies of what was done within the window, in nanoseconds.
pub(super) struct Tally(Histogram<u64>);

impl Default for Tally {
    fn default() -> Tally {
        // Fails only for bounds that make no sense, which these constants are not.
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        Tally(histogram.expect("constant bounds"))
    }
}

impl Tally {
    /// Counts it, if the window is open now.
    pub(super) fn count(&mut self, window: &Window, took: Duration) {
        self.count_at(window, Instant::now(), took);
    }

    /// Counts it, if the window was open then.
    pub(super) fn count_at(&mut self, window: &Window, at: Instant, took: Duration) {
        if window.contains(at) {
            self.add(took);
        }
    }

    /// Counts it.
    pub(super) fn add(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// Takes in what another connection counted.
    pub(super) fn join(&mut self, other: &Tally) {
        self.0 += &other.0;
    }

    fn percentile_us(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }
}

/// One case on one server.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) operations: u64,
    pub(super) a_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// CPU of the server an operation, in microseconds, where its processes are known.
    pub(super) server_cpu_us: Option<f64>,
    /// The same of this command.
    pub(super) own_cpu_us: f64,
    /// Resident memory of the server after the case.
    pub(super) resident_bytes: Option<u64>,
    /// What each session or znode took of it, where many of them are what is measured.
    pub(super) bytes_each: Option<f64>,
    /// How often another leader took over, as the epoch of zxids tells.
    pub(super) elections: u32,
}

impl Row {
    /// Latencies and rate; the rest is the caller's to fill in.
    pub(super) fn new(case: &str, tally: &Tally, length: Duration) -> Row {
        Row {
            case: case.to_owned(),
            operations: tally.0.len(),
            a_second: tally.0.len() as f64 / length.as_secs_f64(),
            p50_us: tally.percentile_us(50.0),
            p99_us: tally.percentile_us(99.0),
            p999_us: tally.percentile_us(99.9),
            max_us: tally.percentile_us(100.0),
            server_cpu_us: None,
            own_cpu_us: 0.0,
            resident_bytes: None,
            bytes_each: None,
            elections: 0,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "case": self.case,
            "operations": self.operations,
            "per_second": self.a_second,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "p999_us": self.p999_us,
            "max_us": self.max_us,
            "server_cpu_us": self.server_cpu_us,
            "own_cpu_us": self.own_cpu_us,
            "resident_bytes": self.resident_bytes,
            "bytes_each": self.bytes_each,
            "elections": self.elections,
        })
    }

    fn cells(&self) -> Vec<String> {
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            self.case.clone(),
            thousands(self.a_second),
            micros(self.p50_us),
            micros(self.p99_us),
            micros(self.p999_us),
            micros(self.max_us),
            optional(self.server_cpu_us.map(micros)),
            micros(self.own_cpu_us),
            optional(self.resident_bytes.map(mebibytes)),
            optional(self.bytes_each.map(thousands)),
        ]
    }
}

/// The rows of one server.
pub(super) fn table(rows: &[Row]) -> String {
    let head =
        ["case", "a second", "p50", "p99", "p99.9", "max", "CPU", "own CPU", "resident", "B each"];
    grid(&head, rows.iter().map(Row::cells))
}

/// Two servers side by side: medians over the rounds, and the median of the rounds' ratios.
pub(super) fn comparison(rounds: &[(Vec<Row>, Vec<Row>)]) -> (String, Value) {
    let head = [
        "case", "a second", "against", "ratio", "p50", "against", "p99", "against", "ratio",
        "resident", "against",
    ];
    let cases = rounds.first().map_or(0, |(ours, _)| ours.len());
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for case in 0..cases {
        let pairs: Vec<(&Row, &Row)> =
            rounds.iter().map(|(ours, theirs)| (&ours[case], &theirs[case])).collect();
        let of = |figure: fn(&Row) -> f64| {
            (
                median(pairs.iter().map(|(ours, _)| figure(ours))),
                median(pairs.iter().map(|(_, theirs)| figure(theirs))),
                median(pairs.iter().map(|(ours, theirs)| figure(ours) / figure(theirs))),
            )
        };
        let rate = of(|row| row.a_second);
        let (p50, p99) = (of(|row| row.p50_us), of(|row| row.p99_us));
        let resident = of(|row| row.resident_bytes.unwrap_or_default() as f64);
        let ratios = pairs.iter().map(|(ours, theirs)| ours.a_second / theirs.a_second);
        let (least, most) = ratios
            .fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
        let name = pairs[0].0.case.clone();
        lines.push(vec![
            name.clone(),
            thousands(rate.0),
            thousands(rate.1),
            format!("{:.2} ({least:.2}-{most:.2})", rate.2),
            micros(p50.0),
            micros(p50.1),
            micros(p99.0),
            micros(p99.1),
            format!("{:.2}", p99.2),
            mebibytes(resident.0 as u64),
            mebibytes(resident.1 as u64),
        ]);
        values.push(json!({
            "case": name,
            "ratio": rate.2, "ratio_least": least, "ratio_most": most,
            "p99_ratio": p99.2,
            "rounds": pairs.iter().map(|(ours, theirs)| [ours.json(), theirs.json()])
                .collect::<Vec<_>>(),
        }));
    }
    (grid(&head, lines.into_iter()), json!(values))
}

/// The middle of some values; of two in the middle the mean.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// A table in Markdown, so that it can go into a page as it is.
fn grid(head: &[&str], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    all.extend(lines);
    let width = |column: usize| {
        all.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in all.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            text.push_str(&match column {
                0 => format!("| {cell:<width$} "),
                _ => format!("| {cell:>width$} "),
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let end = if column == 0 { '-' } else { ':' };
                text.push_str(&format!("|{}{end}", "-".repeat(width + 1)));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A number with spaces between its thousands.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn micros(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(micros(1.26), "1.3 µs");
        assert_eq!(micros(1_500.0), "1.5 ms");
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn latencies_count_within_the_window_alone() {
        let window = Window::new(Duration::ZERO, Duration::from_secs(60));
        let mut tally = Tally::default();
        tally.count(&window, Duration::from_micros(5));
        tally.count_at(&window, window.from() + window.length(), Duration::from_micros(500));
        let row = Row::new("get", &tally, Duration::from_secs(1));
        assert_eq!(row.operations, 1);
        assert!((row.max_us - 5.0).abs() < 0.1, "{}", row.max_us);
    }

    #[test]
    fn a_comparison_has_the_median_of_the_ratios_of_each_round() {
        let row = |a_second: f64| {
            let mut row = Row::new("get:1x1", &Tally::default(), Duration::from_secs(1));
            row.a_second = a_second;
            row
        };
        let rounds: Vec<_> = [(20.0, 10.0), (30.0, 10.0), (90.0, 10.0)]
            .map(|(ours, theirs)| (vec![row(ours)], vec![row(theirs)]))
            .into();
        let (table, values) = comparison(&rounds);
        assert_eq!(values[0]["ratio"], 3.0);
        assert!(table.contains("3.00 (2.00-9.00)"), "{table}");
    }
}
