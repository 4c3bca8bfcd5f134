//! Conditions of port mappings. Each line is a word or several of conditionsV4, after `6 ` of conditionsV6.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nft::Conditions;

fuzz_target!(|text: &str| {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match line.strip_prefix("6 ") {
            Some(line) => v6.push(line.to_owned()),
            None => v4.push(line.to_owned()),
        }
    }
    match Conditions::parse(&v4, &v6) {
        Err(why) => assert!(!why.is_empty() && !why.contains(['\n', '\x1b']), "{why:?}"),
        Ok(conditions) => {
            let has_words = text.lines().any(|line| {
                line.strip_prefix("6 ").unwrap_or(line).contains(|c: char| !c.is_ascii_whitespace())
            });
            // Some words say nothing, as `-p all`.
            assert!(has_words || conditions.is_empty());
            assert!(nft::fuzz::ruleset(&conditions).contains(&conditions.id()));
            // However the words are spread over the list; a comment is a whole text, and quotes hold blanks.
            if text.contains("comment") || text.contains('"') {
                return;
            }
            let words = |list: &[String]| -> Vec<String> {
                list.iter().flat_map(|text| text.split_ascii_whitespace()).map(str::to_owned).collect()
            };
            let again = Conditions::parse(&words(&v4), &words(&v6)).expect("the same words");
            assert_eq!((&again, again.id()), (&conditions, conditions.id()));
        }
    }
});
