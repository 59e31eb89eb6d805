//! rseq-rt.
#![no_std]
