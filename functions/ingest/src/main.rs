//! The Lambda function that appends to the table what arrives on the ingress topic.

fn main() -> std::process::ExitCode {
    switchyard_runtime::serve_queue(ingest::start, ingest::handle)
}
