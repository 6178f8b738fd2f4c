//! The form of a challenge and of a response: `name=value` or `name="value"`, between commas.

use crate::model::limits::SASL_TOKEN_BYTES_MAX;
use crate::model::{Code, Refusal};

/// What a token says, in its order.
pub(super) struct Directives<'a>(Vec<(&'a str, String)>);

fn malformed(rule: &'static str) -> Refusal {
    Refusal::new(Code::AuthFailed, rule)
}

impl<'a> Directives<'a> {
    /// # Errors
    /// `AuthFailed` for what has not that form, is no UTF-8, or is too long.
    pub(super) fn read(token: &'a [u8]) -> Result<Directives<'a>, Refusal> {
        if token.len() > SASL_TOKEN_BYTES_MAX {
            return Err(malformed("a token of SASL has at most 4096 bytes"));
        }
        let text = std::str::from_utf8(token).map_err(|_| malformed("a token of SASL is UTF-8"))?;
        let mut rest = text;
        let mut found = Vec::new();
        loop {
            rest = rest.trim_start_matches(|char: char| char == ',' || char.is_ascii_whitespace());
            if rest.is_empty() {
                return Ok(Directives(found));
            }
            let (name, after) =
                rest.split_once('=').ok_or(malformed("a directive of SASL is name=value"))?;
            let (value, after) = take_value(after.trim_start())?;
            found.push((name.trim_end(), value));
            rest = after.trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(malformed("directives of SASL have commas between them"));
            }
        }
    }

    /// The value of a directive, if it is there.
    ///
    /// # Errors
    /// `AuthFailed` if it is there twice: it must be clear what counts.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut named = self.0.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        let value = named.next().map(|(_, value)| &**value);
        match named.next() {
            None => Ok(value),
            Some(_) => Err(malformed("a directive of SASL stands once")),
        }
    }
}

/// A value, and what follows it.
fn take_value(text: &str) -> Result<(String, &str), Refusal> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &quoted[place + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            char => value.push(char),
        }
    }
    Err(malformed("a quoted value of SASL has an end"))
}

/// The text in quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
    out.push('"');
    out
}
