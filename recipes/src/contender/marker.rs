//! How contenders are named, and who of them is before whom.

use synod_core::client::Client;
use synod_core::model::{CreateMode, Path};
use tracing::warn;

use crate::error::Error;
use crate::layout::Layout;
use crate::telemetry::Recipe;
use crate::znodes::parent_mode;

/// What contenders of one recipe have between id and suffix. Each recipe has its own, so that a
/// lock and an election at one path do not mix in silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker {
    /// Under what name its contenders are counted.
    recipe: &'static Recipe,
    own: &'static str,
    /// What others in the same line have, where there are two kinds.
    other: Option<&'static str>,
    /// Whether those of this kind hold together: then one waits for the other kind alone.
    shared: bool,
    layout: Layout,
}

/// A child that follows the grammar: `_c_{id}{marker}{suffix}`, or that of another layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrant {
    pub(crate) name: String,
    marker: &'static str,
    /// Negative on servers that count past the end.
    suffix: i64,
}

/// Bytes of an id in its usual form, with hyphens.
const ID_BYTES: usize = 36;

impl Marker {
    /// Those of a line of their own, one of whom holds at a time.
    pub(crate) const fn new(own: &'static str, recipe: &'static Recipe) -> Marker {
        Marker { recipe, own, other: None, shared: false, layout: Layout::Synod }
    }

    /// Those who stand in one line with the contenders of another library.
    pub(crate) const fn in_layout(self, layout: Layout) -> Marker {
        Marker { layout, ..self }
    }

    /// Those who stand in one line with the ones of another marker.
    pub(crate) const fn beside(self, other: &'static str) -> Marker {
        Marker { other: Some(other), ..self }
    }

    /// Those who hold together.
    pub(crate) const fn shared(self) -> Marker {
        Marker { shared: true, ..self }
    }

    /// Those who are counted as contenders of another recipe, which stands on this.
    pub(crate) const fn counted_as(self, recipe: &'static Recipe) -> Marker {
        Marker { recipe, ..self }
    }

