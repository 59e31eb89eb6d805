//! The functions that a compiler calls implicitly. Every access is volatile: an optimiser that recognised the loop
//! would turn it into a call of the same function.

const WORD: usize = size_of::<usize>();

/// Copies forwards.
///
/// # Safety
/// 1. `from` is readable and `to` writable for `len` bytes; if they overlap, `to` is below `from`.
#[inline(always)]
unsafe fn forwards(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    // SAFETY: 1.; words are used only where both sides are aligned for them.
    unsafe {
        if (to.addr() | from.addr()).is_multiple_of(WORD) {
            while len - at >= WORD {
                to.add(at)
                    .cast::<usize>()
                    .write_volatile(from.add(at).cast::<usize>().read_volatile());
                at += WORD;
            }
        }
        while at < len {
            to.add(at).write_volatile(from.add(at).read_volatile());
            at += 1;
        }
    }
}

/// memcpy(3).
///
/// # Safety
/// 1. `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: 1.
    unsafe { forwards(to, from, len) };
    to
}

/// memmove(3).
///
/// # Safety
/// 1. `from` is readable and `to` writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: 1.; backwards where `to` lies inside of the part not yet read.
    unsafe {
        if to.addr().wrapping_sub(from.addr()) >= len {
            forwards(to, from, len);
        } else {
            let mut at = len;
            while at > 0 {
                at -= 1;
                to.add(at).write_volatile(from.add(at).read_volatile());
            }
        }
    }
    to
}

/// memset(3).
///
/// # Safety
/// 1. `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = usize::from_ne_bytes([byte as u8; WORD]);
    let mut at = 0;
    // SAFETY: 1.; words are used only where they are aligned.
    unsafe {
        if to.addr().is_multiple_of(WORD) {
            while len - at >= WORD {
                to.add(at).cast::<usize>().write_volatile(word);
                at += WORD;
            }
        }
        while at < len {
            to.add(at).write_volatile(byte as u8);
            at += 1;
        }
    }
    to
}

/// memcmp(3).
///
/// # Safety
/// 1. Both sides are readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while at < len {
        // SAFETY: 1.
        let (l, r) = unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
        at += 1;
    }
    0
}

/// bcmp(3).
///
/// # Safety
/// 1. Both sides are readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: 1.
    unsafe { memcmp(left, right, len) }
}

/// strlen(3).
///
/// # Safety
/// 1. `text` is readable up to and including a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: 1.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}
