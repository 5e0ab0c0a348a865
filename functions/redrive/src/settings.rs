//! The function's settings, from the environment.

use crate::Redriver;
use switchyard_bus::{LambdaDirectory, SqsMoves, SqsQueue};
use switchyard_runtime::{Environment, StartError, open_store};

/// Reads `STACK_NAME` and makes the clients.
pub(crate) async fn redriver() -> Result<Redriver<LambdaDirectory, SqsMoves, SqsQueue>, StartError> {
    let environment = Environment;
    let stack = environment.required("STACK_NAME", "the name of the stack whose dead-letter queues these are")?;
    let settings = switchyard_bus::aws::settings().await;
    Ok(Redriver {
        store: open_store(environment, &settings).await?,
        directory: LambdaDirectory::new(&settings, stack),
        moves: SqsMoves::new(&settings),
        open: Box::new(move |url| SqsQueue::new(&settings, url.to_owned())),
    })
}
