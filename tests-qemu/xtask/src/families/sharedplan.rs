//! The libraries, readers and programs of the family `shared`.

/// A shared library of the form.
pub struct Library {
    /// The file.
    pub file: &'static str,
    /// What it offers to the program.
    pub name: &'static str,
    /// How its copy of the form is compiled.
    pub flags: &'static [&'static str],
    /// Whether it is linked with what must not be done.
    pub broken: bool,
    /// Whether dlclose(3) may unload it.
    pub deletable: bool,
    /// The library that it needs, whose constructors come before its own.
    pub needs: Option<&'static str>,
}

const LIBRARY: Library = Library {
    file: "",
    name: "lib_a",
    flags: &[],
    broken: false,
    deletable: false,
    needs: None,
};

/// The libraries; the first two on each CPU.
pub const LIBRARIES: [Library; 13] = [
    Library {
        file: "liba.so",
        ..LIBRARY
    },
    Library {
        file: "libb.so",
        name: "lib_b",
        ..LIBRARY
    },
    // Of another version: its table has another name.
    Library {
        file: "libv.so",
        name: "lib_v",
        flags: &["-Drseq_rt_library_v1=rseq_rt_library_v2"],
        ..LIBRARY
    },
    Library {
        file: "liba-dynamic.so",
        flags: &["-DRSEQ_RT_LIBRARY_DYNAMIC"],
        ..LIBRARY
    },
    Library {
        file: "libb-dynamic.so",
        name: "lib_b",
        flags: &["-DRSEQ_RT_LIBRARY_DYNAMIC"],
        ..LIBRARY
    },
    Library {
        file: "liba-deletable.so",
        deletable: true,
        ..LIBRARY
    },
    Library {
        file: "liba-keeps.so",
        flags: &["-Drseq_rt_on_thread_exit_release_masked=rseq_rt_on_thread_exit_keep_masked"],
        ..LIBRARY
    },
    Library {
        file: "liba-forgets.so",
        flags: &[
            "-Drseq_rt_on_thread_exit_release_masked=release_and_forget",
            "-Dpthread_setcancelstate=never_disabled",
        ],
        broken: true,
        ..LIBRARY
    },
    Library {
        file: "liba-registers-late.so",
        flags: &["-Dpthread_setcancelstate=never_disabled"],
        broken: true,
        ..LIBRARY
    },
    // One can stop it while it prepares the process.
    Library {
        file: "liba-halfway.so",
        flags: &["-Dgetauxval=halfway"],
        broken: true,
        ..LIBRARY
    },
    // Its constructor is linked before the form's.
    Library {
        file: "liba-early.so",
        flags: &["-DEARLY"],
        ..LIBRARY
    },
    Library {
        file: "libb-early.so",
        name: "lib_b",
        flags: &["-DEARLY"],
        ..LIBRARY
    },
    Library {
        file: "liba-needs-early.so",
        needs: Some("libb-early.so"),
        ..LIBRARY
    },
];

/// Plain shared objects: the file, its source, the library that it knows.
pub const OBJECTS: [(&str, &str, &[&str]); 4] = [
    ("libr.so", "reader.c", &["liba.so"]),
    ("libr-alone.so", "reader.c", &[]),
    ("libr-weak.so", "reader.c", &[]),
    ("libn.so", "naive.c", &[]),
];

/// Programs: the file, its sources, the libraries in the order of the link. `form` stands for the form in the program itself.
#[rustfmt::skip]
pub const PROGRAMS: [(&str, &[&str], &[&str]); 21] = [
    ("main", MAIN, &[]),
    ("main-abr", MAIN, &["liba.so", "libb.so", "libr.so"]),
    ("main-bar", MAIN, &["libb.so", "liba.so", "libr.so"]),
    ("main-rab", MAIN, &["libr.so", "liba.so", "libb.so"]),
    ("main-a", MAIN, &["liba.so"]),
    ("main-av", MAIN, &["liba.so", "libv.so"]),
    ("main-ax", MAIN, &["liba.so", "libr-alone.so"]),
    ("main-xa", MAIN, &["libr-alone.so", "liba.so"]),
    ("main-aw", MAIN, &["liba.so", "libr-weak.so"]),
    ("main-wa", MAIN, &["libr-weak.so", "liba.so"]),
    ("main-nx", MAIN, &["libn.so", "libr-alone.so"]),
    ("main-early", MAIN, &["liba-early.so", "libr-weak.so"]),
    ("main-needs-early", MAIN, &["liba-needs-early.so", "libr-weak.so"]),
    ("main-reads", &["main.c", "load.c", "trap.c", "reader.c"], &["liba.so"]),
    ("main-owns", &["main.c", "load.c", "trap.c", "form"], &["libb.so"]),
    ("forks", &["forks.c"], &["liba-halfway.so"]),
    ("timer", &["timer.c", "trap.c"], &["liba.so"]),
    ("storm", STORM, &["liba.so"]),
    ("storm-keeps", STORM, &["liba-keeps.so"]),
    ("storm-forgets", STORM, &["liba-forgets.so"]),
    ("storm-registers-late", STORM, &["liba-registers-late.so"]),
];

const MAIN: &[&str] = &["main.c", "load.c", "trap.c"];
const STORM: &[&str] = &["storm.c", "trap.c"];
