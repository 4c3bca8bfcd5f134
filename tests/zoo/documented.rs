//! docs/holders.md is about the zoo.

use crate::creatures::CREATURES;

#[test]
fn the_documents_table_is_the_zoos() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/holders.md")).unwrap();
    // Other tables are about other things.
    let table = text.split("\n\n").find(|part| part.starts_with("| holder |")).expect("a table of holders");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
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
