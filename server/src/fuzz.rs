//! What the fuzz targets of this crate do with their input: see `fuzz/README.md`.

pub use crate::log::fuzz::log;
pub use crate::log::snapshots::fuzz::snapshot;
pub use crate::replica::fuzz::message;

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    /// The seed of a target is this one. It is written anew first if `SYNOD_WRITE_SEEDS` is set. A
    /// package of this crate has no corpus.
    pub(crate) fn keep(target: &str, name: &str, seed: &[u8]) {
        let corpus: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus"].iter().collect();
        let file = corpus.join(target).join(name);
        if std::env::var_os("SYNOD_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(corpus.join(target)).expect("a folder");
            std::fs::write(&file, seed).expect("a file");
        }
        if corpus.exists() {
            let found = std::fs::read(file).unwrap_or_default();
            assert!(found == seed, "{target}/{name} is not up to date: write the seeds anew");
        }
    }
}
