//! Who may do what.

use std::net::IpAddr;

use synod_core::model::limits::ACL_ENTRIES_MAX;
use synod_core::model::{Acl, Code, Identity, Perms};

/// Whether the list permits one of `wanted` to somebody who is all of `who`.
pub(super) fn permits(acl: &[Acl], who: &[Identity], wanted: Perms) -> bool {
    who.iter().any(|identity| identity.scheme == "super")
        || acl.iter().any(|line| {
            line.perms.intersects(wanted)
                && (is_anyone(&line.who) || who.iter().any(|identity| covers(&line.who, identity)))
        })
}

fn is_anyone(who: &Identity) -> bool {
    who.scheme == "world" && who.id == "anyone"
}

fn covers(line: &Identity, identity: &Identity) -> bool {
    line.scheme == identity.scheme
        && match line.scheme.as_str() {
            "ip" => is_in_network(&identity.id, &line.id),
            _ => line.id == identity.id,
        }
}

/// The address as a text of zeros and ones, so that a network is a prefix of it.
fn bits(address: &str) -> Option<String> {
    match address.parse().ok()? {
        IpAddr::V4(v4) => Some(format!("{:032b}", u32::from(v4))),
        IpAddr::V6(v6) => Some(format!("{:0128b}", u128::from(v6))),
    }
}

/// The bits of a network that count, and how many bits its addresses have.
fn network_bits(network: &str) -> Option<(String, usize)> {
    let (address, length) = match network.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<usize>().ok()?)),
        None => (network, None),
    };
    let bits = bits(address)?;
    let length = length.unwrap_or(bits.len());
    Some((bits.get(..length)?.to_owned(), bits.len()))
}

fn is_in_network(address: &str, network: &str) -> bool {
    match (bits(address), network_bits(network)) {
        (Some(address), Some((prefix, width))) => {
            address.len() == width && address.starts_with(&prefix)
        }
        _ => false,
    }
}

/// The list as it is stored: without duplicates, `auth` replaced by what the connection is.
pub(super) fn stored(acl: &[Acl], who: &[Identity]) -> Result<Vec<Acl>, Code> {
    let mut list = Vec::new();
    for line in acl {
        match line.who.scheme.as_str() {
            "world" if line.who.id == "anyone" => list.push(line.clone()),
            "auth" => {
                let counts =
                    |identity: &&Identity| identity.scheme != "ip" && identity.scheme != "super";
                let proved: Vec<_> = who.iter().filter(counts).collect();
                if proved.is_empty() {
                    return Err(Code::InvalidAcl);
                }
                list.extend(
                    proved.into_iter().map(|who| Acl { perms: line.perms, who: who.clone() }),
                );
            }
            "digest" if line.who.id.matches(':').count() == 1 => list.push(line.clone()),
            "ip" if network_bits(&line.who.id).is_some() => list.push(line.clone()),
            "x509" | "sasl" => list.push(line.clone()),
            _ => return Err(Code::InvalidAcl),
        }
    }
    let mut unique: Vec<Acl> = Vec::new();
    for line in list {
        if !unique.contains(&line) {
            unique.push(line);
        }
    }
    if unique.is_empty() || acl.len() > ACL_ENTRIES_MAX {
        return Err(Code::InvalidAcl);
    }
    Ok(unique)
}

/// The list as it is shown to somebody: the hashes of digests only to who may administer.
pub(super) fn shown(acl: &[Acl], who: &[Identity]) -> Vec<Acl> {
    let mut acl = acl.to_vec();
    if !permits(&acl, who, Perms::ADMIN) {
        for line in &mut acl {
            if let ("digest", Some((user, _))) =
                (line.who.scheme.as_str(), line.who.id.split_once(':'))
            {
                line.who.id = format!("{user}:x");
            }
        }
    }
    acl
}
