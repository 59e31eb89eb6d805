//! Conditions of the run that no number shows.

use rseq_rt::percpu::CpuId;

use crate::here::{self, RSEQ};

/// One line: the owner of rseq, and the kernel's features.
pub fn run() {
    here::init();
    let state = here::register();
    let current = here::current::<CpuId>();
    let owner = RSEQ
        .owner()
        .map_or_else(|| "undecided".to_owned(), |owner| format!("{owner:?}"));
    let (length, feature_size) = (RSEQ.length(), RSEQ.feature_size());
    let (state, sections) = (
        format!("{state:?}"),
        format!("{:?}", RSEQ.section_support()),
    );
    let runs = current.is_some();
    println!(
        r#"{{"owner":{owner:?},"length":{length},"feature_size":{feature_size},"state":{state:?},"sections":{sections:?},"runs_sections":{runs}}}"#
    );
}
