//! The machine: its tasks, the registration of each, and the first violated rule.

use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::Rseq;
use rseq_rt::{Area, Trio};

use super::answers::{Answer, Answers, CALLS, Call, Foreign};
use super::generation::Generation;
use super::signal::Handler;
use super::task::{Ids, Registration, Task, node_of};

/// The two threads, and the vfork child of either.
pub const THREADS: usize = 2;
pub const VFORK_CHILD: usize = 2;

pub const CPUS: u32 = 4;

/// The libc's own thread block: the thread pointer is its address, and the area follows it.
#[repr(C, align(64))]
struct LibcThread {
    head: [u8; 64],
    area: Area,
}

const LIBC_OFFSET: isize = 64;

pub struct Machine {
    pub generation: Generation,
    pub answers: Answers,
    pub tasks: [Cell<Task>; THREADS + 1],
    current: Cell<usize>,
    counts: [Cell<u32>; CALLS],
    /// Calls made outside the signal handler.
    own_counts: [Cell<u32>; CALLS],
    /// The first violated rule.
    violation: Cell<Option<&'static str>>,
    pub handler: Handler,
    libc: [LibcThread; THREADS],
    /// A call to set the mask was refused after an earlier one had succeeded.
    pub mask_stuck: Cell<bool>,
    /// Futex waits still to be answered INTR or AGAIN before `dying` ends.
    pub futex_noise: Cell<u32>,
    /// The task whose end the next true wait reports.
    pub dying: Cell<Option<usize>>,
    pub now_zero: Cell<*const AtomicU32>,
    pub slice_yields: Cell<u32>,
    /// Whether the next rseq_slice_yield(2) comes before the end of the grant.
    pub slice_in_time: Cell<bool>,
}

impl Machine {
    /// A machine that is not [booted](Self::boot) yet.
    pub fn new(generation: Generation, answers: Answers) -> Self {
        Self {
            generation,
            answers,
            tasks: [const { 0 }; THREADS + 1].map(|_| Cell::new(Task::new(0, 0))),
            current: Cell::new(0),
            counts: Default::default(),
            own_counts: Default::default(),
            violation: Cell::new(None),
            handler: Handler::new(),
            libc: [const { 0 }; THREADS].map(|_| LibcThread {
                head: [0; 64],
                area: Area::new(),
            }),
            mask_stuck: Cell::new(false),
            futex_noise: Cell::new(0),
            dying: Cell::new(None),
            now_zero: Cell::new(null()),
            slice_yields: Cell::new(0),
            slice_in_time: Cell::new(true),
        }
    }

    /// Creates the first tasks; to be called once the machine does not move any more.
    pub fn boot(&self, mask: u64) {
        for thread in 0..THREADS {
            self.spawn(thread, mask);
        }
    }

    /// A new task replaces `thread`. A libc that registers does so before any other code runs.
    pub fn spawn(&self, thread: usize, mask: u64) {
        self.tasks[thread].set(Task::new(mask, thread as u32 + 1));
        let foreign = match self.answers.foreign {
            Foreign::None | Foreign::Off => false,
            Foreign::Visible | Foreign::Hidden => true,
            Foreign::HiddenOnSecond => thread == 1,
            Foreign::VisibleNotOnSecond => thread == 0,
        };
        let area = self.libc_area(thread);
        area.cpu_id.store(-1, Relaxed);
        if foreign {
            let flags = self.generation.slice_flags(self.answers.foreign_length);
            area.flags.store(flags, Relaxed);
            self.set_registration(thread, Some(self.libc_registration(thread)));
            self.write_ids(thread);
        }
    }

    pub fn libc_registration(&self, thread: usize) -> Registration {
        Registration {
            area: self.libc_area(thread),
            length: self.answers.foreign_length,
            signature: rseq_rt::arch::SIGNATURE,
        }
    }

    fn libc_area(&self, thread: usize) -> &Rseq {
        super::rseq_of(&self.libc[thread].area)
    }

    pub fn trio(&self) -> Option<Trio> {
        let size = match self.answers.foreign {
            Foreign::Visible | Foreign::VisibleNotOnSecond => self.answers.foreign_length,
            Foreign::Off => 0,
            _ => return None,
        };
        Some(Trio {
            offset: LIBC_OFFSET,
            size,
            flags: 0,
        })
    }

