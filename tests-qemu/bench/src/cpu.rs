//! The number of the CPU, by every method.

use std::ptr;

use rseq_rt::Owner;
use rseq_rt::percpu::CpuId;

use crate::here::{self, RSEQ};
use crate::measure::{each_of_eight, hidden, tell};
use crate::vdso;

const NAME: &str = "CPU number";

pub fn run() {
    here::init();
    here::register();
    let whose = match RSEQ.owner() {
        Some(Owner::Runtime) => "own",
        Some(Owner::Libc) => "the libc's",
        _ => "no",
    };
    let area = here::area();
    tell(
        NAME,
        "loop",
        each_of_eight(|| 0u32),
        "an eighth of an empty turn of the loop that is around eight of each of these, and in their values",
    );
    if let Some(current) = here::current::<CpuId>() {
        let what = format!("Current::id: the load alone, inlined, {whose} area");
        tell(NAME, "load", each_of_eight(|| current.id()), &what);
    }
    let what = format!("Process::current_cpu(&area): state, then load, inlined, {whose} area");
    let cpu = each_of_eight(|| RSEQ.current_cpu(hidden(area)).unwrap_or_default());
    tell(NAME, "current_cpu", cpu, &what);
    let cpu = each_of_eight(|| RSEQ.current_cpu(here::area()).unwrap_or_default());
    let what = "the same with the area found in thread-local storage each time";
    tell(NAME, "current_cpu, TLS", cpu, what);

    // SAFETY: no argument, no memory.
    let cpu = each_of_eight(|| unsafe { libc::sched_getcpu() });
    let variant = if RSEQ.owner() == Some(Owner::Libc) {
        "glibc"
    } else {
        "glibc, rseq off"
    };
    tell(NAME, variant, cpu, "sched_getcpu(3) of the shared libc");
    match vdso::getcpu() {
        Some(getcpu) => {
            let cpu = each_of_eight(|| {
                let mut cpu = 0;
                // SAFETY: a word to write to; null for unused results.
                unsafe { getcpu(&raw mut cpu, ptr::null_mut(), ptr::null_mut()) };
                cpu
            });
            tell(NAME, "vDSO", cpu, "__vdso_getcpu called by its address");
        }
        None => eprintln!("bench: the vDSO has no getcpu here"),
    }
    let cpu = each_of_eight(|| {
        let mut cpu = 0u32;
        let none = ptr::null_mut::<u32>();
        // SAFETY: a word to write to; null for unused results.
        unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, none, none) };
        cpu
    });
    tell(NAME, "system call", cpu, "getcpu(2) through syscall(2)");
}
