//! The two servers, and who looks after them: a superuser's session on each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use synod_tests::generator::OWN;
use synod_tests::recipes::ground::Ground;
use tokio::runtime::Runtime;

use crate::bytes::{Out, Places, Value, places};
use crate::compare::{Difference, Zxids, differ};
use crate::connection::{Connection, Hello, Reply};

/// The name and password of the superuser, and what the servers know of them.
pub(crate) const SUPER: &str = "super:test";
const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// Longer than any program takes.
const HOUR_MS: &str = "3600000";

/// Apache ZooKeeper first, then `synod serve`.
pub(crate) struct Pair {
    pub(crate) addresses: [SocketAddr; 2],
    pub(crate) zxids: Zxids,
    observers: [Connection; 2],
    // Dropped last: the servers end with it.
    _grounds: [Ground; 2],
    _runtime: Runtime,
}

impl Pair {
    pub(crate) fn start() -> Pair {
        let runtime = Runtime::new().expect("threads can be started");
        let digest = "-Dzookeeper.DigestAuthenticationProvider.superDigest=";
        let (digest, reaping) = (
            format!("{digest}{SUPER_DIGEST}"),
            format!("-Dznode.container.checkIntervalMs={HOUR_MS}"),
        );
        let apache = [
            digest.as_str(),
            reaping.as_str(),
            "-Dzookeeper.extendedTypesEnabled=true",
            // So that ACLs may name them, as they always may with ours.
            "-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
            "-Dzookeeper.authProvider.2=org.apache.zookeeper.server.auth.X509AuthenticationProvider",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
        ];
        let grounds = runtime.block_on(async {
            let apache = Ground::apache_with(&apache).await;
            let ours = ["--super-digest", SUPER_DIGEST, "--reap-interval-ms", HOUR_MS];
            [apache, Ground::in_memory_with(&ours).await]
        });
        let addresses = grounds.each_ref().map(|ground| ground.faults().address(0));
        let observers = addresses.map(|address| {
            let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let (mut observer, welcome) =
                Connection::open(from, address, &Hello::new_session(i32::MAX));
            welcome.expect("a new session is welcome");
            let auth = Out::default().i32(0).text("digest").text(SUPER);
            observer.request(-4, 100, &auth.0);
            assert_eq!(observer.reply().expect("it is authenticated").error, 0);
            observer
        });
        let zxids = Zxids::default();
        let mut pair = Pair { addresses, zxids, observers, _grounds: grounds, _runtime: runtime };
        pair.tick();
        pair
    }

    /// A write that fails on both: it takes a zxid on each, and nothing else happens.
    pub(crate) fn tick(&mut self) {
        let body = Out::default().text("/none/none").i32(-1);
        let zxids = self.observers.each_mut().map(|observer| {
            observer.request(1, 2, &body.0);
            observer.reply().expect("the observer is connected").zxid
        });
        assert!(self.zxids.agree(zxids[0], zxids[1]), "{zxids:x?}: one write, one zxid");
    }

    /// How many children the root has ever had.
    pub(crate) fn creates_of_root(&mut self) -> i32 {
        let [observer, _] = &mut self.observers;
        observer.request(1, 3, &Out::default().text("/").bool(false).0);
        let stat = places(3, &observer.reply().expect("the observer is connected").body);
        let number = |name: &str| match stat.iter().find(|(other, _)| other == name) {
            Some((_, Value::Same(bytes))) => {
                i32::from_be_bytes(bytes[..].try_into().expect("four bytes"))
            }
            _ => panic!("no {name} in a Stat"),
        };
        (number("stat.cversion") + number("stat.numChildren")) / 2
    }

    /// Compares the whole trees, as the superuser reads them.
    pub(crate) fn audit(&mut self, clients: &[(i64, i64)]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut level = vec!["/".to_owned()];
        while !level.is_empty() {
            for observer in &mut self.observers {
                for path in &level {
                    for (op, body) in reads(path) {
                        observer.request(op, op, &body.0);
                    }
                }
            }
            let mut below = Vec::new();
            for path in &level {
                for (op, _) in reads(path) {
                    let [apache, ours] = self
                        .observers
                        .each_mut()
                        .map(|observer| observer.reply().expect("the observer is connected"));
                    if op == 12 {
                        below.extend(children(path, &apache));
                    }
                    differences.extend(self.compare("audit", op, clients, &apache, &ours));
                }
            }
            level = below;
        }
        differences
    }

