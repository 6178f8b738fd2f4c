//! Changes of the members that connections ask for: who may, and what they are answered. The change
//! itself is replication's.

use synod_core::engine::Reader;
use synod_core::model::{CONFIG_PATH, Code, Identity, Read, Reconfig, Refusal, SessionId, Zxid};
use synod_core::wire::Shape;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Member;
use super::seat::{Seat, Slot};
use super::state::State;
use crate::limits::RECONFIG_BYTES_MAX;
use crate::outbox::Fate;

/// What a connection asks for, and waits for.
#[derive(Debug)]
pub(crate) struct Reconfiguring {
    session: SessionId,
    attachment: Zxid,
    pub(crate) reconfig: Reconfig,
}

/// Whether what is asked for can be read and keeps the rules, as far as this member knows.
pub(crate) type IsSound = Box<dyn Fn(&Reconfig) -> bool + Send + Sync>;

/// Where changes of the members are asked for.
pub(crate) enum Reconfigs {
    /// Nowhere: they are switched off.
    Disabled,
    /// Nowhere: no other member could reach this one.
    Alone,
    Asked(mpsc::Sender<Reconfiguring>, IsSound),
}

impl Member {
    /// Passes a request of the seat's on, that is at its front.
    pub(super) fn begin_reconfig(
        &self,
        state: &State,
        session: SessionId,
        reconfig: Reconfig,
    ) -> Result<(), Refusal> {
        let refuse = |code: Code| Err(Refusal::new(code, code.rule()));
        let (asked, is_sound) = match self.reconfigs.get() {
            Some(Reconfigs::Asked(asked, is_sound)) => (asked, is_sound),
            Some(Reconfigs::Alone) => return refuse(Code::Unimplemented),
            Some(Reconfigs::Disabled) | None => return refuse(Code::ReconfigDisabled),
        };
        let Some(seat) = state.seats.get(&session) else { return refuse(Code::SessionExpired) };
        let Seat { attachment, reader, .. } = seat;
        let lists = [&reconfig.joining, &reconfig.leaving, &reconfig.members];
        if lists.into_iter().flatten().any(|list| list.len() > RECONFIG_BYTES_MAX) {
            return refuse(Code::BadArguments);
        }
        // Whoever may not is told here, and takes no turn of those who may. ZooKeeper tells first what
        // else is wrong.
        if !state.engine.may_write(&reader.identities, CONFIG_PATH) {
            let version = reconfig.from_version;
            return refuse(if version != -1 && state.engine.config_version() != Some(version) {
                Code::BadVersion
            } else if !is_sound(&reconfig) {
                Code::BadArguments
            } else {
                Code::NoAuth
            });
        }
        let asking = Reconfiguring { session, attachment: *attachment, reconfig };
        asked.try_send(asking).or_else(|_| refuse(Code::ReconfigInProgress))
    }

    /// Says where changes are asked for from now on.
    pub(crate) fn serve_reconfigs(&self, reconfigs: Reconfigs) {
        // It is said once.
        let _ = self.reconfigs.set(reconfigs);
    }

    /// Answers who asked, if it is still there. Without an outcome nobody knows what became of it,
    /// and its connection is cut.
    pub(crate) fn answer_reconfig(&self, asked: &Reconfiguring, outcome: Option<Result<(), Code>>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let session = asked.session;
        let seat = state.seats.get_mut(&session);
        if let Some(seat) = seat.filter(|seat| seat.attachment == asked.attachment) {
            let read = Read::GetData { path: CONFIG_PATH.into(), watch: false };
            // Whoever may change the members is told who they are, as by ZooKeeper: that it may not
            // read them would look as if nothing was changed.
            let identities = [Identity::new("super", "")].into();
            let reader = Reader { session, identities };
            match outcome {
                Some(Ok(())) => seat.reconfigured(state.engine.read(&reader, &read)),
                Some(Err(code)) => seat.reconfigured(Err(Refusal::new(code, code.rule()))),
                None => {
                    state.engine.disconnect(session);
                    state.unseat(session, Fate::Cut);
                }
            }
            state.flush(session);
        }
        self.unlock(guard);
    }
}

impl State {
    /// Puts the request back at the front, to wait for its outcome.
    pub(super) fn wait_reconfig(
        &mut self,
        session: SessionId,
        arrived: Instant,
        xid: i32,
        shape: Shape,
    ) {
        let Some(seat) = self.seats.get_mut(&session) else { return };
        seat.queue.push_front(Slot::Reconfig { arrived, xid, shape, done: None });
    }
}
