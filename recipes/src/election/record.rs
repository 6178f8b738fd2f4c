//! What is in a candidate's znode.
//!
//! ```text
//! node-7            the name, alone at first
//!
//! node-7
//! value             of a leader
//! anything at all   what it has proclaimed, to the end
//!
//! node-7
//! offer 3 _c_9f1c…  of one who waits: the leader's znode, at version 3, may be taken over
//! ```

use bytes::Bytes;
use synod_core::model::Error as ClientError;

const VALUE: &[u8] = b"\nvalue\n";
const OFFER: &str = "\noffer ";

/// The data of a candidate's znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) value: Option<Bytes>,
    pub(super) offer: Option<Offer>,
}

/// A leader's word that the one in whose znode it stands may take its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The name of the leader's znode.
    pub(super) leader: String,
    /// The version at which it must be: the leader takes an offer back by writing to its own znode.
    pub(super) version: i32,
}

impl Record {
    pub(super) fn check_name(name: &str) -> Result<(), ClientError> {
        match name.contains('\n') {
            true => Err(ClientError::invalid("name of a candidate", name, "a name is one line")),
            false => Ok(()),
        }
    }

    pub(super) fn encode(name: &str, value: Option<&[u8]>) -> Vec<u8> {
        match value {
            Some(value) => [name.as_bytes(), VALUE, value].concat(),
            None => name.as_bytes().to_vec(),
        }
    }

    /// The data of one who is offered the leadership.
    pub(super) fn encode_offer(name: &str, offer: &Offer) -> Vec<u8> {
        format!("{name}{OFFER}{} {}", offer.version, offer.leader).into_bytes()
    }

    /// What is of another form is a name alone.
    pub(super) fn decode(data: &Bytes) -> Record {
        let name_bytes = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
        let (name, rest) = (data.slice(..name_bytes), data.slice(name_bytes..));
        let value = rest.starts_with(VALUE).then(|| rest.slice(VALUE.len()..));
        let offer = std::str::from_utf8(&rest).ok().and_then(|rest| {
            let (version, leader) = rest.strip_prefix(OFFER)?.split_once(' ')?;
            Some(Offer { leader: leader.to_owned(), version: version.parse().ok()? })
        });
        Record { name: String::from_utf8_lossy(&name).into_owned(), value, offer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for value in [None, Some(&b""[..]), Some(b"\nvalue\n\0\xFF\n")] {
            let data = Bytes::from(Record::encode("node-7 ü", value));
            let value = value.map(Bytes::copy_from_slice);
            let record = Record { name: "node-7 ü".to_owned(), value, offer: None };
            assert_eq!(Record::decode(&data), record);
        }
        let offer = Offer { leader: "_c_1-lead-0000000003".to_owned(), version: 7 };
        let data = Bytes::from(Record::encode_offer("node-7", &offer));
        assert_eq!(&data[..], b"node-7\noffer 7 _c_1-lead-0000000003");
        let record = Record { name: "node-7".to_owned(), value: None, offer: Some(offer) };
        assert_eq!(Record::decode(&data), record);
    }

    #[test]
    fn what_others_have_written_is_a_name() {
        let texts = ["", "host:1", "a\nb", "a\nvalue", "a\noffer ", "a\noffer x y", "a\noffer 1"];
        for text in texts {
            let name = text.lines().next().unwrap_or_default().to_owned();
            let record = Record::decode(&Bytes::from(text));
            assert_eq!(record, Record { name, value: None, offer: None });
        }
        assert!(Record::check_name("a\nvalue\nb").is_err() && Record::check_name("").is_ok());
    }
}