    /// Deletes whatever programs have made, and opens what they have closed.
    pub(crate) fn clean(&mut self) {
        for observer in &mut self.observers {
            let mut all = vec!["/".to_owned()];
            let mut at = 0;
            while at < all.len() {
                let end = all.len();
                for path in &all[at..end] {
                    observer.request(8, 8, &Out::default().text(path).bool(false).0);
                }
                for at in at..end {
                    let reply = observer.reply().expect("the observer is connected");
                    all.extend(children(&all[at].clone(), &reply));
                }
                at = end;
            }
            let mut asked = 0;
            for path in all.iter().rev().filter(|path| !OWN.contains(&path.as_str())) {
                observer.request(2, 2, &Out::default().text(path).i32(-1).0);
                asked += 1;
            }
            for path in OWN {
                let perms = if path == "/zookeeper/config" { 1 } else { 31 };
                let acl = Out::default().text(path).i32(1).i32(perms);
                observer.request(7, 7, &acl.text("world").text("anyone").i32(-1).0);
                asked += 1;
            }
            for _ in 0..asked {
                observer.reply().expect("the observer is connected");
            }
        }
        self.tick();
    }

    /// Compares two replies to a request of that number.
    pub(crate) fn compare(
        &mut self,
        operation: &str,
        op: i32,
        clients: &[(i64, i64)],
        apache: &Reply,
        ours: &Reply,
    ) -> Vec<Difference> {
        let number = |number: i32| Value::Same(number.to_be_bytes().to_vec());
        let all = |reply: &Reply| -> Places {
            let mut all = vec![
                ("error".to_owned(), number(reply.error)),
                ("xid".to_owned(), number(reply.xid)),
                ("zxid".to_owned(), Value::Zxid(reply.zxid)),
            ];
            all.extend(places(op, &reply.body));
            all
        };
        let (apache, ours) = (all(apache), all(ours));
        let mut found = Vec::new();
        let mut put = |field: &str, (apache, ours)| {
            let (operation, field) = (operation.to_owned(), field.to_owned());
            found.push(Difference { operation, field, apache, ours });
        };
        let find = |places: &Places, name: &str| {
            places.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        };
        for (name, value) in &apache {
            let Some(other) = find(&ours, name) else {
                put(name, ("present".to_owned(), "absent".to_owned()));
                continue;
            };
            if let Some(values) = differ(&mut self.zxids, clients, value, &other) {
                put(name, values);
                if name == "error" {
                    break;
                }
            }
        }
        for (name, _) in ours.iter().filter(|(name, _)| find(&apache, name).is_none()) {
            put(name, ("absent".to_owned(), "present".to_owned()));
        }
        found
    }
}

/// Everything that can be asked about a znode.
fn reads(path: &str) -> [(i32, Out); 3] {
    let path = || Out::default().text(path);
    [(4, path().bool(false)), (6, path()), (12, path().bool(false))]
}

/// The paths of the children that a reply names.
fn children(path: &str, reply: &Reply) -> Vec<String> {
    let mut rest = &reply.body[..];
    let mut number = || {
        let (head, tail) = rest.split_at_checked(4)?;
        rest = tail;
        usize::try_from(i32::from_be_bytes(head.try_into().ok()?)).ok()
    };
    let Some(count) = number() else { return Vec::new() };
    let mut names = Vec::new();
    for _ in 0..count {
        let (length, tail) = rest.split_at(4);
        let length = i32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        names.push(String::from_utf8_lossy(&tail[..length]).into_owned());
        rest = &tail[length..];
    }
    let parent = path.trim_end_matches('/');
    names.iter().map(|name| format!("{parent}/{name}")).collect()
}
