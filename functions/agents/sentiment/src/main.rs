//! The Lambda function of the agent `sentiment`.

fn main() -> std::process::ExitCode {
    switchyard_runtime::run_agent(|_| sentiment::Sentiment)
}
