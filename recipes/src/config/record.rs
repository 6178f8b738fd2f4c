//! A version as it lies in its znode: one line of JSON about it, then the texts of its layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fault::Fault;
use super::format::Format;
use super::layer::{Layer, Layers, Parsed, Viewpoint};
use super::limits::{LAYERS_MAX, VALUE_BYTES_MAX};

/// Of what is written here. A reader refuses one that it does not know.
const FORMAT: u32 = 1;

/// What was published: a text for each layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    texts: BTreeMap<Layer, (Format, Arc<str>)>,
}

/// Who published a version, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// Random: by it a publisher whose reply was lost knows its own version again.
    pub(crate) id: String,
    pub(crate) author: String,
    pub(crate) reason: String,
    /// The version that this one brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restores: Option<u64>,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    format: u32,
    #[serde(flatten)]
    pub(crate) about: About,
    layers: Vec<Piece>,
    /// The XXH3 hash of what follows, in hexadecimal.
    hash: String,
    /// Where what follows is, if not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunks: Option<ChunkSet>,
}

/// Which layer a piece of what follows is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    layer: String,
    format: Format,
    bytes: usize,
}

/// Where a value lies that is too large for one znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkSet {
    /// The name of the set's znode.
    pub(crate) set: String,
    pub(crate) count: usize,
}

