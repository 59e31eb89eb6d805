//! The ids after each migration and in each thread.

use core::hint::spin_loop;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Check;
use super::area::{Area, agrees_everywhere, on_each_cpu, pin};
use super::repeat::{each_length, each_of};
use super::system::{Needs, System};
use crate::harness::{passed, skip};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::thread;

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("ids/cpu", "cpu_id and cpu_id_start agree with getcpu(2) after each move", cpu),
    Check::dangerous("ids/moved-by-another", "a thread that another one has moved finds the new CPU in cpu_id, without a system call of its own", moved).needs(Needs::TwoCpus),
    Check::dangerous("ids/node", "node_id agrees with getcpu(2) after each move (feature size 24 and above)", node),
    Check::dangerous("ids/mm-cid", "two threads that run at the same time have different mm_cids, below the number of threads (feature size 28 and above)", mm_cid).needs(Needs::TwoCpus),
];

pub(super) const STACK: usize = 32 * 1024;

/// Registers an area for the calling thread.
#[track_caller]
pub(super) fn registered(length: u32) -> &'static Area {
    let area = Area::new();
    agree!(
        area.register(length),
        Ok(()),
        "registration of {length} bytes"
    );
    area
}

fn cpu(system: &System<'_>) {
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        for _ in 0..20 {
            agrees_everywhere(area, "this thread");
        }
    });
}

fn moved(system: &System<'_>) {
    static TID: AtomicU32 = AtomicU32::new(0);
    /// The CPU that the thread is on, plus 1.
    static ON: AtomicU32 = AtomicU32::new(0);
    static SEEN: AtomicU32 = AtomicU32::new(0);
    const ROUNDS: usize = 20;
    fn look(length: &u32) {
        let area = registered(*length);
        TID.store(process::gettid(), Release);
        for _ in 0..ROUNDS {
            let on = loop {
                match ON.load(Acquire) {
                    0 => spin_loop(),
                    on => break on - 1,
                }
            };
            let [start, id, ..] = area.ids();
            agree!(
                (start, id),
                (on, on),
                "cpu_id_start and cpu_id, moved to {on}"
            );
            ON.store(0, Relaxed);
            SEEN.fetch_add(1, Release);
        }
    }
    each_length(system, |length| {
        let thread = thread::start(STACK, length, look).unwrap();
        sched::wait_until(|| TID.load(Acquire) != 0);
        for round in 0..ROUNDS {
            let cpu = system.cpus.iter().nth(round % 2).unwrap();
            sched::allow(thread.tid(), &CpuSet::one(cpu)).unwrap();
            ON.store(cpu + 1, Release);
            sched::wait_until(|| SEEN.load(Acquire) as usize > round);
        }
        thread.join().unwrap();
    });
}

fn node(system: &System<'_>) {
    if system.fields() < 24 {
        skip!("the feature size is {}", system.fields());
    }
    each_of(system.taken_lengths(), |length| {
        let area = registered(length);
        on_each_cpu(|cpu| {
            let (_, node) = sched::getcpu().unwrap();
            let [_, _, id, _] = area.ids();
            agree!(id, node, "node_id on CPU {cpu}, length {length}");
        });
    });
}

fn mm_cid(system: &System<'_>) {
    /// The thread to write next: even, the first; odd, the second.
    static TURN: AtomicU32 = AtomicU32::new(0);
    static CID: AtomicU32 = AtomicU32::new(0);
    /// Consecutive exchanges that showed the same number.
    static SAME: AtomicU32 = AtomicU32::new(0);
    const ROUNDS: u32 = 300;
    // A thread preempted in the middle of an exchange may leave its number to the other one; a long run of exchanges
    // cannot be explained by preemption.
    const RUN: u32 = 200;
    const THREADS: u32 = 3;
    struct Side {
        me: u32,
        cpu: u32,
        length: u32,
    }
    fn exchange(side: &Side) {
        pin(side.cpu);
        let area = registered(side.length);
        for round in 0..ROUNDS {
            sched::wait_until(|| TURN.load(Acquire) == 2 * round + side.me);
            let cid = area.mm_cid.load(Relaxed);
            assert!(cid < THREADS, "mm_cid {cid} of {THREADS} threads");
            if side.me == 0 {
                CID.store(cid, Relaxed);
            } else if CID.load(Relaxed) == cid {
                let same = SAME.fetch_add(1, Relaxed) + 1;
                assert!(same < RUN, "both had mm_cid {cid}, {same} times in a row");
            } else {
                SAME.store(0, Relaxed);
            }
            TURN.store(2 * round + side.me + 1, Release);
        }
    }
    if system.fields() < 28 {
        skip!("the feature size is {}", system.fields());
    }
    each_length(system, |length| {
        let start = |me: usize| {
            let cpu = system.cpus.iter().nth(me).unwrap();
            let side = Side {
                me: me as u32,
                cpu,
                length,
            };
            thread::start(STACK, side, exchange).unwrap()
        };
        let threads: [_; 2] = core::array::from_fn(start);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    passed!("{ROUNDS} exchanges");
}
