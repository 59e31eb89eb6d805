//! The tests of the runtime: natively, under qemu-user, and as PID 1.
#![no_std]
#![no_main]

use green::tests::{life, migrate, queues};
use guests::entry;
use guests::entry::Env;
use guests::harness::run_suite;

entry!(main);

fn main(env: &Env) -> i32 {
    run_suite(env, &[queues::TESTS, life::TESTS, migrate::TESTS])
}
