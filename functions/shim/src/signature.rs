//! Whether a webhook is signed with the secret, and recent.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;

/// How far a webhook's clock may be from ours, in seconds: what was recorded earlier is worth nothing after that.
pub const TOLERANCE_SECS: u64 = 300;

/// The shortest secret that is taken, in bytes: half of what the hash gives.
const SHORTEST: usize = 16;

/// What webhooks may be signed with: one secret, or while it is exchanged the old one and the new one. Never printed.
pub struct Secrets(Vec<Box<[u8]>>);

impl Secrets {
    /// What [`Secrets::parse`] takes, for a person.
    pub const EXPECTED: &str = "a secret of 16 characters or more, nor a list of them, by commas or in JSON";

    /// A secret, several by commas, or a JSON list of them. `None` if that is not what it is, or one is too short to be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let secrets: Vec<String> = if text.starts_with('[') {
            serde_json::from_str(text).ok()?
        } else {
            text.split(',').map(|secret| secret.trim().to_owned()).collect()
        };
        let strong = !secrets.is_empty() && secrets.iter().all(|secret| secret.len() >= SHORTEST);
        strong.then(|| Self(secrets.into_iter().map(|secret| secret.into_bytes().into()).collect()))
    }

    /// Whether a request is signed with one of them: `x-switchyard-signature` is `v1=` and the HMAC-SHA256, in hexadecimal digits, of the header
    /// `x-switchyard-timestamp` as it stands, a full stop, and the raw body. The comparison takes the same time whatever is wrong.
    ///
    /// # Errors
    /// [`Unsigned`], the first thing that is wrong.
    pub fn verify(
        &self,
        now: i64,
        timestamp: Option<&str>,
        signature: Option<&str>,
        body: &[u8],
    ) -> Result<(), Unsigned> {
        let timestamp = timestamp.ok_or(Unsigned::Missing(TIMESTAMP))?;
        let signature = signature.ok_or(Unsigned::Missing(SIGNATURE))?;
        let at = seconds(timestamp).ok_or(Unsigned::Timestamp)?;
        let digest = signature.strip_prefix("v1=").and_then(from_hex).ok_or(Unsigned::Signature)?;
        if at.abs_diff(now) > TOLERANCE_SECS {
            return Err(Unsigned::Time);
        }
        // Every secret is tried, whichever fits.
        let fits = self.0.iter().fold(false, |fits, secret| fits | is_signed(secret, timestamp, body, &digest));
        if fits { Ok(()) } else { Err(Unsigned::Wrong) }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// The header with the time of the signature, in seconds since 1970.
pub(crate) const TIMESTAMP: &str = "x-switchyard-timestamp";
/// The header with the signature.
pub(crate) const SIGNATURE: &str = "x-switchyard-signature";

/// Why a request is refused. One line each, for the person who sets up the webhook.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// A header is not there.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The time is no number.
    #[error("the header x-switchyard-timestamp is not a time in seconds since 1970")]
    Timestamp,
    /// The signature is none.
    #[error("the header x-switchyard-signature is not v1= and 64 hexadecimal digits")]
    Signature,
    /// Recorded earlier, or one of the clocks is wrong.
    #[error("the signature's time is more than {TOLERANCE_SECS} seconds from this clock's")]
    Time,
    /// Another secret, or another body.
    #[error("the signature is not that of this body and time by a secret that is known here")]
    Wrong,
}

fn is_signed(secret: &[u8], timestamp: &str, body: &[u8], digest: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(digest).is_ok()
}

