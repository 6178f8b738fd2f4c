//! Connect strings of servers: `host:port,host:port/chroot`, with or without `zk://`; or with
//! `zks://`, by TLS.

use crate::model::{Error, Path};

/// The port of the ZooKeeper protocol.
const DEFAULT_PORT: u16 = 2181;

/// Most servers in one connect string.
const SERVERS_MAX: usize = 64;

const FORM: &str = "a connect string is embedded:, embedded:NAME, or HOST[:PORT] of each server, \
                    separated by commas, with zk:// or zks:// in front and /CHROOT at the end if any";

/// What a connect string names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    /// `host:port` of each.
    pub(super) servers: Vec<String>,
    /// Whether it says that TLS is spoken, or that it is not.
    pub(super) tls: Option<bool>,
    /// Below which all paths of the client lie.
    pub(super) chroot: Option<Path>,
}

impl Hosts {
    pub(super) fn parse(text: &str) -> Result<Hosts, Error> {
        let refuse = |rule: &'static str| Err(Error::invalid("connect string", text, rule));
        if text == "embedded" {
            return refuse("the embedded coordinator is named with a colon: embedded:");
        }
        let (tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("zk", rest)) => (Some(false), rest),
            Some(("zks", rest)) => (Some(true), rest),
            Some(_) => return refuse(FORM),
        };
        let (hosts, chroot) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash..])),
            None => (rest, None),
        };
        let chroot = match chroot {
            None | Some("/") => None,
            Some(chroot) => Some(Path::new(chroot)?),
        };
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            match server(host.trim()) {
                Some(server) => servers.push(server),
                None => return refuse(FORM),
            }
        }
        if servers.len() > SERVERS_MAX {
            return refuse("a connect string names at most 64 servers");
        }
        Ok(Hosts { servers, tls, chroot })
    }
}

fn server(host: &str) -> Option<String> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (format!("[{address}]"), port.strip_prefix(':').or(port.is_empty().then_some("")))
    } else {
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        let has_port = host.contains(':');
        (name.to_owned(), (!has_port || !port.is_empty()).then_some(port))
    };
    let port = match port? {
        "" => DEFAULT_PORT,
        port => port.parse().ok().filter(|port| *port != 0)?,
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let plain = !name.is_empty() && name.chars().all(allowed);
    (plain || name.starts_with('[')).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_chroot_come_apart() {
        let hosts = Hosts::parse("zk://zk1:2181, zk2,[::1]:99,127.0.0.1/app/x").expect("valid");
        assert_eq!(hosts.servers, ["zk1:2181", "zk2:2181", "[::1]:99", "127.0.0.1:2181"]);
        assert_eq!(hosts.chroot.expect("named").as_str(), "/app/x");
        assert_eq!(Hosts::parse("zk1/").expect("valid").chroot, None);
    }

    #[test]
    fn the_scheme_says_whether_tls_is_spoken() {
        for (text, tls) in [("zks://zk1", Some(true)), ("zk://zk1", Some(false)), ("zk1", None)] {
            let hosts = Hosts::parse(text).expect("valid");
            assert_eq!((hosts.servers, hosts.tls), (vec!["zk1:2181".to_owned()], tls));
        }
    }

    #[test]
    fn what_names_no_server_is_refused_by_name() {
        for text in [
            "",
            ",",
            "zk1,",
            "zk1:",
            "zk1:0",
            "zk1:x",
            "zk1:70000",
            "[::1",
            "[x]",
            "a b",
            "a:1:2",
            "zks://",
            "http://zk1",
        ] {
            let error = Hosts::parse(text).expect_err(text).to_string();
            assert!(error.contains("HOST[:PORT]"), "{text:?}: {error}");
        }
        let error = Hosts::parse("embedded").expect_err("no colon").to_string();
        assert!(error.contains("embedded:"), "{error}");
        assert!(Hosts::parse("zk1/a/").is_err());
    }
}
