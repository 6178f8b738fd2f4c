//! Entries that were proposed and whose fate is not known.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use futures::stream::{BoxStream, FuturesOrdered, StreamExt};
use openraft::impls::ProgressResponder;

use super::Lost;
use crate::limits::{COURIER_BATCHES_ENOUGH, COURIER_BATCHES_MAX};
use crate::log::Disk;
use crate::replica::RaftOf;
use crate::replica::types::{Command, CommittedLeaderId};

/// Batches of entries that were proposed and whose fate is not known.
#[derive(Default)]
pub(super) struct Proposed {
    batches: VecDeque<BoxStream<'static, Result<(), Lost>>>,
}

impl Proposed {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether the disk is busy with what there is.
    pub(super) fn is_enough(&self) -> bool {
        self.batches.len() >= COURIER_BATCHES_ENOUGH
    }

    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= COURIER_BATCHES_MAX
    }

    pub(super) async fn propose<D: Disk>(
        &mut self,
        raft: &RaftOf<D>,
        batch: Vec<Command>,
    ) -> Result<(), Lost> {
        if batch.is_empty() {
            return Ok(());
        }
        let results = raft.client_write_many(batch).await.map_err(|_| Lost::Ended)?;
        let fates = results.map(|result| match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) => Err(Lost::Refused(refused.to_string())),
            Err(_) => Err(Lost::Ended),
        });
        self.batches.push_back(Box::pin(fates));
        Ok(())
    }

    /// Proposes what is void unless `leader` still leads. A refusal must not be missed: whoever
    /// proposed it waits for it, and would not do so again.
    pub(super) async fn propose_in<D: Disk>(
        &mut self,
        raft: &RaftOf<D>,
        leader: &CommittedLeaderId,
        batch: Vec<Command>,
    ) -> Result<(), Lost> {
        let mut fates = FuturesOrdered::new();
        for command in batch {
            let (responder, fate) = ProgressResponder::complete_only();
            let write = raft.write(command).with_leader(*leader).responder(responder);
            write.await.map_err(|_| Lost::Ended)?;
            fates.push_back(async move {
                match fate.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(refused)) => Err(Lost::Refused(refused.to_string())),
                    Err(_) => Err(Lost::Ended),
                }
            });
        }
        if !fates.is_empty() {
            self.batches.push_back(Box::pin(fates));
        }
        Ok(())
    }

    /// Waits until the oldest batch is done. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| {
            let Some(oldest) = self.batches.front_mut() else { return Poll::Pending };
            loop {
                match oldest.poll_next_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(()))) => {}
                    Poll::Ready(Some(Err(lost))) => return Poll::Ready(Err(lost)),
                    Poll::Ready(None) => {
                        self.batches.pop_front();
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        })
        .await
    }
}
