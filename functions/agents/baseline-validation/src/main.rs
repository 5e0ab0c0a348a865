//! The Lambda function of the agent `baseline-validation`.

fn main() -> std::process::ExitCode {
    switchyard_runtime::run_agent(baseline_validation::BaselineValidation::new)
}
