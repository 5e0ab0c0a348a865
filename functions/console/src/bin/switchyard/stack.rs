//! Which stack a command speaks to.

use std::fs;

/// The default name of the stack.
const DEFAULT: &str = "switchyard";

/// The stack's name: what was said, or what `sam deploy` would use in this folder, or else the default.
pub(crate) fn name(text: Option<&str>) -> String {
    let by_sam = || fs::read_to_string("samconfig.toml").ok().as_deref().and_then(of_samconfig);
    text.map(str::to_owned).or_else(by_sam).unwrap_or_else(|| DEFAULT.to_owned())
}

/// `stack_name` of a samconfig's default environment. Two lines of a file that SAM itself writes need no parser for the whole of TOML.
fn of_samconfig(text: &str) -> Option<String> {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = title;
        }
        let ours = matches!(section, "default.global.parameters" | "default.deploy.parameters");
        let value = line.strip_prefix("stack_name").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        if let (true, Some(value)) = (ours, value) {
            return value.split('"').nth(1).filter(|name| !name.is_empty()).map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_of_the_default_environment_is_found() {
        let ours = include_str!("../../../../../samconfig.toml");
        assert_eq!(of_samconfig(ours).as_deref(), Some("switchyard"));
        let other =
            "[prod.deploy.parameters]\nstack_name = \"p\"\n[default.deploy.parameters]\nstack_name=\"mine\" # here\n";
        assert_eq!(of_samconfig(other).as_deref(), Some("mine"));
        assert_eq!(of_samconfig("version = 0.1\n[prod.deploy.parameters]\nstack_name = \"p\"\n"), None);
        assert_eq!(of_samconfig("stack_name = \"nobody's\""), None);
    }

    #[test]
    fn what_is_said_wins() {
        assert_eq!(name(Some("mine")), "mine");
    }
}
