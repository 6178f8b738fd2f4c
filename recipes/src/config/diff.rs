//! What differs between two versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;

use super::layer::Layer;
use super::record::Document;
use super::secret::shown;
use super::store::ConfigStore;
use crate::error::Error;

/// What is shown for a value of a layer that does not fit the type: what is secret in it is not
/// known.
const WITHHELD: &str = "[withheld]";

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In which layer.
    pub layer: Layer,
    /// The key, in the form `db.pool.size`; empty if the layer is a single value. Lists are
    /// compared as a whole.
    pub key: String,
    /// What it was, as JSON, `None` if there was nothing. A secret is shown as `[secret]`, a value
    /// of a layer that does not fit the type as `[withheld]`.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{} {}: {} -> {}", self.layer, self.key, side(&self.before), side(&self.after))
    }
}

/// A layer's leaves: what is compared, and what is shown.
type Leaves = BTreeMap<String, (String, String)>;

impl<T: DeserializeOwned> ConfigStore<T> {
    /// What differs between versions `a` and `b`, by layer and key.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a version that is not in the history; [`Error::BadValue`] for one
    /// that is damaged; [`Error::Client`].
    pub async fn diff(&self, a: u64, b: u64) -> Result<Vec<Difference>, Error> {
        let client = self.inner.client.pin().await?;
        let (a, b) = (self.stored(&client, a).await?, self.stored(&client, b).await?);
        let layers: BTreeSet<&Layer> = a.document.layers().chain(b.document.layers()).collect();
        let mut differences = Vec::new();
        for layer in layers {
            let of = |document: &Document, version| {
                self.leaves(document, layer).map_err(|fault| self.bad(version, a.stat.czxid, fault))
            };
            let (before, after) = (of(&a.document, a.version)?, of(&b.document, b.version)?);
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let (before, after) = (before.get(key), after.get(key));
                if before.map(|(value, _)| value) != after.map(|(value, _)| value) {
                    differences.push(Difference {
                        layer: layer.clone(),
                        key: key.clone(),
                        before: before.map(|(_, shown)| shown.clone()),
                        after: after.map(|(_, shown)| shown.clone()),
                    });
                }
            }
        }
        Ok(differences)
    }

    fn leaves(&self, document: &Document, layer: &Layer) -> Result<Leaves, super::Fault> {
        let mut leaves = Leaves::new();
        let Some(parsed) = document.parsed(layer).transpose()? else { return Ok(leaves) };
        let fits = self.beside(document, layer)?.read::<T>().is_ok();
        parsed.leaves(&mut |key, value| {
            let shown = if fits { shown(value) } else { WITHHELD.to_owned() };
            leaves.insert(key, (value.to_string(), shown));
        });
        Ok(leaves)
    }
}
