//! Members in ZooKeeper's words: `server.ID=HOST:PORT:PORT:ROLE;HOST:PORT`.

use std::collections::{BTreeMap, BTreeSet};

use synod_core::model::Reconfig;

use crate::limits::{ADDRESS_BYTES_MAX, MEMBERS_MAX};
use crate::replica::handshake::NO_MEMBER;
use crate::replica::types::{Address, Members};

/// A member as somebody wants it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) peer: String,
    /// ZooKeeper's port of elections.
    pub(super) election: u16,
    /// Empty if nobody said it.
    pub(super) client: String,
    pub(super) votes: bool,
}

impl Server {
    pub(super) fn of(address: &Address, votes: bool) -> Server {
        let Address { peer, election, client, .. } = address.clone();
        Server { peer, election, client, votes }
    }

    /// `HOST:PORT:PORT[:ROLE][;[HOST:]PORT]`.
    fn parse(text: &str) -> Option<Server> {
        let (servers, client) = match text.split_once(';') {
            Some((servers, client)) => (servers, Some(client.trim())),
            None => (text, None),
        };
        let servers = servers.trim();
        // A host may be an IPv6 address in brackets.
        let host_bytes = servers.find(']').map_or(0, |end| end + 1);
        let host_bytes = host_bytes + servers[host_bytes..].find(':')?;
        let (host, ports) = (&servers[..host_bytes], &servers[host_bytes + 1..]);
        let mut ports = ports.split(':');
        let (peer, election) = (port(ports.next()?)?, port(ports.next()?)?);
        let votes = match ports.next() {
            None | Some("participant") => true,
            Some("observer") => false,
            Some(_) => return None,
        };
        let client = match client {
            None => String::new(),
            Some(client) => match client.rsplit_once(':') {
                Some((host, number)) if !host.is_empty() => format!("{host}:{}", port(number)?),
                Some(_) => return None,
                None => format!("0.0.0.0:{}", port(client)?),
            },
        };
        let fits = !host.is_empty() && text.len() <= ADDRESS_BYTES_MAX;
        let election = if election == peer { 0 } else { election };
        (fits && ports.next().is_none()).then_some(Server {
            peer: format!("{host}:{peer}"),
            election,
            client,
            votes,
        })
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn id(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|id| *id != NO_MEMBER)
}

/// Who the members are to be, of those that there are.
///
/// # Errors
/// The value and the rule.
pub(super) fn wanted(
    now: &Members,
    Reconfig { joining, leaving, members, .. }: &Reconfig,
) -> Result<BTreeMap<u64, Server>, String> {
    let voters: BTreeSet<u64> = now.voter_ids().collect();
    let mut wanted = BTreeMap::new();
    let named = match members {
        Some(members) => members,
        None => {
            wanted.extend(
                now.nodes().map(|(id, known)| (*id, Server::of(known, voters.contains(id)))),
            );
            for text in parts(leaving.as_deref().unwrap_or_default()) {
                let id = text.trim().parse::<u64>().map_err(|_| {
                    format!("{text:?}: who leaves is named by the number of a member")
                })?;
                wanted.remove(&id);
            }
            joining.as_deref().unwrap_or_default()
        }
    };
    let lines = parts(named).filter(|line| !line.trim_start().starts_with("version="));
    for line in lines {
        let server = line.split_once('=').and_then(|(name, server)| {
            Some((id(name.trim().strip_prefix("server.")?)?, Server::parse(server)?))
        });
        let (id, server) = server.ok_or_else(|| {
            format!(
                "{line:?}: a member is server.ID=HOST:PORT:PORT:ROLE;HOST:PORT, with an id from 1 on \
                 and the role participant or observer"
            )
        })?;
        wanted.insert(id, server);
    }
    check(&wanted)?;
    Ok(wanted)
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', '\n']).filter(|part| !part.trim().is_empty())
}

fn check(wanted: &BTreeMap<u64, Server>) -> Result<(), String> {
    if !wanted.values().any(|server| server.votes) {
        return Err("no participant: a cluster has at least one".to_owned());
    }
    if wanted.len() > MEMBERS_MAX {
        return Err(format!("{} members: a cluster has at most {MEMBERS_MAX}", wanted.len()));
    }
    let mut taken = BTreeMap::new();
    for (id, server) in wanted {
        for address in [&server.peer, &server.client] {
            if !address.is_empty()
                && let Some(other) = taken.insert(address, id)
            {
                return Err(format!("{address} is the address of members {other} and {id}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::types::FolderId;

    fn now() -> Members {
        let node = |id: u64| Address {
            folder: FolderId([id as u8; 16]),
            peer: format!("h{id}:1"),
            ..Address::default()
        };
        let nodes: BTreeMap<u64, Address> = (1..=3).map(|id| (id, node(id))).collect();
        Members::new(vec![BTreeSet::from([1, 2])], nodes).expect("every voter has an address")
    }

    fn joining(text: &str) -> Reconfig {
        Reconfig { joining: Some(text.to_owned()), from_version: -1, ..Reconfig::default() }
    }

    #[test]
    fn members_are_read_in_the_words_of_zookeeper() {
        for (text, peer, election, client, votes) in [
            ("a:1:2:observer;b:3", "a:1", 2, "b:3", false),
            ("a:1:1:participant;3", "a:1", 0, "0.0.0.0:3", true),
            ("[::1]:1:2", "[::1]:1", 2, "", true),
            (" a:1:2 ; [::1]:3 ", "a:1", 2, "[::1]:3", true),
        ] {
            let (peer, client) = (peer.to_owned(), client.to_owned());
            assert_eq!(
                Server::parse(text),
                Some(Server { peer, election, client, votes }),
                "{text}"
            );
        }
        for text in ["", "a", "a:1", ":1:2", "a:1:x", "a:0:2", "a:1:2:king", "a:1:2;", "a:1:2;:3"] {
            assert_eq!(Server::parse(text), None, "{text}");
        }
    }

    #[test]
    fn who_joins_and_leaves_changes_those_that_there_are() {
        let change = Reconfig { leaving: Some("1, 9".to_owned()), ..joining("server.4=a:1:1") };
        let wanted = wanted(&now(), &change).expect("can be read");
        let roles: Vec<(u64, bool)> =
            wanted.iter().map(|(id, server)| (*id, server.votes)).collect();
        assert_eq!(roles, [(2, true), (3, false), (4, true)]);
    }

    #[test]
    fn a_whole_configuration_stands_for_itself() {
        let members = Some("server.2=h2:1:1\nserver.3=h3:1:1:observer\nversion=7".to_owned());
        let change = Reconfig { members, ..joining("nonsense") };
        assert_eq!(wanted(&now(), &change).expect("can be read").len(), 2);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (change, named) in [
            (joining("some thing"), "some thing"),
            (joining("server.0=a:1:1"), "server.0"),
            (joining("server.4=h1:1:1"), "h1:1"),
            (joining("server.1=h1:1:1:observer,server.2=h2:1:1:observer"), "participant"),
            (Reconfig { leaving: Some("one".to_owned()), ..joining("") }, "one"),
            (Reconfig { members: Some(String::new()), ..joining("") }, "participant"),
        ] {
            let error = wanted(&now(), &change).expect_err("breaks a rule");
            assert!(error.contains(named), "{change:?}: {error}");
        }
    }
}
