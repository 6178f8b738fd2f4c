//! Layers, and what they come to together.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::format::Format;
use super::secret::{SHOWN, is_secret, shown};
use super::typed;

/// Where a part of a configuration comes from. A later one wins over an earlier one, key by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// What the program itself says.
    Defaults,
    /// A file on this machine.
    File,
    /// Published for everybody.
    Shared,
    /// Published for the instances of a group.
    Group(String),
    /// Published for one instance.
    Instance(String),
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Defaults => f.write_str("defaults"),
            Layer::File => f.write_str("file"),
            Layer::Shared => f.write_str("shared"),
            Layer::Group(name) => write!(f, "group {name}"),
            Layer::Instance(name) => write!(f, "instance {name}"),
        }
    }
}

impl Layer {
    /// A layer that can be published, from what it displays as.
    pub(crate) fn published(text: &str) -> Option<Layer> {
        match text.split_once(' ') {
            None if text == "shared" => Some(Layer::Shared),
            Some(("group", name)) => Some(Layer::Group(name.to_owned())),
            Some(("instance", name)) => Some(Layer::Instance(name.to_owned())),
            _ => None,
        }
    }
}

/// Who reads: which layers concern it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Viewpoint {
    pub(crate) group: Option<String>,
    pub(crate) instance: Option<String>,
}

impl Viewpoint {
    pub(crate) fn sees(&self, layer: &Layer) -> bool {
        match layer {
            Layer::Group(name) => self.group.as_ref() == Some(name),
            Layer::Instance(name) => self.instance.as_ref() == Some(name),
            _ => true,
        }
    }
}

/// One layer, parsed.
#[derive(Clone)]
pub(crate) struct Parsed {
    pub(crate) layer: Layer,
    value: Value,
    /// What it was parsed from; defaults have none.
    text: Option<(Format, Arc<str>)>,
}

impl Parsed {
    pub(crate) fn new(layer: Layer, format: Format, text: Arc<str>) -> Result<Parsed, Fault> {
        match format.parse(&text) {
            Ok(value) => Ok(Parsed { layer, value, text: Some((format, text)) }),
            Err((position, reason)) => Err(Fault { position, ..Fault::of(&layer, reason) }),
        }
    }

    pub(crate) fn defaults(value: Value) -> Parsed {
        Parsed { layer: Layer::Defaults, value, text: None }
    }
}

/// The layers that concern a reader, lowest first.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Parsed>);

impl Layers {
    pub(crate) fn new(mut layers: Vec<Parsed>) -> Layers {
        layers.sort_by(|a, b| a.layer.cmp(&b.layer));
        Layers(layers)
    }

    /// The layers as one value.
    fn merged(&self) -> Value {
        let mut merged = Value::Null;
        // An empty text of some formats is null: it says nothing.
        for layer in self.0.iter().filter(|layer| !layer.value.is_null()) {
            overlay(&mut merged, &layer.value);
        }
        merged
    }

    /// Reads them as one value of a type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        typed::read(&self.merged()).map_err(|misfit| self.fault(&misfit.key, misfit.reason))
    }

    /// The fault of a key: it is the layer's that won, or would hold the key if it were there.
    fn fault(&self, key: &[String], reason: String) -> Fault {
        let holding = |depth: usize| {
            let holds = |layer: &&Parsed| find(&layer.value, &key[..depth]).is_some();
            self.0.iter().rev().find(holds).map(|layer| (layer, depth))
        };
        let Some((found, depth)) = (0..=key.len()).rev().find_map(holding) else {
            return Fault { key: key.join("."), ..Fault::whole(reason) };
        };
        let text = found.text.as_ref();
        let position = text.and_then(|(format, text)| format.locate(text, &key[..depth]));
        Fault { key: key.join("."), position, ..Fault::of(&found.layer, reason) }
    }

    /// See [`Versioned::explain`](super::Versioned::explain).
    pub(crate) fn explain(&self, key: &str) -> Option<Explanation> {
        let key = parts_of(key);
        find(&self.merged(), &key)?;
        let held = |layer: &Parsed| match find(&layer.value, &key)? {
            Found::Plain(value) => Some((layer.layer.clone(), shown(value))),
            Found::Secret => Some((layer.layer.clone(), SHOWN.to_owned())),
        };
        let mut found = self.0.iter().rev().filter_map(held);
        let (layer, value) = found.next()?;
        Some(Explanation { layer, value, overridden: found.collect() })
    }
}

/// Which layer a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The layer that won. Of a map, to which several layers may give keys, the highest one.
    pub layer: Layer,
    /// What that layer says, as JSON; secrets are not shown.
    pub value: String,
    /// What it won over, the highest first.
    pub overridden: Vec<(Layer, String)>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.value, self.layer)?;
        self.overridden.iter().try_for_each(|(layer, value)| write!(f, ", over {value} by {layer}"))
    }
}

