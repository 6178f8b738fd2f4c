//! A disk in memory, for simulations: it loses power on demand, and fails on demand.
//!
//! What was not synced survives a power loss in any subset of its 512-byte sectors; what was done
//! to names since the folder was synced has happened or not, each for itself. The seed decides, so
//! a run can be repeated. Delays are tokio's, so they cost nothing where the clock is paused.
//!
//! ```
//! use synod_server::log::sim::SimDisk;
//! use synod_server::log::{Log, LogConfig, Position, Record};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let disk = SimDisk::new(42);
//! let (log, _) = Log::open(disk.clone(), LogConfig::default()).await?;
//! let entry = Record { position: Position { term: 1, index: 1 }, payload: "hello".into() };
//! log.append(vec![entry.clone()], |_| ()).await?;
//! log.flush().await?;
//!
//! disk.power_loss();
//! let (log, recovery) = Log::open(disk.restarted(), LogConfig::default()).await?;
//! println!("{recovery}");
//! assert_eq!(log.read(0..9, usize::MAX).await?, [entry]);
//! # Ok::<(), synod_server::log::LogError>(())
//! # }).unwrap();
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskFile, Job};

/// What survives a power loss whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A generator of random numbers (splitmix64): the same seed, the same numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or(0)
    }

    /// True once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What the disk does to who uses it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How long a write takes at most; each takes a random part of it.
    pub write_delay_max: Duration,
    /// How long an fdatasync takes at most.
    pub sync_delay_max: Duration,
    /// How many more fdatasyncs succeed; the one after them fails, and what it was to sync is
    /// never on disk, though it can be read until the power is lost. Later ones succeed.
    pub syncs_until_failure: Option<u64>,
    /// How many more bytes fit on the disk: writing beyond a file's end takes some.
    pub bytes_free: Option<u64>,
}

/// A disk in memory. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Who uses it: a crash ends that.
    life: u64,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    life: u64,
    faults: Faults,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    /// What is on disk of `names`, and what was done to them since.
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<Naming>,
    /// How many of those that there were are on disk.
    synced_names: usize,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Naming {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Naming::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Naming::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Naming::Remove(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which the two may differ, and a sync would change that.
    dirty: BTreeSet<usize>,
    /// Sectors that are being synced, by which sync: they count as dirty if the power goes.
    syncing: BTreeMap<u64, BTreeSet<usize>>,
}

impl Content {
    fn resize(&mut self, bytes: usize) {
        let (old, new) = (self.live.len(), bytes);
        self.live.resize(bytes, 0);
        self.dirty.extend(sectors(old.min(new), old.max(new)));
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.resize(end);
        }
        self.live[offset..end].copy_from_slice(bytes);
        self.dirty.extend(sectors(offset, end));
    }

    fn make_durable(&mut self, sectors: &BTreeSet<usize>) {
        self.durable.resize(self.live.len(), 0);
        for sector in sectors {
            let start = (sector * SECTOR_BYTES).min(self.live.len());
            let end = (start + SECTOR_BYTES).min(self.live.len());
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        let mut unsure = std::mem::take(&mut self.dirty);
        unsure.extend(std::mem::take(&mut self.syncing).into_values().flatten());
        // Sometimes all or nothing, which random subsets of many would never come to.
        let mood = dice.below(4);
        let kept = unsure.into_iter().filter(|_| match mood {
            0 => false,
            1 => true,
            2 => dice.once_in(2),
            _ => !dice.once_in(8),
        });
        let kept: BTreeSet<usize> = kept.collect();
        let size_is_kept = self.durable.len() == self.live.len() || !dice.once_in(4);
        if size_is_kept {
            self.make_durable(&kept);
        }
        self.live = self.durable.clone();
    }
}

fn sectors(start: usize, end: usize) -> std::ops::Range<usize> {
    start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the simulated machine has stopped")
}

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no file {name}"))
}

