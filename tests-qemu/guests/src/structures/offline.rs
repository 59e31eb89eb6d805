//! The slot of an offline CPU: no thread runs there, and its content is not lost.

use core::ptr::NonNull;

use linux_raw_sys::general::{__NR_mkdirat, __NR_mount, AT_FDCWD};
use rseq_rt::percpu::CpuId;
use rseq_rt::structures::{Counter, DrainError, Fence, Membarrier, Node};

use super::crowd::{self, SLOTS, place_mut};
use super::fresh;
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::sys::io;
use crate::sys::raw::{call3, call5, done};
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] =
    &[Test::new("structures/slot-of-an-offline-cpu", offline).needs(Needs::REAL_KERNEL.cpus(2))];

pub(crate) fn mount_sys() -> Result<(), Errno> {
    let at = c"/sys".as_ptr().expose_provenance();
    // SAFETY: reads the name.
    let made = done(unsafe { call3(__NR_mkdirat, AT_FDCWD as usize, at, 0o755) });
    let kind = c"sysfs".as_ptr().expose_provenance();
    // SAFETY: reads the names.
    let mounted = done(unsafe { call5(__NR_mount, kind, at, kind, 0, 0) });
    match (made, mounted) {
        (_, Ok(()) | Err(Errno::BUSY)) => Ok(()),
        (Err(errno), _) if errno != Errno::EXIST => Err(errno),
        (_, mounted) => mounted,
    }
}

/// Takes a CPU offline, or online again; for CPU numbers below ten.
pub(crate) fn set_online(cpu: u32, online: bool) -> Result<(), Errno> {
    let mut path = *b"/sys/devices/system/cpu/cpu0/online\0";
    path[27] += cpu as u8;
    let path = core::ffi::CStr::from_bytes_with_nul(&path).unwrap();
    let file = io::open_read_write(path)?;
    let written = io::write(file, if online { b"1" } else { b"0" });
    io::close(file)?;
    written.map(drop)
}

/// The kernel gives it a second or a few to come, and a slow emulator may need more.
pub(crate) fn bring_back(cpu: u32) -> bool {
    (0..10).any(|_| set_online(cpu, true).is_ok())
}

#[derive(Clone, Copy)]
struct WithoutMembarrier;

// SAFETY: Membarrier (1) it never reports success; the other two are the kernel's own.
unsafe impl Membarrier for WithoutMembarrier {
    fn membarrier(&self, _: u32, _: u32, _: u32) -> Result<(), rseq_rt::Errno> {
        Err(rseq_rt::Errno::NOSYS)
    }

    fn visit(&self, cpu: u32) -> Result<(), rseq_rt::Errno> {
        rseq_rt::Linux.visit(cpu)
    }
}

fn offline(ctx: &Ctx<'_>) {
    if ctx.scale(1, 0, 0) == 1 {
        skip!("it would take a CPU from this machine");
    }
    if mount_sys().is_err() {
        skip!("there is no sysfs");
    }
    crowd::begin(ctx);
    let cpus = witness::cpus();
    let (Some(first), Some(last)) = (cpus.iter().next(), cpus.iter().last()) else {
        skip!("there is no CPU");
    };
    assert!(
        last < 10 && (last as usize) < SLOTS,
        "no slot for CPU {last}"
    );
    let counter: Counter<'_> = fresh::counter();
    let list = fresh::list::<u32, CpuId>();
    let buffer = fresh::buffer::<Node<u32>, 14, CpuId>();
    let nodes: [NonNull<Node<u32>>; 2] = [place_mut(Node::new(0)), place_mut(Node::new(1))];
    let here = crowd::current::<CpuId>();
    let fill = || {
        counter.add(here, 1);
        for node in nodes {
            // SAFETY: push_ptr (1): in no list, and stays.
            unsafe { list.push_ptr(here, node) };
            let _ = buffer.push(here, node);
        }
    };
    sched::allow(0, &CpuSet::one(last)).unwrap();
    fill();
    sched::allow(0, &CpuSet::one(first)).unwrap();
    match set_online(last, false) {
        Ok(()) => {}
        Err(Errno::NOENT) => skip!("this kernel takes no CPU offline"),
        Err(errno) => panic!("CPU {last} stays online: {errno}"),
    }
    // Without membarrier(2) no thread can check for a section in flight there: refused, and nothing is lost.
    let visits = Fence::register_on(WithoutMembarrier);
    let refused = |drained: Result<usize, DrainError>| {
        matches!(drained, Err(DrainError::Refused(rseq_rt::Errno::INVAL)))
    };
    let visited = list.take(last as usize, &visits).map(|chain| chain.count());
    let both_refused = refused(visited) && refused(buffer.drain(last as usize, &visits, |_| ()));
    let fence = Fence::register();
    let gone = sched::allow(0, &CpuSet::one(last)).is_err();
    let taken = list
        .take(last as usize, &fence)
        .map_or(0, |chain| chain.count());
    let drained = buffer.drain(last as usize, &fence, |_| ()).unwrap_or(0);
    let is_back = bring_back(last);
    assert!(gone, "CPU {last} is still there");
    assert!(is_back, "CPU {last} does not come back");
    if here.is_some() {
        assert!(both_refused, "a drain visited CPU {last}");
        assert_eq!((taken, drained), (2, 2));
    }
    // It works as before.
    sched::allow(0, &CpuSet::one(last)).unwrap();
    fill();
    list.pop(here).unwrap();
    buffer.pop(here).unwrap();
    assert_eq!(counter.sum(), 2, "after its return");
    passed!("{taken} nodes and {drained} pointers of CPU {last}");
}
