//! The index that the backfill of a large table needs.

use crate::said;
use switchyard_store::{DatabaseUrl, drop_history_index, index_history};

pub(crate) async fn make(url: &DatabaseUrl) -> Result<(), String> {
    let made = index_history(url).await.map_err(said)?;
    println!("{}", if made { "made the index switchyard_history" } else { "there is such an index already" });
    Ok(())
}

pub(crate) async fn remove(url: &DatabaseUrl) -> Result<(), String> {
    drop_history_index(url).await.map_err(said)?;
    println!("there is no index switchyard_history any more");
    Ok(())
}
