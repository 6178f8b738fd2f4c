//! Which operations ended in which way.

use std::collections::BTreeMap;
use std::fmt;

use synod_core::model::{CreateMode, Op, Read, Response, WatchRequest, Write};

use crate::model::{Fault, Told};
use crate::program::{Command, Outcome};

/// How often each operation ended in each way, and how often each event was told.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(String, String), u64>,
    /// How many commands there were.
    pub commands: u64,
}

impl Coverage {
    /// Counts one command.
    pub fn note(&mut self, command: &Command, outcome: &Outcome) {
        let (result, told) = match outcome {
            Outcome::Applied(verdict, told) => (&verdict.result, told),
            Outcome::Answered(result, told) => (result, told),
            Outcome::Nothing => return,
        };
        self.commands += 1;
        self.count(&name(command), &ending(result));
        if let Command::Apply { entry, .. } = command
            && let Write::Multi(ops) = &entry.request
        {
            self.note_parts(ops, result);
        }
        for Told { event, .. } in told {
            let when = if event.zxid.is_some() { "told" } else { "told late" };
            self.count(&format!("event {:?}", event.kind), when);
        }
    }

    /// Counts the operations of a transaction up to the one that failed.
    fn note_parts(&mut self, ops: &[Op], result: &Result<Response, Fault>) {
        match result {
            Ok(_) => ops.iter().for_each(|op| self.count(&format!("multi {}", op_name(op)), "Ok")),
            Err(Fault { code, index: Some(index) }) => {
                let op = &ops[*index as usize];
                self.count(&format!("multi {}", op_name(op)), &format!("{code:?}"));
            }
            Err(_) => {}
        }
    }

    fn count(&mut self, what: &str, ending: &str) {
        *self.counts.entry((what.to_owned(), ending.to_owned())).or_default() += 1;
    }

    /// Counts events that were told to nobody.
    pub fn count_withheld(&mut self, events: u64) {
        if events > 0 {
            *self.counts.entry(("event".to_owned(), "withheld".to_owned())).or_default() += events;
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Coverage) {
        for (key, count) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += count;
        }
        self.commands += other.commands;
    }

    /// Which of `expected` was never seen: each operation with all its endings.
    pub fn missing(&self, expected: &[(&str, &[&str])]) -> Vec<String> {
        let pairs = expected.iter().flat_map(|(what, endings)| {
            endings.iter().map(|ending| (what.to_string(), ending.to_string()))
        });
        pairs
            .filter(|key| !self.counts.contains_key(key))
            .map(|(what, ending)| format!("{what}: {ending}"))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} commands", self.commands)?;
        let mut last = "";
        for ((what, ending), count) in &self.counts {
            if what != last {
                write!(f, "\n{what:<32}")?;
                last = what;
            }
            write!(f, " {ending}={count}")?;
        }
        writeln!(f)
    }
}

fn ending(result: &Result<Response, Fault>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(fault) => format!("{:?}", fault.code),
    }
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Create(create) => match create.mode {
            CreateMode::Persistent => "create persistent",
            CreateMode::PersistentSequential => "create persistent sequential",
            CreateMode::Ephemeral => "create ephemeral",
            CreateMode::EphemeralSequential => "create ephemeral sequential",
            CreateMode::Container => "create container",
            CreateMode::Ttl { .. } => "create ttl",
            CreateMode::TtlSequential { .. } => "create ttl sequential",
        },
        Op::Delete { .. } => "delete",
        Op::SetData { .. } => "set data",
        Op::Check { .. } => "check",
    }
}

fn name(command: &Command) -> String {
    match command {
        Command::Apply { entry, .. } => match &entry.request {
            Write::Op(op) => op_name(op),
            Write::SetAcl { .. } => "set acl",
            Write::Multi(_) => "multi",
            Write::ProposeAt { .. } => "propose",
            Write::CreateSession { .. } => "create session",
            Write::Attach { .. } => "attach",
            Write::CloseSession => "close session",
            Write::ExpireSession { .. } => "expire session",
            Write::Reap { .. } => "reap",
            Write::Configure { .. } => "configure",
        },
        Command::Read { read, .. } => match read {
            Read::Exists { .. } => "exists",
            Read::GetData { .. } => "get data",
            Read::GetAcl { .. } => "get acl",
            Read::Children { .. } => "children",
            Read::Multi(_) => "multi read",
            Read::Ephemerals { .. } => "ephemerals",
            Read::DescendantCount { .. } => "descendant count",
            Read::WhoAmI => "who am i",
        },
        Command::Watch { request, .. } => match request {
            WatchRequest::Add { .. } => "add watch",
            WatchRequest::Check { .. } => "check watch",
            WatchRequest::Remove { .. } => "remove watch",
            WatchRequest::Rearm(_) => "rearm",
        },
        Command::Disconnect(_) | Command::Prove(..) | Command::Nothing => "nothing",
    }
    .to_owned()
}
