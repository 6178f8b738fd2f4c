//! The numbers that the command ends with.

use std::process::ExitCode;

use synod::Code;
use synod::model::Error;
use synod_server::admin::AdminError;

use crate::bench::Failed;

/// What follows the help of every command.
pub(crate) const HELP: &str = "Exit codes: 0 ok, 1 other failure, 2 usage, 3 no such znode, \
4 the znode exists, 5 another version, 6 not permitted, 7 cannot connect, 8 the znode has \
children, 9 the session or the connection was lost, 10 a bound or a quota is reached, \
130 interrupted";

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Failure = 1,
    /// An argument breaks a rule. (Clap's number for a wrong command line, too.)
    Usage = 2,
    NoNode = 3,
    NodeExists = 4,
    BadVersion = 5,
    NoAuth = 6,
    CannotConnect = 7,
    NotEmpty = 8,
    /// What was asked may have been done.
    Lost = 9,
    TooMuch = 10,
    /// By Ctrl-C, as shells count it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Exit {
        match error {
            Error::Connect { .. } => Exit::CannotConnect,
            Error::Invalid { .. } => Exit::Usage,
            Error::TooMany { .. } => Exit::TooMuch,
            Error::ConnectionLost { .. } => Exit::Lost,
            _ if error.session_over() => Exit::Lost,
            _ => match error.code() {
                Some(Code::NoNode) => Exit::NoNode,
                Some(Code::NodeExists) => Exit::NodeExists,
                Some(Code::BadVersion) => Exit::BadVersion,
                Some(Code::NoAuth | Code::AuthFailed | Code::ClosedRequireSasl) => Exit::NoAuth,
                Some(Code::NotEmpty) => Exit::NotEmpty,
                Some(Code::Throttled | Code::QuotaExceeded) => Exit::TooMuch,
                _ => Exit::Failure,
            },
        }
    }
}

impl From<&AdminError> for Exit {
    fn from(error: &AdminError) -> Exit {
        match error {
            AdminError::Invalid(_) => Exit::Usage,
            AdminError::Connect(_) => Exit::CannotConnect,
            AdminError::Lost(_) => Exit::Lost,
            _ => Exit::Failure,
        }
    }
}

impl From<&Failed> for Exit {
    fn from(failed: &Failed) -> Exit {
        match failed {
            Failed::Usage(_) => Exit::Usage,
            Failed::CannotConnect(_) => Exit::CannotConnect,
            Failed::Broken(_) => Exit::Lost,
            Failed::Wrong(_) => Exit::Failure,
        }
    }
}
