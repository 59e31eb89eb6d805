//! The lists to be repaired in a fork child, found without a lock, since the holder of one may not exist in the child.

use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr};

use super::broken;
use crate::lazy::place;

/// The head of an object that can be repaired.
pub(super) struct Header {
    repair: unsafe fn(*const Header),
}

impl Header {
    pub(super) const fn new(repair: unsafe fn(*const Self)) -> Self {
        Self { repair }
    }
}

/// A place for one object. Places stay for the life of the process, and are reused.
struct Entry {
    object: AtomicPtr<Header>,
    next: AtomicPtr<Entry>,
}

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// The place of an object, or null.
pub(super) struct Registration(AtomicPtr<Entry>);

impl Registration {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Enters the object: from now on it is repaired in every fork child.
    ///
    /// # Safety
    /// 1. [`Self::leave`] is called before the object is dropped.
    /// 2. `object` is valid for its `repair` function.
    pub(super) unsafe fn enter(&self, object: *const Header) {
        install();
        let object = object.cast_mut();
        let free = |entry: &&Entry| {
            let null = ptr::null_mut();
            let taken = entry
                .object
                .compare_exchange(null, object, Release, Relaxed);
            taken.is_ok()
        };
        let entry = match entries().find(free) {
            Some(entry) => ptr::from_ref(entry).cast_mut(),
            None => add(object),
        };
        self.0.store(entry, Relaxed);
    }

    pub(super) fn leave(&self) {
        // SAFETY: null, or an entry, and those stay.
        if let Some(entry) = unsafe { self.0.load(Relaxed).as_ref() } {
            entry.object.store(ptr::null_mut(), Release);
        }
    }
}

fn add(object: *mut Header) -> *mut Entry {
    let entry = place(Entry {
        object: AtomicPtr::new(object),
        next: AtomicPtr::new(ptr::null_mut()),
    });
    let mut first = FIRST.load(Relaxed);
    loop {
        // SAFETY: placed above, and never removed.
        unsafe { entry.as_ref() }.next.store(first, Relaxed);
        match FIRST.compare_exchange_weak(first, entry.as_ptr(), AcqRel, Relaxed) {
            Ok(_) => return entry.as_ptr(),
            Err(now) => first = now,
        }
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: null, or an entry, and those stay.
    let first = unsafe { FIRST.load(Acquire).as_ref() };
    std::iter::successors(first, |entry| {
        // SAFETY: as above.
        unsafe { entry.next.load(Relaxed).as_ref() }
    })
}

/// Once per process. If it fails for lack of memory, a child's lists are not repaired: see `Lists::push`.
fn install() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Relaxed) {
        // SAFETY: the function stays mapped.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

extern "C" fn in_child() {
    if broken::is("unrepaired") {
        return;
    }
    for entry in entries() {
        let object = entry.object.load(Acquire);
        if !object.is_null() {
            // SAFETY: Header: `repair` (1) by Registration::enter (2); (2) a fork child has one thread, and this
            // crate never forks within an operation. An object that another thread was dropping has left before.
            unsafe { ((*object).repair)(object) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Header, Registration, entries};
    use std::ptr;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    static REPAIRED: AtomicUsize = AtomicUsize::new(0);

    unsafe fn repair(_: *const Header) {
        REPAIRED.fetch_add(1, Relaxed);
    }

    /// The number of objects repaired in a fork child.
    fn repaired_in_child() -> i32 {
        // SAFETY: the child calls nothing but _exit.
        match unsafe { libc::fork() } {
            0 => {
                let code = i32::try_from(REPAIRED.load(Relaxed)).unwrap_or(-1);
                // SAFETY: ends the child.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: writes the local word.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                libc::WEXITSTATUS(status)
            }
        }
    }

    #[test]
    fn what_is_entered_is_repaired_in_the_child() {
        let header = Header::new(repair);
        let enter = |object: &Registration| {
            // SAFETY: enter (1) below; (2) `repair` takes anything.
            unsafe { object.enter(&raw const header) };
        };
        let objects = [const { Registration::new() }; 3];
        objects.iter().for_each(enter);
        assert_eq!(repaired_in_child(), 3);
        objects[1].leave();
        assert_eq!(repaired_in_child(), 2);
        // Its place is reused, by this or by a pool of another test.
        let before = entries().count();
        enter(&objects[1]);
        assert!(entries().count() <= before + 1);
        for object in &objects {
            object.leave();
        }
        assert_eq!(repaired_in_child(), 0);
        assert_eq!(REPAIRED.load(Relaxed), 0);
        let ours = |entry: &Entry| ptr::eq(entry.object.load(Relaxed), &raw const header);
        assert!(!entries().any(ours));
    }
}
