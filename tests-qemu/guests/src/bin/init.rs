//! The minimal init of the demo. To be written; for now it says where it is.
#![no_std]
#![no_main]

use guests::entry::Env;
use guests::{arch, entry, line};

entry!(main);

fn main(env: &Env) -> i32 {
    line!(
        "init on ",
        arch::NAME,
        if env.is_pid1() { " as PID 1" } else { "" }
    );
    0
}
