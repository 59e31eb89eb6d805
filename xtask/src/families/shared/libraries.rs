//! The libraries, readers and programs of the family `shared`.

/// A shared library of the form.
pub struct Library {
    pub file: &'static str,
    /// The name of the function that the program looks up.
    pub name: &'static str,
    /// Its own source, beside the form.
    pub source: &'static str,
    /// The flags for its copy of the form.
    pub flags: &'static str,
    /// The pkg-config package whose flags it is linked with.
    pub package: &'static str,
    /// Linker flags beyond pkg-config's.
    pub links: &'static str,
    /// Whether it is linked with the deliberate errors of `broken.c`.
    pub broken: bool,
    /// Whether dlclose(3) may unload it.
    pub deletable: bool,
    /// The library it depends on, whose constructors run before its own.
    pub needs: Option<&'static str>,
}

const fn library(file: &'static str, name: &'static str) -> Library {
    Library {
        file,
        name,
        source: "lib.c",
        flags: "",
        package: "rseq_rt_library",
        links: "",
        broken: false,
        deletable: false,
        needs: None,
    }
}

const fn flags(flags: &'static str, library: Library) -> Library {
    Library { flags, ..library }
}

const fn broken(how: &'static str, library: Library) -> Library {
    Library {
        broken: true,
        ..flags(how, library)
    }
}

const fn source(source: &'static str, library: Library) -> Library {
    Library { source, ..library }
}

const fn links(links: &'static str, library: Library) -> Library {
    Library { links, ..library }
}

/// The libraries; other CPUs build only the first two.
#[rustfmt::skip] // a table
pub const LIBRARIES: [Library; 17] = [
    library("liba.so", "lib_a"),
    library("libb.so", "lib_b"),
    // Another version: its table has another name.
    flags("-Drseq_rt_library_v2=rseq_rt_library_v3", library("libv.so", "lib_v")),
    flags("-DRSEQ_RT_LIBRARY_DYNAMIC", library("liba-dynamic.so", "lib_a")),
    flags("-DRSEQ_RT_LIBRARY_DYNAMIC", library("libb-dynamic.so", "lib_b")),
    Library { deletable: true, ..library("liba-deletable.so", "lib_a") },
    broken("-Drseq_rt_on_thread_exit_masked=keep_in_place_of_release", library("liba-keeps.so", "lib_a")),
    broken(
        "-Drseq_rt_on_thread_exit_masked=release_and_forget -Dpthread_setcancelstate=never_disabled",
        library("liba-forgets.so", "lib_a"),
    ),
    broken("-Dpthread_setcancelstate=never_disabled", library("liba-registers-late.so", "lib_a")),
    // An allocator that queries rseq; the second also where thread-specific values are allocated.
    source("allocator.c", library("liballocator.so", "lib_a")),
    source("allocator.c", broken("-Dpthread_setspecific=allocating_setspecific", library("liballocator-sets.so", "lib_a"))),
    // Bound to itself by the linker: all symbols, or functions only, which is the default of some distributions.
    links("-Wl,-Bsymbolic", library("libb-symbolic.so", "lib_b")),
    links("-Wl,-Bsymbolic-functions", library("libb-functions.so", "lib_b")),
    // Its constructor is linked before the form's.
    flags("-DEARLY", library("liba-early.so", "lib_a")),
    flags("-DEARLY", library("libb-early.so", "lib_b")),
    Library { needs: Some("libb-early.so"), ..library("liba-needs-early.so", "lib_a") },
    // No such symbol exists.
    flags("-Drseq_register_current_thread=nobody_has_this", library("liba-does-not-look.so", "lib_a")),
];

/// The library of a plug-in that needs no static TLS.
pub const WITHOUT_AREA: Library = Library {
    package: "rseq_rt",
    ..flags(
        "-DRSEQ_RT_LIBRARY_NO_AREA",
        library("liba-no-area.so", "lib_a"),
    )
};

/// Number of copies of each plug-in.
pub const PLUGINS: usize = 40;

/// Plain shared objects: file, sources, linked libraries.
#[rustfmt::skip]
pub const OBJECTS: [(&str, &[&str], &[&str]); 5] = [
    ("libr.so", &["reader.c"], &["liba.so"]),
    ("libr-alone.so", &["reader.c"], &[]),
    ("libr-weak.so", &["reader.c"], &[]),
    ("libn.so", &["naive.c"], &[]),
    ("liblikelibrseq.so", &["likelibrseq.c", "trap.c"], &[]),
];

/// Programs: file, sources, libraries in link order. `form` stands for the form in the program itself.
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
