//! Who the members of the cluster are, whatever the client's namespace is.

use bytes::Bytes;

use crate::client::Client;
use crate::client::session::Subject;
use crate::model::{CONFIG_PATH, Error, Read, Reconfig, Request, Response, Stat};

/// Who the members of a cluster are, as [`CONFIG_PATH`](crate::model::CONFIG_PATH) has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConfig {
    /// `server.ID=HOST:PORT:PORT:ROLE;HOST:PORT` of each; none where no member has others.
    pub servers: Vec<String>,
    /// Since when it is so: what [`Reconfig::from_version`] may ask for; −1 where there are none.
    pub version: i64,
    /// The znode's.
    pub stat: Stat,
}

impl EnsembleConfig {
    fn read(data: Option<Bytes>, stat: Stat) -> EnsembleConfig {
        let text = String::from_utf8_lossy(data.as_deref().unwrap_or_default()).into_owned();
        let (mut servers, mut version) = (Vec::new(), -1);
        for line in text.lines() {
            match line.strip_prefix("version=") {
                Some(hex) => version = i64::from_str_radix(hex, 16).unwrap_or(-1),
                None => servers.push(line.to_owned()),
            }
        }
        EnsembleConfig { servers, version, stat }
    }
}

impl Client {
    /// Who the members are, as the server knows it that this client is connected to; after a
    /// [`sync`](Client::sync), as it was then or later.
    ///
    /// # Errors
    /// See [requests](Client#requests).
    pub async fn config(&self) -> Result<EnsembleConfig, Error> {
        let read = Read::GetData { path: CONFIG_PATH.into(), watch: false };
        self.config_by(Request::Read(read), "get").await
    }

    /// Changes who the members are, and says who they are then. It needs the right to write to
    /// [`CONFIG_PATH`], and servers on which it is enabled. On this
    /// project's servers a change of several members is made one after the other: if one step is
    /// refused, those before it stay. Cancelling it takes nothing back: what was asked for is done.
    ///
    /// # Errors
    /// See [requests](Client#requests). [`Error::Refused`] with `ReconfigDisabled`, `Unimplemented`
    /// (a server that stands alone), `NoAuth`, `BadArguments`, `BadVersion`, `ReconfigInProgress`, or
    /// `NewConfigNoQuorum`: who is to vote does not run, or is behind. When the connection is lost it
    /// may have been done, in part or in whole: [`config`](Client::config) says.
    pub async fn reconfig(&self, reconfig: Reconfig) -> Result<EnsembleConfig, Error> {
        self.config_by(Request::Reconfig(reconfig), "reconfig").await
    }

    async fn config_by(
        &self,
        request: Request,
        verb: &'static str,
    ) -> Result<EnsembleConfig, Error> {
        let subject = Subject::new(verb, &CONFIG_PATH.into());
        match self.call(request, subject).await? {
            (Response::Data { data, stat }, _) => Ok(EnsembleConfig::read(data, stat)),
            (other, _) => Err(super::unexpected(verb, &other)),
        }
    }
}
