//! Authorities and the certificates that they sign, in PEM files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use synod_core::client::Tls;
use synod_server::tls::{ClientTls, TlsFiles};
use tempfile::TempDir;

static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

/// Who signs, and a folder for what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of one certificate.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities have two names.
        let number = AUTHORITIES.fetch_add(1, Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let folder = tempfile::tempdir().expect("can be made");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Authority { issuer, folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate of that subject.
    pub(crate) fn sign(&self, subject: &str, hosts: &[&str]) -> Signed {
        self.sign_with(subject, hosts, |_| ())
    }

    /// The same, long expired.
    pub(crate) fn sign_expired(&self, subject: &str, hosts: &[&str]) -> Signed {
        self.sign_with(subject, hosts, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    fn sign_with(
        &self,
        subject: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Signed {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("valid");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let write = |name: String, text: String| {
            let file = self.folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("is its own");
            file
        };
        Signed {
            certificate: write(format!("{subject}.pem"), certificate.pem()),
            key: write(format!("{subject}.key"), key.serialize_pem()),
        }
    }

    /// What a server of this authority on loopback is told.
    pub(crate) fn server(&self) -> ClientTls {
        let signed = self.sign("server", &["localhost", "127.0.0.1"]);
        ClientTls::new(signed.certificate, signed.key)
    }

    /// The same; its clients show certificates of this authority.
    pub(crate) fn strict_server(&self) -> ClientTls {
        ClientTls { client_ca: Some(self.file()), ..self.server() }
    }

    /// What a member on loopback is told, which believes members of that authority.
    pub(crate) fn member(&self, trusted: &Authority) -> TlsFiles {
        let Signed { certificate, key } = self.sign("member", &["127.0.0.1"]);
        TlsFiles { ca: trusted.file(), certificate, key }
    }

    /// What a client is told that shows no certificate.
    pub(crate) fn client(&self) -> Tls {
        Tls::trusting(self.file())
    }
}

impl Signed {
    /// A client with this certificate, which believes servers of that authority.
    pub(crate) fn client(&self, trusted: &Authority) -> Tls {
        trusted.client().proving(&self.certificate, &self.key)
    }
}
