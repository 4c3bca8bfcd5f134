//! Writing it down for people.
