//! Asking before something large is done.

use crate::{failure::Failure, style::eprint_line};
use std::io::{BufRead, IsTerminal};

/// Whether the user confirms `question` at a terminal. The question is computed only then.
///
/// # Errors
/// `refusal` if there is no terminal.
pub(crate) async fn confirmed(
    question: impl AsyncFnOnce() -> Result<String, Failure>,
    refusal: &str,
) -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::new(refusal.to_owned()));
    }
    eprint_line(format!("{} [y/N]", question().await?));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::new(format!("no answer: {error}")))?;
    Ok(says_yes(&answer))
}

fn says_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::says_yes;

    #[test]
    fn only_yes_is_yes() {
        assert!(says_yes("y\n") && says_yes(" YES "));
        assert!(!says_yes("\n") && !says_yes("no\n") && !says_yes("yesterday"));
    }
}
