//! Who the holder of a certificate is, as an id of the scheme `x509`. Nobody is asked for it: what
//! names the address has in the DNS says nothing about who holds a key.

use std::fmt::Write as _;

use synod_core::model::Identity;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What a client's certificate is known by in ACLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject, in the form of RFC 2253 (`CN=worker,O=Example`): what ZooKeeper takes.
    #[default]
    Subject,
    /// The first URI of the subject alternative names, or the first DNS name if there is none. What
    /// has no scheme is no URI. A certificate with neither is accepted and proves no identity.
    AlternativeName,
}

impl CertificateName {
    /// The identity that a verified certificate proves, if it has such a name.
    pub(super) fn identity(self, certificate: &CertificateDer<'_>) -> Option<Identity> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let id = match self {
            CertificateName::Subject => distinguished_name(certificate.subject())?,
            CertificateName::AlternativeName => {
                // Only so is no URI mistaken for a DNS name, which has no colon.
                let uri = certificate.valid_uri_names().find(|uri| uri.contains(':'));
                uri.or_else(|| certificate.valid_dns_names().next())?.to_owned()
            }
        };
        (!id.is_empty()).then(|| Identity::new("x509", id))
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// The attributes that RFC 2253 names, by their object identifiers; others are given in figures.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// One value of DER: its tag, what is in it, and both with the length between them.
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Takes the first value off `input`.
fn take<'a>(input: &mut &'a [u8]) -> Option<Value<'a>> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        // More than four bytes of length no certificate has.
        let bytes = usize::from(first & 0x7F);
        if !(1..=4).contains(&bytes) {
            return None;
        }
        let (digits, behind) = rest.split_at_checked(bytes)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = behind;
    }
    let (content, behind) = rest.split_at_checked(length)?;
    let whole = &input[..input.len() - behind.len()];
    *input = behind;
    Some(Value { tag, content, whole })
}

fn take_tagged<'a>(input: &mut &'a [u8], tag: u8) -> Option<Value<'a>> {
    take(input).filter(|value| value.tag == tag)
}

/// A name in the form of RFC 2253: its parts from the last to the first.
fn distinguished_name(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let mut attributes = take_tagged(&mut name, SET)?.content;
        let mut part = String::new();
        while !attributes.is_empty() {
            let mut attribute = take_tagged(&mut attributes, SEQUENCE)?.content;
            let kind = object_identifier(take_tagged(&mut attribute, OBJECT_IDENTIFIER)?.content)?;
            let value = take(&mut attribute)?;
            if !part.is_empty() {
                part.push('+');
            }
            let keyword = KEYWORDS.iter().find(|(id, _)| *id == kind).map(|(_, keyword)| *keyword);
            match (keyword, text(&value)) {
                (Some(keyword), Some(text)) => {
                    part.push_str(keyword);
                    part.push('=');
                    escape(text, &mut part);
                }
                _ => {
                    part.push_str(&kind);
                    part.push_str("=#");
                    value.whole.iter().for_each(|byte| _ = write!(part, "{byte:02x}"));
                }
            }
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(","))
}

fn text<'a>(value: &Value<'a>) -> Option<&'a str> {
    match value.tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(value.content).ok(),
        _ => None,
    }
}

fn escape(text: &str, into: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (place, character) in text.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let leading = place == 0 && matches!(character, '#' | ' ');
        if special || leading || (place == last && character == ' ') {
            into.push('\\');
        }
        into.push(character);
    }
}

/// An object identifier with dots.
fn object_identifier(content: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for byte in content {
        arc = arc.checked_mul(128)? + u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                // The first two share a number.
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    let arcs: Vec<String> = arcs.iter().map(u64::to_string).collect();
    (!arcs.is_empty()).then(|| arcs.join("."))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(name: DistinguishedName, alternatives: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().clone()
    }

    fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
        name
    }

    fn known_by(by: CertificateName, certificate: &CertificateDer<'_>) -> Option<String> {
        let identity = by.identity(certificate)?;
        assert_eq!(identity.scheme, "x509");
        Some(identity.id)
    }

    #[test]
    fn a_subject_reads_from_its_last_part_to_its_first() {
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Example, Inc."),
            (DnType::OrganizationalUnitName, " a+b;c "),
            (DnType::CommonName, "#worker \"7\""),
        ];
        let expected = r#"CN=\#worker \"7\",OU=\ a\+b\;c\ ,O=Example\, Inc.,C=DE"#;
        let certificate = certificate(name(&parts), Vec::new());
        assert_eq!(known_by(CertificateName::Subject, &certificate).as_deref(), Some(expected));
        assert_eq!(known_by(CertificateName::AlternativeName, &certificate), None);
    }

    #[test]
    fn what_has_no_keyword_or_is_no_text_is_given_in_figures() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, DnValue::Utf8String("a".to_owned()));
        name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b");
        let expected = "1.2.840.113549.1.9.1=#0c03614062,CN=a";
        let certificate = certificate(name, Vec::new());
        assert_eq!(known_by(CertificateName::Subject, &certificate).as_deref(), Some(expected));
    }

    #[test]
    fn an_alternative_name_is_the_first_uri_and_else_the_first_dns_name() {
        let dns = |text: &str| SanType::DnsName(text.try_into().expect("is a name"));
        let uri = |text: &str| SanType::URI(text.try_into().expect("is ASCII"));
        let worker = || uri("spiffe://example/worker");
        let none = || DistinguishedName::new();
        for (names, expected) in [
            (vec![dns("a.example"), worker(), dns("b.example")], Some("spiffe://example/worker")),
            (vec![dns("a.example"), dns("b.example")], Some("a.example")),
            // One without a scheme could be anybody's DNS name.
            (vec![uri("a.example")], None),
            (vec![uri("a.example"), dns("b.example")], Some("b.example")),
            (vec![uri("a.example"), worker()], Some("spiffe://example/worker")),
        ] {
            let certificate = certificate(none(), names);
            let known = known_by(CertificateName::AlternativeName, &certificate);
            assert_eq!(known.as_deref(), expected);
            // An empty subject is nobody.
            assert_eq!(known_by(CertificateName::Subject, &certificate), None);
        }
    }

    #[test]
    fn what_is_no_name_proves_nothing() {
        for broken in [
            &[0x31][..],
            &[0x31, 0x05, 0x30],
            &[0x31, 0x80],
            &[0x31, 0x85, 0, 0, 0, 0, 0],
            &[0x31, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x30, 0x00],
            &[0x31, 0x02, 0x30, 0x00],
            &[0x31, 0x06, 0x30, 0x04, 0x06, 0x00, 0x0C, 0x00],
        ] {
            assert_eq!(distinguished_name(broken), None, "{broken:02x?}");
        }
        // An identifier whose number has no end.
        assert_eq!(object_identifier(&[0xFF; 32]), None);
    }
}
