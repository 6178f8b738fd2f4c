//! What is wrong with a document, and where.

use std::fmt;

use super::layer::Layer;

/// A place in a text; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Why a document cannot be taken, and where in it. It never holds a value of the document: that
/// might be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The layer; `None` if it is the record as a whole.
    pub layer: Option<Layer>,
    /// The key, in the form `db.pool.size`; empty if it is the layer as a whole.
    pub key: String,
    /// Where in the layer's text. Of a value that does not fit, where it begins.
    pub position: Option<Position>,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    /// A fault of the record as a whole.
    pub(crate) fn whole(reason: impl Into<String>) -> Fault {
        Fault { layer: None, key: String::new(), position: None, reason: reason.into() }
    }

    /// A fault of a layer.
    pub(crate) fn of(layer: &Layer, reason: impl Into<String>) -> Fault {
        Fault { layer: Some(layer.clone()), ..Fault::whole(reason) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = &self.layer {
            write!(f, "layer {layer}")?;
            if !self.key.is_empty() {
                write!(f, ", key {:?}", self.key)?;
            }
            if let Some(Position { line, column }) = self.position {
                write!(f, ", line {line} column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}
