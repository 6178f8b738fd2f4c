use std::fmt;
use std::ops::BitOr;

/// A set of permissions on one znode; they do not reach down to its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Perms(pub u32);

impl Perms {
    /// Read the data, the ACL and the list of children, and be told of changes.
    pub const READ: Perms = Perms(1);
    /// Set the data.
    pub const WRITE: Perms = Perms(2);
    /// Create children.
    pub const CREATE: Perms = Perms(4);
    /// Delete children.
    pub const DELETE: Perms = Perms(8);
    /// Set the ACL.
    pub const ADMIN: Perms = Perms(16);
    /// All five.
    pub const ALL: Perms = Perms(31);

    /// Whether the two sets share a permission.
    pub fn intersects(self, other: Perms) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Perms {
    type Output = Perms;

    fn bitor(self, other: Perms) -> Perms {
        Perms(self.0 | other.0)
    }
}

/// Who somebody is, as far as a connection has proved it: a scheme and an id within it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `ip`, `digest`, `x509`, `sasl`, or `super`, who may do everything.
    pub scheme: String,
    /// The id: an address, `user:hash`, a name.
    pub id: String,
}

impl Identity {
    /// An identity of that scheme and id.
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }
}

impl fmt::Debug for Identity {
    /// Shows the user of a digest, never the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme.as_str(), self.id.split_once(':')) {
            ("digest", Some((user, _))) => write!(f, "digest:{user}:…"),
            ("ip", _) | (_, None) => write!(f, "{}:{}", self.scheme, self.id),
            (scheme, Some((user, _))) => write!(f, "{scheme}:{user}:…"),
        }
    }
}

/// One line of an access control list: what somebody may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// What is permitted.
    pub perms: Perms,
    /// To whom: `world:anyone`, `auth:` (whoever creates it), `digest:user:hash`,
    /// `ip:address/bits`, `x509:name`, `sasl:name`.
    pub who: Identity,
}

impl Acl {
    /// Permits `perms` to `scheme:id`.
    pub fn new(perms: Perms, scheme: impl Into<String>, id: impl Into<String>) -> Acl {
        Acl { perms, who: Identity::new(scheme, id) }
    }

    /// Everything to everybody: the default.
    pub fn open() -> Vec<Acl> {
        vec![Acl::new(Perms::ALL, "world", "anyone")]
    }

    /// Everything to whoever creates the znode, as the connection has proved it; refused while
    /// it has proved nothing.
    pub fn creator() -> Vec<Acl> {
        vec![Acl::new(Perms::ALL, "auth", "")]
    }

    /// Reading to everybody.
    pub fn read_only() -> Vec<Acl> {
        vec![Acl::new(Perms::READ, "world", "anyone")]
    }
}
