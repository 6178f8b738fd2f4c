//! The data of the znode that says who the members of the cluster are.

use crate::model::Zxid;

/// What stands before the version.
const VERSION: &str = "\nversion=";

/// The data for these members from that zxid on.
pub(super) fn data(members: &str, zxid: Zxid) -> String {
    format!("{members}{VERSION}{:x}", zxid.as_i64())
}

/// Whether the data is of these members.
pub(super) fn is_of(data: &[u8], members: &str) -> bool {
    match data.strip_prefix(members.as_bytes()) {
        Some(rest) => rest.starts_with(VERSION.as_bytes()) || data.is_empty(),
        None => false,
    }
}

/// The version; `None` where there is none.
pub(super) fn version(data: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(data).ok()?;
    let (_, version) = text.rsplit_once(VERSION)?;
    i64::from_str_radix(version, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_says_whose_it_is_and_since_when() {
        let text = data("server.1=a:1:1:participant", Zxid::new(1, 10));
        assert_eq!(text, "server.1=a:1:1:participant\nversion=10000000a");
        assert_eq!(version(text.as_bytes()), Some(0x1_0000_000a));
        assert!(is_of(text.as_bytes(), "server.1=a:1:1:participant"));
        for other in ["server.1=a:1:1:observer", "server.1=a:1:1:part", ""] {
            assert!(!is_of(text.as_bytes(), other), "{other}");
        }
        assert_eq!(version(b""), None);
        assert!(is_of(b"", "") && !is_of(b"", "server.1=a:1:1:participant"));
    }
}
