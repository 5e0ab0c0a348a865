//! Wire names are promises. Each crate that owns types of events has a folder `fixtures` with one frozen body for each type and version.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use switchyard_event::Event;
use uuid::Uuid;

/// The folders `fixtures` in `shared` and of the agents.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates = ["shared", "functions/agents"].map(|parent| fs::read_dir(root.join(parent)).unwrap());
    let folders = crates.into_iter().flatten().map(|entry| entry.unwrap().path().join("fixtures"));
    folders.filter(|folder| folder.exists()).collect()
}

/// The bodies in a folder by the names of their files.
fn bodies(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn a_fixture_has_its_type_and_version_for_a_name_and_goes_out_as_it_came_in() {
    let folders = folders();
    assert!(folders.len() > 2, "{folders:?}");
    for (name, body) in folders.iter().flat_map(|folder| bodies(folder)) {
        let event = Event::parse(&body).unwrap();
        assert_eq!(name, format!("{}.v{}.json", event.event_type, event.version));
        assert_eq!(event.to_wire(), body, "{name}");
    }
}

/// A frozen fixture is never edited: add a version. The list is of digests (UUID version 5 of the body), one line a file.
#[test]
fn no_fixture_changed_since_it_was_frozen() {
    let namespace = Uuid::from_u128(0x5e1f_c0de_5717_4b9d_8a2e_0a11_ab0a_4d00);
    for folder in folders() {
        let now: String = bodies(&folder)
            .iter()
            .map(|(name, body)| format!("{} {name}\n", Uuid::new_v5(&namespace, body.as_bytes())))
            .collect();
        let frozen = fs::read_to_string(folder.join("frozen.txt")).unwrap();
        let folder = folder.display();
        assert_eq!(now, frozen, "{folder}: a fixture was edited, added or removed without freezing it");
    }
}
