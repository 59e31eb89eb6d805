//! The kernel's `__vdso_getcpu`.

use std::ffi::c_void;

/// `getcpu(cpu, node, unused)` of the vDSO.
pub type Getcpu = unsafe extern "C" fn(*mut u32, *mut u32, *mut c_void) -> i32;

/// Looks it up by the dynamic linker, which knows the vDSO as a loaded library. `None` where it has no such function
/// (aarch64), or without a dynamic linker.
pub fn getcpu() -> Option<Getcpu> {
    // SAFETY: terminated strings; a loaded library is not loaded again, and never unloaded.
    let symbol = unsafe {
        let name = c"linux-vdso.so.1".as_ptr();
        let vdso = libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if vdso.is_null() {
            return None;
        }
        libc::dlsym(vdso, c"__vdso_getcpu".as_ptr())
    };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: the kernel's vDSO defines it with this prototype (vdso(7)).
    Some(unsafe { std::mem::transmute::<*mut c_void, Getcpu>(symbol) })
}
