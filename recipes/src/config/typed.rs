//! From a merged document to a typed value: errors name the key, and never a value.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::secret::MARK;

/// What does not fit, and at which key.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// From the root down.
    pub(crate) key: Vec<String>,
    pub(crate) reason: String,
    /// Whether the key is known: it is taken from where the error comes up first.
    placed: bool,
}

/// Reads a value of a type.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    let path = RefCell::default();
    T::deserialize(Node { value, path: &path }).map_err(|misfit| {
        let mut misfit = misfit.at(&[]);
        if let Some(depth) = misfit.key.iter().position(|part| part == MARK) {
            // What is within is nobody's business, and its own errors may quote it.
            misfit.key.truncate(depth);
            misfit.reason = "the secret has another form than is expected".to_owned();
        }
        misfit
    })
}

impl Misfit {
    fn new(reason: impl Into<String>) -> Misfit {
        Misfit { key: Vec::new(), reason: reason.into(), placed: false }
    }

    /// It came up below `path`.
    fn at(mut self, path: &[String]) -> Misfit {
        if !self.placed {
            self.key.splice(0..0, path.iter().cloned());
            self.placed = true;
        }
        self
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The kind of a value, without the value.
fn kind(value: Unexpected<'_>) -> &'static str {
    match value {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a text",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        _ => "another kind",
    }
}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(reason: T) -> Misfit {
        Misfit::new(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Misfit {
        Misfit::new(format!("it is {}, expected {expected}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Misfit {
        Misfit::new(format!("it is {} of another value, expected {expected}", kind(found)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Misfit {
        Misfit::new(format!("it is none of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Misfit {
        Misfit { key: vec![field.to_owned()], ..Misfit::new("it is missing") }
    }
}

/// A value, and the keys that lead to it.
#[derive(Clone, Copy)]
struct Node<'de, 'p> {
    value: &'de Value,
    path: &'p RefCell<Vec<String>>,
}

impl<'de, 'p> Node<'de, 'p> {
    /// Reads a part of this value.
    fn part<T>(
        self,
        key: &str,
        value: &'de Value,
        read: impl FnOnce(Node<'de, 'p>) -> Result<T, Misfit>,
    ) -> Result<T, Misfit> {
        self.path.borrow_mut().push(key.to_owned());
        let read = read(Node { value, ..self }).map_err(|misfit| misfit.at(&self.path.borrow()));
        self.path.borrow_mut().pop();
        read
    }
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Misfit::new("the number is out of range")),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => {
                let mut list = Items { node: self, items: items.iter().enumerate() };
                let value = visitor.visit_seq(&mut list)?;
                match list.items.len() {
                    0 => Ok(value),
                    more => Err(Misfit::new(format!("the list is {more} too long"))),
                }
            }
            Value::Object(map) => {
                visitor.visit_map(Entries { node: self, entries: map.iter(), value: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(Variant { node: self, variant, of: None }),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((variant, of)) => {
                    visitor.visit_enum(Variant { node: self, variant, of: Some(of) })
                }
                None => Err(Misfit::new("it has no variant")),
            },
            _ => Err(Misfit::new("expected a variant: a text, or a map of one key")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de, 'p> {
    node: Node<'de, 'p>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        self.node.part(&index.to_string(), value, |node| seed.deserialize(node)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de, 'p> {
    node: Node<'de, 'p>,
    entries: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        match self.value.take() {
            Some((key, value)) => self.node.part(key, value, |node| seed.deserialize(node)),
            None => Err(Misfit::new("a value comes after its key")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A key is text; a map may have keys that are written as text.
struct Key<'de>(&'de str);

macro_rules! written_as_text {
    ($($method:ident $visit:ident $kind:literal;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                match self.0.parse() {
                    Ok(key) => visitor.$visit(key),
                    Err(_) => Err(Misfit::new(concat!("its keys are ", $kind))),
                }
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let text: StrDeserializer<'_, Misfit> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    written_as_text! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i8 "integers";
        deserialize_i16 visit_i16 "integers";
        deserialize_i32 visit_i32 "integers";
        deserialize_i64 visit_i64 "integers";
        deserialize_i128 visit_i128 "integers";
        deserialize_u8 visit_u8 "integers from 0";
        deserialize_u16 visit_u16 "integers from 0";
        deserialize_u32 visit_u32 "integers from 0";
        deserialize_u64 visit_u64 "integers from 0";
        deserialize_u128 visit_u128 "integers from 0";
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

struct Variant<'de, 'p> {
    node: Node<'de, 'p>,
    variant: &'de str,
    /// What it holds.
    of: Option<&'de Value>,
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Misfit> {
        let name: StringDeserializer<Misfit> = self.variant.to_owned().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de, 'p> Variant<'de, 'p> {
    fn held<T>(self, read: impl FnOnce(Node<'de, 'p>) -> Result<T, Misfit>) -> Result<T, Misfit> {
        match self.of {
            Some(of) => self.node.part(self.variant, of, read),
            None => Err(Misfit::new("the variant holds a value, which is missing")),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.of {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(Misfit::new("the variant holds no value")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        self.held(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.held(|node| node.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.held(|node| node.deserialize_any(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::super::secret::Secret;
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Pair(u8, u8),
        One(f64),
        Named { of: Option<String> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        number: u32,
        signed: i64,
        real: f64,
        text: String,
        maybe: Option<u8>,
        kinds: Vec<Kind>,
        by_number: BTreeMap<u16, bool>,
        tuple: (u8, char),
        unit: (),
        password: Secret<String>,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    fn all() -> All {
        All {
            number: 1,
            signed: -2,
            real: 3.0,
            text: "four".into(),
            maybe: None,
            kinds: vec![
                Kind::Plain,
                Kind::Pair(1, 2),
                Kind::One(1.5),
                Kind::Named { of: Some("x".into()) },
            ],
            by_number: BTreeMap::from([(7, true)]),
            tuple: (1, 'c'),
            unit: (),
            password: Secret::new("hunter2".into()),
            rest: BTreeMap::from([("more".into(), json!([1, {"deep": null}]))]),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let written = serde_json::to_value(all()).expect("plain");
        assert_eq!(read::<All>(&written).expect("fits"), all());
    }

    #[test]
    fn what_does_not_fit_is_told_of_by_its_key_and_without_its_value() {
        for (pointer, value, key, reason) in [
            ("/number", json!("hunter2"), "number", "it is a text, expected u32"),
            ("/number", json!(-1), "number", "it is an integer of another value, expected u32"),
            ("/kinds/1/Pair/0", json!("hunter2"), "kinds.1.Pair.0", "it is a text, expected u8"),
            ("/kinds/0", json!("hunter2"), "kinds.0", "it is none of Plain, Pair, One, Named"),
            ("/kinds/3/Named/of", json!(1), "kinds.3.Named.of", "expected a string"),
            ("/by_number", json!({"x": true}), "by_number", "its keys are integers from 0"),
            ("/tuple", json!([1]), "tuple", "invalid length 1"),
            ("/tuple", json!([1, "c", 2]), "tuple", "the list is 1 too long"),
            ("/password", json!("hunter2"), "password", "it is a text, expected struct Secret"),
            ("/password/$secret", json!(4711), "password", "the secret has another form"),
        ] {
            let mut written = serde_json::to_value(all()).expect("plain");
            *written.pointer_mut(pointer).expect("it is there") = value;
            let misfit = read::<All>(&written).expect_err("it does not fit");
            assert_eq!(misfit.key.join("."), key, "{pointer}: {misfit}");
            assert!(misfit.reason.contains(reason), "{pointer}: {misfit}");
            assert!(!misfit.reason.contains("hunter2") && !misfit.reason.contains("4711"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let misfit = read::<BTreeMap<String, (Kind, Kind)>>(&json!({"a": [{"Named": {}}]}));
        assert_eq!(misfit.expect_err("too short").key, ["a"]);
        let mut written = serde_json::to_value(all()).expect("plain");
        written.as_object_mut().expect("a map").remove("text");
        let misfit = read::<All>(&written).expect_err("it is missing");
        assert_eq!((misfit.key.join("."), &*misfit.reason), ("text".into(), "it is missing"));
    }
}
