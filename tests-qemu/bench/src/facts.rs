//! What the run depends on and no number shows.

use rseq_rt::percpu::CpuId;

use crate::here::{self, RSEQ};

/// One line: who owns rseq here, and what the kernel offers.
pub fn run() {
    here::init();
    let state = here::register();
    let current = here::current::<CpuId>();
    let line = serde_json::json!({
        "owner": format!("{:?}", RSEQ.owner()),
        "length": RSEQ.length(),
        "feature_size": RSEQ.feature_size(),
        "state": format!("{state:?}"),
        "sections": format!("{:?}", RSEQ.sections()),
        "runs_sections": current.is_some(),
    });
    println!("{line}");
}
