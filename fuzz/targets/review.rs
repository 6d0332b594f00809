//! Review → patch, guided by coverage.
#![no_main]

#[path = "../../tests/webhook/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|body: &[u8]| fuzzed::check(body));
