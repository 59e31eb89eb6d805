//! `green [wc|bench]`: counts the words of a file tree, or measures the cost of a switch. `cargo run --release` counts
//! the words of this folder.
#![no_std]
#![no_main]

mod brought;
mod start;

use green::arguments::Arguments;
use green::{bench, count, println};

fn main(arguments: Arguments<'_>) -> i32 {
    match arguments.nth(1) {
        None | Some(b"wc") => count::main(arguments),
        Some(b"bench") => bench::main(arguments),
        Some(_) => {
            println!(
                "green [wc [PATH] [--queue percpu|mpmc|mutex|all] [--carriers M] [--green N]]"
            );
            println!("green bench [--carriers M] [--green N] [--switches K] [--repeats R]");
            2
        }
    }
}
