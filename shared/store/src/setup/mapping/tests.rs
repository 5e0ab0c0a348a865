use super::*;
use proptest::prelude::*;

/// `id uuid key!, type text, ...`: a name, a type, and what is special: `key` (not null and unique), `!` (not null), `=` (filled), `~` (generated).
fn shape(columns: &str) -> Shape {
    let column = |said: &str| {
        let mut words = said.split_whitespace();
        let (name, type_name) = (words.next().unwrap(), words.next().unwrap());
        let special: Vec<&str> = words.collect();
        let key = special.contains(&"key");
        Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            not_null: key || special.contains(&"!"),
            filled: special.contains(&"="),
            generated: special.contains(&"~"),
            unique: key,
        }
    };
    Shape { is_table: true, columns: columns.split(',').map(column).collect() }
}

const OURS: &str =
    "id uuid key, type text, aggregate_type text, aggregate_id uuid, payload jsonb, metadata jsonb, version int4,
    created_at timestamptz =";
const THEIRS: &str = "event_id uuid key, name varchar !, subject int8 !, body json !, version int8, tenant text ! =";

fn described(json: &str) -> EventsTable {
    EventsTable::parse(json).unwrap()
}

fn problems(table: &EventsTable, columns: &str) -> String {
    table.on(&shape(columns)).unwrap_err().join("\n")
}

#[test]
fn the_customary_table_maps_to_itself() {
    assert_eq!(EventsTable::customary().on(&shape(OURS)), Ok(Mapping::of_our_own()));
    assert_eq!(Mapping::of_our_own().to_string(), "public.events");
}

#[test]
fn another_table_needs_four_named_columns() {
    let mapping = described(
        r#"{"schema": "shop", "table": "happenings", "columns":
            {"id": "event_id", "type": "name", "aggregate_id": "subject", "payload": "body", "version": null}}"#,
    )
    .on(&shape(THEIRS))
    .unwrap();
    assert_eq!(
        mapping.to_string(),
        "shop.happenings (id as event_id, type as name, no aggregate_type, aggregate_id as subject, payload as body, no metadata, no version, no created_at)"
    );
}

#[test]
fn a_column_with_our_name_is_used_unless_the_file_says_null() {
    let columns = r#""columns": {"id": "event_id", "type": "name", "aggregate_id": "subject", "payload": "body""#;
    let unsaid = described(&format!(r#"{{"table": "t", {columns}}}}}"#));
    assert!(problems(&unsaid, THEIRS).contains("public.t.version is int8"));
    let said = described(&format!(r#"{{"table": "t", {columns}, "version": null}}}}"#));
    assert_eq!(said.on(&shape(THEIRS)).unwrap().version, None);
}

#[test]
fn all_errors_of_a_table_are_reported_at_once() {
    let table = described(r#"{"table": "t", "columns": {"type": "kind", "metadata": "about"}}"#);
    let told = problems(&table, "id int8 key, kind int4, payload text, about json");
    for named in [
        "public.t.id is int8, and it must be uuid",
        "public.t.kind is int4, and for our type it must be text or varchar",
        "public.t has no column aggregate_id: name the one that is our aggregate_id",
        "public.t.payload is text, and it must be jsonb or json",
        "public.t.about is json, and for our metadata it must be jsonb",
    ] {
        assert!(told.contains(named), "{named}\n{told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}

#[test]
fn what_an_append_would_fail_on_is_refused() {
    for (columns, named) in [
        (OURS.replace("id uuid key", "id uuid !"), "needs a key on id alone"),
        (OURS.replace("id uuid key", "id uuid"), "needs a key on id alone"),
        (format!("{OURS}, tenant text !"), "public.events.tenant is not null and has no default"),
        (OURS.replace("type text", "type text ~"), "public.events.type is generated"),
    ] {
        let told = problems(&EventsTable::customary(), &columns);
        assert!(told.contains(named), "{named}: {told}");
    }
    for fine in [format!("{OURS}, tenant text ! ="), format!("{OURS}, total int4 ! ~"), format!("{OURS}, note text")] {
        assert!(EventsTable::customary().on(&shape(&fine)).is_ok(), "{fine}");
    }
}

#[test]
fn a_view_and_one_column_in_two_roles_are_refused() {
    let view = Shape { is_table: false, ..shape(OURS) };
    assert!(EventsTable::customary().on(&view).unwrap_err()[0].contains("no ordinary table"));
    let twice = described(r#"{"table": "events", "columns": {"aggregate_type": "type"}}"#);
    assert!(problems(&twice, OURS).contains("our type and our aggregate_type: type"));
}

#[test]
fn an_unknown_field_is_reported() {
    for (json, named) in [
        (r#"{"tabel": "events"}"#, "tabel"),
        (r#"{"table": "events", "columns": {"kind": "type"}}"#, "kind"),
        (r#"{"columns": {}}"#, "table"),
        (r#"{"table": 7}"#, "invalid type"),
        ("", "EOF"),
    ] {
        let told = EventsTable::parse(json).unwrap_err().to_string();
        assert!(told.contains(named), "{json}: {told}");
    }
}

fn any_columns() -> impl Strategy<Value = Vec<Column>> {
    let name = prop::sample::select(vec![
        "id",
        "type",
        "aggregate_type",
        "aggregate_id",
        "payload",
        "metadata",
        "version",
        "created_at",
        "a \"b\"",
        "x",
    ]);
    let types = vec!["uuid", "text", "varchar", "json", "jsonb", "int2", "int4", "int8", "timestamptz", "timestamp"];
    let column = (name, prop::sample::select(types), any::<[bool; 4]>()).prop_map(
        |(name, type_name, [not_null, filled, generated, unique])| Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            not_null,
            filled,
            generated,
            unique,
        },
    );
    prop::collection::vec(column, 0..12).prop_map(|mut columns| {
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.dedup_by(|a, b| a.name == b.name);
        columns
    })
}

proptest! {
    #[test]
    fn a_mapping_names_only_columns_that_are_there_fit_and_can_be_written(columns in any_columns()) {
        let shape = Shape { is_table: true, columns };
        match EventsTable::customary().on(&shape) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(mapping) => {
                for (_, theirs) in mapping.columns() {
                    let Some(theirs) = theirs else { continue };
                    let column = shape.columns.iter().find(|column| column.name == theirs);
                    prop_assert!(column.is_some_and(|column| !column.generated), "{theirs}");
                }
                let id = shape.columns.iter().find(|column| column.name == mapping.id).unwrap();
                prop_assert!(id.unique && id.not_null && id.type_name == "uuid");
                let unfilled = shape.columns.iter().find(|c| c.not_null && !c.filled && !c.generated && !mapping.uses(&c.name));
                prop_assert_eq!(unfilled, None);
            }
        }
    }
}
