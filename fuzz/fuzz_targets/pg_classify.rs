//! Arbitrary text as SQL: the classifier must return, must say something of every text, and must say the same twice.
#![no_main]

use std::sync::LazyLock;

use onus_pg::classify::{self, Environment};

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(Environment::assumed);

libfuzzer_sys::fuzz_target!(|text: &str| {
    let operations = classify::resolve(&classify::parse(text), &ENVIRONMENT).operations();
    // A text without operations would need no permission. Even an empty one is an operation.
    assert!(!operations.is_empty(), "no operations for {text:?}");
    let again = classify::resolve(&classify::parse(text), &ENVIRONMENT).operations();
    assert_eq!(operations, again);
});
