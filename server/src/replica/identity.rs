//! Who a member is, as its data folder says: written when the folder is first used, and once more
//! when a member that waits to be taken in learns of its cluster. It keeps a folder from being used
//! by another member, a member from being used by another cluster, and a folder that was emptied
//! from being taken for the one that it was.

use std::io;

use crate::log::{Disk, DiskFile, away};

use super::handshake::ClusterId;
use super::types::FolderId;

const FILE: &str = "identity";
const TEMPORARY: &str = "identity.new";
const HEAD: &str = "synod data folder, format 2";
const HEAD_OF_1: &str = "synod data folder, format 1";

/// What the folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) id: u64,
    /// Unlike every other's.
    pub(super) folder: FolderId,
    /// `None` for one that waits to be taken in.
    pub(super) cluster: Option<ClusterId>,
    /// Whether the cluster is its own to found: it has drawn the cluster's id.
    pub(super) founds: bool,
}

impl Written {
    fn encode(&self) -> String {
        let Written { id, folder, .. } = self;
        let cluster = self.cluster.map_or("none".to_owned(), |cluster| cluster.to_string());
        let founds = if self.founds { "yes" } else { "no" };
        format!("{HEAD}\nmember {id}\nfolder {folder}\ncluster {cluster}\nfounds {founds}\n")
    }

    fn decode(text: &str) -> Option<Written> {
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let id = lines.next()?.strip_prefix("member ")?.parse().ok()?;
        let folder = FolderId(decode_hex(lines.next()?.strip_prefix("folder ")?)?);
        let cluster = match lines.next()?.strip_prefix("cluster ")? {
            "none" => None,
            hex => Some(ClusterId(decode_hex(hex)?)),
        };
        let founds = match lines.next()?.strip_prefix("founds ")? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        lines.next().is_none().then_some(Written { id, folder, cluster, founds })
    }
}

fn decode_hex(hex: &str) -> Option<[u8; 16]> {
    let number = (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok())??;
    Some(number.to_be_bytes())
}

/// What the folder says; `None` if it was never used.
///
/// # Errors
/// What the disk says; that the file is not what this writes.
pub(super) async fn read<D: Disk>(disk: &D) -> io::Result<Option<Written>> {
    let on = disk.clone();
    let reading = async move {
        let file = match on.open(FILE).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // It is never longer.
        let mut bytes = vec![0; 256];
        let length = file.read_at(0, &mut bytes).await?;
        bytes.truncate(length);
        let text = String::from_utf8(bytes).unwrap_or_default();
        Written::decode(&text).map(Some).ok_or_else(|| {
            let rule = if text.starts_with(HEAD_OF_1) {
                "it is of format 1, which no release has written, and this program reads format 2: \
                 found the cluster anew"
            } else {
                "it does not say which member this is"
            };
            let text = format!("{}: {rule}", on.describe(FILE));
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    };
    away(disk, "reading who this member is", reading).await?
}

/// There is a log in the folder, and nothing that says whose.
pub(super) fn missing<D: Disk>(disk: &D) -> io::Error {
    let text = format!(
        "{}: it is not there, and the folder has a log: whose that is cannot be told",
        disk.describe(FILE)
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Writes it down for good.
///
/// # Errors
/// What the disk says.
pub(super) async fn write<D: Disk>(disk: &D, written: Written) -> io::Result<()> {
    let on = disk.clone();
    let writing = async move {
        let file = on.create(TEMPORARY).await?;
        file.write_at(0, written.encode().as_bytes()).await?;
        file.sync().await?;
        on.rename(TEMPORARY, FILE).await?;
        on.sync_folder().await
    };
    away(disk, "writing who this member is", writing).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for (cluster, founds) in [(None, false), (Some(ClusterId([0xAB; 16])), true)] {
            let written = Written { id: 7, folder: FolderId([0x0C; 16]), cluster, founds };
            assert_eq!(Written::decode(&written.encode()), Some(written));
            let text = written.encode();
            for end in 0..text.len() - 1 {
                assert_eq!(Written::decode(&text[..end]), None, "{:?}", &text[..end]);
            }
            assert_eq!(Written::decode(&format!("{text}more\n")), None);
        }
    }
}
