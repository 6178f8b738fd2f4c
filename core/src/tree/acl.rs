//! Access control lists: what is accepted, who is permitted, and the table in which equal lists
//! are kept once.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::digest;
use crate::arena::{Arena, Slots};
use crate::model::limits::{ACL_BYTES_MAX, ACL_ENTRIES_MAX};
use crate::model::{Acl, Code, Identity, Perms, Refusal};

/// The number of an ACL in its tree. It stays valid until the next change of the tree, even if
/// the last znode that had it is gone: watches are told under the ACL of a deleted znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclId(pub(super) u32);

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) list: Arc<[Acl]>,
    /// What everybody may do: answers most questions at once.
    world: Perms,
    /// Of a list that is too long to be read through.
    lookup: Option<Arc<Lookup>>,
    digest: u64,
    znodes: u32,
}

/// Lines that are read through for each of the identities of who asks. A request can look at ACLs
/// thousands of times, and nobody else has a turn meanwhile: of longer lists a table is made.
const LINES_READ_MAX: usize = 4;

/// Finds in a long list what somebody is permitted.
struct Lookup {
    hasher: RandomState,
    /// A line that names somebody, and what all such lines permit together.
    by_who: HashTable<(u32, Perms)>,
    networks: Vec<(Network, Perms)>,
}

impl Lookup {
    fn new(list: &[Acl]) -> Lookup {
        let hasher = RandomState::default();
        let (mut by_who, mut networks) = (HashTable::new(), Vec::new());
        for (number, Acl { perms, who }) in (0_u32..).zip(list) {
            if who.scheme == "ip" {
                networks.extend(Network::parse(&who.id).map(|network| (network, *perms)));
                continue;
            }
            let who_of = |(line, _): &(u32, Perms)| &list[*line as usize].who;
            let hash = hasher.hash_one(who);
            match by_who.find_mut(hash, |found| who_of(found) == who) {
                Some((_, permitted)) => *permitted = *permitted | *perms,
                None => {
                    let rehash = |found: &(u32, Perms)| hasher.hash_one(who_of(found));
                    by_who.insert_unique(hash, (number, *perms), rehash);
                }
            }
        }
        networks.shrink_to_fit();
        Lookup { hasher, by_who, networks }
    }

    /// Whether the list that it was made of permits one of `perms` to that identity.
    fn permits(&self, list: &[Acl], identity: &Identity, perms: Perms) -> bool {
        if identity.scheme == "ip" {
            let Ok(address) = identity.id.parse() else { return false };
            let mut networks = self.networks.iter();
            return networks.any(|(net, may)| may.intersects(perms) && net.contains(address));
        }
        let is_it = |(line, _): &(u32, Perms)| list[*line as usize].who == *identity;
        let found = self.by_who.find(self.hasher.hash_one(identity), is_it);
        found.is_some_and(|(_, permitted)| permitted.intersects(perms))
    }
}

/// What a list takes, in bytes.
fn weight(list: &[Acl]) -> usize {
    let looked_up = if list.len() > LINES_READ_MAX { size_of::<(Network, Perms)>() } else { 0 };
    let line = |line: &Acl| size_of::<Acl>() + line.who.scheme.len() + line.who.id.len();
    list.iter().map(|it| line(it) + looked_up).sum()
}

/// All ACLs of a tree, equal ones once.
pub(super) struct AclTable {
    entries: Arena<Entry>,
    by_list: HashTable<u32>,
    hasher: RandomState,
    /// What the lists take, in bytes.
    bytes: usize,
    /// Numbers that had no znode at some moment since the last [`AclTable::sweep`].
    idle: Vec<u32>,
}

impl AclTable {
    pub(super) fn new() -> AclTable {
        AclTable {
            entries: Arena::new(),
            by_list: HashTable::new(),
            hasher: RandomState::default(),
            bytes: 0,
            idle: Vec::new(),
        }
    }

    /// The number of a list; it must be retained before the next sweep.
    pub(super) fn intern(&mut self, list: &[Acl]) -> AclId {
        let hash = self.hasher.hash_one(list);
        let entries = &self.entries;
        if let Some(id) = self.by_list.find(hash, |id| *entries.get(*id).list == *list) {
            return AclId(*id);
        }
        self.bytes += weight(list);
        let everybody = list.iter().filter(|line| is_world(&line.who));
        let id = self.entries.insert(Entry {
            list: list.into(),
            world: everybody.fold(Perms::default(), |perms, line| perms | line.perms),
            lookup: (list.len() > LINES_READ_MAX).then(|| Arc::new(Lookup::new(list))),
            digest: digest::acl(list),
            znodes: 0,
        });
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_list.insert_unique(hash, id, |id| hasher.hash_one(&*entries.get(*id).list));
        self.idle.push(id);
        AclId(id)
    }

    /// One more znode has it.
    pub(super) fn retain(&mut self, id: u32) {
        self.entries.get_mut(id).znodes += 1;
    }

    /// One znode less has it.
    pub(super) fn release(&mut self, id: u32) {
        let entry = self.entries.get_mut(id);
        entry.znodes -= 1;
        if entry.znodes == 0 {
            self.idle.push(id);
        }
    }

