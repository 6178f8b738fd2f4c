//! The seam to the disk: everything that the log and the snapshots keep goes through it, so that
//! they run unchanged on a simulated one.

use std::future::Future;
use std::io;
use std::thread;

use tokio::sync::oneshot;

/// One flat folder of files. A clone is the same folder.
///
/// The methods are async because a simulated disk takes virtual time. A real one blocks inside of
/// them, so they are called from [`offload`](Disk::offload)ed work only.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// The names of all files, in no particular order.
    fn list(&self) -> impl Future<Output = io::Result<Vec<String>>> + Send;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], among others.
    fn open(&self, name: &str) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Makes an empty file, in the place of one that may be there.
    fn create(&self, name: &str) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Gives a file another name, in the place of one that may have it. It survives a power loss
    /// after [`sync_folder`](Disk::sync_folder) only, as do creation and removal.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a file. Who has it open can go on reading it.
    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes what was done to names so far survive a power loss.
    fn sync_folder(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// What to call a file in a message: its path.
    fn describe(&self, name: &str) -> String;

    /// Runs work that calls this disk where its blocking harms nobody: the real disk on a thread
    /// of its own, a simulated one as a task. `what` names it.
    ///
    /// # Errors
    /// There is no thread to be had.
    fn offload<F>(&self, what: &'static str, work: F) -> io::Result<Job>
    where
        F: Future<Output = ()> + Send + 'static;
}

/// An open file. It stays the same file when its name changes.
pub trait DiskFile: Send + Sync + 'static {
    /// Its size, in bytes.
    fn size(&self) -> impl Future<Output = io::Result<u64>> + Send;

    /// Reads from `offset` until `into` is full or the file ends, and returns how many bytes that
    /// were.
    fn read_at(
        &self,
        offset: u64,
        into: &mut [u8],
    ) -> impl Future<Output = io::Result<usize>> + Send;

    /// Writes all of `bytes` at `offset`. What was written may survive a power loss in any subset
    /// of its sectors until [`sync`](DiskFile::sync) has returned.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the file `bytes` long. What is added is zeros, written and not only reserved, so that
    /// writing there later needs no space and no change of the file's extents.
    fn set_size(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the content and the size survive a power loss (fdatasync). After an error nobody
    /// knows what is on disk, and calling again proves nothing.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Work that a disk runs. Dropping it leaves the work running.
pub struct Job(Running);

enum Running {
    Thread { ended: oneshot::Receiver<()>, thread: thread::JoinHandle<()> },
    Task(tokio::task::JoinHandle<()>),
}

impl Job {
    /// Work on a thread; `ended` closes at its very end.
    pub(super) fn thread(ended: oneshot::Receiver<()>, thread: thread::JoinHandle<()>) -> Job {
        Job(Running::Thread { ended, thread })
    }

    /// Work that is a task, as on a simulated disk.
    pub fn task(task: tokio::task::JoinHandle<()>) -> Job {
        Job(Running::Task(task))
    }

    /// Waits for the end. Says whether the work came to its end without a panic.
    pub async fn join(self) -> bool {
        match self.0 {
            Running::Thread { ended, thread } => {
                // Nothing is ever sent: it closes when the work is done, and what is left of the
                // thread then blocks nobody.
                let _ = ended.await;
                thread.join().is_ok()
            }
            Running::Task(task) => task.await.is_ok(),
        }
    }
}

/// Runs `work` on the disk's own ground and returns what it returns. When the caller is cancelled,
/// the work goes on.
///
/// # Errors
/// There is no thread to be had, or the work has panicked.
pub(crate) async fn away<D, F>(disk: &D, what: &'static str, work: F) -> io::Result<F::Output>
where
    D: Disk,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (result, arrived) = oneshot::channel();
    let job = disk.offload(what, async move {
        // Nobody waits any more if the caller was cancelled.
        let _ = result.send(work.await);
    })?;
    let ended = arrived.await;
    let whole = job.join().await;
    ended.map_err(|_| io::Error::other(format!("{what} has ended early (whole: {whole})")))
}
