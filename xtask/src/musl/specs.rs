//! `musl-gcc`: the machine's gcc for that CPU, restricted to this musl.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;

use crate::arch::Arch;

/// The wrapper. The folder may be moved, since the wrapper locates itself. The interpreter of a dynamic program is this
/// folder's libc.so, by absolute path; with `MUSL_LDSO_DIR=/lib` it has the usual name, for an image.
const WRAPPER: &str = r#"#!/bin/sh
MUSL_ROOT=$(cd "$(dirname "$0")/.." && pwd) || exit
: "${MUSL_LDSO_DIR:=$MUSL_ROOT/lib}"
export MUSL_ROOT MUSL_LDSO_DIR
exec "${REALGCC:-@CC@}" "$@" -specs "$MUSL_ROOT/lib/musl-gcc.specs"
"#;

/// gcc's specs, without the machine's own libc.
const SPECS: &str = "\
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem %:getenv(MUSL_ROOT /include) -isystem include%s %(old_cpp_options)

*cc1:
%(cc1_cpu) @CC1@-nostdinc -isystem %:getenv(MUSL_ROOT /include) -isystem include%s

*link_libgcc:
-L%:getenv(MUSL_ROOT /lib) -L .%s

*libgcc:
libgcc.a%s %:if-exists(libgcc_eh.a%s)

*lib:
-lc

*startfile:
%{!shared:%{static-pie:%:getenv(MUSL_ROOT /lib/rcrt1.o);static:%:getenv(MUSL_ROOT /lib/crt1.o);:%:getenv(MUSL_ROOT /lib/Scrt1.o)}} %:getenv(MUSL_ROOT /lib/crti.o) crtbeginS.o%s

*endfile:
crtendS.o%s %:getenv(MUSL_ROOT /lib/crtn.o)

*link:
%{!shared:%{!static:%{!static-pie:-dynamic-linker %:getenv(MUSL_LDSO_DIR /ld-musl-@ARCH@.so.1)}}} -nostdlib %{shared:-shared} %{static:-static} %{static-pie:-static -pie --no-dynamic-linker -z text} %{rdynamic:-export-dynamic}

*esp_link:


*esp_options:


*esp_cpp_options:


";

/// The texts of both files.
pub const TEXTS: [&str; 2] = [WRAPPER, SPECS];

/// Writes both below `root`.
pub fn write(arch: Arch, root: &Path) -> Result<()> {
    // libgcc's out-of-line atomics use __getauxval, which this musl does not export.
    let atomics = match arch {
        Arch::Aarch64 => "-mno-outline-atomics ",
        Arch::X86_64 | Arch::Riscv64 => "",
    };
    let specs = SPECS
        .replace("@ARCH@", arch.name())
        .replace("@CC1@", atomics);
    std::fs::write(root.join("lib/musl-gcc.specs"), specs)?;
    let wrapper = WRAPPER
        .replace("@ARCH@", arch.name())
        .replace("@CC@", &arch.tool("gcc"));
    let file = root.join("bin/musl-gcc");
    std::fs::write(&file, wrapper)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