    pub fn libc_thread_pointer(&self) -> *const u8 {
        // From the whole array, so that the offset stays within the pointer's provenance.
        let base = self.libc.as_ptr();
        base.wrapping_add(self.current().min(THREADS - 1)).cast()
    }

    pub fn current(&self) -> usize {
        self.current.get()
    }

    pub fn switch_to(&self, thread: usize) {
        self.current.set(thread);
    }

    pub fn task(&self, thread: usize) -> Task {
        self.tasks[thread].get()
    }

    pub fn update(&self, thread: usize, change: impl FnOnce(&mut Task)) {
        let mut task = self.tasks[thread].get();
        change(&mut task);
        self.tasks[thread].set(task);
    }

    pub fn set_registration(&self, thread: usize, registration: Option<Registration>) {
        self.update(thread, |task| task.registration = registration);
    }

    /// The kernel's write on the way to user mode.
    pub fn write_ids(&self, thread: usize) {
        let task = self.task(thread);
        let Some(registration) = task.registration else {
            return;
        };
        let ids = Ids {
            cpu_id_start: task.cpu,
            cpu_id: task.cpu as i32,
            node_id: node_of(task.cpu),
            mm_cid: thread as u32,
        };
        // SAFETY: a registered area is live memory by Kernel::rseq (1), which the tests verify for the crate.
        let area = unsafe { &*registration.area };
        ids.write(area, self.generation.fills(registration.length));
        let written = Ids::read(area);
        self.update(thread, |task| task.written = written);
    }

    /// Checks that user code has not stored to the ids of a registered area.
    pub fn check_ids(&self) {
        for task in &self.tasks {
            let task = task.get();
            if let Some(registration) = task.registration {
                // SAFETY: as in write_ids.
                let found = Ids::read(unsafe { &*registration.area });
                if found != task.written {
                    self.break_rule("user code stored to an id field of a registered area");
                }
            }
        }
    }

    /// The scheduler moves a thread: the kernel checks the ids, if it does so at all, and writes the new ones.
    pub fn migrate(&self, thread: usize) {
        self.check_ids();
        self.update(thread, |task| task.cpu = (task.cpu + 1) % CPUS);
        self.write_ids(thread);
    }

    /// Exit of a task: the registration is dropped without a write (`PF_EXITING`), then the clear-tid word is cleared.
    pub fn exit_task(&self, thread: usize) {
        self.set_registration(thread, None);
    }

    pub fn break_rule(&self, rule: &'static str) {
        if self.violation.get().is_none() {
            self.violation.set(Some(rule));
        }
    }

    /// Takes and clears the violated rule, which the test expected.
    pub fn forgive(&self) -> Option<&'static str> {
        self.violation.take()
    }

    pub fn violation(&self) -> Option<&'static str> {
        self.violation.get()
    }

    /// Entry of a call: counts it; a filter may answer it.
    pub fn enter(&self, call: Call) -> Option<Answer> {
        self.check_ids();
        let count = &self.counts[call as usize];
        count.set(count.get() + 1);
        if !self.handler.is_running() {
            let own = &self.own_counts[call as usize];
            own.set(own.get() + 1);
        }
        let filter = self.answers.filter?;
        (filter.call == call && count.get() >= filter.from).then_some(filter.answer)
    }

    pub fn count(&self, call: Call) -> u32 {
        self.own_counts[call as usize].get()
    }

    /// All calls of every kind.
    pub fn counts(&self) -> [u32; CALLS] {
        std::array::from_fn(|call| self.own_counts[call].get())
    }

    /// Number of calls before the filter takes effect: part of the machine's state until then.
    pub fn until_filter(&self) -> u32 {
        self.answers.filter.map_or(0, |filter| {
            filter
                .from
                .saturating_sub(self.counts[filter.call as usize].get())
        })
    }

    /// Whether the filter has answered a call.
    pub fn filter_has_struck(&self) -> bool {
        self.answers
            .filter
            .is_some_and(|filter| self.counts[filter.call as usize].get() >= filter.from)
    }
}
