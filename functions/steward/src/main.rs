//! The Lambda function that keeps ledger, queues and mappings in step.

fn main() -> std::process::ExitCode {
    switchyard_runtime::serve(steward::start, steward::handle)
}
