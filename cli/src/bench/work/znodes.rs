//! Many znodes: what a server needs for them in time and memory.

use std::sync::Arc;
use std::time::Instant;

use synod::CreateMode;
use synod_core::model::{OpResult, Read, Request, Response, Write};

use super::super::Failed;
use super::super::line::Line;
use super::points::{FOLDER, Ground};
use super::{op_create, op_delete};

/// Creations in a transaction.
const TOGETHER: u32 = 100;
/// Transactions on the way.
const DEPTH: usize = 16;

/// Creates the ground's znodes.
pub(crate) async fn fill(line: &mut Line, ground: &Ground) -> Result<(), Failed> {
    let mut first = 0;
    let mut expected = std::collections::VecDeque::new();
    while first < ground.nodes || line.outstanding() > 0 {
        while first < ground.nodes && line.outstanding() < DEPTH {
            let last = (first + TOGETHER).min(ground.nodes);
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
