//! Entries that were proposed and whose fate is not known.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use futures::stream::{BoxStream, FuturesOrdered, StreamExt};
use openraft::impls::ProgressResponder;

use super::Lost;
use crate::limits::{COURIER_BATCHES_ENOUGH, COURIER_BATCHES_MAX, COURIER_ENTRIES_ENOUGH};
use crate::log::Disk;
use crate::replica::RaftOf;
use crate::replica::types::{Command, CommittedLeaderId};

/// Batches of entries that were proposed and whose fate is not known.
#[derive(Default)]
pub(super) struct Proposed {
    batches: VecDeque<Batch>,
    /// Entries of all of them.
    entries: usize,
}

struct Batch {
    fates: BoxStream<'static, Result<(), Lost>>,
    entries: usize,
}

impl Proposed {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether the disk, or the processor, is busy with what there is.
    pub(super) fn is_enough(&self) -> bool {
        self.batches.len() >= COURIER_BATCHES_ENOUGH || self.entries >= COURIER_ENTRIES_ENOUGH
    }

    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= COURIER_BATCHES_MAX
    }

    /// Proposes a batch of so many entries.
    pub(super) async fn propose<D: Disk>(
        &mut self,
        raft: &RaftOf<D>,
        batch: Vec<Command>,
        entries: usize,
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
        self.push(Box::pin(fates), entries);
        Ok(())
    }

    fn push(&mut self, fates: BoxStream<'static, Result<(), Lost>>, entries: usize) {
        self.entries += entries;
        self.batches.push_back(Batch { fates, entries });
    }

    /// Proposes what is void unless `leader` still leads. A refusal must not be missed: whoever
    /// proposed it waits for it, and would not do so again.
    pub(super) async fn propose_in<D: Disk>(
        &mut self,
        raft: &RaftOf<D>,
        leader: &CommittedLeaderId,
        batch: Vec<Command>,
        entries: usize,
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
            self.push(Box::pin(fates), entries);
        }
        Ok(())
    }

    /// Waits until the oldest batch is done. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| {
            let Some(oldest) = self.batches.front_mut() else { return Poll::Pending };
            loop {
                match oldest.fates.poll_next_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(()))) => {}
                    Poll::Ready(Some(Err(lost))) => return Poll::Ready(Err(lost)),
                    Poll::Ready(None) => {
                        self.entries -= oldest.entries;
                        self.batches.pop_front();
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn proposed(batches: &[usize]) -> Proposed {
        let mut proposed = Proposed::default();
        batches.iter().for_each(|entries| proposed.push(Box::pin(stream::empty()), *entries));
        proposed
    }

    #[test]
    fn two_batches_or_many_entries_are_enough() {
        for few in [&[][..], &[1], &[COURIER_ENTRIES_ENOUGH - 1]] {
            assert!(!proposed(few).is_enough(), "{few:?}");
        }
        for many in [&[1, 1][..], &[COURIER_ENTRIES_ENOUGH]] {
            assert!(proposed(many).is_enough(), "{many:?}");
        }
    }

    #[tokio::test]
    async fn a_batch_that_is_done_counts_no_longer() {
        let mut proposed = proposed(&[COURIER_ENTRIES_ENOUGH, 1]);
        proposed.next().await.expect("it is done");
        assert!(!proposed.is_enough());
        proposed.next().await.expect("it is done");
        assert!(proposed.is_empty());
    }
}
