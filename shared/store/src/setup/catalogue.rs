//! What Postgres's catalogue says about the application's tables, and the stored mapping.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::row::{get, only};
use crate::setup::mapping::{Column, Mapping, Shape};

const OP: &str = "reading the catalogue";

fn fail(error: tokio_postgres::Error) -> StoreError {
    StoreError::from_postgres(OP, error)
}

/// Whether a relation with this qualified name exists.
pub(crate) async fn exists(client: &Client, relation: &str) -> Result<bool, StoreError> {
    let rows =
        client.query_typed("select to_regclass($1) is not null", &[(&relation, Type::TEXT)]).await.map_err(fail)?;
    get(OP, &only(OP, rows)?, 0)
}

/// Reads the present names of the application's events table and columns. Returns whether they changed.
pub(crate) async fn follow_renames(client: &Client) -> Result<bool, StoreError> {
    let there = "select to_regprocedure('switchyard.follow_renames()') is not null";
    if !get::<bool>(OP, &only(OP, client.query_typed(there, &[]).await.map_err(fail)?)?, 0)? {
        return Ok(false);
    }
    let rows = client.query_typed("select switchyard.follow_renames()", &[]).await.map_err(fail)?;
    get(OP, &only(OP, rows)?, 0)
}

/// The events table of this database; `None` before the first setup.
pub(crate) async fn mapping(client: &Client) -> Result<Option<Mapping>, StoreError> {
    const SQL: &str =
        "select schema_name, table_name, id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at
                         from switchyard.mapping";
    if !exists(client, "switchyard.mapping").await? {
        return Ok(None);
    }
    let rows = client.query_typed(SQL, &[]).await.map_err(fail)?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Mapping {
        schema: get(OP, row, 0)?,
        table: get(OP, row, 1)?,
        id: get(OP, row, 2)?,
        r#type: get(OP, row, 3)?,
        aggregate_type: get(OP, row, 4)?,
        aggregate_id: get(OP, row, 5)?,
        payload: get(OP, row, 6)?,
        metadata: get(OP, row, 7)?,
        version: get(OP, row, 8)?,
        created_at: get(OP, row, 9)?,
    }))
}

/// The present schema of the events table of an earlier setup.
pub(crate) async fn schema_of_events(client: &Client) -> Result<Option<String>, StoreError> {
    const SQL: &str = "select n.nspname::text from switchyard.mapping m
        join pg_class c on c.oid = m.relation join pg_namespace n on n.oid = c.relnamespace";
    if !exists(client, "switchyard.mapping").await? {
        return Ok(None);
    }
    client.query_typed(SQL, &[]).await.map_err(fail)?.first().map(|row| get(OP, row, 0)).transpose()
}

/// The shape of a table; `None` if there is none with this name.
pub(crate) async fn shape(client: &Client, schema: &str, table: &str) -> Result<Option<Shape>, StoreError> {
    const TABLE: &str = "select c.relkind in ('r', 'p') and not c.relispartition, c.oid
                           from pg_class c join pg_namespace n on n.oid = c.relnamespace
                          where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')";
    const COLUMNS: &str = "select a.attname::text, t.typname::text, a.attnotnull, a.atthasdef or a.attidentity <> '',
                                  a.attgenerated <> '' or a.attidentity = 'a',
                                  exists (select 1 from pg_index i where i.indrelid = a.attrelid and i.indisunique and i.indisvalid and i.indimmediate
                                            and i.indpred is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
                             from pg_attribute a join pg_type t on t.oid = a.atttypid
                            where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
                            order by a.attnum";
    let rows = client.query_typed(TABLE, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await.map_err(fail)?;
    let Some(found) = rows.first() else { return Ok(None) };
    let oid: u32 = get(OP, found, 1)?;
    let rows = client.query_typed(COLUMNS, &[(&oid, Type::OID)]).await.map_err(fail)?;
    let columns = rows
        .iter()
        .map(|row| {
            Ok(Column {
                name: get(OP, row, 0)?,
                type_name: get(OP, row, 1)?,
                not_null: get(OP, row, 2)?,
                filled: get(OP, row, 3)?,
                generated: get(OP, row, 4)?,
                unique: get(OP, row, 5)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Some(Shape { is_table: get(OP, found, 0)?, columns }))
}
