//! The table, asked over the wire.

use std::net::{SocketAddr, TcpListener};

use synod_core::client::Client;
use synod_core::digest_identity;
use synod_core::model::{Acl, CONFIG_PATH, CreateMode, Perms, Reconfig, Request};
use synod_server::tls::ClientTls;
use synod_server::{Config, MemberConfig, Sasl, SaslUsers, Server};

use crate::certificates::Authority;
use crate::connection::{Ask, Connection, PATIENCE};
use crate::table::{
    Case, Change, Named, PASSWORD, cases, changes, comings_and_goings, create_op, delete_op,
    grants, missed, names, op, permitted, set_acl,
};

const ADDRESS: &str = "127.0.0.1";

/// A server, and who may do everything there.
struct Stage {
    address: SocketAddr,
    root: Connection,
    planted: usize,
    /// Where certificates are shown, and who signs them.
    secure: Option<(SocketAddr, Authority)>,
    /// There `exists` needs no permission, and what was missed is told to everybody.
    is_apache: bool,
}

impl Stage {
    fn new(address: SocketAddr, is_apache: bool) -> Stage {
        let mut root = Connection::open(address);
        root.prove_digest("super", PASSWORD);
        Stage { address, root, planted: 0, secure: None, is_apache }
    }

    /// The ways to be named that can be proved here.
    fn names(&self) -> Vec<Named> {
        let can = |named: &Named| self.secure.is_some() || !named.has_certificate();
        names(ADDRESS).into_iter().filter(can).collect()
    }

    /// Somebody who has proved to be that.
    fn asker(&self, named: &Named) -> Connection {
        if named.has_certificate() {
            let (address, authority) = self.secure.as_ref().expect("is proved over TLS");
            return Connection::open_tls(*address, authority, "carol");
        }
        let mut asker = Connection::open(self.address);
        match named.proved.as_ref().map(|proved| &*proved.scheme) {
            None => {}
            Some("digest") => asker.prove_digest("alice", PASSWORD),
            Some("sasl") => asker.prove_sasl("dave", PASSWORD),
            Some(other) => panic!("{other} is not proved here"),
        }
        asker
    }

    /// The paths of so many znodes below one that everybody may use, each below one of its own.
    fn below_planted(&mut self, count: usize) -> Vec<String> {
        let first = self.planted;
        self.planted += count;
        let above: Vec<String> = (first..self.planted).map(|place| format!("/n{place}")).collect();
        let open = |path: &String| op(create_op(path, CreateMode::Persistent, Acl::open()));
        self.root.must(above.iter().map(open));
        above.iter().map(|path| format!("{path}/a")).collect()
    }

    /// So many znodes with that list, each with a child that everybody may use.
    fn plant(
        &mut self,
        asker: &mut Connection,
        named: &Named,
        perms: Perms,
        count: usize,
    ) -> Vec<String> {
        let paths = self.below_planted(count);
        let creator = if named.is_creator { asker } else { &mut self.root };
        let open = |path: &str| op(create_op(path, CreateMode::Persistent, Acl::open()));
        creator.must(paths.iter().flat_map(|path| {
            [open(path), open(&format!("{path}/old")), set_acl(path, named.list(perms))]
        }));
        paths
    }

