//! The options that every command has.

use clap::Args;

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The stack [default: stack_name of samconfig.toml in this folder, or else `switchyard`]
    #[arg(long, global = true, env = "SWITCHYARD_STACK", value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Where AWS is, for LocalStack [default: AWS_ENDPOINT_URL, or else AWS itself]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// The name that the audit keeps
    #[arg(long, global = true, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    pub(crate) operator: String,
    /// The answer as JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}
