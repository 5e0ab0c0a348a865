//! The Lambda function of the agent `duplicate`.

fn main() -> std::process::ExitCode {
    switchyard_runtime::run_agent(duplicate::Duplicate::new)
}
