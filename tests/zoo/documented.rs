//! docs/holders.md is about the zoo.

use crate::creatures::CREATURES;

#[test]
fn the_documents_table_is_the_zoos() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/holders.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: Vec<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let verdict = cells[3].trim_end_matches(" |").replace("in use", "in-use");
            (cells[0].trim_end_matches('`').to_owned(), verdict)
        })
        .collect();
    let zoo: Vec<(String, String)> =
        CREATURES.iter().map(|creature| (creature.kind.to_owned(), creature.verdict.to_owned())).collect();
    assert_eq!(documented, zoo);
}
