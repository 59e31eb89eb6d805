//! `rseq-conform`: what this system makes of rseq(2).
#![no_std]
#![no_main]

use guests::{conform, entry, harness};

entry!(conform::main, harness::panic);
