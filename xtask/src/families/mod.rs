//! The families of tests: one file or folder and one line in [`FAMILIES`] each.

use crate::case::Family;

mod bench;
mod capi;
mod conform;
mod demo;
mod doctor;
mod golden;
mod green;
mod host;
mod link;
mod musl;
mod mutants;
mod onstd;
mod origin;
mod ownership;
mod runtimes;
mod sections;
mod selftests;
mod shared;
mod suite;
mod tools;

/// All families, in running order.
pub static FAMILIES: [Family; 21] = [
    host::FAMILY,
    link::FAMILY,
    sections::FAMILY,
    golden::FAMILY,
    ownership::FAMILY,
    ownership::OLDER_LIBC,
    capi::FAMILY,
    musl::FAMILY,
    selftests::FAMILY,
    origin::FAMILY,
    runtimes::FAMILY,
    onstd::FAMILY,
    shared::FAMILY,
    tools::FAMILY,
    bench::FAMILY,
    demo::FAMILY,
    conform::FAMILY,
    doctor::FAMILY,
    suite::FAMILY,
    mutants::FAMILY,
    green::FAMILY,
];
