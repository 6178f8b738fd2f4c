//! What is answered without a change of the tree.

use std::sync::Arc;

use synod_core::model::limits::MULTI_OPS_MAX;
use synod_core::model::{
    Code, Identity, Perms, Read, ReadOp, ReadOpResult, Response, SessionId, WatchRequest,
};

use super::watches::Kind;
use super::{Fault, NaiveCoordinator, Told, acl, paths};

impl NaiveCoordinator {
    /// Answers a read of `session`, whose connection has proved `who`; leaves the watch that it
    /// asks for.
    pub fn read(
        &mut self,
        session: SessionId,
        who: &Arc<[Identity]>,
        read: &Read,
    ) -> Result<Response, Fault> {
        self.admit_reader(session, who)?;
        self.answer(session, who, read).map_err(Fault::from)
    }

    /// Nobody reads or watches without a session.
    fn admit_reader(&mut self, session: SessionId, who: &Arc<[Identity]>) -> Result<(), Fault> {
        if !self.sessions.contains_key(&session) {
            return Err(Code::SessionExpired.into());
        }
        self.watches.know(session, who);
        Ok(())
    }

    fn answer(
        &mut self,
        session: SessionId,
        who: &[Identity],
        read: &Read,
    ) -> Result<Response, Code> {
        match read {
            Read::Exists { path, watch } => {
                let answer = match self.permitted(path, who, Perms::READ) {
                    Ok(_) => Ok(Response::Stat(self.stat(path))),
                    Err(code) => Err(code),
                };
                if *watch && answer != Err(Code::NoAuth) {
                    self.watches.leave(Kind::Data, path, session);
                }
                answer
            }
            Read::GetData { path, watch } => {
                let data = self.permitted(path, who, Perms::READ)?.data.clone();
                if *watch {
                    self.watches.leave(Kind::Data, path, session);
                }
                Ok(Response::Data { data, stat: self.stat(path) })
            }
            Read::GetAcl { path } => {
                let node = self.permitted(path, who, Perms::READ | Perms::ADMIN)?;
                Ok(Response::Acl { acl: acl::shown(&node.acl, who), stat: self.stat(path) })
            }
            Read::Children { path, watch } => {
                self.permitted(path, who, Perms::READ)?;
                if *watch {
                    self.watches.leave(Kind::Child, path, session);
                }
                Ok(Response::Children { names: self.names_below(path), stat: self.stat(path) })
            }
            Read::Multi(reads) => {
                if reads.len() > MULTI_OPS_MAX {
                    return Err(Code::BadArguments);
                }
                Ok(Response::MultiRead(
                    reads.iter().map(|read| self.answer_one(who, read)).collect(),
                ))
            }
            Read::Ephemerals { prefix } => {
                let prefix = match prefix.as_deref() {
                    None | Some("/") => "",
                    Some(prefix) => prefix,
                };
                let mut all = self.ephemerals(session);
                all.retain(|path| path.starts_with(prefix));
                Ok(Response::Ephemerals(all))
            }
            Read::DescendantCount { path } => {
                self.permitted(path, who, Perms::READ)?;
                let below = self.nodes.keys().filter(|other| paths::is_below(other, path));
                Ok(Response::DescendantCount(below.count() as u32))
            }
            Read::WhoAmI => Ok(Response::WhoAmI(who.to_vec())),
        }
    }

    fn answer_one(&self, who: &[Identity], read: &ReadOp) -> Result<ReadOpResult, Code> {
        match read {
            ReadOp::GetData { path } => {
                let data = self.permitted(path, who, Perms::READ)?.data.clone();
                Ok(ReadOpResult::Data { data, stat: self.stat(path) })
            }
            ReadOp::Children { path } => {
                self.permitted(path, who, Perms::READ)?;
                Ok(ReadOpResult::Children(self.names_below(path)))
            }
        }
    }

    fn names_below(&self, parent: &str) -> Vec<String> {
        let children = self.nodes.keys().filter(|path| paths::is_child(path, parent));
        children.map(|path| path[path.rfind('/').map_or(0, |at| at + 1)..].to_owned()).collect()
    }

    /// Does what a request about watches asks; the second part is what a session that comes back
    /// has missed.
    pub fn watch(
        &mut self,
        session: SessionId,
        who: &Arc<[Identity]>,
        request: &WatchRequest,
    ) -> (Result<Response, Fault>, Vec<Told>) {
        let mut missed = Vec::new();
        if let Err(fault) = self.admit_reader(session, who) {
            return (Err(fault), missed);
        }
        let result = match request {
            WatchRequest::Add { path, mode } => {
                self.watches.leave(Kind::of_mode(*mode), path, session);
                Ok(Response::Done)
            }
            WatchRequest::Check { path, kind } => {
                self.watches.check(path, *kind, session).map(|()| Response::Done)
            }
            WatchRequest::Remove { path, kind } => {
                self.watches.remove(path, *kind, session).map(|()| Response::Done)
            }
            WatchRequest::Rearm(rearm) => {
                missed = self.rearm(session, who, rearm);
                Ok(Response::Done)
            }
        };
        (result.map_err(Fault::from), missed)
    }
}
