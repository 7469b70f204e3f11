#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgio_fuzz::token(bytes));