    fn each_operation_needs_its_own_permission(&mut self) {
        for named in self.names() {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let count = cases("/n/a").len();
                let paths = self.plant(&mut asker, &named, perms, count);
                let asked: Vec<Case> = paths
                    .iter()
                    .enumerate()
                    .map(|(place, path)| cases(path).swap_remove(place))
                    .collect();
                let asks: Vec<Ask> =
                    asked.iter().map(|case| (case.request.clone(), case.number.clone())).collect();
                for (case, answer) in asked.iter().zip(asker.ask_all(&asks)) {
                    let free = case.name == "exists" && self.is_apache;
                    let expected = free || case.needs.met_by(perms);
                    let name = case.name;
                    assert_eq!(permitted(&answer), expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn the_superuser_needs_no_permission(&mut self) {
        let named = names(ADDRESS).swap_remove(3);
        let mut asker = Connection::open(self.address);
        asker.prove_digest("super", PASSWORD);
        let paths = self.plant(&mut asker, &named, Perms(0), cases("/n/a").len());
        for (place, path) in paths.iter().enumerate() {
            let Case { name, request, number, .. } = cases(path).swap_remove(place);
            assert!(permitted(&asker.ask_all(&[(request, number)])[0]), "{name}");
        }
    }

    fn a_change_is_told_to_who_may_read(&mut self) {
        for named in self.names() {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let paths = self.plant(&mut asker, &named, Perms::ALL, changes("/n/a").len());
                let watched: Vec<Change> = paths
                    .iter()
                    .enumerate()
                    .map(|(place, path)| changes(path).swap_remove(place))
                    .collect();
                asker.must(watched.iter().map(|watched| watched.leave.clone()));
                let setter = if named.is_creator { &mut asker } else { &mut self.root };
                setter.must(paths.iter().map(|path| set_acl(path, named.list(perms))));
                self.root.must(watched.iter().map(|watched| watched.change.clone()));
                // What was to be told before is told by then.
                asker.must([Request::Ping]);
                let told = std::mem::take(&mut asker.events);
                for (watched, path) in watched.iter().zip(&paths) {
                    let told = told.contains(path);
                    let expected = perms.intersects(Perms::READ);
                    let name = watched.name;
                    assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn what_was_missed_is_told_to_who_may_read(&mut self) {
        for named in self.names() {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let paths = self.plant(&mut asker, &named, perms, missed("/n/a").len());
                for (place, path) in paths.iter().enumerate() {
                    let (name, request) = missed(path).swap_remove(place);
                    // The events come before the reply.
                    asker.must([request]);
                    let told = !std::mem::take(&mut asker.events).is_empty();
                    let expected = perms.intersects(Perms::READ) || self.is_apache;
                    assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn that_a_znode_comes_and_goes_is_told_by_its_own_list(&mut self) {
        for named in self.names().into_iter().filter(|named| !named.is_creator) {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let watched = comings_and_goings("/n/a").len();
                let paths = self.below_planted(watched);
                let asks: Vec<Ask> = paths
                    .iter()
                    .enumerate()
                    .map(|(place, path)| (comings_and_goings(path)[place].1.clone(), None))
                    .collect();
                let list = || named.list(perms);
                let create = |path| op(create_op(path, CreateMode::Persistent, list()));
                let created: Vec<Request> = paths.iter().map(|path| create(path)).collect();
                let deleted = paths.iter().map(|path| op(delete_op(path))).collect();
                for changes in [created, deleted] {
                    asker.ask_all(&asks);
                    self.root.must(changes.clone());
                    asker.must([Request::Ping]);
                    let told = std::mem::take(&mut asker.events);
                    for (change, path) in changes.iter().zip(&paths) {
                        let expected = perms.intersects(Perms::READ);
                        let told = told.contains(path);
                        assert_eq!(told, expected, "{change:?} with {perms:?} by {named:?}");
                    }
                }
            }
        }
    }

    /// The row of the operation that is on one znode alone.
    fn a_reconfiguration_needs_to_write_the_configuration(&mut self) {
        for named in self.names() {
            let mut asker = self.asker(&named);
            for perms in grants() {
                self.root.must([set_acl(CONFIG_PATH, Acl::open())]);
                let setter = if named.is_creator { &mut asker } else { &mut self.root };
                setter.must([set_acl(CONFIG_PATH, named.list(perms))]);
                // It asks for no change.
                let answers = asker.ask_all(&[(Request::Reconfig(Reconfig::default()), None)]);
                let expected = perms.intersects(Perms::WRITE);
                assert_eq!(permitted(&answers[0]), expected, "{perms:?} by {named:?}");
            }
        }
    }

    fn run(&mut self) {
        self.each_operation_needs_its_own_permission();
        self.the_superuser_needs_no_permission();
        self.a_change_is_told_to_who_may_read();
        self.what_was_missed_is_told_to_who_may_read();
        self.that_a_znode_comes_and_goes_is_told_by_its_own_list();
    }
}

fn super_digest() -> String {
    digest_identity(format!("super:{PASSWORD}").as_bytes()).expect("has a colon").id
}

/// A server where all that is asked can be proved.
fn config(authority: &Authority) -> Config {
    let mut users = SaslUsers::default();
    users.insert("dave", PASSWORD).expect("is a name");
    let listen = ([127, 0, 0, 1], 0).into();
    Config {
        listen,
        super_digest: Some(super_digest()),
        sasl: Some(Sasl { users, required: false, super_user: None }),
        tls: Some(ClientTls { listen: Some(listen), ..authority.strict_server() }),
        ..Config::default()
    }
}

fn with_stage(config: Config, authority: Authority, run: impl FnOnce(&mut Stage)) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let server = runtime.block_on(Server::start(config)).expect("starts");
    // A member alone leads soon; the connections here do not try again.
    let servers = server.local_addr().to_string();
    let first = Client::builder().servers(servers).connect_timeout(PATIENCE);
    runtime.block_on(first.connect()).expect("there is a leader soon");
    let mut stage = Stage::new(server.local_addr(), false);
    stage.secure = Some((server.secure_addr().expect("has one"), authority));
    run(&mut stage);
    runtime.block_on(server.stop());
}

#[test]
fn a_server_permits_what_is_specified() {
    let authority = Authority::new();
    with_stage(config(&authority), authority, Stage::run);
}

#[test]
fn a_member_lets_who_may_reconfigure() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("can be made");
    let peer = TcpListener::bind((ADDRESS, 0)).and_then(|free| free.local_addr());
    let peer_listen = Some(peer.expect("a free port").to_string());
    let member = MemberConfig { peer_listen, ..MemberConfig::new(folder.path()) };
    let config = Config { member: Some(member), reconfig_enabled: true, ..config(&authority) };
    with_stage(config, authority, Stage::a_reconfiguration_needs_to_write_the_configuration);
}

#[cfg(feature = "apache")]
#[test]
fn apache_zookeeper_permits_the_same_and_knows_our_client() {
    use synod_core::model::Code;
    use synod_tests::recipes::ground::Ground;
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let folder = tempfile::tempdir().expect("can be made");
    let jaas = folder.path().join("jaas.conf");
    let users = format!(
        "Server {{\n org.apache.zookeeper.server.auth.DigestLoginModule required\n \
         user_dave=\"{PASSWORD}\";\n}};\n"
    );
    std::fs::write(&jaas, users).expect("can be written");
    let digest = "-Dzookeeper.DigestAuthenticationProvider.superDigest=";
    let providers = "org.apache.zookeeper.server.auth";
    let settings = [
        format!("{digest}{}", super_digest()),
        format!("-Djava.security.auth.login.config={}", jaas.display()),
        format!("-Dzookeeper.authProvider.1={providers}.SASLAuthenticationProvider"),
        format!("-Dzookeeper.authProvider.2={providers}.X509AuthenticationProvider"),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=off".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let ground = runtime.block_on(Ground::apache_with(&settings));
    let address = ground.faults().address(0);
    Stage::new(address, true).run();
    runtime.block_on(async {
        let builder = || Client::builder().servers(address.to_string()).connect_timeout(PATIENCE);
        let dave = builder().sasl_digest("dave", PASSWORD).connect().await.expect("is dave");
        let acl = vec![Acl::new(Perms::ALL, "sasl", "dave")];
        dave.create("/of-dave", "1").acl(acl).await.expect("is created");
        dave.get("/of-dave").await.expect("is his");
        let nobody = builder().connect().await.expect("has a session");
        assert!(nobody.get("/of-dave").await.expect_err("is his").is(Code::NoAuth));
        let wrong = builder().sasl_digest("dave", "wrong").connect().await;
        assert!(wrong.expect_err("is not dave").is(Code::AuthFailed));
    });
    drop((ground, runtime));
}
