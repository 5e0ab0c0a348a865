//! What the last release calls. A setup runs before the new functions are deployed, so for one release the programs of before work on the new SQL
//! ([decision 12](../../../docs/decisions/0012-tables-freeze-functions-are-replaced.md)).
//!
//! `released_calls.txt` has a line for each function that the released Rust calls or that an application may: what it is called with, and the
//! columns of its answer. A function may get further arguments that have defaults, and further columns at the end. At a release, when the functions
//! of before are nobody's any more, write the file anew: `SWITCHYARD_RELEASE=1 cargo test -p switchyard-tests --test suite -- store::released`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use switchyard_tests::database::Database;
use tokio_postgres::Client;

/// For the application and the old system (the store's README).
const FOR_APPLICATIONS: [&str; 8] = ["publish", "claim", "fail", "park", "todo_old", "parked_old", "retry", "sign"];

const FUNCTIONS: &str = "select p.proname::text, p.pronargdefaults::int, p.proretset,
      array(select format_type(t, null) from unnest(p.proargtypes::oid[]) with ordinality u (t, n) order by n),
      case when 'o' = any (p.proargmodes) or 't' = any (p.proargmodes)
           then array(select p.proargnames[n] || ' ' || format_type(t, null) from unnest(p.proallargtypes, p.proargmodes) with ordinality u (t, m, n)
                       where m in ('o', 't') order by n)
           when r.typtype = 'c'
           then array(select a.attname || ' ' || format_type(a.atttypid, null) from pg_attribute a
                       where a.attrelid = r.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum)
           else array[format_type(p.prorettype, null)] end
    from pg_proc p join pg_type r on r.oid = p.prorettype
   where p.pronamespace = 'switchyard'::regnamespace order by 1, 4";

/// How a function is called, and what it answers.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    name: String,
    arguments: Vec<String>,
    set: bool,
    columns: Vec<String>,
}

impl Call {
    fn line(&self) -> String {
        let set = if self.set { "setof " } else { "" };
        format!("{}({}) -> {set}({})", self.name, self.arguments.join(", "), self.columns.join(", "))
    }

    fn parse(line: &str) -> Self {
        let (name, rest) = line.split_once('(').unwrap();
        let (arguments, answer) = rest.split_once(") -> ").unwrap();
        let (set, columns) = answer.strip_prefix("setof ").map_or((false, answer), |columns| (true, columns));
        let columns = columns.strip_prefix('(').and_then(|columns| columns.strip_suffix(')')).unwrap();
        let list = |text: &str| text.split(", ").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { name: name.to_owned(), arguments: list(arguments), set, columns: list(columns) }
    }

    /// Whether whoever calls it so can call this one, of whose arguments so many have defaults.
    fn goes_to(&self, now: &Self, defaults: usize) -> bool {
        self.name == now.name
            && self.set == now.set
            && now.arguments.starts_with(&self.arguments)
            && now.arguments.len() <= self.arguments.len() + defaults
            && now.columns.starts_with(&self.columns)
    }
}

async fn functions(client: &Client) -> Vec<(Call, usize)> {
    let rows = client.query(FUNCTIONS, &[]).await.unwrap();
    let function = |row: &tokio_postgres::Row| {
        let call = Call { name: row.get(0), arguments: row.get(3), set: row.get(2), columns: row.get(4) };
        (call, usize::try_from(row.get::<_, i32>(1)).unwrap())
    };
    rows.iter().map(function).collect()
}

/// The functions that the store's source names, and the application's.
fn called() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = FOR_APPLICATIONS.map(str::to_owned).into();
    let mut folders = vec![root().join("shared/store/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                names.extend(text.split("switchyard.").skip(1).filter_map(|rest| {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
                    rest[end..].starts_with('(').then(|| rest[..end].to_owned())
                }));
            }
        }
    }
    names
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn golden() -> PathBuf {
    root().join("tests/suite/store/released_calls.txt")
}

#[tokio::test]
async fn what_the_last_release_calls_can_still_be_called() {
    let database = Database::migrated().await;
    let now = functions(&database.connect().await).await;
    if std::env::var_os("SWITCHYARD_RELEASE").is_some() {
        let called = called();
        let lines = now.iter().filter(|(call, _)| called.contains(&call.name)).map(|(call, _)| call.line() + "\n");
        std::fs::write(golden(), lines.collect::<String>()).unwrap();
    }
    let released = std::fs::read_to_string(golden()).unwrap();
    let released: Vec<Call> = released.lines().map(Call::parse).collect();
    assert!(released.len() > 80, "{}", released.len());
    let gone: Vec<String> = released
        .iter()
        .filter(|call| !now.iter().any(|(function, defaults)| call.goes_to(function, *defaults)))
        .map(Call::line)
        .collect();
    assert!(
        gone.is_empty(),
        "the last release calls these, and a setup that comes first would take them away:\n{}",
        gone.join("\n")
    );
}

#[test]
fn a_function_may_get_defaults_and_columns_and_nothing_else() {
    let before = Call::parse("f(text, integer) -> setof (a text, b bigint)");
    let cases: BTreeMap<&str, bool> = [
        ("f(text, integer) -> setof (a text, b bigint)", true),
        ("f(text, integer, text) -> setof (a text, b bigint, c text)", true),
        ("f(text, integer, text, text) -> setof (a text, b bigint)", false),
        ("f(text) -> setof (a text, b bigint)", false),
        ("f(text, bigint) -> setof (a text, b bigint)", false),
        ("f(text, integer) -> (a text, b bigint)", false),
        ("f(text, integer) -> setof (a text)", false),
        ("f(text, integer) -> setof (b bigint, a text)", false),
        ("g(text, integer) -> setof (a text, b bigint)", false),
    ]
    .into();
    for (now, goes) in cases {
        assert_eq!(before.goes_to(&Call::parse(now), 1), goes, "{now}");
    }
}
