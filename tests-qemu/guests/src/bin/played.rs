//! Runs a program on a simulated system: `played KIND PROGRAM [ARGUMENT]`.
#![no_std]
#![no_main]

use guests::{entry, harness, played};

entry!(played::main, harness::panic);
