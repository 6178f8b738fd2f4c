use super::limits::TTL_MS_MAX;

/// How long a znode lives and how it is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CreateMode {
    /// Lives until it is deleted.
    #[default]
    Persistent,
    /// Persistent, with a suffix of ten digits that grows with each child of the parent.
    PersistentSequential,
    /// Lives as long as the session that creates it; can have no children.
    Ephemeral,
    /// Ephemeral, with a sequence suffix.
    EphemeralSequential,
    /// Is deleted by the coordinator some time after its last child has gone.
    Container,
    /// Is deleted by the coordinator when it has no children and its data has not changed for
    /// `ttl_ms` milliseconds (1 to 2^40 − 1).
    Ttl {
        /// Time to live in milliseconds.
        ttl_ms: i64,
    },
    /// TTL, with a sequence suffix.
    TtlSequential {
        /// Time to live in milliseconds.
        ttl_ms: i64,
    },
}

impl CreateMode {
    /// Whether the name gets a sequence suffix.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::TtlSequential { .. }
        )
    }

    /// Whether the znode dies with its session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// The time to live in milliseconds, of the modes that have one.
    pub fn ttl_ms(self) -> Option<i64> {
        match self {
            CreateMode::Ttl { ttl_ms } | CreateMode::TtlSequential { ttl_ms } => Some(ttl_ms),
            _ => None,
        }
    }

    /// Whether the time to live, if there is one, lies in 1 to 2^40 − 1 milliseconds.
    pub fn has_valid_ttl(self) -> bool {
        self.ttl_ms().is_none_or(|ttl_ms| (1..=TTL_MS_MAX).contains(&ttl_ms))
    }

    /// The number of the mode in the protocol's `flags` field.
    pub fn flags(self) -> i32 {
        match self {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            CreateMode::Container => 4,
            CreateMode::Ttl { .. } => 5,
            CreateMode::TtlSequential { .. } => 6,
        }
    }
}
