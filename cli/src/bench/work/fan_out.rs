//! One znode, many that watch it: each change is told to all of them. Watches stay, or are used up
//! and left anew.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use synod_core::model::{AddWatchMode, EventKind, Read, Request, Response, WatchRequest};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::super::Failed;
use super::super::drive::Window;
use super::super::figures::Tally;
use super::super::line::Line;

/// Sets of the watched znode on the way.
const DEPTH: usize = 16;

/// Watches that stay: each set is told to all, and they ask nothing. An event counts from the moment
/// of the set.
pub(crate) async fn stream(
    mut lines: Vec<Line>,
    mut setter: Line,
    path: Arc<str>,
    window: Window,
    progress: Arc<AtomicU64>,
) -> Result<Tally, Failed> {
    setter.ensure(&path).await?;
    let mode = AddWatchMode::Persistent;
    let add = Request::Watch(WatchRequest::Add { path: Arc::clone(&path), mode });
    // How many sets there are in all, once that is known.
    let (know, known) = tokio::sync::watch::channel(None);
    let mut tasks = JoinSet::new();
    for line in &mut lines {
        line.done(&add).await?;
    }
    for mut line in lines {
        let (path, mut known) = (Arc::clone(&path), known.clone());
        let progress = Arc::clone(&progress);
        tasks.spawn(async move {
            let (mut arrivals, mut last) = (Vec::new(), None);
            while known.borrow().is_none_or(|count| arrivals.len() < count) {
                let (event, at) = tokio::select! {
                    biased;
                    event = line.event() => event?,
                    // The sender goes when all is over, at the latest.
                    _ = known.changed() => continue,
                };
                let follows = last.is_none_or(|last| event.zxid > last || event.zxid.is_none());
                if event.path != path || event.kind != EventKind::DataChanged || !follows {
                    let text = format!("{event:?} after {last:?} instead of a change of {path}");
                    return Err(Failed::Wrong(text));
                }
                last = Some(event.zxid);
                arrivals.push(at);
                progress.fetch_add(1, Relaxed);
            }
            line.close().await?;
            Ok(arrivals)
        });
    }
    let setting = async {
        let set = super::set(&path, b"changed");
        let (mut sets, mut over) = (Vec::new(), false);
        loop {
            over = over || window.is_over();
            while !over && setter.outstanding() < DEPTH {
                let now = Instant::now();
                sets.push(now);
                setter.put(&set, now)?;
            }
            if setter.outstanding() == 0 {
                break;
            }
            setter.flush().await?;
            if let Err(refusal) = setter.answer().await?.result {
                return Err(Failed::refused(&set, &refusal));
            }
        }
        setter.close().await?;
        Ok(sets)
    };
    let sets = setting.await?;
    let _ = know.send(Some(sets.len()));
    let mut tally = Tally::default();
    while let Some(joined) = tasks.join_next().await {
        let arrivals = joined.map_err(|error| Failed::Wrong(error.to_string()))??;
        for (set, arrival) in sets.iter().zip(arrivals) {
            tally.count_at(&window, arrival, arrival.saturating_duration_since(*set));
        }
    }
    Ok(tally)
}

/// A round: all watch, one sets, all are told. An event counts from the moment of the set.
pub(crate) async fn rounds(
    mut lines: Vec<Line>,
    mut setter: Line,
    path: Arc<str>,
    window: Window,
    progress: Arc<AtomicU64>,
) -> Result<Tally, Failed> {
    setter.ensure(&path).await?;
    let begin = Arc::new(Barrier::new(lines.len() + 1));
    let end = Arc::new(Barrier::new(lines.len() + 1));
    let mut tasks = JoinSet::new();
    // Whether a round is to be run, as the setter has decided before it begins.
    let (go_on, going_on) = tokio::sync::watch::channel(true);
    for mut line in lines.drain(..) {
        let (path, begin, end) = (Arc::clone(&path), Arc::clone(&begin), Arc::clone(&end));
        let (going_on, progress) = (going_on.clone(), Arc::clone(&progress));
        tasks.spawn(async move {
            let mut version = None;
            let mut arrivals = Vec::new();
            loop {
                let get = Read::GetData { path: Arc::clone(&path), watch: true };
                match line.done(&Request::Read(get)).await? {
                    Response::Data { stat, .. }
                        if version.is_none_or(|before| stat.version == before + 1) =>
                    {
                        version = Some(stat.version);
                    }
                    other => {
                        let text = format!("after version {version:?} of {path} came {other:?}");
                        return Err(Failed::Wrong(text));
                    }
                }
                begin.wait().await;
                if !*going_on.borrow() {
                    line.close().await?;
                    return Ok(arrivals);
                }
                let (event, at) = line.event().await?;
                if event.path != path || event.kind != EventKind::DataChanged {
                    return Err(Failed::Wrong(format!("{event:?} instead of a change of {path}")));
                }
                arrivals.push(at);
                progress.fetch_add(1, Relaxed);
                end.wait().await;
            }
        });
    }
    let rounds = async {
        let mut sets = Vec::new();
        loop {
            if window.is_over() {
                let _ = go_on.send(false);
            }
            begin.wait().await;
            if !*go_on.borrow() {
                setter.close().await?;
                return Ok::<_, Failed>(sets);
            }
            sets.push(Instant::now());
            setter.done(&super::set(&path, b"changed")).await?;
            end.wait().await;
        }
    };
    // A watcher that fails would leave the others waiting at the barrier.
    let mut rounds = std::pin::pin!(rounds);
    let mut tally = Tally::default();
    let (mut done, mut sets) = (Vec::new(), None);
    while sets.is_none() || !tasks.is_empty() {
        tokio::select! {
            biased;
            Some(joined) = tasks.join_next() => {
                done.push(joined.map_err(|error| Failed::Wrong(error.to_string()))??);
            }
            ended = &mut rounds, if sets.is_none() => sets = Some(ended?),
        }
    }
    for arrivals in done {
        for (set, arrival) in sets.iter().flatten().zip(arrivals) {
            tally.count_at(&window, arrival, arrival.saturating_duration_since(*set));
        }
    }
    Ok(tally)
}
