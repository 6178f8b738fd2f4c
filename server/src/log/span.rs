//! Which entries there are, and where: what the records, in their order, come to.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Position;
use super::format::{Kind, checked};
use crate::limits::LOG_RUN_BYTES;

/// Which entries there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    /// The first entry's index, and the index behind the last one's; equal if there is none.
    first: u64,
    next: u64,
    /// Whether the next entry has to be the one at `next`: any may be the first of all.
    anchored: bool,
    purged: Option<Position>,
    /// From which index on entries are of which term.
    terms: VecDeque<(u64, u64)>,
}

impl Span {
    /// No entries, behind one that is not there any more.
    pub(super) fn behind(base: Option<Position>) -> Span {
        match base {
            None => Span::default(),
            Some(base) => {
                let next = base.index + 1;
                Span { first: next, next, anchored: true, ..Span::default() }
            }
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    pub(super) fn purged(&self) -> Option<Position> {
        self.purged
    }

    /// The last entry; the purge point if there is none.
    pub(super) fn last(&self) -> Option<Position> {
        match self.next.checked_sub(1).and_then(|index| self.position(index)) {
            None => self.purged,
            last => last,
        }
    }

    /// The entry at an index, if there is one.
    pub(super) fn position(&self, index: u64) -> Option<Position> {
        if index < self.first || index >= self.next {
            return None;
        }
        let behind = self.terms.partition_point(|(from, _)| *from <= index);
        let (_, term) = self.terms.get(behind.checked_sub(1)?)?;
        Some(Position { term: *term, index })
    }

    /// Whether entries of these indexes can be appended.
    ///
    /// # Errors
    /// The first index that cannot, and the one that was to come.
    pub(super) fn check(&self, indexes: impl Iterator<Item = u64>) -> Result<(), (u64, u64)> {
        let mut next = self.anchored.then_some(self.next);
        for index in indexes {
            match next {
                Some(next) if next != index => return Err((index, next)),
                _ => next = Some(index + 1),
            }
        }
        Ok(())
    }

    /// # Errors
    /// The index that was to come.
    pub(super) fn append(&mut self, entry: Position) -> Result<(), u64> {
        if !self.anchored {
            (self.first, self.next) = (entry.index, entry.index);
            self.anchored = true;
        }
        if entry.index != self.next {
            return Err(self.next);
        }
        if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
            self.terms.push_back((entry.index, entry.term));
        }
        self.next += 1;
        Ok(())
    }

    /// Entries from `from` on are gone, but never the purge point.
    pub(super) fn truncate(&mut self, from: u64) {
        let from = from.max(self.purged.map_or(0, |purged| purged.index + 1));
        if from >= self.next {
            return;
        }
        self.next = from;
        self.first = self.first.min(from);
        while self.terms.back().is_some_and(|(start, _)| *start >= from) {
            self.terms.pop_back();
        }
        self.anchored = self.purged.is_some() || !self.is_empty();
    }

    pub(super) fn purge(&mut self, upto: Position) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        self.anchored = true;
        self.first = self.first.max(upto.index + 1);
        if self.next <= self.first {
            self.next = self.first;
            self.terms.clear();
        }
        while self.terms.get(1).is_some_and(|(start, _)| *start <= self.first) {
            self.terms.pop_front();
        }
        if let Some((start, _)) = self.terms.front_mut() {
            *start = self.first.max(*start);
        }
    }
}

/// What the records say.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) span: Span,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Position>,
}

impl Ledger {
    /// # Errors
    /// The record cannot follow what came before; why, as the end of a sentence.
    pub(super) fn add(&mut self, kind: Kind, at: Position, payload: &[u8]) -> Result<(), String> {
        match kind {
            Kind::Entry => self
                .span
                .append(checked(at)?)
                .map_err(|next| format!("the entry {} stands where {next} should", at.index))?,
            Kind::Vote => self.vote = Some(Bytes::copy_from_slice(payload)),
            Kind::Committed => self.committed = Some(at),
            Kind::Truncation => self.span.truncate(at.index),
            Kind::Purge => self.span.purge(checked(at)?),
            Kind::Seal => {}
        }
        Ok(())
    }
}

/// Consecutive entries that stand close together in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

/// Where the entries stand. An entry is found by going through the records of its run, so that
/// small entries cost next to nothing here.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    /// The next entry begins a run: what stands before it is no longer in the log.
    broken: bool,
}

impl Runs {
    pub(super) fn append(&mut self, index: u64, segment: u64, offset: u64, size: usize) {
        let end = offset as u32 + size as u32;
        match self.runs.back_mut() {
            Some(run)
                if !self.broken && run.segment == segment && end - run.offset <= LOG_RUN_BYTES =>
            {
                run.bytes = end - run.offset;
            }
            _ => {
                let (offset, bytes) = (offset as u32, size as u32);
                self.runs.push_back(Run { first: index, segment, offset, bytes });
                self.broken = false;
            }
        }
    }

    pub(super) fn truncate(&mut self, from: u64) {
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
        self.broken = true;
    }

    /// Forgets what stands before `first`.
    pub(super) fn purge(&mut self, first: u64) {
        while self.runs.get(1).is_some_and(|run| run.first <= first) {
            self.runs.pop_front();
        }
    }

    /// The run that holds `index`, those behind it, and behind which index each ends.
    pub(super) fn from(&self, index: u64) -> impl Iterator<Item = (Run, u64)> {
        let behind = self.runs.partition_point(|run| run.first <= index);
        let runs = self.runs.range(behind.saturating_sub(1)..);
        let ends = self.runs.range(behind..).map(|run| run.first).chain([u64::MAX]);
        runs.copied().zip(ends)
    }
}
