//! The Lambda function that publishes events from the table to the topic.

fn main() -> std::process::ExitCode {
    switchyard_runtime::serve(shim::start, shim::handle)
}
