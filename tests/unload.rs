//! A leftover descriptor pointer is cleared in the area that the kernel reads, whoever registered it, and in no other.

use std::sync::atomic::Ordering::Relaxed;

use crate::fake::generation::LINUX_7_1;
use crate::fake::{Answers, Foreign, Hooks as _, as_is, rseq_of, run};
use rseq_rt::ExitMode;

/// Left in the runtime's area and in the libc's: which of the two is cleared, in each state of an existing thread.
fn forgets(foreign: Foreign, expected: [bool; 2]) {
    let answers = Answers::with_foreign(foreign);
    run(LINUX_7_1, answers, as_is, |machine, process, [area, _]| {
        // SAFETY: the machine's own, which lives as long as it does.
        let libc = unsafe { &*machine.libc_registration(0).area };
        let forgotten = || {
            let both = [rseq_of(area), libc].map(|rseq| &rseq.rseq_cs);
            for left in both {
                left.store(0x1000, Relaxed);
            }
            // SAFETY: prepare_unload (1): the area of the thread that the machine is on.
            unsafe { process.prepare_unload(area) };
            both.map(|left| left.load(Relaxed) == 0)
        };
        assert_eq!(forgotten(), [false, false], "no section has run");
        rseq_of(area).rseq_cs.store(0, Relaxed);
        let thread = process.create(area).expect("a new area");
        assert_eq!(forgotten(), expected, "created");
        let lent = thread.lend();
        assert_eq!(forgotten(), expected, "lent");
        lent.end();
        let _kept = thread.on_exit(ExitMode::Keep);
        assert_eq!(forgotten(), expected, "kept");
    });
}

#[test]
fn in_the_area_that_the_kernel_reads() {
    forgets(Foreign::None, [true, false]);
    forgets(Foreign::Visible, [false, true]);
    forgets(Foreign::Hidden, [false, false]);
}
