//! The `digest` scheme: a user and a password, of which the coordinator keeps a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::model::{Acl, Identity, Perms};

/// The identity of `user:password`: the user, and base64 of the SHA-1 of the whole, as ZooKeeper
/// computes it. (The scheme is as old as that hash; take TLS certificates where you can.)
///
/// `None` if there is no colon.
pub fn digest_identity(credentials: &[u8]) -> Option<Identity> {
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&credentials[..colon]).ok()?;
    let hash = STANDARD.encode(Sha1::digest(credentials));
    Some(Identity::new("digest", format!("{user}:{hash}")))
}

impl Acl {
    /// Permits `perms` to whoever proves that user and password.
    pub fn digest(perms: Perms, user: &str, password: &str) -> Acl {
        let hash = STANDARD.encode(Sha1::digest(format!("{user}:{password}")));
        Acl::new(perms, "digest", format!("{user}:{hash}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_zookeeper_computes() {
        let identity = digest_identity(b"super:test").expect("has a colon");
        assert_eq!(identity.id, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(Acl::digest(Perms::ALL, "super", "test").who, identity);
        assert_eq!(digest_identity(b"nobody"), None);
    }
}
