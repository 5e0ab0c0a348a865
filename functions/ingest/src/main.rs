//! The Lambda function that appends to the table what arrives on the ingress topic.

fn main() -> std::process::ExitCode {
    switchyard_runtime::serve(ingest::start, ingest::handle)
}
