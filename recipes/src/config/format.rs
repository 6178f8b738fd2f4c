//! The languages of documents.

use std::fmt;
use std::path::Path as FilePath;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::Position;

/// The language that a document is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// TOML 1.1; read with the feature `toml`.
    Toml,
    /// YAML 1.2; read with the feature `yaml`.
    Yaml,
}

impl Format {
    /// By a file's extension: `json`, `toml`, `yaml` or `yml`.
    pub fn of_file(file: &FilePath) -> Option<Format> {
        match file.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }

    /// Reads a text. What is wrong is told without any of its values.
    pub(crate) fn parse(self, text: &str) -> Result<Value, (Option<Position>, String)> {
        match self {
            Format::Json => serde_json::from_str(text).map_err(|error| json_fault(text, &error)),
            Format::Toml => parse_toml(text),
            Format::Yaml => parse_yaml(text),
        }
    }

    /// Where in a text the value of a key begins, if it is there. The parser itself knows where it
    /// stands: it is told to fail at the key.
    pub(crate) fn locate(self, text: &str, key: &[String]) -> Option<Position> {
        if key.is_empty() {
            return Some(Position { line: 1, column: 1 });
        }
        match self {
            Format::Json => {
                let mut json = serde_json::Deserializer::from_str(text);
                let error = Seek(key).deserialize(&mut json).err()?;
                json_fault(text, &error).0
            }
            Format::Toml => locate_toml(text, key),
            Format::Yaml => locate_yaml(text, key),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Json => "json",
            Format::Toml => "toml",
            Format::Yaml => "yaml",
        })
    }
}

fn json_fault(text: &str, error: &serde_json::Error) -> (Option<Position>, String) {
    let told = error.to_string();
    let reason = told.rsplit_once(" at line ").map_or(&*told, |(reason, _)| reason).to_owned();
    if error.line() == 0 {
        return (None, reason);
    }
    // Columns are counted in bytes there.
    let line = text.split('\n').nth(error.line() - 1).unwrap_or_default();
    let read = line.get(..error.column()).unwrap_or(line);
    let mut column = read.chars().count().max(1);
    if error.is_data() {
        // It is noticed before the value is read, behind the colon or the comma.
        let blanks = line[read.len()..].chars().take_while(|c| c.is_whitespace());
        column = read.chars().count() + blanks.count() + 1;
    }
    (Some(Position { line: error.line(), column }), reason)
}

#[cfg(feature = "toml")]
fn parse_toml(text: &str) -> Result<Value, (Option<Position>, String)> {
    /// How the parser hands on dates and times, for which others have no type.
    const DATE: &str = "$__toml_private_datetime";

    fn dates_as_text(value: &mut Value) {
        match value {
            Value::Object(map) => match map.get_mut(DATE) {
                Some(date) => *value = date.take(),
                None => map.values_mut().for_each(dates_as_text),
            },
            Value::Array(items) => items.iter_mut().for_each(dates_as_text),
            _ => {}
        }
    }
    let parsed = toml::from_str::<Value>(text);
    let mut value = parsed.map_err(|error| (toml_place(text, &error), error.message().into()))?;
    dates_as_text(&mut value);
    Ok(value)
}

#[cfg(feature = "toml")]
fn toml_place(text: &str, error: &toml::de::Error) -> Option<Position> {
    let before = text.get(..error.span()?.start)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some(Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 })
}

#[cfg(feature = "toml")]
fn locate_toml(text: &str, key: &[String]) -> Option<Position> {
    let toml = toml::Deserializer::parse(text).ok()?;
    toml_place(text, &Seek(key).deserialize(toml).err()?)
}

#[cfg(not(feature = "toml"))]
fn parse_toml(_: &str) -> Result<Value, (Option<Position>, String)> {
    Err((None, "it is written in TOML: build synod with the feature toml".to_owned()))
}

#[cfg(not(feature = "toml"))]
fn locate_toml(_: &str, _: &[String]) -> Option<Position> {
    None
}

#[cfg(feature = "yaml")]
fn yaml_place(error: &serde_saphyr::Error) -> Option<Position> {
    let place = error.location()?;
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Some(Position { line: number(place.line()), column: number(place.column()) })
}

