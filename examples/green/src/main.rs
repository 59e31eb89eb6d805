//! `green wc|test|bench`: the word count, the tests, and what a switch costs.
#![no_std]
#![no_main]

use green::{bench, count, tests};
use guests::entry::Env;
use guests::harness::{self, run_suite};
use guests::{entry, println};

entry!(main, harness::panic);

fn main(env: &Env) -> i32 {
    match env.args().nth(1) {
        Some(b"wc") => count::main(env),
        Some(b"bench") => bench::main(env),
        Some(b"test") => run_suite(env, tests::SUITES),
        _ => {
            println!("green wc PATH | green test | green bench");
            2
        }
    }
}
