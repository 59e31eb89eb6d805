//! The crowds of the structures, and the sections alone, while CPUs go offline and come back. A thread on a CPU that
//! goes offline is moved, whatever its mask; a slot keeps its contents. The crowds add storms of signals, moves, and
//! drains of all slots, including those of offline CPUs.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use rseq_rt::percpu::CpuId;

use crate::harness::{Ctx, Needs, Test, forked, skip};
use crate::percpu::stress::stress;
use crate::percpu::work::Kind;
use crate::structures::offline::{bring_back, mount_sys, set_online};
use crate::structures::{buffer, bytes, counter, list};
use crate::sys::process::Status;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::{println, thread, witness};

pub const TESTS: &[Test] = &[
    Test::new("hotplug/counter", with_counter).needs(NEEDS),
    Test::new("hotplug/list", with_list).needs(NEEDS),
    Test::new("hotplug/buffer", with_buffer).needs(NEEDS),
    Test::new("hotplug/bytes", with_bytes).needs(NEEDS),
    Test::new("hotplug/sections", with_sections).needs(NEEDS),
];

fn with_counter(ctx: &Ctx) {
    plugged(ctx, counter::crowded::<CpuId>);
}

fn with_list(ctx: &Ctx) {
    plugged(ctx, list::crowded::<CpuId>);
}

fn with_buffer(ctx: &Ctx) {
    plugged(ctx, buffer::crowded::<CpuId>);
}

fn with_bytes(ctx: &Ctx) {
    plugged(ctx, bytes::crowded::<CpuId>);
}

fn with_sections(ctx: &Ctx) {
    plugged(ctx, |ctx| stress(ctx, Kind::Add));
}

/// Enough CPUs that there is always another one to move to.
const NEEDS: Needs = Needs::RSEQ.and(Needs::REAL_KERNEL).cpus(4);

/// Shared with the thread that takes CPUs offline.
struct Plug {
    cpus: CpuSet,
    over: AtomicBool,
    gone: AtomicU32,
    refused: AtomicU32,
    lost: AtomicU32,
}

/// All CPUs but the first in turn, each for 20 to 30 ms, with a pause of the same length with all online.
fn plug(state: &Plug) {
    let first = state.cpus.iter().next().unwrap_or(0);
    let _ = sched::allow(0, &CpuSet::one(first));
    for cpu in core::iter::repeat(()).flat_map(|()| state.cpus.iter().skip(1)) {
        if state.over.load(Relaxed) {
            return;
        }
        if set_online(cpu, false).is_err() {
            state.refused.fetch_add(1, Relaxed);
            let _ = time::sleep(Span::millis(20));
            continue;
        }
        let nth = state.gone.fetch_add(1, Relaxed);
        let _ = time::sleep(Span::millis(20 + u64::from(nth % 11)));
        state.lost.fetch_add(u32::from(!bring_back(cpu)), Relaxed);
        let _ = time::sleep(Span::millis(20 + u64::from(nth % 11)));
    }
}

/// Runs `test` while CPUs go and come. In a child: however it ends, the last CPU comes back.
fn plugged(ctx: &Ctx, test: fn(&Ctx<'_>)) {
    if ctx.scale(1, 0, 0) == 1 || !ctx.env.is_pid1() {
        skip!("it would take CPUs from this machine");
    }
    if mount_sys().is_err() {
        skip!("there is no sysfs");
    }
    let cpus = witness::cpus();
    let Some(last) = cpus.iter().last().filter(|&last| last < 10) else {
        skip!("there are more CPUs than this knows to take offline");
    };
    if set_online(last, false).is_err() || set_online(last, true).is_err() {
        skip!("this kernel takes no CPU offline");
    }
    // An online CPU returns only to masks that name it again.
    sched::allow(0, &cpus).unwrap();
    let state = Plug {
        cpus,
        over: AtomicBool::new(false),
        gone: AtomicU32::new(0),
        refused: AtomicU32::new(0),
        lost: AtomicU32::new(0),
    };
    let plug = thread::start(64 * 1024, state, plug).unwrap();
    let status = forked(|| test(ctx));
    let state = plug.payload();
    state.over.store(true, Relaxed);
    plug.wait();
    let count = |count: &AtomicU32| count.load(Relaxed);
    let (gone, refused) = (count(&state.gone), count(&state.refused));
    assert_eq!(count(&state.lost), 0, "CPUs did not come back");
    assert_ne!(
        gone, 0,
        "no CPU was taken offline meanwhile, refused {refused}"
    );
    plug.join().unwrap();
    println!("# CPUs went offline {gone} times, refused {refused}");
    assert_eq!(status, Ok(Status::Exited(0)));
}
