//! A copy of the last good version on disk, to start from while the coordinator is away.
//!
//! ```text
//! synod-config 1 5f0c…        what this is, its format, and the XXH3 hash of all that follows
//! {"path":"/config/limits","version":7,"zxid":4294967298}
//! {"format":1,…}              the version, as in its znode, never in chunks
//! {"rps": 200, "burst": 400}
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path as FilePath, PathBuf};

use serde::{Deserialize, Serialize};
use synod_core::model::{Path, Zxid};

use super::limits::VALUE_BYTES_MAX;
use super::record::{About, Document, Header, hash_of};

const MAGIC: &str = "synod-config 1 ";

/// Longest file that is read, in bytes: a value, and lines about it.
const FILE_BYTES_MAX: u64 = 2 * VALUE_BYTES_MAX as u64;

/// The second line.
#[derive(Serialize, Deserialize)]
struct Origin {
    path: String,
    version: u64,
    zxid: i64,
}

/// A version as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) version: u64,
    pub(crate) zxid: Zxid,
    pub(crate) document: Document,
}

impl Copy {
    /// Writes it in one step: whoever reads sees the old one or this one. Only its owner may read
    /// it. The folder has to be there.
    pub(crate) fn write(&self, path: &Path, file: &FilePath) -> std::io::Result<()> {
        let (version, zxid) = (self.version, self.zxid.as_i64());
        let origin = serde_json::to_vec(&Origin { path: path.to_string(), version, zxid })?;
        let (header, body) = self.document.encode(About::default());
        let rest = [&origin[..], b"\n", &header.line(), &body].concat();
        let first = format!("{MAGIC}{}\n", hash_of(&rest));

        let temporary = temporary(file);
        // One that a crash has left behind.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        // New: nobody else's file, and no link, is written to.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&temporary)?;
        out.write_all(first.as_bytes())?;
        out.write_all(&rest)?;
        out.sync_all()?;
        std::fs::rename(&temporary, file)?;
        // The name is durable with its folder.
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            #[cfg(unix)]
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Reads it, if it is whole and of that path.
    pub(crate) fn read(path: &Path, file: &FilePath) -> Result<Copy, String> {
        let mut data = Vec::new();
        let opened = File::open(file).map(|file| file.take(FILE_BYTES_MAX));
        opened
            .and_then(|mut file| file.read_to_end(&mut data))
            .map_err(|error| error.to_string())?;
        let line = |data: &[u8]| data.iter().position(|byte| *byte == b'\n');
        let not = "it is not a copy of a configuration";
        let end = line(&data).ok_or(not)?;
        let hash = std::str::from_utf8(&data[..end]).ok().and_then(|it| it.strip_prefix(MAGIC));
        let (hash, rest) = (hash.ok_or(not)?, &data[end + 1..]);
        if hash != hash_of(rest) {
            return Err("its hash is not that of its bytes".to_owned());
        }
        let end = line(rest).ok_or(not)?;
        let origin: Origin = serde_json::from_slice(&rest[..end]).map_err(|_| not)?;
        if origin.path != **path {
            return Err(format!("it is the copy of {}", origin.path));
        }
        let document = Header::split(&rest[end + 1..])
            .and_then(|(header, body)| Document::decode(&header, body))
            .map_err(|fault| fault.to_string())?;
        Ok(Copy { version: origin.version, zxid: Zxid::from_i64(origin.zxid), document })
    }
}

fn temporary(file: &FilePath) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::layer::Layer;
    use super::*;

    fn copy() -> Copy {
        let mut document = Document::default();
        document.put(Layer::Shared, Format::Json, "{\"rps\": 1}".into());
        Copy { version: 7, zxid: Zxid::new(1, 2), document }
    }

    fn path() -> Path {
        Path::new("/config/limits").expect("valid")
    }

    #[test]
    fn a_copy_is_read_as_written_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("limits");
        std::fs::write(temporary(&file), "left by a crash").expect("written");
        for version in 7..=9 {
            let copy = Copy { version, ..copy() };
            copy.write(&path(), &file).expect("written");
            assert_eq!(Copy::read(&path(), &file).expect("whole"), copy);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_copy_that_is_cut_changed_or_another_ones_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("limits");
        assert!(Copy::read(&path(), &file).is_err(), "it is missing");
        copy().write(&path(), &file).expect("written");
        let other = Path::new("/config/other").expect("valid");
        let error = Copy::read(&other, &file).expect_err("another one's");
        assert!(error.contains("/config/limits"), "{error}");
        let whole = std::fs::read(&file).expect("it is there");
        for end in 0..whole.len() {
            std::fs::write(&file, &whole[..end]).expect("written");
            assert!(Copy::read(&path(), &file).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&file, &changed).expect("written");
            assert!(Copy::read(&path(), &file).is_err(), "changed at {at}");
        }
    }
}
