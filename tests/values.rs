//! The plain values: errno, errors, the trio, the names of states.

use std::collections::HashSet;
use std::ptr::{from_ref, null};

use rseq_rt::{Area, Errno, Error, Reason, State, Trio, TrioAddresses};

#[test]
fn errno_of_a_return_value() {
    let negative = |errno: usize| errno.wrapping_neg();
    assert_eq!(Errno::check(0), Ok(0));
    assert_eq!(Errno::check(1), Ok(1));
    assert_eq!(Errno::check(usize::MAX / 2), Ok(usize::MAX / 2));
    assert_eq!(Errno::check(negative(1)), Err(Errno::PERM));
    assert_eq!(Errno::check(negative(14)), Err(Errno::FAULT));
    assert_eq!(Errno::check(negative(22)), Err(Errno::INVAL));
    let last = Errno::from_raw(4095).expect("the last errno");
    assert_eq!(Errno::check(negative(4095)), Err(last));
    assert_eq!(Errno::check(negative(4096)), Ok(negative(4096)));
    assert_eq!(Errno::check(1 << 63), Ok(1 << 63));
}

#[test]
fn errno_of_a_number() {
    assert_eq!(Errno::from_raw(0), None);
    assert_eq!(Errno::from_raw(4096), None);
    assert_eq!(Errno::from_raw(u16::MAX), None);
    for raw in 1..=4095 {
        assert_eq!(Errno::from_raw(raw).map(Errno::raw), Some(raw));
    }
}

#[test]
fn errors_for_c() {
    let given = Errno::from_raw(4000).expect("an errno");
    let rows = [
        (Error::NotInitialized, libc::EINVAL),
        (Error::AlreadyInitialized, libc::EALREADY),
        (Error::AlreadyCreated, libc::EALREADY),
        (Error::NotCreated, libc::EINVAL),
        (Error::Exiting, libc::ESRCH),
        (Error::Lent, libc::EBUSY),
        (Error::NullArea, libc::EFAULT),
        (Error::MisalignedArea, libc::EINVAL),
        (Error::AreaTooSmall, libc::EINVAL),
        (Error::UnwritableArea(given), 4000),
        (Error::CallbacksFull, libc::ENOMEM),
        (Error::Busy, libc::EBUSY),
        (Error::NotMasked(given), 4000),
        (Error::StillRegistered(given), 4000),
        (Error::Futex(given), 4000),
        (Error::Unavailable(given), 4000),
    ];
    let mut texts = HashSet::new();
    for (error, raw) in rows {
        assert_eq!(i32::from(error.raw_os_error()), raw, "{error:?}");
        assert!(texts.insert(error.to_string()), "each has its own text");
    }
}

#[test]
fn reasons_for_people() {
    let reasons = [
        Reason::NoSyscall,
        Reason::Filtered,
        Reason::Taken,
        Reason::BadMemory,
        Reason::Pretended,
        Reason::Disabled,
        Reason::Refused,
    ];
    let texts: HashSet<_> = reasons.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(texts.len(), reasons.len());
}

#[test]
fn a_new_area() {
    let area = Area::default();
    assert_eq!(area.state(), State::Unregistered);
    assert_eq!((area.cpu_id(), area.errno()), (-1, None));
    assert!(!area.has_slice_extension());
    let base = from_ref(&area).cast::<u8>();
    let kernel = area.as_rseq().cast::<u8>();
    assert_eq!(base, kernel, "the address that the kernel gets");
    assert_eq!(base.align_offset(Area::ALIGN), 0);
}

/// glibc's __rseq_size, AT_RSEQ_FEATURE_SIZE, and the fields that may be read.
#[test]
fn usable_size_of_the_trio() {
    for (size, kernel, usable) in [
        // glibc 2.35 to 2.40 on each kernel: it registers 32 and says 20 or 32.
        (20, 20, 20),
        (20, 28, 28),
        (20, 33, 32),
        (20, 48, 32),
        (32, 20, 20),
        (32, 28, 28),
        (32, 32, 32),
        (32, 33, 32),
        (32, 200, 32),
        // glibc 2.41 and later: exactly that value.
        (28, 28, 28),
        (28, 33, 28),
        (33, 33, 33),
        (48, 48, 48),
    ] {
        let trio = Trio {
            offset: 0,
            size,
            flags: 0,
        };
        assert_eq!(trio.usable_size(kernel), usable, "{size} on {kernel}");
    }
}

#[test]
fn two_symbols_are_not_three() {
    let (offset, size, flags) = (-64_isize, 32_u32, 0_u32);
    let all = TrioAddresses {
        offset: &raw const offset,
        size: &raw const size,
        flags: &raw const flags,
    };
    // SAFETY: Trio::load (1): null, or a variable of the type.
    let load = |at| unsafe { Trio::load(at) };
    let expected = Trio {
        offset,
        size,
        flags,
    };
    assert_eq!(load(all), Some(expected));
    let lacking = [
        TrioAddresses {
            offset: null(),
            ..all
        },
        TrioAddresses {
            size: null(),
            ..all
        },
        TrioAddresses {
            flags: null(),
            ..all
        },
    ];
    for at in lacking {
        assert_eq!(load(at), None);
    }
}
