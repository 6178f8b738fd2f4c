//! The bytes of the protocol, written here a second time so that a mistake of the codec shows: how
//! a request is laid out, and what each place of a reply means.

/// Writes the body of a request.
#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn i32(mut self, value: i32) -> Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bool(mut self, value: bool) -> Out {
        self.0.push(u8::from(value));
        self
    }

    pub(crate) fn buffer(self, value: Option<&[u8]>) -> Out {
        let Some(value) = value else { return self.i32(-1) };
        let mut out = self.i32(value.len() as i32);
        out.0.extend(value);
        out
    }

    pub(crate) fn text(self, value: &str) -> Out {
        self.buffer(Some(value.as_bytes()))
    }

    pub(crate) fn list<T>(self, items: &[T], item: impl Fn(Out, &T) -> Out) -> Out {
        items.iter().fold(self.i32(items.len() as i32), item)
    }

    pub(crate) fn append(mut self, bytes: &[u8]) -> Out {
        self.0.extend(bytes);
        self
    }
}

/// A place of a reply, by how it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Equal.
    Same(Vec<u8>),
    /// The zxid of the same change.
    Zxid(i64),
    /// Not compared.
    Time,
    /// The session of the same client.
    Session(i64),
}

/// The places of a reply, each with its name.
pub(crate) type Places = Vec<(String, Value)>;

/// Reads the body of a reply.
struct In<'a> {
    rest: &'a [u8],
    places: Places,
}

/// What a reply's body holds. Whatever does not follow the layout ends up in the last place.
pub(crate) fn places(op: i32, body: &[u8]) -> Places {
    let mut from = In { rest: body, places: Vec::new() };
    let whole = body.is_empty() || from.body(op).is_some();
    let left = if whole { from.rest } else { body };
    if !left.is_empty() {
        from.places.push(("rest".to_owned(), Value::Same(left.to_vec())));
    }
    from.places
}

impl In<'_> {
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken.to_vec())
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn put(&mut self, name: &str, value: Value) -> Option<()> {
        self.places.push((name.to_owned(), value));
        Some(())
    }

    fn same(&mut self, name: &str, count: usize) -> Option<()> {
        let bytes = self.take(count)?;
        self.put(name, Value::Same(bytes))
    }

    /// A buffer with its count, so that null is not empty.
    fn counted(&mut self) -> Option<Vec<u8>> {
        let count = self.i32()?;
        let mut bytes = count.to_be_bytes().to_vec();
        bytes.extend(self.take(usize::try_from(count).unwrap_or(0))?);
        Some(bytes)
    }

    fn buffer(&mut self, name: &str) -> Option<()> {
        let bytes = self.counted()?;
        self.put(name, Value::Same(bytes))
    }

    /// A list in any order.
    fn bag(
        &mut self,
        name: &str,
        mut item: impl FnMut(&mut Self) -> Option<Vec<u8>>,
    ) -> Option<()> {
        let mut items: Vec<Vec<u8>> = Vec::new();
        for _ in 0..self.i32()? {
            items.push(item(self)?);
        }
        items.sort();
        let mut bytes = (items.len() as i32).to_be_bytes().to_vec();
        bytes.extend(items.concat());
        self.put(name, Value::Same(bytes))
    }

    /// What an ACL permits, and apart from that how many lines it takes.
    fn acl(&mut self, mut line: impl FnMut(&mut Self) -> Option<Vec<u8>>) -> Option<()> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let count = self.take(4)?;
        for _ in 0..i32::from_be_bytes(count[..].try_into().ok()?) {
            lines.push(line(self)?);
        }
        lines.sort();
        lines.dedup();
        self.put("acl", Value::Same(lines.concat()))?;
        self.put("acl.lines", Value::Same(count))
    }

    fn stat(&mut self) -> Option<()> {
        for name in ["stat.czxid", "stat.mzxid"] {
            let zxid = self.i64()?;
            self.put(name, Value::Zxid(zxid))?;
        }
        for name in ["stat.ctime", "stat.mtime"] {
            self.take(8)?;
            self.put(name, Value::Time)?;
        }
        for name in ["stat.version", "stat.cversion", "stat.aversion"] {
            self.same(name, 4)?;
        }
        let owner = self.i64()?;
        self.put("stat.ephemeralOwner", Value::Session(owner))?;
        self.same("stat.dataLength", 4)?;
        self.same("stat.numChildren", 4)?;
        let pzxid = self.i64()?;
        self.put("stat.pzxid", Value::Zxid(pzxid))
    }

    /// The results of a transaction or a multi-read.
    fn results(&mut self) -> Option<()> {
        for place in 0.. {
            let before = self.places.len();
            let mut head = self.clone_head()?;
            let (number, done) = (head.i32()?, head.take(1)?[0] != 0);
            self.same("result", 4)?;
            self.same("done", 1)?;
            self.same("error", 4)?;
            if done {
                self.name(before, place);
                break;
            }
            match number {
                1 => self.buffer("path")?,
                15 | 19 | 21 => self.buffer("path").and_then(|()| self.stat())?,
                5 => self.stat()?,
                4 => self.buffer("data").and_then(|()| self.stat())?,
                8 => self.bag("children", In::counted)?,
                -1 => self.same("error again", 4)?,
                _ => {}
            }
            self.name(before, place);
        }
        Some(())
    }

    /// Puts the place of a result in front of the names of what belongs to it.
    fn name(&mut self, from: usize, place: usize) {
        for (name, _) in &mut self.places[from..] {
            *name = format!("{place}.{name}");
        }
    }

    fn clone_head(&self) -> Option<In<'_>> {
        Some(In { rest: self.rest, places: Vec::new() })
    }

    fn body(&mut self, op: i32) -> Option<()> {
        let pair = |from: &mut Self| Some([from.counted()?, from.counted()?].concat());
        match op {
            1 | 9 => self.buffer("path"),
            15 | 19 | 21 => self.buffer("path").and_then(|()| self.stat()),
            3 | 5 | 7 => self.stat(),
            4 => self.buffer("data").and_then(|()| self.stat()),
            6 => {
                self.acl(|from| Some([from.take(4)?, pair(from)?].concat()))?;
                self.stat()
            }
            8 => self.bag("children", In::counted),
            12 => self.bag("children", In::counted).and_then(|()| self.stat()),
            14 | 22 => self.results(),
            103 => self.bag("ephemerals", In::counted),
            104 | 106 => self.same("number", 4),
            107 => self.bag("identities", pair),
            _ => Some(()),
        }
    }
}
