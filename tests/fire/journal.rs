//! The journal of a resource that runs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::account::Account;
use super::line::Line;

/// A journal, and the account of what was read of it.
pub struct Journal {
    file: File,
    /// The begin of a line whose end is not there yet.
    rest: Vec<u8>,
    account: Account,
}

impl Journal {
    /// The journal in that file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Journal> {
        Ok(Journal { file: File::open(path)?, rest: Vec::new(), account: Account::default() })
    }

    /// The account of everything that is there by now.
    ///
    /// # Panics
    /// If it cannot be read, or is no journal.
    pub fn account(&mut self) -> &mut Account {
        self.file.read_to_end(&mut self.rest).expect("a journal can be read");
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            let line: Line = line.parse().unwrap_or_else(|error| panic!("{error}"));
            self.account.add(line);
        }
        &mut self.account
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().expect("can be made");
        let mut journal = Journal::open(file.path()).expect("it is there");
        assert_eq!(journal.account().admitted, 0);
        file.write_all(b"1 admitted k exclusive 7 h1.0/1\n2 admitted k exc").expect("written");
        assert_eq!(journal.account().admitted, 1);
        file.write_all(b"lusive 7 h1.0/1\n").expect("written");
        assert_eq!(journal.account().admitted, 2);
    }
}
