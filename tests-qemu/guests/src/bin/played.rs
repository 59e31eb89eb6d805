//! Runs a program on a system that is played: `played KIND PROGRAM [ARGUMENT]`.
#![no_std]
#![no_main]

use guests::{entry, harness, played};

entry!(played::main, harness::panic);
