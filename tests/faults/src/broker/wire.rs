//! The two ways in which AWS spells a call: a form for SNS, JSON for SQS.

use std::collections::BTreeMap;

/// Reads `a=1&b=%20x`.
pub(super) fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Percent signs and pluses undone.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let byte = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(byte.unwrap_or(b'%'));
                at += if byte.is_some() { 2 } else { 0 };
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Text inside XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_the_clients_write_it() {
        let form = form(b"Action=Publish&Message=%7B%22a%22%3A+%22%C3%A9%25%22%7D&Odd=%zz");
        assert_eq!((form["Message"].as_str(), form["Odd"].as_str()), ("{\"a\": \"é%\"}", "%zz"));
    }
}
