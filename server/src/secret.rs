//! Files with secrets: whoever made one is told when it is open to all.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Opens a file of `what`.
///
/// # Errors
/// It cannot be opened, or others than its owner and group may read or write it.
pub(crate) fn open(file: &Path, what: &str) -> io::Result<File> {
    let open = File::open(file)?;
    let mode = open.metadata()?.permissions().mode();
    if mode & 0o006 != 0 {
        let mode = mode & 0o777;
        let text = format!("{what} that others may read (mode {mode:03o}): chmod o-rw");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(open)
}
