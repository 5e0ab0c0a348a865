//! A migration that was added is no change of a source file, so cargo would not look.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
