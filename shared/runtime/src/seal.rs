//! The seal of a body: that it was made from a row of the table, and by whoever may read the outbox.
//!
//! It is the last member of the body, and covers every byte before it. The key is the event's own, from the database, which checks the seal with
//! the preview ([decision 15](../../../docs/decisions/0015-messages-bear-a-seal.md)).

use sha2::{Digest, Sha256};
use std::fmt::Write;
use switchyard_store::Seal;

const BEFORE: &str = ",\"seal\":\"";
const AFTER: &str = "\"}";
/// SHA-256 in hexadecimal.
const LENGTH: usize = 64;

/// The body with its seal. It is a JSON object that is not empty.
pub(crate) fn sealed(body: &str, key: &[u8]) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let seal = hex(&Sha256::digest([key, digest.as_slice()].concat()));
    format!("{}{BEFORE}{seal}{AFTER}", body.strip_suffix('}').unwrap_or(body))
}

/// What the database checks of a body. One without a seal has an empty one, which fits nothing.
pub(crate) fn of(body: &str) -> Seal {
    let parts = || {
        let (content, seal) =
            body.strip_suffix(AFTER)?.split_at_checked(body.len().checked_sub(AFTER.len() + LENGTH)?)?;
        Some((content.strip_suffix(BEFORE)?, seal))
    };
    let (content, seal) = parts().unwrap_or((body, ""));
    let digest = Sha256::new().chain_update(content).chain_update("}").finalize().to_vec();
    Seal { digest, seal: seal.to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(LENGTH), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_found_again_and_covers_every_byte() {
        let body = r#"{"id":"é","n":1}"#;
        let whole = sealed(body, &[7; 32]);
        assert!(serde_json::from_str::<serde_json::Value>(&whole).is_ok());
        let found = of(&whole);
        assert_eq!(found.digest, Sha256::digest(body).to_vec());
        assert_eq!(found.seal, hex(&Sha256::digest([&[7; 32][..], found.digest.as_slice()].concat())));
        assert_ne!(of(&whole.replace("\"n\":1", "\"n\":2")).digest, found.digest);
    }

    #[test]
    fn a_body_without_a_seal_has_an_empty_one() {
        for body in ["", "{}", "é", r#"{"seal":"x"}"#, &format!("{{\"a\":\"{}\"}}", "é".repeat(40))] {
            assert_eq!(of(body).seal, "", "{body}");
        }
    }
}