/// Lays one value over another: maps key by key, everything else as a whole.
pub(crate) fn overlay(below: &mut Value, above: &Value) {
    let whole = is_secret(below) || is_secret(above);
    match (below, above) {
        (Value::Object(below), Value::Object(above)) if !whole => {
            for (key, above) in above {
                overlay(below.entry(key.as_str()).or_insert(Value::Null), above);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// Changes a value by another (RFC 7396): `null` takes a key away.
pub(crate) fn patch(value: &mut Value, by: &Value) {
    let Value::Object(by) = by else {
        *value = by.clone();
        return;
    };
    if !value.is_object() || is_secret(value) || by.contains_key(super::secret::MARK) {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { return };
    for (key, by) in by {
        match by {
            Value::Null => drop(map.remove(key)),
            by => patch(map.entry(key.as_str()).or_insert(Value::Null), by),
        }
    }
}

/// The parts of a key: `db.pool.size`, or a JSON pointer, `/db/pool/size`, for keys with dots.
fn parts_of(key: &str) -> Vec<String> {
    match key.strip_prefix('/') {
        Some(pointer) => {
            pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
        }
        None if key.is_empty() => Vec::new(),
        None => key.split('.').map(str::to_owned).collect(),
    }
}

enum Found<'v> {
    Plain(&'v Value),
    /// The key leads to a secret, or into one.
    Secret,
}

fn find<'v>(value: &'v Value, key: &[String]) -> Option<Found<'v>> {
    if is_secret(value) {
        return Some(Found::Secret);
    }
    match (value, key) {
        (_, []) => Some(Found::Plain(value)),
        (Value::Object(map), [first, rest @ ..]) => find(map.get(first)?, rest),
        (Value::Array(items), [first, rest @ ..]) => {
            find(items.get(first.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}

/// The leaves of a value by their keys; secrets are leaves.
pub(crate) fn leaves<'v>(value: &'v Value, key: String, visit: &mut impl FnMut(String, &'v Value)) {
    match value {
        Value::Object(map) if !map.is_empty() && !is_secret(value) => {
            for (part, value) in map {
                let key = if key.is_empty() { part.clone() } else { format!("{key}.{part}") };
                leaves(value, key, visit);
            }
        }
        _ => visit(key, value),
    }
}

impl Parsed {
    /// The leaves of this layer.
    pub(crate) fn leaves<'v>(&'v self, visit: &mut impl FnMut(String, &'v Value)) {
        leaves(&self.value, String::new(), visit);
    }

    pub(crate) fn into_value(self) -> Value {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(layer: Layer, value: Value) -> Parsed {
        let text = serde_json::to_string_pretty(&value).expect("plain");
        Parsed::new(layer, Format::Json, text.into()).expect("good")
    }

    fn layers() -> Layers {
        let group = json!({"pool": {"size": 9}, "password": {"$secret": "g"}, "a.b": 1});
        Layers::new(vec![
            parsed(Layer::Group("eu".into()), group),
            Parsed::defaults(json!({"pool": {"size": 1, "idle": 2}, "name": "x", "list": [1]})),
            parsed(Layer::Shared, json!({"pool": {"size": "many"}, "list": [5, 6], "name": null})),
        ])
    }

    #[test]
    fn layers_are_merged_by_key_and_the_highest_wins() {
        let merged = json!({
            "pool": {"size": 9, "idle": 2},
            "name": null,
            "list": [5, 6],
            "password": {"$secret": "g"},
            "a.b": 1,
        });
        assert_eq!(layers().merged(), merged);
    }

    #[test]
    fn an_explanation_names_the_winner_and_whom_it_won_over() {
        let layers = layers();
        let told = |key| layers.explain(key).map(|told| told.to_string());
        let size = r#"9 by group eu, over "many" by shared, over 1 by defaults"#;
        assert_eq!(told("pool.size").as_deref(), Some(size));
        assert_eq!(told("/pool/idle").as_deref(), Some("2 by defaults"));
        assert_eq!(told("/a.b").as_deref(), Some("1 by group eu"));
        assert_eq!(told("list.1").as_deref(), Some("6 by shared"));
        for key in ["password", "password.$secret", "password.x"] {
            assert_eq!(told(key).as_deref(), Some("[secret] by group eu"), "{key}");
        }
        for key in ["nothing", "pool.size.more", "list.7", "name.x"] {
            assert_eq!(told(key), None, "{key}");
        }
        assert!(!told("").expect("the whole").contains("\"g\""));
    }

    #[test]
    fn a_secret_is_replaced_whole_by_what_lies_over_it() {
        let mut value = json!({"$secret": "x"});
        overlay(&mut value, &json!({"user": "a"}));
        assert_eq!(value, json!({"user": "a"}));
        overlay(&mut value, &json!({"$secret": "y"}));
        assert_eq!(value, json!({"$secret": "y"}));
    }

    #[test]
    fn a_patch_sets_and_takes_away() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": [1], "p": {"$secret": 1}});
        patch(&mut value, &json!({"a": {"b": null, "e": 3}, "d": null, "p": {"user": "x"}}));
        assert_eq!(value, json!({"a": {"c": 2, "e": 3}, "p": {"user": "x"}}));
        patch(&mut value, &json!({"a": {"$secret": 2}}));
        assert_eq!(value, json!({"a": {"$secret": 2}, "p": {"user": "x"}}));
    }

    #[test]
    fn a_fault_is_the_winning_layers_and_names_its_line() {
        #[derive(Debug, serde::Deserialize)]
        struct Pool {
            #[serde(rename = "pool")]
            _pool: std::collections::BTreeMap<String, bool>,
        }
        let fault = layers().read::<Pool>().expect_err("numbers");
        let text = "layer defaults, key \"pool.idle\": it is an integer, expected a boolean";
        assert_eq!(fault.to_string(), text);
        let only = Layers::new(vec![parsed(Layer::Shared, json!({"pool": {"size": "many"}}))]);
        let fault = only.read::<Pool>().expect_err("a text").to_string();
        assert!(fault.starts_with("layer shared, key \"pool.size\", line 3 column 13:"), "{fault}");
        let fault = Layers::new(vec![parsed(Layer::Shared, json!({}))]).read::<Pool>();
        let fault = fault.expect_err("missing").to_string();
        assert_eq!(fault, "layer shared, key \"pool\", line 1 column 1: it is missing");
    }
}
