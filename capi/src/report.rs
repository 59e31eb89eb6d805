//! The report, as text, and its remedies.

use core::ffi::{c_char, c_int};

use rseq_rt::{Area, Error, Remedy};

use crate::given::{area, code};
use crate::process::PROCESS;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. `buffer` is null, or `size` bytes that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_report(
    pointer: *const Area,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: area (1) is (1).
    let area = match unsafe { area(pointer) } {
        Ok(area) => area,
        Err(error) => return code(error),
    };
    if buffer.is_null() && size != 0 {
        return code(Error::NullArea);
    }
    let report = PROCESS.report(area);
    // Room for the terminator after the text. A size above this one is longer than any text.
    let Some(room) = size.min(c_int::MAX as usize).checked_sub(1) else {
        return report.write_to(&mut []) as c_int;
    };
    // SAFETY: from_raw_parts_mut: not null, so `size` bytes by (2), of which these are all but the last one used.
    let text = unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), room) };
    let length = report.write_to(text);
    // SAFETY: within the `size` bytes of (2): `room` is at most the last one.
    unsafe { buffer.wrapping_add(length.min(room)).write(0) };
    length as c_int
}

const OF_THREAD: c_int = 0;
const OF_SECTIONS: c_int = 1;
const OF_SLICE: c_int = 2;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_remedy(pointer: *const Area, of: c_int) -> c_int {
    // SAFETY: area (1) is (1).
    let area = match unsafe { area(pointer) } {
        Ok(area) => area,
        Err(error) => return code(error),
    };
    let report = PROCESS.report(area);
    let remedy: Option<Remedy> = match of {
        OF_THREAD => report.thread_remedy(),
        OF_SECTIONS => report.section_remedy(),
        OF_SLICE => report.slice_remedy(),
        _ => return code(Error::MisalignedArea),
    };
    remedy.map_or(0, |remedy| remedy as c_int)
}
