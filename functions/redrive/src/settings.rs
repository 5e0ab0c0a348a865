//! The function's settings, from the environment.

use crate::Redriver;
use switchyard_bus::{LambdaDirectory, SqsMoves, SqsQueue};
use switchyard_runtime::{Environment, StartError};
use switchyard_store::Store;

/// Reads `STACK_NAME`, `DATABASE_URL` and `DATABASE_CONNECTIONS` (2), and makes the clients.
pub(crate) async fn redriver() -> Result<Redriver<LambdaDirectory, SqsMoves, SqsQueue>, StartError> {
    let environment = Environment;
    let stack = environment.required("STACK_NAME", "the name of the stack whose dead-letter queues these are")?;
    let url = environment.database()?;
    let connections = environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?;
    let settings = switchyard_bus::aws::settings().await;
    Ok(Redriver {
        store: Store::open(&url, connections)?,
        directory: LambdaDirectory::new(&settings, stack),
        moves: SqsMoves::new(&settings),
        open: Box::new(move |url| SqsQueue::new(&settings, url.to_owned())),
    })
}