    /// Forgets the lists that no znode has.
    pub(super) fn sweep(&mut self) {
        while let Some(id) = self.idle.pop() {
            let Some(entry) = self.entries.slots().find(id) else { continue };
            if entry.znodes == 0 {
                self.bytes -= weight(&entry.list);
                let hash = self.hasher.hash_one(&*entry.list);
                if let Ok(found) = self.by_list.find_entry(hash, |other| *other == id) {
                    found.remove();
                }
                self.entries.remove(id);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn digest(&self, id: u32) -> u64 {
        self.entries.get(id).digest
    }

    pub(super) fn list(&self, id: u32) -> &[Acl] {
        &self.entries.get(id).list
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn view(&self) -> Slots<Entry> {
        self.entries.view()
    }

    /// Whether the list permits one of `perms` to somebody with these identities.
    pub(super) fn permits(&self, id: u32, identities: &[Identity], perms: Perms) -> bool {
        let Some(entry) = self.entries.slots().find(id) else { return false };
        let list = &*entry.list;
        entry.world.intersects(perms)
            || identities.iter().any(|identity| match &entry.lookup {
                _ if identity.scheme == "super" => true,
                Some(lookup) => lookup.permits(list, identity, perms),
                None => list
                    .iter()
                    .any(|line| line.perms.intersects(perms) && matches(&line.who, identity)),
            })
    }
}

/// What a list has in bytes when `auth` is replaced in it, before duplicates are dropped: a line of few
/// bytes can stand for all that a connection has proved.
pub(super) fn resolved_bytes(acl: &[Acl], identities: &[Identity]) -> usize {
    let of = |who: &Identity| 4 + who.scheme.len() + who.id.len();
    let line = |line: &Acl| match line.who.scheme.as_str() {
        "auth" => identities.iter().map(of).sum(),
        _ => of(&line.who),
    };
    acl.iter().map(line).fold(0, usize::saturating_add)
}

/// The list as it is stored: `auth` replaced by what the connection has proved, duplicates
/// dropped.
pub(super) fn resolve<'a>(
    acl: &'a [Acl],
    identities: &[Identity],
) -> Result<Cow<'a, [Acl]>, Refusal> {
    let resolved = resolve_lines(acl, identities)?;
    let bytes: usize = resolved.iter().map(|line| line.who.scheme.len() + line.who.id.len()).sum();
    if bytes > ACL_BYTES_MAX {
        return Err(Refusal::new(Code::InvalidAcl, "an ACL has at most 131072 bytes"));
    }
    Ok(resolved)
}

fn resolve_lines<'a>(acl: &'a [Acl], identities: &[Identity]) -> Result<Cow<'a, [Acl]>, Refusal> {
    if acl.is_empty() {
        return Err(Refusal::new(Code::InvalidAcl, "an ACL has at least one entry"));
    }
    if acl.len() > ACL_ENTRIES_MAX {
        return Err(TOO_LONG);
    }
    if let [line] = acl
        && line.who.scheme != "auth"
    {
        check(&line.who)?;
        return Ok(Cow::Borrowed(acl));
    }
    let mut resolved: Vec<Acl> = Vec::with_capacity(acl.len());
    let mut add = |line: Acl| {
        if !resolved.contains(&line) {
            resolved.push(line);
        }
        if resolved.len() > ACL_ENTRIES_MAX { Err(TOO_LONG) } else { Ok(()) }
    };
    for line in acl {
        if line.who.scheme == "auth" {
            // An address is not who somebody is, and the superuser needs no line.
            let mut proved = identities
                .iter()
                .filter(|identity| !["ip", "super"].contains(&identity.scheme.as_str()))
                .peekable();
            if proved.peek().is_none() {
                return Err(Refusal::new(
                    Code::InvalidAcl,
                    "auth in an ACL needs a connection that has proved an identity",
                ));
            }
            for who in proved {
                add(Acl { perms: line.perms, who: who.clone() })?;
            }
        } else {
            check(&line.who)?;
            add(line.clone())?;
        }
    }
    Ok(Cow::Owned(resolved))
}

const TOO_LONG: Refusal = Refusal::new(Code::InvalidAcl, "an ACL has at most 1024 entries");

fn check(who: &Identity) -> Result<(), Refusal> {
    let refuse = |rule| Err(Refusal::new(Code::InvalidAcl, rule));
    match who.scheme.as_str() {
        "world" if who.id != "anyone" => refuse("the only id of scheme world is anyone"),
        "digest" if who.id.bytes().filter(|byte| *byte == b':').count() != 1 => {
            refuse("an id of scheme digest is user:hash, with one colon")
        }
        "ip" if Network::parse(&who.id).is_none() => {
            refuse("an id of scheme ip is an address, or address/bits")
        }
        "world" | "digest" | "ip" | "x509" | "sasl" => Ok(()),
        _ => refuse("the scheme of an ACL is world, auth, digest, ip, x509 or sasl"),
    }
}

fn is_world(who: &Identity) -> bool {
    who.scheme == "world" && who.id == "anyone"
}

fn matches(who: &Identity, identity: &Identity) -> bool {
    if who.scheme != identity.scheme {
        return false;
    }
    if who.scheme != "ip" {
        return who.id == identity.id;
    }
    match (Network::parse(&who.id), identity.id.parse::<IpAddr>()) {
        (Some(network), Ok(address)) => network.contains(address),
        _ => false,
    }
}

/// Addresses whose first bits are given.
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(id: &str) -> Option<Network> {
        let (address, bits) = match id.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, Some(bits)),
            // An IPv4 address in IPv6 clothes is the IPv4 address.
            None => (id.parse::<IpAddr>().ok()?.to_canonical(), None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
            Some(_) => return None,
        };
        (bits <= width).then_some(Network { address, bits })
    }

    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other.to_canonical(), other) {
            (IpAddr::V4(own), IpAddr::V4(other), _) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), _, IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}
