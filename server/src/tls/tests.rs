use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_rustls::rustls::HandshakeKind;

use super::*;
use crate::net::Tcp;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("signed")
}

/// The files of a member, in a folder that goes when it is dropped.
pub(crate) struct Files {
    folder: PathBuf,
    files: TlsFiles,
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Files {
    pub(crate) fn new(
        name: &str,
        trusted: &Authority,
        signed_by: &Authority,
        expired: bool,
    ) -> Files {
        Files::naming(&["localhost", "127.0.0.1"], name, trusted, signed_by, expired)
    }

    fn naming(
        names: &[&str],
        name: &str,
        trusted: &Authority,
        signed_by: &Authority,
        expired: bool,
    ) -> Files {
        let folder = std::env::temp_dir().join(format!("synod-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, signed_by).expect("signed");
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).expect("written");
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("is its own");
            file
        };
        let files = TlsFiles {
            ca: write("ca.pem", trusted.pem()),
            certificate: write("member.pem", certificate.pem()),
            key: write("member.key", key.serialize_pem()),
        };
        Files { folder, files }
    }

    pub(crate) fn net(&self) -> Tls {
        Tls::over(Arc::new(Tcp), &self.files).expect("good files")
    }
}

/// Says something over a connection, and returns what both sides make of it.
async fn talk(server: &Tls, client: &dyn Net, host: &str) -> (io::Result<()>, io::Result<()>) {
    let mut listener = server.listen("127.0.0.1:0").await.expect("listens");
    let address = format!("{host}:{}", listener.local_addr().expect("bound").port());
    let serving = async {
        let (mut stream, _) = listener.accept().await?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await?;
        stream.write_all(&hello).await?;
        stream.flush().await
    };
    let calling = async {
        let mut stream = client.connect(&address).await?;
        // More than is read at a time: what is left unread must not reset the connection.
        stream.write_all(&[b'h'; 12 << 10]).await?;
        stream.flush().await?;
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.map(|_| ())
    };
    let both = async { tokio::join!(serving, calling) };
    tokio::time::timeout(std::time::Duration::from_secs(30), both).await.expect("in time")
}

fn assert_said(outcome: io::Result<()>, part: &str) {
    let text = outcome.expect_err("refused").to_string();
    assert!(text.contains(part), "{text}");
}

#[tokio::test]
async fn members_of_one_authority_understand_each_other_by_name_and_by_address() {
    let ca = authority();
    let (one, two) = (Files::new("a1", &ca, &ca, false), Files::new("a2", &ca, &ca, false));
    for host in ["localhost", "127.0.0.1"] {
        let (served, called) = talk(&one.net(), &two.net(), host).await;
        served.expect("served");
        called.expect("called");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_whichever_side_shows_it() {
    let (ca, other) = (authority(), authority());
    let good = Files::new("b1", &ca, &ca, false);
    let forged = Files::new("b2", &ca, &other, false);
    let (served, called) = talk(&good.net(), &forged.net(), "localhost").await;
    assert_said(served, "TLS: invalid peer certificate");
    assert_said(called, "TLS: received fatal alert");
    let (served, called) = talk(&forged.net(), &good.net(), "localhost").await;
    assert_said(served, "TLS: received fatal alert");
    assert_said(called, "TLS: invalid peer certificate");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_whichever_side_shows_it() {
    let ca = authority();
    let good = Files::new("c1", &ca, &ca, false);
    let old = Files::new("c2", &ca, &ca, true);
    let (served, called) = talk(&good.net(), &old.net(), "localhost").await;
    assert_said(served, "certificate expired");
    assert_said(called, "TLS: received fatal alert: CertificateExpired");
    let (served, called) = talk(&old.net(), &good.net(), "localhost").await;
    assert_said(served, "TLS: received fatal alert: CertificateExpired");
    assert_said(called, "certificate expired");
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let ca = authority();
    let good = Files::new("d1", &ca, &ca, false);
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("good");
    let without = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let anonymous = good.net();
    lock(&anonymous.current).connector = TlsConnector::from(Arc::new(without));
    let (served, called) = talk(&good.net(), &anonymous, "localhost").await;
    assert_said(served, "TLS: peer sent no certificates");
    assert_said(called, "TLS: received fatal alert: CertificateRequired");
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused_and_a_name_that_is_not_in_the_certificate_is_not_believed() {
    let ca = authority();
    let good = Files::new("e1", &ca, &ca, false);
    let (served, _) = talk(&good.net(), &Tcp, "localhost").await;
    assert_said(served, "TLS: ");
    let elsewhere = Files::naming(&["elsewhere"], "e2", &ca, &ca, false);
    let (served, called) = talk(&elsewhere.net(), &good.net(), "localhost").await;
    assert_said(served, "TLS: received fatal alert");
    assert_said(called, "not valid for name");
    // Nobody asks the DNS what the address is called.
    let named = Files::naming(&["localhost"], "e3", &ca, &ca, false);
    let (_, called) = talk(&named.net(), &good.net(), "127.0.0.1").await;
    assert_said(called, "not valid for name");
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let ca = authority();
    let good = Files::new("f1", &ca, &ca, false);
    let other = Files::new("f2", &ca, &ca, false);
    let refused =
        |files: &TlsFiles| Tls::over(Arc::new(Tcp), files).expect_err("refused").file().to_owned();
    let swapped = TlsFiles { ca: good.files.key.clone(), ..good.files.clone() };
    assert_eq!(refused(&swapped), good.files.key);
    let open = Files::new("open", &ca, &ca, false);
    let mode = Permissions::from_mode(0o644);
    std::fs::set_permissions(&open.files.key, mode).expect("is its own");
    assert_eq!(refused(&open.files), open.files.key, "others may read it");
    let missing = TlsFiles { certificate: "no/such.pem".into(), ..good.files.clone() };
    assert_eq!(refused(&missing), Path::new("no/such.pem"));
    let foreign = TlsFiles { key: other.files.key.clone(), ..good.files.clone() };
    assert_eq!(refused(&foreign), other.files.key);
}

#[test]
fn the_host_of_an_address_is_what_a_certificate_must_name() {
    for (address, name) in [("a.b:1", "a.b"), ("127.0.0.1:2", "127.0.0.1"), ("[::1]:3", "::1")] {
        assert_eq!(server_name(address).expect("a host").to_str(), name);
    }
    assert!(server_name("not a host:1").is_err());
}

/// Shakes hands twice, as a client that would go on with its first TLS session.
async fn shakes_hands_whole<S>(client: &Tls, accept: impl AsyncFn(DuplexStream) -> io::Result<S>)
where
    S: AsyncWrite + Unpin,
{
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 << 10);
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = lock(&client.current).connector.clone();
        let (near, far) = tokio::join!(connector.connect(name, near), accept(far));
        let (mut near, mut far) = (near.expect("shakes hands"), far.expect("shakes hands"));
        far.write_all(b"x").await.expect("connected");
        far.flush().await.expect("connected");
        // What it could be resumed by comes before that.
        near.read_u8().await.expect("connected");
        assert_eq!(near.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn certificates_are_looked_at_each_time() {
    let ca = authority();
    let files = Files::new("whole", &ca, &ca, false);
    let TlsFiles { ca, certificate, key } = files.files.clone();
    let port = ClientTls { client_ca: Some(ca), ..ClientTls::new(certificate, key) };
    let (member, port) = (files.net(), Port::open(&port).expect("good files"));
    let acceptor = lock(&member.current).acceptor.clone();
    shakes_hands_whole(&member, async |far| acceptor.accept(far).await).await;
    shakes_hands_whole(&member, async |far| Ok(port.accept(Box::new(far)).await?.0)).await;
}

/// Both ports by the same files and the same steps: an authority is replaced, file by file.
#[tokio::test]
async fn files_that_are_replaced_count_for_those_who_come_after() {
    let (old, new) = (authority(), authority());
    let files = Files::new("g1", &old, &old, false);
    let before = Files::new("g2", &old, &old, false);
    let after = Files::new("g3", &new, &new, false);
    let TlsFiles { ca, certificate, key } = files.files.clone();
    let (member, one, two) = (files.net(), before.net(), after.net());
    let port = ClientTls { client_ca: Some(ca), ..ClientTls::new(certificate, key) };
    let port = Port::open(&port).expect("good files");
    let understands = async |other: &Tls| {
        let there = talk(&member, other, "localhost").await;
        let back = talk(other, &member, "localhost").await;
        let understood = there.0.is_ok() && there.1.is_ok();
        assert_eq!(understood, back.0.is_ok() && back.1.is_ok(), "{there:?} {back:?}");
        let (near, far) = tokio::io::duplex(64 << 10);
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = lock(&other.current).connector.clone();
        let (_, accepted) = tokio::join!(connector.connect(name, near), port.accept(Box::new(far)));
        assert_eq!(accepted.is_ok(), understood, "the port where clients connect");
        understood
    };
    assert!(understands(&one).await && !understands(&two).await);
    assert!(!member.reload().expect("good files") && !port.reload().expect("good files"));
    // One that is there stays there.
    let mut listener = member.listen("127.0.0.1:0").await.expect("listens");
    let address = format!("localhost:{}", listener.local_addr().expect("bound").port());
    // The side that accepts shakes hands when it reads.
    let dial = async {
        let mut near = one.connect(&address).await.expect("connects");
        near.write_all(b"1").await.expect("connected");
        near.flush().await.expect("connected");
        near
    };
    let take = async {
        let mut far = listener.accept().await.expect("accepts").0;
        assert_eq!(far.read_u8().await.expect("connected"), b'1');
        far
    };
    let (mut near, mut far) = tokio::join!(dial, take);
    let copy = |from: &Path, to: &Path| _ = std::fs::copy(from, to).expect("copies");
    copy(&after.files.key, &files.files.key);
    assert_eq!(member.reload().expect_err("does not fit").file(), files.files.key);
    port.reload().expect_err("does not fit");
    assert!(understands(&one).await && !understands(&two).await, "all is as it was");
    copy(&after.files.certificate, &files.files.certificate);
    copy(&after.files.ca, &files.files.ca);
    assert!(member.reload().expect("good files") && port.reload().expect("good files"));
    assert!(!understands(&one).await && understands(&two).await);
    let said = async {
        near.write_all(b"still there").await.expect("connected");
        near.flush().await.expect("connected");
    };
    let mut heard = [0; 11];
    let (_, read) = tokio::join!(said, far.read_exact(&mut heard));
    read.expect("connected");
    assert_eq!(&heard, b"still there");
}
