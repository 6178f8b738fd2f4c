//! Locks as every ZooKeeper client builds them: an ephemeral sequential znode, a list, and a watch
//! on whoever stands in front (the lock recipe of ZooKeeper's documentation). Compared are servers,
//! so that both are asked by the same client.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use synod::CreateMode;
use synod_core::model::{Code, EventKind, Read, Request, Response, Write};

use super::super::Failed;
use super::super::drive::Window;
use super::super::figures::Tally;
use super::super::line::Line;
use super::{create, op_delete};

/// What the name of a contender begins with.
const NAME: &str = "lock-";
/// Nobody holds it.
const FREE: i64 = -1;

/// A lock that several contend for, and who has it.
pub(crate) struct Place {
    pub(crate) path: String,
    /// The number of the holder, or [`FREE`].
    holder: AtomicI64,
    /// The number of the last holder.
    last: AtomicI64,
}

impl Place {
    pub(crate) fn new(path: String) -> Place {
        Place { path, holder: AtomicI64::new(FREE), last: AtomicI64::new(-1) }
    }

    /// A contender holds the lock: nobody else does, and nobody behind it ever did.
    fn enter(&self, number: i64) -> Result<(), Failed> {
        if self.holder.compare_exchange(FREE, number, Relaxed, Relaxed).is_err() {
            return Err(Failed::Wrong(format!("{number} holds the lock, and another one too")));
        }
        let last = self.last.swap(number, Relaxed);
        if last >= number {
            return Err(Failed::Wrong(format!("{number} holds the lock after {last}")));
        }
        Ok(())
    }

    fn leave(&self) {
        self.holder.store(FREE, Relaxed);
    }
}

/// Takes the lock and releases it, again and again. A try takes from its beginning to the lock where
/// nobody else is, and with others from the release before to the lock.
pub(crate) async fn contend(
    mut line: Line,
    place: Arc<Place>,
    window: Window,
    progress: Arc<AtomicU64>,
) -> Result<Tally, Failed> {
    let mut tally = Tally::default();
    while !window.is_over() {
        let begun = Instant::now();
        let stand =
            create(&format!("{}/{NAME}", place.path), None, CreateMode::EphemeralSequential);
        let mine = match line.done(&stand).await? {
            Response::Created { path, .. } => path,
            other => return Err(Failed::Wrong(format!("a contender was answered {other:?}"))),
        };
        let name = mine.rsplit('/').next().unwrap_or_default().to_owned();
        loop {
            match in_front(&mut line, &place.path, &name).await? {
                None => break,
                Some(path) => {
                    let path: Arc<str> = path.into();
                    // Not `exists`, which would leave a watch where nothing comes any more.
                    let get = Read::GetData { path: Arc::clone(&path), watch: true };
                    match line.ask(&Request::Read(get)).await?.result {
                        Ok(_) => {}
                        // It went meanwhile.
                        Err(refusal) if refusal.code == Code::NoNode => continue,
                        other => return Err(Failed::Wrong(format!("{path}: {other:?}"))),
                    }
                    let (event, _) = line.event().await?;
                    if event.path != path || event.kind != EventKind::Deleted {
                        return Err(Failed::Wrong(format!("{event:?}, not the end of {path}")));
                    }
                }
            }
        }
        place.enter(number_of(&name)?)?;
        let took = begun.elapsed();
        place.leave();
        line.done(&Request::Write(Write::Op(op_delete(mine)))).await?;
        tally.count(&window, took);
        progress.fetch_add(1, Relaxed);
    }
    line.close().await?;
    Ok(tally)
}

/// Who stands right in front; `None` if nobody does.
async fn in_front(line: &mut Line, lock: &str, name: &str) -> Result<Option<String>, Failed> {
    let list = Request::Read(Read::Children { path: lock.into(), watch: false });
    let names = match line.done(&list).await? {
        Response::Children { names, .. } => names,
        other => return Err(Failed::Wrong(format!("a list was answered {other:?}"))),
    };
    if !names.iter().any(|other| other == name) {
        return Err(Failed::Wrong(format!("{name} stands in {lock}, and is not in its list")));
    }
    let mine = number_of(name)?;
    let mut front: Option<(i64, &str)> = None;
    for other in &names {
        let number = number_of(other)?;
        if number < mine && front.is_none_or(|(best, _)| number > best) {
            front = Some((number, other));
        }
    }
    Ok(front.map(|(_, other)| format!("{lock}/{other}")))
}

fn number_of(name: &str) -> Result<i64, Failed> {
    let number = name.strip_prefix(NAME).and_then(|number| number.parse().ok());
    number.ok_or_else(|| Failed::Wrong(format!("{name:?} is not the name of a contender")))
}
