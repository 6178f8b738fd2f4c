//! SASL for clients: who the users are, and whether every client must be one of them.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use synod_core::SaslUsers;

use crate::limits::SASL_USERS_BYTES_MAX;
use crate::secret;

/// What a server needs for SASL's DIGEST-MD5. A client that goes through with it has the identity
/// `sasl:USER` in ACLs.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// Who the users are. All members of a cluster need the same ones.
    pub users: SaslUsers,
    /// Nothing is done for a client before it has proved to be one of them: the error −124, and the
    /// end of the connection.
    pub required: bool,
    /// The user who may do everything, as ZooKeeper's `zookeeper.superUser`; one of the users. The
    /// others have no powers but those of their ACLs, whatever their names are.
    pub super_user: Option<String>,
}

/// Why a file of users cannot be used. No part of a password is in it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .file.display())]
pub struct SaslUsersError {
    file: PathBuf,
    problem: String,
}

impl Sasl {
    /// Whether the one who may do everything is among the users, if there is one.
    pub(crate) fn knows_super_user(&self) -> bool {
        self.super_user.as_deref().is_none_or(|user| self.users.contains(user))
    }

    /// Reads the users from a file, once: `NAME:PASSWORD` a line. A name has 1 to 255 bytes, and no
    /// colon or control character. Lines that are empty or begin with `#` say nothing.
    ///
    /// # Errors
    /// The file cannot be read or has more than 1 MiB, others than its owner and group may read or
    /// write it, or a line breaks the rules.
    pub fn read_users(file: &Path) -> Result<SaslUsers, SaslUsersError> {
        let wrong = |problem: &dyn fmt::Display| SaslUsersError {
            file: file.to_owned(),
            problem: problem.to_string(),
        };
        let open = secret::open(file, "passwords").map_err(|error| wrong(&error))?;
        let mut text = String::new();
        let read = open.take(SASL_USERS_BYTES_MAX + 1).read_to_string(&mut text);
        if read.map_err(|error| wrong(&error))? as u64 > SASL_USERS_BYTES_MAX {
            return Err(wrong(&"a file of users has at most 1 MiB"));
        }
        let mut users = SaslUsers::default();
        for (place, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entered = match line.split_once(':') {
                Some((name, password)) => users.insert(name, password),
                None => Err("a user is given as NAME:PASSWORD"),
            };
            match entered {
                Ok(true) => {}
                Ok(false) => return Err(wrong(&format!("line {}: a user stands once", place + 1))),
                Err(rule) => return Err(wrong(&format!("line {}: {rule}", place + 1))),
            }
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<SaslUsers, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("users");
        std::fs::write(&file, text).expect("is written");
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("is its own");
        Sasl::read_users(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_of_users_has_a_user_a_line() {
        let users = read("# ours\nann:pw\n\nbob:p:w \njürgen:\n", 0o640).expect("is read");
        assert_eq!(users.len(), 3);
        assert!(read("", 0o600).expect("is read").is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_a_password() {
        let long = format!("{}:swordfish", "x".repeat(256));
        let large = "ann:swordfish\n".repeat(80_000);
        for (text, mode, said) in [
            ("ann:swordfish", 0o644, "others may read (mode 644)"),
            ("ann:swordfish", 0o602, "others may read (mode 602)"),
            ("bob:pw\nswordfish", 0o600, "line 2: a user is given as NAME:PASSWORD"),
            (":swordfish", 0o600, "line 1: the name of a user has 1 to 255 bytes"),
            (&long, 0o600, "line 1: the name of a user has 1 to 255 bytes"),
            ("a\tb:swordfish", 0o600, "line 1: the name of a user has no colon"),
            ("ann:swordfish\nann:swordfish", 0o600, "line 2: a user stands once"),
            (&large, 0o600, "at most 1 MiB"),
        ] {
            let error = read(text, mode).expect_err(said);
            assert!(error.contains(said) && error.contains("users"), "{error}");
            assert!(!error.contains("swordfish"), "{error}");
        }
        let missing = Sasl::read_users(Path::new("no/such.users")).expect_err("is not there");
        assert!(missing.to_string().starts_with("no/such.users: "), "{missing}");
    }
}