#[cfg(feature = "yaml")]
fn parse_yaml(text: &str) -> Result<Value, (Option<Position>, String)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = yaml_place(&error);
        // The bare error: the other one quotes the text around the place.
        let told = error.without_snippet().to_string();
        let reason = told.rsplit_once(" at line ").map_or(&*told, |(reason, _)| reason).to_owned();
        (place, reason)
    })
}

#[cfg(feature = "yaml")]
fn locate_yaml(text: &str, key: &[String]) -> Option<Position> {
    let sought = serde_saphyr::with_deserializer_from_str(text, |yaml| Seek(key).deserialize(yaml));
    yaml_place(&sought.err()?)
}

#[cfg(not(feature = "yaml"))]
fn parse_yaml(_: &str) -> Result<Value, (Option<Position>, String)> {
    Err((None, "it is written in YAML: build synod with the feature yaml".to_owned()))
}

#[cfg(not(feature = "yaml"))]
fn locate_yaml(_: &str, _: &[String]) -> Option<Position> {
    None
}

/// Reads up to a key, and fails there.
struct Seek<'k>(&'k [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<(), D::Error> {
        match self.0 {
            [] => Err(D::Error::custom("here")),
            _ => document.deserialize_any(self),
        }
    }
}

impl<'de> serde::de::Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key == self.0[0] {
                true => map.next_value_seed(Seek(&self.0[1..]))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let sought: Option<usize> = self.0[0].parse().ok();
        for index in 0.. {
            let there = match sought == Some(index) {
                true => list.next_element_seed(Seek(&self.0[1..]))?.is_some(),
                false => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !there {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(format: Format, text: &str, key: &str) -> Option<(usize, usize)> {
        let key: Vec<String> = key.split('.').map(str::to_owned).collect();
        format.locate(text, &key).map(|Position { line, column }| (line, column))
    }

    #[test]
    fn a_key_of_json_is_found_where_its_value_begins() {
        let text = "{\n  \"ü\": {\n    \"b\": \"many\",\n    \"c\": [1, 2,\n 3]\n  }\n}";
        for (key, at) in [("ü", (2, 8)), ("ü.b", (3, 10)), ("ü.c.0", (4, 11)), ("ü.c.1", (4, 14))]
        {
            assert_eq!(place(Format::Json, text, key), Some(at), "{key}");
        }
        assert_eq!(place(Format::Json, text, "ü.x"), None);
    }

    #[test]
    fn bad_json_is_told_of_without_its_values() {
        for (text, line) in [("", 1), ("{", 1), ("{\n  \"rps\": hunter2}", 2), ("[1, 2,", 1)] {
            let (place, reason) = Format::Json.parse(text).expect_err("bad");
            assert_eq!(place.expect("it is known where").line, line, "{text}");
            assert!(!reason.contains("hunter2") && !reason.contains("line"), "{reason}");
        }
    }

    #[cfg(feature = "toml")]
    #[test]
    fn toml_is_read_and_its_keys_are_found() {
        let text = "x = 1\n[a]\nb = \"many\"\nd = 1979-05-27\n";
        let value = Format::Toml.parse(text).expect("good");
        assert_eq!(value.to_string(), r#"{"a":{"b":"many","d":"1979-05-27"},"x":1}"#);
        assert_eq!(place(Format::Toml, text, "a.b"), Some((3, 5)));
        let (place, reason) = Format::Toml.parse("x = 1\ny = hunter2").expect_err("bad");
        assert_eq!(place, Some(Position { line: 2, column: 5 }));
        assert!(!reason.contains("hunter2"), "{reason}");
    }

    #[cfg(feature = "yaml")]
    #[test]
    fn yaml_is_read_and_its_keys_are_found() {
        let text = "x: 1\na:\n  b: many\n  c:\n  - 1\n  - 2\n";
        let value = Format::Yaml.parse(text).expect("good");
        assert_eq!(value.to_string(), r#"{"a":{"b":"many","c":[1,2]},"x":1}"#);
        assert_eq!(place(Format::Yaml, text, "a.b"), Some((3, 6)));
        assert_eq!(place(Format::Yaml, text, "a.c.1"), Some((6, 5)));
        let (place, reason) = Format::Yaml.parse("x: 1\ny: [hunter2").expect_err("bad");
        assert_eq!(place.expect("it is known where").line, 2);
        assert!(!reason.contains("hunter2"), "{reason}");
    }
}