/// Digits alone: `parse` would take a sign, too.
fn seconds(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "an old secret of ours";
    const NOW: i64 = 1_767_605_400;

    fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(&[timestamp.as_bytes(), b".", body].concat());
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("v1={digits}")
    }

    fn verify(at: i64, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), Unsigned> {
        Secrets::parse(SECRET).unwrap().verify(at, Some(timestamp), Some(signature), body)
    }

    #[test]
    fn a_signature_is_what_other_programs_compute() {
        // printf '1767605400.{}' | openssl dgst -sha256 -hmac 'an old secret of ours'
        let known = "v1=0d1504eaf789ee13ec9782fd47c1fd648b7182586916806087a8e14e9849cfa2";
        assert_eq!(sign(SECRET, "1767605400", b"{}"), known);
        assert_eq!(verify(NOW, "1767605400", known, b"{}"), Ok(()));
    }

    #[test]
    fn what_was_signed_more_than_five_minutes_before_or_after_is_refused() {
        let signature = sign(SECRET, "1767605400", b"{}");
        for now in [NOW - 300, NOW, NOW + 300] {
            assert_eq!(verify(now, "1767605400", &signature, b"{}"), Ok(()));
        }
        for now in [NOW - 301, NOW + 301, i64::MIN, i64::MAX] {
            assert_eq!(verify(now, "1767605400", &signature, b"{}"), Err(Unsigned::Time));
        }
        assert_eq!(
            verify(NOW, "1767605700", &signature, b"{}"),
            Err(Unsigned::Wrong),
            "a new time needs a new signature"
        );
    }

    #[test]
    fn every_other_thing_that_is_wrong_is_told() {
        let (time, signature) = ("1767605400", sign(SECRET, "1767605400", b"{}"));
        assert_eq!(verify(NOW, time, &signature, b"[]"), Err(Unsigned::Wrong));
        assert_eq!(verify(NOW, time, &sign("a secret of another's", time, b"{}"), b"{}"), Err(Unsigned::Wrong));
        for bad in
            ["", "v1=", "v2=00", &signature[..66], &signature[3..], "v1=\u{e9}\u{e9}", &signature.replace('=', ":")]
        {
            assert_eq!(verify(NOW, time, bad, b"{}"), Err(Unsigned::Signature), "{bad}");
        }
        for bad in ["", "+1767605400", "1767605400.0", " 1767605400", "\u{0661}", "99999999999999999999", "-1"] {
            assert_eq!(verify(NOW, bad, &sign(SECRET, bad, b"{}"), b"{}"), Err(Unsigned::Timestamp), "{bad}");
        }
        let secrets = Secrets::parse(SECRET).unwrap();
        assert_eq!(secrets.verify(NOW, None, Some(&signature), b"{}"), Err(Unsigned::Missing(TIMESTAMP)));
        assert_eq!(secrets.verify(NOW, Some(time), None, b"{}"), Err(Unsigned::Missing(SIGNATURE)));
    }

    #[test]
    fn while_a_secret_is_exchanged_both_are_good() {
        for list in
            ["an old secret of ours, a new secret of ours", r#"["an old secret of ours", "a new secret of ours"]"#]
        {
            let secrets = Secrets::parse(list).unwrap();
            for secret in ["an old secret of ours", "a new secret of ours"] {
                let signature = sign(secret, "1767605400", b"{}");
                assert_eq!(secrets.verify(NOW, Some("1767605400"), Some(&signature), b"{}"), Ok(()), "{list}");
            }
            assert_eq!(format!("{secrets:?}"), "2 secrets", "they are never printed");
        }
        for none in ["short", "", "an old secret of ours,", "[]", "[1]", "[\"an old secret of ours\""] {
            assert!(Secrets::parse(none).is_none(), "{none}");
        }
    }

    proptest! {
        /// Header and body alike. (A digit in the other case is the same digit, and stands for the same signature.)
        #[test]
        fn any_single_changed_byte_is_refused(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let time = NOW.to_string();
            let signature = sign(SECRET, &time, &body);
            prop_assert_eq!(verify(NOW, &time, &signature, &body), Ok(()));
            let mut whole = [time.as_bytes(), signature.as_bytes(), &body].concat();
            let at = at.index(whole.len());
            whole[at] ^= flip;
            let (head, body) = whole.split_at(time.len() + signature.len());
            let (Ok(time), Ok(changed)) = (std::str::from_utf8(&head[..time.len()]), std::str::from_utf8(&head[time.len()..])) else { return Ok(()) };
            prop_assume!(!changed.eq_ignore_ascii_case(&signature) || changed == signature);
            prop_assert!(verify(NOW, time, changed, body).is_err());
        }
    }
}
