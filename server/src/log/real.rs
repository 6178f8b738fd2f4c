//! The disk of the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::oneshot;

use super::disk::{Disk, DiskFile, Job};

/// The file whose lock says that the folder is in use.
const LOCK: &str = "lock";

/// How many zeros are written at a time, in bytes.
const ZEROS: usize = 1 << 20;

/// A folder of the file system, in use by this process alone: a second one is refused until the
/// last clone, and all work that was offloaded on one, is gone.
#[derive(Clone, Debug)]
pub struct RealDisk(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl RealDisk {
    /// Takes a folder into use, and makes it if there is none. Files are readable for their owner
    /// only.
    ///
    /// # Errors
    /// Another process uses it ([`io::ErrorKind::WouldBlock`]), or it cannot be made or written.
    /// The text names the folder.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let path = path.into();
        let named = |doing: &str, error: io::Error| {
            io::Error::new(error.kind(), format!("cannot {doing} {}: {error}", path.display()))
        };
        if !path.is_dir() {
            make_folder(&path).map_err(|error| named("make the folder", error))?;
        }
        let lock = options()
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(|error| named("write to the folder", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(RealDisk(Arc::new(Folder { path, _lock: lock }))),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("the folder {} is in use by another server", path.display()),
            )),
            Err(TryLockError::Error(error)) => Err(named("lock the folder", error)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

#[cfg(unix)]
fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // The folder's own name has to survive a power loss too.
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Disk for RealDisk {
    type File = File;

    async fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0.path)? {
            let entry = entry?;
            // A name of other people's that is no UTF-8 is none of ours.
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    async fn open(&self, name: &str) -> io::Result<File> {
        options().open(self.path(name))
    }

    async fn create(&self, name: &str) -> io::Result<File> {
        options().create(true).truncate(true).open(self.path(name))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    async fn sync_folder(&self) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and names are written through.
        if cfg!(unix) { File::open(&self.0.path)?.sync_all() } else { Ok(()) }
    }

    fn describe(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn offload<F>(&self, what: &'static str, work: F) -> io::Result<Job>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The folder stays locked while work goes on in it.
        let folder = Arc::clone(&self.0);
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(what.to_owned()).spawn(move || {
            let _end = end;
            block_on(work);
            drop(folder);
        })?;
        Ok(Job::thread(ended, thread))
    }
}

impl DiskFile for File {
    async fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    async fn read_at(&self, mut offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match read(self, &mut into[done..], offset) {
                Ok(0) => break,
                Ok(bytes) => {
                    done += bytes;
                    offset += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    async fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all(self, bytes, offset)
    }

    async fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut at = self.metadata()?.len();
        if at > bytes {
            return self.set_len(bytes);
        }
        let zeros = vec![0; ZEROS.min((bytes - at) as usize)];
        while at < bytes {
            let some = zeros.len().min((bytes - at) as usize);
            write_all(self, &zeros[..some], at)?;
            at += some as u64;
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(unix)]
fn read(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    FileExt::read_at(file, into, offset)
}

#[cfg(unix)]
fn write_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(into, offset)
}

#[cfg(windows)]
fn write_all(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.seek_write(bytes, offset)?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which sleeps while the future waits.
fn block_on(work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    while work.as_mut().poll(&mut context).is_pending() {
        // It may return for no reason: then the future is asked once more, and waits on.
        thread::park();
    }
}