impl SimDisk {
    /// An empty disk. The seed decides what survives a power loss, and how long things take.
    pub fn new(seed: u64) -> SimDisk {
        let state = State {
            dice: Dice::new(seed),
            life: 0,
            faults: Faults::default(),
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            synced_names: 0,
            syncs: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)), life: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.life == self.life { Ok(state) } else { Err(dead()) }
    }

    /// Sets what the disk does from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// How many fdatasyncs there were.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Ends the process that uses the disk: this handle, its clones and the files they opened fail
    /// from now on. What was written can still be read, synced or not.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.life += 1;
        // An fdatasync that was under way proves nothing: what it had in hand is dirty again.
        for content in state.files.values_mut() {
            let syncing = std::mem::take(&mut content.syncing);
            content.dirty.extend(syncing.into_values().flatten());
        }
    }

    /// The same, and of what was not synced any part is lost.
    pub fn power_loss(&self) {
        self.crash();
        let state = &mut *self.lock();
        let unsynced = std::mem::take(&mut state.unsynced_names);
        state.synced_names += unsynced.len();
        for naming in unsynced {
            if state.dice.once_in(2) {
                naming.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for content in state.files.values_mut() {
            content.lose_power(&mut state.dice);
        }
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|file, _| named.contains(file));
    }

    /// The disk for the next process.
    pub fn restarted(&self) -> SimDisk {
        SimDisk { state: Arc::clone(&self.state), life: self.lock().life }
    }

    /// The names of the files, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// What can be read from a file, empty if there is none.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let content = state.names.get(name).and_then(|file| state.files.get(file));
        content.map(|content| content.live.clone()).unwrap_or_default()
    }

    /// Changes a file, on disk too, behind the back of who uses it: damage. There is nothing to
    /// change if there is no such file.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.lock();
        let content = state.names.get(name).and_then(|file| state.files.get_mut(file));
        if let Some(content) = content {
            change(&mut content.live);
            content.durable = content.live.clone();
            content.dirty.clear();
        }
    }

    /// Removes a file, on disk too.
    pub fn delete(&self, name: &str) {
        let mut state = self.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    async fn delay(&self, most: impl FnOnce(&Faults) -> Duration) -> io::Result<()> {
        let delay = {
            let state = &mut *self.alive()?;
            let most = most(&state.faults).as_micros() as u64;
            Duration::from_micros(state.dice.below(most + 1))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    fn rename_now(&self, naming: Naming) -> io::Result<()> {
        let state = &mut *self.alive()?;
        if let Naming::Rename(name, _) | Naming::Remove(name) = &naming
            && !state.names.contains_key(name)
        {
            return Err(absent(name));
        }
        naming.apply(&mut state.names);
        state.unsynced_names.push(naming);
        Ok(())
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    async fn open(&self, name: &str) -> io::Result<SimFile> {
        let file = self.alive()?.names.get(name).copied().ok_or_else(|| absent(name))?;
        Ok(SimFile { disk: self.clone(), file })
    }

    async fn create(&self, name: &str) -> io::Result<SimFile> {
        let file = {
            let state = &mut *self.alive()?;
            // As elsewhere, the file that has the name is emptied, and stays the file it is.
            if let Some(file) = state.names.get(name).copied()
                && let Some(content) = state.files.get_mut(&file)
            {
                content.resize(0);
                return Ok(SimFile { disk: self.clone(), file });
            }
            state.next_file += 1;
            state.files.insert(state.next_file, Content::default());
            state.next_file
        };
        self.rename_now(Naming::Create(name.to_owned(), file))?;
        Ok(SimFile { disk: self.clone(), file })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_now(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.rename_now(Naming::Remove(name.to_owned()))
    }

    async fn sync_folder(&self) -> io::Result<()> {
        let upto = {
            let state = self.alive()?;
            state.synced_names + state.unsynced_names.len()
        };
        self.delay(|faults| faults.sync_delay_max).await?;
        let state = &mut *self.alive()?;
        // Another call may have done it meanwhile.
        let left = upto.saturating_sub(state.synced_names);
        for naming in state.unsynced_names.drain(..left) {
            naming.apply(&mut state.durable_names);
        }
        state.synced_names += left;
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("simulated/{name}")
    }

    fn offload<F>(&self, _what: &'static str, work: F) -> io::Result<Job>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Ok(Job::task(tokio::spawn(work)))
    }
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    file: u64,
}

impl SimFile {
    fn with<T>(&self, with: impl FnOnce(&mut State, &mut Content) -> T) -> io::Result<T> {
        let state = &mut *self.disk.alive()?;
        // Out of the map for a moment, so that both can be changed.
        let mut content = state.files.remove(&self.file).ok_or_else(dead)?;
        let result = with(state, &mut content);
        state.files.insert(self.file, content);
        Ok(result)
    }

    /// Takes the space that the file needs to be `bytes` long, or as much as there is.
    fn take_space(state: &mut State, content: &Content, bytes: u64) -> (u64, io::Result<()>) {
        let size = content.live.len() as u64;
        let more = bytes.saturating_sub(size);
        match &mut state.faults.bytes_free {
            Some(free) if *free < more => {
                let fits = size + std::mem::take(free);
                (fits, Err(io::Error::from(io::ErrorKind::StorageFull)))
            }
            Some(free) => {
                *free -= more;
                (bytes, Ok(()))
            }
            None => (bytes, Ok(())),
        }
    }
}

impl DiskFile for SimFile {
    async fn size(&self) -> io::Result<u64> {
        self.with(|_, content| content.live.len() as u64)
    }

    async fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|_, content| {
            let from = content.live.get(offset as usize..).unwrap_or_default();
            let bytes = from.len().min(into.len());
            into[..bytes].copy_from_slice(&from[..bytes]);
            bytes
        })
    }

    async fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Half of the write is done before the delay and half after it, so that a crash finds it
        // torn.
        let half = bytes.len() / 2;
        for (start, part) in [(0, &bytes[..half]), (half, &bytes[half..])] {
            let start = offset + start as u64;
            self.with(|state, content| {
                let end = start + part.len() as u64;
                let (fits, result) = SimFile::take_space(state, content, end);
                let part = &part[..(fits.min(end).saturating_sub(start)) as usize];
                content.write(start as usize, part);
                result
            })??;
            if start == offset {
                self.disk.delay(|faults| faults.write_delay_max).await?;
            }
        }
        Ok(())
    }

    async fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.with(|state, content| {
            let (fits, result) = SimFile::take_space(state, content, bytes);
            content.resize(fits as usize);
            result
        })?
    }

    async fn sync(&self) -> io::Result<()> {
        let this = self.with(|state, content| {
            state.syncs += 1;
            let dirty = std::mem::take(&mut content.dirty);
            content.syncing.insert(state.syncs, dirty);
            state.syncs
        })?;
        self.disk.delay(|faults| faults.sync_delay_max).await?;
        self.with(|state, content| {
            let sectors = content.syncing.remove(&this).unwrap_or_default();
            match &mut state.faults.syncs_until_failure {
                Some(0) => {
                    state.faults.syncs_until_failure = None;
                    // As the operating system has it: the pages count as clean.
                    Err(io::Error::other("injected: fdatasync has failed"))
                }
                left => {
                    if let Some(left) = left {
                        *left -= 1;
                    }
                    content.make_durable(&sectors);
                    Ok(())
                }
            }
        })?
    }
}
