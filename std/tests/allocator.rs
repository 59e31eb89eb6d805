//! A global allocator that counts in counters, which allocate themselves.

use std::alloc::{GlobalAlloc, Layout, System};

use rseq_rt_std::Counter;

struct Counting {
    allocations: Counter,
    bytes: Counter,
}

// SAFETY: the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocations.add(1);
        self.bytes.add(layout.size() as u64);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.bytes.sub(layout.size() as u64);
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting {
    allocations: Counter::new(),
    bytes: Counter::new(),
};

#[test]
fn allocations_are_counted() {
    let before = ALLOCATOR.allocations.sum();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let texts: Vec<String> = (0..1000).map(|n| format!("{number} {n}")).collect();
                texts.len()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().ok(), Some(1000));
    }
    let counted = ALLOCATOR.allocations.sum() - before;
    assert!(counted >= 8000, "{counted}");
    assert!((ALLOCATOR.bytes.sum() as i64) < 10_000_000);
}
