//! The Lambda function that sends back what is parked.

fn main() -> std::process::ExitCode {
    switchyard_runtime::serve(redrive::start, redrive::handle)
}
