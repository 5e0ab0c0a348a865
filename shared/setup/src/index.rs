//! The index that the backfill of a large table needs.

use crate::message;
use switchyard_store::{DatabaseUrl, drop_history_index, index_history};

pub(crate) async fn create(url: &DatabaseUrl) -> Result<(), String> {
    let created = index_history(url).await.map_err(message)?;
    println!(
        "{}",
        if created { "created the index switchyard_history" } else { "the table has such an index already" }
    );
    Ok(())
}

pub(crate) async fn drop(url: &DatabaseUrl) -> Result<(), String> {
    drop_history_index(url).await.map_err(message)?;
    println!("the index switchyard_history is gone");
    Ok(())
}
