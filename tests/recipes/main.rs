//! What well-known recipes leave and destroy on a node with living and leaked pods, and what podplumb does.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod animal;
mod page;
mod recipe;
mod zoo;

use podplumb_tests::require;

const NEEDS: [&str; 12] = [
    "containerd",
    "ctr",
    "runc",
    "busybox",
    "dockerd",
    "docker",
    "iptables",
    "ip",
    "ping",
    "nsenter",
    "unshare",
    "lsns",
];

#[test]
fn the_page_about_recipes_says_what_they_leave_and_destroy() {
    if !require(&NEEDS) {
        return;
    }
    let mut rows = Vec::new();
    let mut last = Vec::new();
    for recipe in &recipe::RECIPES {
        // A thread each: a world is entered for good.
        let measured = std::thread::spawn(move || {
            let mut zoo = zoo::Zoo::build();
            println!("== {}", recipe.name);
            zoo.apply(recipe);
            let mut row = page::Row::new(recipe, &zoo.animals);
            // podplumb runs from a timer, and spares what another podplumb, such as another test's, looks at in that moment.
            for _ in 0..3 {
                if recipe.name == "podplumb" && !row.left.is_empty() {
                    zoo.apply(recipe);
                    row = page::Row::new(recipe, &zoo.animals);
                }
            }
            println!("{row:#?}");
            let animals = std::mem::take(&mut zoo.animals);
            (row, animals)
        });
        let (row, animals) = measured.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rows.push(row);
        last = animals;
    }
    let podplumb = rows.last().expect("rows");
    assert!(podplumb.left.is_empty() && podplumb.harmed.is_empty(), "{podplumb:#?}");
    let others = &rows[..rows.len() - 1];
    assert!(others.iter().all(|row| !row.left.is_empty()), "each recipe leaves something: {others:#?}");
    page::compare(&page::measured(&last, &rows));
}
