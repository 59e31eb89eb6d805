//! To come.
#![no_std]
#![no_main]
use guests::entry::Env;
use guests::entry;
entry!(main);
fn main(_: &Env) -> i32 { let _ = green::carrier::RSEQ.owner(); 0 }
