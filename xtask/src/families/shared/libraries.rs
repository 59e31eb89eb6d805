//! The libraries, readers and programs of the family `shared`.

/// A shared library of the form.
pub struct Library {
    /// The file.
    pub file: &'static str,
    /// What it offers to the program.
    pub name: &'static str,
    /// Its own source, beside the form.
    pub source: &'static str,
    /// How its copy of the form is compiled.
    pub flags: &'static [&'static str],
    /// Whose pkg-config flags it is linked with.
    pub package: &'static str,
    /// How it is linked, beside what pkg-config says.
    pub links: &'static [&'static str],
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
    source: "lib.c",
    flags: &[],
    package: "rseq_rt_library",
    links: &[],
    broken: false,
    deletable: false,
    needs: None,
};

/// The libraries; the first two on each CPU.
pub const LIBRARIES: [Library; 17] = [
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
        flags: &["-Drseq_rt_library_v2=rseq_rt_library_v3"],
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
        flags: &["-Drseq_rt_on_thread_exit_masked=keep_in_place_of_release"],
        broken: true,
        ..LIBRARY
    },
    Library {
        file: "liba-forgets.so",
        flags: &[
            "-Drseq_rt_on_thread_exit_masked=release_and_forget",
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
    // An allocator that asks; the second one where thread-specific values are allocated.
    Library {
        file: "liballocator.so",
        source: "allocator.c",
        ..LIBRARY
    },
    Library {
        file: "liballocator-sets.so",
        source: "allocator.c",
        flags: &["-Dpthread_setspecific=allocating_setspecific"],
        broken: true,
        ..LIBRARY
    },
    // Bound to themselves by their linker: all symbols, or functions alone, as a distribution may have it.
    Library {
        file: "libb-symbolic.so",
        name: "lib_b",
        links: &["-Wl,-Bsymbolic"],
        ..LIBRARY
    },
    Library {
        file: "libb-functions.so",
        name: "lib_b",
        links: &["-Wl,-Bsymbolic-functions"],
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
    // By another name nobody has it.
    Library {
        file: "liba-does-not-look.so",
        flags: &["-Drseq_register_current_thread=nobody_has_this"],
        ..LIBRARY
    },
];

/// What a plug-in brings that needs no static TLS.
pub const WITHOUT_AREA: Library = Library {
    file: "liba-no-area.so",
    flags: &["-DRSEQ_RT_LIBRARY_NO_AREA"],
    package: "rseq_rt",
    ..LIBRARY
};

/// How many copies of a plug-in are made of each kind.
pub const PLUGINS: usize = 40;

/// Plain shared objects: the file, its sources, the libraries that it knows.
#[rustfmt::skip]
pub const OBJECTS: [(&str, &[&str], &[&str]); 5] = [
    ("libr.so", &["reader.c"], &["liba.so"]),
    ("libr-alone.so", &["reader.c"], &[]),
    ("libr-weak.so", &["reader.c"], &[]),
    ("libn.so", &["naive.c"], &[]),
    ("liblikelibrseq.so", &["likelibrseq.c", "trap.c"], &[]),
];

/// Programs: the file, its sources, the libraries in the order of the link. `form` stands for the form in the program itself.
#[rustfmt::skip]
pub const PROGRAMS: [(&str, &[&str], &[&str]); 28] = [
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
    ("main-symbolic", MAIN, &["liba.so", "libb-symbolic.so"]),
    ("main-functions", MAIN, &["liba.so", "libb-functions.so"]),
    ("main-reads", &["main.c", "load.c", "keys.c", "trap.c", "reader.c"], &["liba.so"]),
    ("main-owns", &["main.c", "load.c", "keys.c", "trap.c", "form"], &["libb.so"]),
    ("allocates", &["allocates.c"], &["liballocator.so"]),
    ("allocates-sets", &["allocates.c"], &["liballocator-sets.so"]),
    ("order-librseq-first", &["order.c", "trap.c"], &["liblikelibrseq.so", "liba.so"]),
    ("order-librseq-last", &["order.c", "trap.c"], &["liba.so", "liblikelibrseq.so"]),
    ("order-unseen", &["order.c", "trap.c"], &["liba-does-not-look.so", "liblikelibrseq.so"]),
    ("memory", &["memory.c", "trap.c", "form"], &[]),
    ("timer", &["timer.c", "trap.c"], &["liba.so"]),
    ("storm", STORM, &["liba.so"]),
    ("storm-keeps", STORM, &["liba-keeps.so"]),
    ("storm-forgets", STORM, &["liba-forgets.so"]),
    ("storm-registers-late", STORM, &["liba-registers-late.so"]),
];

const MAIN: &[&str] = &["main.c", "load.c", "keys.c", "trap.c"];
const STORM: &[&str] = &["storm.c", "trap.c"];
