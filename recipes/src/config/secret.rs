//! Values that are marked as secret.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one key of an object that holds a secret.
pub(crate) const MARK: &str = "$secret";

/// What is shown in a secret's place.
pub(crate) const SHOWN: &str = "[secret]";

/// A secret part of a configuration: a password, a key.
///
/// In a document it is marked: `{"$secret": "hunter2"}`, which is how this type is serialised, and
/// the only form that it is read from. By the mark `diff` and `explain` know what they must not
/// show, whoever asks. `Debug` shows `[secret]`, errors and logs show no values at all. It is not
/// encrypted: who may read the znodes, or the disk copy, can read it.
///
/// ```
/// use synod::config::Secret;
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Database { user: String, password: Secret<String> }
///
/// let text = r#"{"user": "app", "password": {"$secret": "hunter2"}}"#;
/// let database: Database = serde_json::from_str(text)?;
/// assert_eq!(*database.password, "hunter2");
/// assert!(!format!("{database:?}").contains("hunter2"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret<T> {
    // As MARK.
    #[serde(rename = "$secret")]
    value: T,
}

impl<T> Secret<T> {
    /// Marks a value.
    pub fn new(value: T) -> Secret<T> {
        Secret { value }
    }

    /// The value, without its mark.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

/// Whether the value is marked.
pub(crate) fn is_secret(value: &Value) -> bool {
    matches!(value, Value::Object(map) if map.contains_key(MARK))
}

/// The value as text, without its secrets.
pub(crate) fn shown(value: &Value) -> String {
    fn without(value: &Value) -> Value {
        match value {
            _ if is_secret(value) => Value::from(SHOWN),
            Value::Array(items) => items.iter().map(without).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), without(value))).collect()
            }
            _ => value.clone(),
        }
    }
    match is_secret(value) {
        true => SHOWN.to_owned(),
        false => without(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_written_with_its_mark_and_read_only_with_it() {
        let written = serde_json::to_string(&Secret::new(7)).expect("plain");
        assert_eq!(written, format!("{{\"{MARK}\":7}}"));
        assert_eq!(serde_json::from_str::<Secret<u8>>(&written).expect("marked").into_inner(), 7);
        assert!(serde_json::from_str::<Secret<u8>>("7").is_err());
        assert!(serde_json::from_str::<Secret<u8>>(r#"{"$secret": 7, "x": 1}"#).is_err());
    }

    #[test]
    fn what_is_shown_has_no_secret_at_any_depth() {
        let value = json!({"a": [{"$secret": "hunter2"}, 1], "b": {"c": {"$secret": "x", "d": 2}}});
        assert_eq!(shown(&value), r#"{"a":["[secret]",1],"b":{"c":"[secret]"}}"#);
    }
}
