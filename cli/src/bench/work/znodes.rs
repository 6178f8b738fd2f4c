//! Many znodes: what a server needs for them in time and memory.

use std::sync::Arc;
use std::time::Instant;

use synod::CreateMode;
use synod_core::model::{Code, OpResult, Read, Request, Response, Write};

use super::super::Failed;
use super::super::line::Line;
use super::points::{FOLDER, Ground};
use super::{op_create, op_delete};

/// Creations in a transaction.
const TOGETHER: u32 = 100;
/// Bytes of their values, which servers take up to a mebibyte. One may go beyond it.
const TOGETHER_BYTES_SOFT: usize = 256 << 10;
/// Transactions on the way.
const DEPTH: usize = 16;

/// Creates the ground's znodes.
pub(crate) async fn fill(line: &mut Line, ground: &Ground) -> Result<(), Failed> {
    let fit = (TOGETHER_BYTES_SOFT / ground.value_bytes).max(1) as u32;
    let mut first = 0;
    let mut expected = std::collections::VecDeque::new();
    while first < ground.nodes || line.outstanding() > 0 {
        while first < ground.nodes && line.outstanding() < DEPTH {
            // Folders begin with a transaction.
            let rest = FOLDER - first % FOLDER;
            let last = first + TOGETHER.min(fit).min(rest).min(ground.nodes - first);
            let mut ops = Vec::with_capacity(TOGETHER as usize + 1);
            if first.is_multiple_of(FOLDER) {
                let folder = format!("{}/{}", ground.top, first / FOLDER);
                ops.push(op_create(&folder, None, CreateMode::Persistent));
            }
            for node in first..last {
                let value = Some(ground.value(node, 0));
                ops.push(op_create(&ground.path(node), value, CreateMode::Persistent));
            }
            expected.push_back((ops.len(), ground.path(last - 1)));
            line.put(&Request::Write(Write::Multi(ops)), Instant::now())?;
            first = last;
        }
        line.flush().await?;
        let answer = line.answer().await?;
        let (count, path) = expected.pop_front().unwrap_or_default();
        match answer.result {
            Ok(Response::Multi(results))
                if results.len() == count
                    && matches!(results.last(), Some(OpResult::Created { path: last, .. })
                        if **last == *path) => {}
            other => {
                return Err(Failed::Wrong(format!("{count} creations up to {path}: {other:?}")));
            }
        }
    }
    Ok(())
}

/// Deletes znodes, which stand in an order in which children come first.
pub(crate) async fn remove(
    line: &mut Line,
    paths: impl Iterator<Item = String>,
) -> Result<(), Failed> {
    let mut paths = paths.peekable();
    while paths.peek().is_some() || line.outstanding() > 0 {
        while paths.peek().is_some() && line.outstanding() < DEPTH {
            let some = paths.by_ref().take(TOGETHER as usize);
            let ops = some.map(|path| op_delete(path.into())).collect();
            line.put(&Request::Write(Write::Multi(ops)), Instant::now())?;
        }
        line.flush().await?;
        if let Err(refusal) = line.answer().await?.result {
            return Err(Failed::Wrong(format!("what was created is not there: {refusal:?}")));
        }
    }
    Ok(())
}

/// Deletes a znode and all below it, whatever there is: a run that was given up does not know. What it
/// had asked may still be done meanwhile, so this goes on until nothing is left.
pub(crate) async fn sweep(line: &mut Line, top: &Arc<str>) -> Result<(), Failed> {
    while !sweep_once(line, top).await? {}
    Ok(())
}

/// Whether all went.
async fn sweep_once(line: &mut Line, top: &Arc<str>) -> Result<bool, Failed> {
    let (mut unseen, mut seen) = (vec![Arc::clone(top)], Vec::new());
    while let Some(path) = unseen.pop() {
        let list = Read::Children { path: Arc::clone(&path), watch: false };
        let answer = line.ask(&Request::Read(list)).await?;
        // What is not there any more has no children either.
        if let Ok(Response::Children { names, .. }) = answer.result {
            unseen.extend(names.iter().map(|name| Arc::from(format!("{path}/{name}"))));
        }
        seen.push(path);
    }
    // Children come first.
    let mut seen = seen.into_iter().rev().peekable();
    let mut all = true;
    while seen.peek().is_some() || line.outstanding() > 0 {
        while line.outstanding() < DEPTH
            && let Some(path) = seen.next()
        {
            line.put(&Request::Write(Write::Op(op_delete(path))), Instant::now())?;
        }
        line.flush().await?;
        match line.answer().await?.result.map_err(|refusal| refusal.code) {
            Ok(_) | Err(Code::NoNode) => {}
            Err(Code::NotEmpty) => all = false,
            Err(code) => {
                return Err(Failed::Wrong(format!("what was made cannot be deleted: {code:?}")));
            }
        }
    }
    Ok(all)
}

/// Counts what is there, folder by folder: a server may refuse to count more. It must have all.
pub(crate) async fn count(line: &mut Line, ground: &Ground) -> Result<(), Failed> {
    for first in (0..ground.nodes).step_by(FOLDER as usize) {
        let path: Arc<str> = format!("{}/{}", ground.top, first / FOLDER).into();
        let there = FOLDER.min(ground.nodes - first);
        let request = Request::Read(Read::DescendantCount { path: Arc::clone(&path) });
        match line.done(&request).await? {
            Response::DescendantCount(count) if count == there => {}
            other => {
                return Err(Failed::Wrong(format!(
                    "{there} znodes were created below {path}, and the count is {other:?}"
                )));
            }
        }
    }
    Ok(())
}