    pub(crate) fn recipe(self) -> &'static Recipe {
        self.recipe
    }

    /// What a new name begins with.
    pub(super) fn stem(self, client: &Client) -> String {
        let id = client.random_id();
        match self.layout {
            Layout::Synod | Layout::Curator => format!("_c_{}{}", id.hyphenated(), self.own),
            Layout::Kazoo => format!("{}{}", id.simple(), self.own),
        }
    }

    /// Whether others rely on the parent to stay.
    pub(super) fn keeps_parent(self) -> bool {
        self.layout == Layout::Kazoo
    }

    pub(super) fn parent_mode(self, client: &Client) -> CreateMode {
        match self.keeps_parent() {
            true => CreateMode::Persistent,
            false => parent_mode(client),
        }
    }

    /// A new name with that suffix.
    pub(crate) fn name(self, client: &Client, suffix: &str) -> String {
        format!("{}{suffix}", self.stem(client))
    }

    /// The suffix of a name that follows the grammar.
    pub(crate) fn suffix_of(self, name: &str) -> Option<&str> {
        self.parse(name)?;
        self.split(name).map(|(_, suffix)| suffix)
    }

    /// The marker in a name, and what is behind it.
    fn split(self, name: &str) -> Option<(&'static str, &str)> {
        if self.layout != Layout::Synod {
            // As they do it: by the last marker, whatever stands before it.
            let (_, suffix) = name.rsplit_once(self.own.trim_start_matches('-'))?;
            return Some((self.own, suffix));
        }
        let rest = name.strip_prefix("_c_")?;
        let rest = rest.get(ID_BYTES..)?;
        let marker = if rest.starts_with(self.own) { self.own } else { self.other? };
        Some((marker, rest.strip_prefix(marker)?))
    }

    fn parse(self, name: &str) -> Option<Entrant> {
        let (marker, suffix) = self.split(name)?;
        let digits = suffix.strip_prefix('-').unwrap_or(suffix);
        // A negative suffix has its sign within the ten places, or before them.
        let regular = suffix.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let suffix = suffix.parse().ok().filter(|_| regular)?;
        Some(Entrant { name: name.to_owned(), marker, suffix })
    }

    /// The one that a contender waits for who has these before it.
    pub(super) fn waits_for(self, before: &[Entrant]) -> Option<&Entrant> {
        before.iter().rev().find(|entrant| !self.shared || entrant.marker != self.own)
    }

    /// How many of a line hold: the first one, or all of the first who hold together.
    pub(crate) fn holding(self, line: &[Entrant]) -> usize {
        let sharing = line.iter().take_while(|entrant| self.shared && entrant.marker == self.own);
        sharing.count().max(line.len().min(1))
    }

    /// Whether that one holds together with others.
    pub(crate) fn shares(self, name: &str) -> bool {
        self.shared && self.split(name).is_some_and(|(marker, _)| marker == self.own)
    }

    /// The contenders among the children, first in line first.
    ///
    /// Children that do not follow the grammar are passed over, and told of: they must not wedge
    /// the others.
    ///
    /// # Errors
    /// [`Error::SequenceExhausted`] for negative or equal suffixes: the sequence has overflown,
    /// and any rule to break the tie would let two be first.
    pub(crate) fn line_up(self, parent: &Path, names: &[String]) -> Result<Vec<Entrant>, Error> {
        let mut entrants: Vec<Entrant> = Vec::with_capacity(names.len());
        for name in names {
            match self.parse(name) {
                Some(entrant) => entrants.push(entrant),
                None => warn!(%parent, child = name, "passed over a child of another kind"),
            }
        }
        entrants.sort_unstable_by(|a, b| (a.suffix, &a.name).cmp(&(b.suffix, &b.name)));
        let exhausted = |rule| Err(Error::SequenceExhausted { path: parent.clone(), rule });
        if entrants.first().is_some_and(|first| first.suffix < 0) {
            return exhausted("a sequence suffix is not negative");
        }
        if entrants.windows(2).any(|pair| pair[0].suffix == pair[1].suffix) {
            return exhausted("no two sequence suffixes are equal");
        }
        Ok(entrants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static RECIPE: Recipe = Recipe::new("test");
    const LOCK: Marker = Marker::new("-lock-", &RECIPE);
    const READ: Marker = Marker::new("-read-", &RECIPE).beside("-write-").shared();
    const WRITE: Marker = Marker::new("-write-", &RECIPE).beside("-read-");

    fn name(id: u128, suffix: &str) -> String {
        format!("_c_{:08x}-0000-4000-8000-000000000000-lock-{suffix}", id)
    }

    fn line_up(names: &[String]) -> Result<Vec<i64>, Error> {
        let line = LOCK.line_up(&Path::root(), names)?;
        Ok(line.into_iter().map(|entrant| entrant.suffix).collect())
    }

    #[test]
    fn the_lowest_suffix_is_first_whatever_the_id() {
        let names = [name(1, "0000000012"), name(9, "0000000003"), name(5, "2147483646")];
        assert_eq!(line_up(&names).expect("valid"), [3, 12, 2_147_483_646]);
    }

    #[test]
    fn foreign_children_are_passed_over() {
        let foreign = ["", "x", "_c_", "_c_short-lock-0000000001", "lock-0000000001"];
        let mut names: Vec<String> = foreign.map(str::to_owned).into();
        names.push(name(1, "0000000001").replace("-lock-", "-lead-"));
        names.push(name(1, "00000001x1"));
        names.push(name(1, "1"));
        names.push(name(1, ""));
        names.push("_c_ü".repeat(20));
        names.push(name(2, "0000000007"));
        assert_eq!(line_up(&names).expect("valid"), [7]);
    }

    #[test]
    fn a_suffix_is_what_stands_behind_id_and_marker() {
        assert_eq!(LOCK.suffix_of(&name(1, "0000000012")), Some("0000000012"));
        assert_eq!(LOCK.suffix_of("_c_short-lock-0000000012"), None);
    }

    #[test]
    fn a_reader_waits_for_the_last_writer_before_it_and_a_writer_for_whoever_is_before_it() {
        let names = ["-write-", "-write-", "-read-", "-read-", "-write-", "-read-"];
        let names = names
            .iter()
            .zip(0..)
            .map(|(marker, place)| name(place, &format!("{place:010}")).replace("-lock-", marker));
        let names: Vec<_> = names.chain([name(9, "0000000009")]).collect();
        let line = WRITE.line_up(&Path::root(), &names).expect("valid");
        assert_eq!(line, READ.line_up(&Path::root(), &names).expect("valid"), "one line");
        assert_eq!(line.len(), 6, "a lock is another recipe");
        let waits = |place: usize| {
            let marker = if line[place].marker == "-read-" { READ } else { WRITE };
            marker.waits_for(&line[..place]).map(|entrant| entrant.suffix)
        };
        let waits: Vec<_> = (0..6).map(waits).collect();
        assert_eq!(waits, [None, Some(0), Some(1), Some(1), Some(3), Some(4)]);
        assert_eq!(READ.waits_for(&line[2..4]), None, "readers hold together");
    }

    #[test]
    fn in_the_layouts_of_others_the_last_marker_counts_whatever_stands_before() {
        let curator = LOCK.in_layout(Layout::Curator);
        let latch = Marker::new("-latch-", &RECIPE).in_layout(Layout::Curator);
        let kazoo = Marker::new("__lock__", &RECIPE).in_layout(Layout::Kazoo);
        let cases = [
            (curator, name(1, "0000000007"), Some("0000000007")),
            (curator, "lock-0000000007".to_owned(), Some("0000000007")),
            (curator, "_c_lock-9-lock-0000000007".to_owned(), Some("0000000007")),
            (curator, "lock-0000000007-x".to_owned(), None),
            (curator, "_c_1-latch-0000000007".to_owned(), None),
            (latch, "_c_1-latch-0000000007".to_owned(), Some("0000000007")),
            (kazoo, format!("{:032x}__lock__0000000007", 1), Some("0000000007")),
            (kazoo, "__lock__0000000001__lock__0000000007".to_owned(), Some("0000000007")),
            (kazoo, format!("{:032x}__rlock__0000000007", 1), None),
            (kazoo, format!("{:032x}__lock__7", 1), None),
            (kazoo, name(1, "0000000007"), None),
            (LOCK, format!("{:032x}__lock__0000000007", 1), None),
        ];
        for (marker, name, suffix) in cases {
            assert_eq!(marker.suffix_of(&name), suffix, "{name}");
        }
    }

    #[test]
    fn equal_suffixes_are_refused() {
        let error = line_up(&[name(1, "2147483647"), name(2, "2147483647")]);
        let error = error.expect_err("two would be first").to_string();
        assert!(error.contains("exhausted") && error.contains("equal"), "{error}");
    }

    #[test]
    fn negative_suffixes_are_refused() {
        for suffix in ["-2147483648", "-000000001"] {
            let error = line_up(&[name(1, "0000000007"), name(2, suffix)]);
            let error = error.expect_err("the sequence has overflown").to_string();
            assert!(error.contains("exhausted") && error.contains("negative"), "{error}");
        }
    }
}
