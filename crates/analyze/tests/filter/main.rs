//! What rules do with a packet: hand-written rulesets, and ones that come by chance.

mod rules;
mod table;
mod unknown;
