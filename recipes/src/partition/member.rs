//! The part of a partitioner that takes part: it is a member whenever it can be, and says who the
//! members are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use synod_core::client::Client;
use synod_core::model::{Error as ClientError, Path, SessionEnd};
use tracing::{debug, warn};

use super::ring::WEIGHT_MAX;
use crate::error::{Error, LossReason};
use crate::holding::gone;
use crate::membership::{Group, GroupEvent, GroupWatch, Membership};

/// How long to wait after a join that was refused.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What a member says of itself.
#[derive(Serialize, Deserialize)]
struct Metadata {
    weight: u32,
}

/// Who takes part.
pub(super) enum View {
    /// This one, in the session that the client is pinned to, and these others; with their weights.
    In(Client, BTreeMap<String, u32>),
    /// Not this one.
    Out,
    /// Not this one, and why it could not join. It tries again.
    Failed(Error),
}

struct Joined {
    /// Pinned.
    client: Client,
    membership: Membership,
    lost: BoxFuture<'static, LossReason>,
}

pub(super) struct Member {
    client: Client,
    group: Group,
    name: Arc<str>,
    weight: u32,
    watch: GroupWatch,
    joined: Option<Joined>,
    /// The last join was refused.
    refused: bool,
}

impl Member {
    pub(super) fn new(client: Client, group: Group, name: Arc<str>, weight: u32) -> Member {
        let watch = group.watch();
        Member { client, group, name, weight, watch, joined: None, refused: false }
    }

    /// Joins, and again in each later session; yields the members whenever they have changed. Ends
    /// when the client is closed; leaves when it is dropped.
    pub(super) fn views(self) -> BoxStream<'static, View> {
        let views = futures::stream::unfold(self, async |mut member| {
            let view = member.next().await?;
            Some((view, member))
        });
        views.boxed()
    }

    async fn next(&mut self) -> Option<View> {
        loop {
            let Some(joined) = &mut self.joined else {
                if std::mem::take(&mut self.refused) {
                    tokio::time::sleep(RETRY).await;
                }
                match join(&self.client, self.group.path(), &self.name, self.weight).await {
                    Ok(joined) => self.joined = Some(joined),
                    Err(Error::Client(ClientError::SessionOver {
                        end: SessionEnd::Closed,
                        ..
                    })) => return None,
                    Err(error) if error.session_over() || error.retryable() => {}
                    Err(error) => {
                        self.refused = true;
                        return Some(View::Failed(error));
                    }
                }
                continue;
            };
            tokio::select! {
                biased;
                reason = &mut joined.lost => {
                    debug!(path = %joined.membership.path(), %reason, "takes part no longer");
                    self.joined = None;
                    return Some(View::Out);
                }
                event = self.watch.next() => {
                    if event? == GroupEvent::Settled {
                        return Some(view(joined, &self.watch));
                    }
                }
            }
        }
    }
}

async fn join(client: &Client, group: &Path, name: &str, weight: u32) -> Result<Joined, Error> {
    let client = client.pin().await?;
    let metadata = serde_json::json!(Metadata { weight }).to_string();
    let membership = Group::new(&client, group.clone())?.join(name, metadata).await?;
    let lost = {
        let (client, path) = (client.clone(), membership.path().clone());
        async move { gone(&client, &path).await }.boxed()
    };
    Ok(Joined { client, membership, lost })
}

/// What the watch says. Without this very membership it says nothing: it has not seen it yet, or
/// another member has come under its name.
fn view(joined: &Joined, watch: &GroupWatch) -> View {
    let own = watch.members().find(|member| member.name == joined.membership.name());
    match own {
        Some(own) if own.token == joined.membership.token() => {}
        Some(own) if own.token > joined.membership.token() => {
            warn!(path = %joined.membership.path(), "another member has taken this one's place");
            return View::Out;
        }
        _ => return View::Out,
    }
    let weights = watch.members().map(|member| {
        let metadata: Result<Metadata, _> = serde_json::from_slice(&member.metadata);
        let weight = metadata.map_or_else(
            |error| {
                warn!(member = member.name, %error, "a member without a weight counts as one of 1");
                1
            },
            |metadata| metadata.weight.min(WEIGHT_MAX),
        );
        (member.name.clone(), weight)
    });
    View::In(joined.client.clone(), weights.collect())
}
