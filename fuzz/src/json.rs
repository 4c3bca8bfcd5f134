//! Mutations that leave JSON what it is: most single bytes that change only make it no JSON.

use serde_json::{Number, Value, json};

/// Values at which readers of others went wrong before.
const TEXTS: [&str; 22] = [
    "",
    "0",
    "-1",
    "4294967296",
    "true",
    "..",
    "a/b",
    "\u{0}",
    "\u{1b}[31m",
    "line\nline",
    "ä\u{10ffff}",
    "0.0.0.0",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "10.0.0.5/24",
    "::",
    "::/0",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:10.0.0.1",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
    "host-local",
];

/// xorshift: what libFuzzer's seed becomes.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }
}

/// For `fuzz_mutator!`: changes one value of a JSON text, or, one time in four and where it is no JSON, its bytes.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(seed | 1);
    random.next();
    if let (1.., Ok(mut value)) = (random.below(4), serde_json::from_slice::<Value>(&data[..size])) {
        for _ in 0..=random.below(3) {
            change(&mut value, &mut random);
        }
        let text = value.to_string();
        if text.len() <= max_size.min(data.len()) {
            data[..text.len()].copy_from_slice(text.as_bytes());
            return text.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// For `fuzz_mutator!`: the same for a text that begins with JSON and goes on, after `separator`, with something else.
pub fn mutate_head(separator: &str, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let head = data[..size].windows(separator.len()).position(|window| window == separator.as_bytes());
    let (Some(head), true) = (head, seed.is_multiple_of(3)) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    let rest = data[head..size].to_vec();
    let room = max_size.min(data.len()).saturating_sub(rest.len());
    if room < head {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let head = mutate(&mut data[..room], head, room, seed / 3);
    data[head..head + rest.len()].copy_from_slice(&rest);
    head + rest.len()
}

fn change(root: &mut Value, random: &mut Random) {
    let count = count(root);
    let other = nth(root, &mut random.below(count)).map(|value| value.clone()).unwrap_or_default();
    let Some(value) = nth(root, &mut random.below(count)) else { return };
    match (random.below(8), value) {
        (0, value) => *value = other,
        (1, value) => *value = extreme(random),
        (2, Value::Array(list)) if !list.is_empty() => drop(list.remove(random.below(list.len()))),
        (3, Value::Array(list)) => list.insert(random.below(list.len() + 1), other),
        (2, Value::Object(object)) => {
            let key = object.keys().nth(random.below(object.len())).cloned();
            key.and_then(|key| object.remove(&key));
        }
        (3, Value::Object(object)) => drop(object.insert(TEXTS[random.below(TEXTS.len())].into(), other)),
        (_, Value::Number(number)) => *number = neighbour(number, random),
        (_, Value::String(text)) => {
            let mut bytes = text.clone().into_bytes();
            let length = bytes.len();
            bytes.resize(length + 16, 0);
            let length = libfuzzer_sys::fuzzer_mutate(&mut bytes, length, length + 16);
            *text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        }
        (_, value) => *value = extreme(random),
    }
}

fn extreme(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(random.below(2) == 0),
        4 => json!(i64::MIN),
        5 => json!(i64::MAX),
        6 => json!(u64::MAX),
        7 => json!(u32::MAX),
        8 => json!(-1),
        9 => json!("x".repeat(random.below(300))),
        _ => TEXTS[random.below(TEXTS.len())].into(),
    }
}

fn neighbour(number: &Number, random: &mut Random) -> Number {
    let value = number.as_i64().unwrap_or(i64::MAX);
    let value = match random.below(4) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value.wrapping_mul(2),
        _ => value.wrapping_neg(),
    };
    value.into()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(object) => object.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place, counted from the root down.
fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|inner| nth(inner, place)),
        Value::Object(object) => object.values_mut().find_map(|inner| nth(inner, place)),
        _ => None,
    }
}