impl Header {
    /// How many bytes follow.
    pub(crate) fn body_bytes(&self) -> usize {
        self.layers.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.bytes))
    }

    /// The layers, in their order.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.layers.iter().filter_map(|piece| Layer::published(&piece.layer)).collect()
    }

    /// The first line of a version, and what follows it here: nothing if it is in chunks.
    pub(crate) fn split(data: &[u8]) -> Result<(Header, &[u8]), Fault> {
        let end = data.iter().position(|byte| *byte == b'\n');
        let line = end.map_or(data, |end| &data[..end]);
        let body = end.map_or(&[][..], |end| &data[end + 1..]);
        let header: Header = serde_json::from_slice(line).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            Fault::whole(format!("the record's first line cannot be read at {place}"))
        })?;
        if header.format != FORMAT {
            let found = header.format;
            return Err(Fault::whole(format!("the record has format {found}, expected {FORMAT}")));
        }
        if header.body_bytes() > VALUE_BYTES_MAX {
            return Err(Fault::whole(format!("the record has more than {VALUE_BYTES_MAX} bytes")));
        }
        Ok((header, body))
    }

    /// The first line as bytes, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        // Texts and numbers alone: nothing that cannot be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl Document {
    /// What was published, from a first line and what follows it.
    pub(crate) fn decode(header: &Header, body: &[u8]) -> Result<Document, Fault> {
        let expected = header.body_bytes();
        if body.len() != expected {
            let found = body.len();
            return Err(Fault::whole(format!("the record has {found} bytes, expected {expected}")));
        }
        if header.hash != hash_of(body) {
            return Err(Fault::whole("the record's hash is not that of its bytes"));
        }
        let (mut texts, mut rest) = (BTreeMap::new(), body);
        for piece in &header.layers {
            let (text, more) = rest.split_at(piece.bytes);
            rest = more;
            let Some(layer) = Layer::published(&piece.layer) else {
                return Err(Fault::whole(format!("the record has a layer {:?}", piece.layer)));
            };
            let Ok(text) = std::str::from_utf8(text) else {
                return Err(Fault::of(&layer, "it is not UTF-8"));
            };
            if texts.insert(layer.clone(), (piece.format, Arc::from(text))).is_some() {
                return Err(Fault::of(&layer, "it is there twice"));
            }
        }
        Ok(Document { texts })
    }

    /// The first line of a version with this document, not in chunks yet, and what follows it.
    pub(crate) fn encode(&self, about: About) -> (Header, Vec<u8>) {
        let (mut layers, mut body) = (Vec::new(), Vec::new());
        for (layer, (format, text)) in &self.texts {
            let (layer, format, bytes) = (layer.to_string(), *format, text.len());
            layers.push(Piece { layer, format, bytes });
            body.extend_from_slice(text.as_bytes());
        }
        (Header { format: FORMAT, about, layers, hash: hash_of(&body), chunks: None }, body)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The rule of a document that is too large, if it is.
    pub(crate) fn too_large(&self) -> Option<String> {
        let bytes: usize = self.texts.values().map(|(_, text)| text.len()).sum();
        if bytes > VALUE_BYTES_MAX {
            return Some(format!("a version has at most {VALUE_BYTES_MAX} bytes"));
        }
        (self.texts.len() > LAYERS_MAX)
            .then(|| format!("a version has at most {LAYERS_MAX} layers"))
    }

    pub(crate) fn put(&mut self, layer: Layer, format: Format, text: Arc<str>) {
        self.texts.insert(layer, (format, text));
    }

    pub(crate) fn remove(&mut self, layer: &Layer) {
        self.texts.remove(layer);
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.texts.keys()
    }

    /// One layer as it is written; `None` if it has none such.
    pub(crate) fn text(&self, layer: &Layer) -> Option<&(Format, Arc<str>)> {
        self.texts.get(layer)
    }

    /// One layer, parsed; `None` if it has none such.
    pub(crate) fn parsed(&self, layer: &Layer) -> Option<Result<Parsed, Fault>> {
        let (format, text) = self.text(layer)?;
        Some(Parsed::new(layer.clone(), *format, Arc::clone(text)))
    }

    /// What concerns a reader, over what it has itself.
    pub(crate) fn seen_from(
        &self,
        viewpoint: &Viewpoint,
        local: &[Parsed],
    ) -> Result<Layers, Fault> {
        let mut layers = local.to_vec();
        for layer in self.layers().filter(|layer| viewpoint.sees(layer)) {
            layers.extend(self.parsed(layer).transpose()?);
        }
        Ok(Layers::new(layers))
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let mut document = Document::default();
        document.put(Layer::Instance("node 7".into()), Format::Toml, "rps = 5\n".into());
        document.put(Layer::Shared, Format::Json, "{\n \"rps\": 1,\n \"ü\": 2\n}".into());
        document.put(Layer::Group("eu".into()), Format::Yaml, "".into());
        document
    }

    fn whole() -> Vec<u8> {
        let about = About { id: "x".into(), restores: Some(3), ..About::default() };
        let (header, body) = document().encode(about);
        [header.line(), body].concat()
    }

    fn decoded(data: &[u8]) -> Result<Document, Fault> {
        let (header, body) = Header::split(data)?;
        Document::decode(&header, body)
    }

    #[test]
    fn what_was_published_is_read_again() {
        let whole = whole();
        assert_eq!(decoded(&whole).expect("good"), document());
        let (header, _) = Header::split(&whole).expect("good");
        assert_eq!((header.about.id.as_str(), header.about.restores), ("x", Some(3)));
        assert_eq!(header.layers().len(), 3);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let whole = whole();
        let start = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        for end in 0..whole.len() {
            assert!(decoded(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in start..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(decoded(&changed).is_err(), "changed at {at}");
        }
        assert!(decoded(&[&whole[..], b"x"].concat()).is_err(), "longer");
    }

    #[test]
    fn a_record_of_another_format_or_of_impossible_size_is_refused() {
        let text = String::from_utf8(whole()).expect("text");
        let (start, end) = (r#"{"format":1"#, "\"bytes\":8}");
        assert!(text.starts_with(start) && text.contains(end), "{text}");
        let newer = text.replacen(start, r#"{"format":2"#, 1);
        assert!(decoded(newer.as_bytes()).expect_err("newer").reason.contains("format 2"));
        let huge = text.replacen(end, "\"bytes\":18446744073709551615}", 1);
        assert!(decoded(huge.as_bytes()).is_err());
    }
}
