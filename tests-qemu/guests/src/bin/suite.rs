//! The test suite: natively, under qemu-user, and as PID 1.
#![no_std]
#![no_main]

use guests::entry::Env;
use guests::harness::run_suite;
use guests::{entry, runtime_tests};

entry!(main);

fn main(env: &Env) -> i32 {
    run_suite(env, &[runtime_tests::harness::TESTS, runtime_tests::TESTS])
}
