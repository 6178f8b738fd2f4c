//! Reads the records of a snapshot out of what has arrived of it so far.

/// Why a record was not read.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It goes on in bytes that are not there yet.
    CutOff,
    /// It breaks a rule. In a box, as it is never there and its place would be carried along with
    /// every number that is read.
    Damaged(Box<Damage>),
}

/// What is wrong with a record.
#[derive(Debug)]
pub(crate) struct Damage {
    /// Which field, and what it holds.
    pub(crate) what: String,
    /// What does not hold.
    pub(crate) rule: &'static str,
}

impl Stop {
    #[cold]
    pub(crate) fn damaged(what: impl Into<String>, rule: &'static str) -> Stop {
        Stop::Damaged(Box::new(Damage { what: what.into(), rule }))
    }
}

/// What is left to be read.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Stop::CutOff)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Stop> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Stop> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Stop::CutOff)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, what: &str, length: usize) -> Result<&'a str, Stop> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Stop::damaged(format!("{what} {bytes:?}"), "a text is UTF-8"))
    }
}
