//! The suite's agents as a Lambda function.

fn main() -> std::process::ExitCode {
    faults::agents::serve()
}
