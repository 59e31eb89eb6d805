//! `rseq-conform`: judges this system's rseq(2).
#![no_std]
#![no_main]

use guests::{conform, entry, harness};

entry!(conform::main, harness::panic);
