//! The cases: the libraries loaded and their order, and the state that each then finds.

use nix::sys::signal::Signal;

/// A libc, and whether it registers rseq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    Musl,
    /// The musl that `cargo xtask musl` makes, rseq enabled.
    MuslOn,
    GlibcOff,
    /// glibc by default.
    GlibcOn,
}

use Libc::{GlibcOff, GlibcOn, Musl, MuslOn};

impl Libc {
    pub const ALL: [Self; 4] = [Musl, MuslOn, GlibcOff, GlibcOn];

    pub fn name(self) -> &'static str {
        match self {
            Musl => "musl",
            MuslOn => "musl-on",
            GlibcOff => "glibc-off",
            GlibcOn => "glibc-on",
        }
    }

    pub fn is_musl(self) -> bool {
        matches!(self, Musl | MuslOn)
    }

    pub fn owns(self) -> bool {
        matches!(self, MuslOn | GlibcOn)
    }

    /// A step, with its placeholders replaced.
    fn spell(self, step: &str, folder: &str) -> String {
        let [live, late, kind, before, alone, keyless] = match self {
            Musl => ["registered", "taken", "-dynamic", "none", "live", "without"],
            // Without versions, a reader that starts before the library reads the 0 of its variables.
            MuslOn => ["libc", "libc", "-dynamic", "early", "live", "libc"],
            GlibcOff => ["registered", "taken", "", "none", "none", "registered"],
            GlibcOn => ["libc", "libc", "", "early", "early", "libc"],
        };
        let words = [
            ("{live}", live),
            ("{late}", late),
            ("{kind}", kind),
            ("{before}", before),
            ("{alone}", alone),
            ("{keyless}", keyless),
            ("{in}", folder),
        ];
        words
            .iter()
            .fold(step.to_owned(), |step, (word, by)| step.replace(word, by))
    }
}

/// A program, its steps, and the libcs it runs under.
pub struct Case {
    /// The test's name, after the libc's.
    pub test: &'static str,
    pub program: &'static str,
    steps: &'static str,
    pub libcs: &'static [Libc],
    /// The signal that must kill it.
    pub dies: Option<Signal>,
    /// Further glibc tunables, besides the one for rseq.
    pub tunables: &'static str,
}

impl Case {
    pub fn arguments(&self, libc: Libc, folder: &str) -> Vec<String> {
        let steps = self.steps.split_whitespace();
        steps.map(|step| libc.spell(step, folder)).collect()
    }
}

const fn case(test: &'static str, program: &'static str, steps: &'static str) -> Case {
    Case {
        test,
        program,
        steps,
        libcs: &Libc::ALL,
        dies: None,
        tunables: "",
    }
}

const fn only(libcs: &'static [Libc], case: Case) -> Case {
    Case { libcs, ..case }
}

const fn dies(libcs: &'static [Libc], case: Case) -> Case {
    Case {
        libcs,
        dies: Some(Signal::SIGSEGV),
        ..case
    }
}

const fn aborts(libcs: &'static [Libc], case: Case) -> Case {
    Case {
        libcs,
        dies: Some(Signal::SIGABRT),
        ..case
    }
}

const fn tuned(tunables: &'static str, case: Case) -> Case {
    Case { tunables, ..case }
}

/// `{live}`: a thread's state for the owner; `{late}`: for another form, once there is an owner; `{kind}`: the form
/// that this libc loads late; `{before}`, `{alone}`: a reader's view before any registration, and of one that knows
/// only the libc; `{keyless}`: the state when the process has no thread key left. Steps: `tests-qemu/shared/main.c`.
#[rustfmt::skip]
pub static CASES: [Case; 60] = [
    case("needed/a-b", "main-abr", "r={before} a={live} b={live} a~b owner:b:a r=live threads:ab once:ab once:ba fork:ab"),
    case("needed/b-a", "main-bar", "r={before} b={live} a={live} a~b owner:a:b r=live threads:ba once:ab"),
    case("needed/second-comes-first", "main-abr", "b={live} owner:b:a r=live threads:ab"),
    case("needed/reader-first", "main-rab", "r={before} a={live} b={live} a~b owner:b:a r=live threads:ab"),
    case("needed/reader-knows-libc-alone", "main-ax", "a={live} r={alone} threads:aa"),
    case("needed/reader-knows-libc-alone-first", "main-xa", "a={live} r={alone} threads:aa"),
    case("needed/reader-knows-no-version", "main-aw", "a={live} r=live threads:aa"),
    case("needed/reader-knows-no-version-first", "main-wa", "a={live} r=live threads:aa"),
    case("needed/program-reads", "main-reads", "r={before} a={live} r=live threads:aa"),
    case("needed/program-owns", "main-owns", "b={live} a={live} a~b owner:b:main threads:ab once:ba"),
    case("needed/two-versions", "main-av", "a={live} v=libc a!v"),
    case("early/before-the-form", "main-early", "r=live a={live} threads:aa once:aa"),
    case("early/before-the-owner", "main-needs-early", "r={before} b={live} a={live} a~b owner:b:a threads:ab once:ab"),
    case("no-error-is-left", "main-abr", "quiet a={live} quiet"),
    case("timer-threads", "timer", "{live}"),
    case("dlopen/global", "main", "global:{in}/liba{kind}.so a={live} global:{in}/libb{kind}.so b={live} a~b owner:b:a threads:ab once:ab close:b"),
    only(&[GlibcOff, GlibcOn], case("dlopen/reader-last", "main", "global:{in}/liba.so a={live} local:{in}/libr.so r=live threads:aa")),
    case("dlopen/local", "main", "local:{in}/liba{kind}.so a={live} local:{in}/libb{kind}.so b={late} a!b a={live} b={late}"),
    case("dlopen/local-reversed", "main", "local:{in}/libb{kind}.so b={live} local:{in}/liba{kind}.so a={late} a!b b={live} a={late}"),
    only(&[Musl, GlibcOff], case("dlopen/local-strangers", "main", "local:{in}/liba{kind}.so local:{in}/libb{kind}.so a!b split:ab")),
    case("dlopen/local-then-global", "main", "local:{in}/liba{kind}.so a={live} global:{in}/libb{kind}.so b={late} a!b a={live}"),
    case("dlopen/local-beside-needed", "main-a", "a={live} local:{in}/libb{kind}.so b={live} a~b owner:b:a threads:ab"),
    case("dlopen/closed-under-a-thread", "main", "global:{in}/liba{kind}.so outlive:a a={live}"),
    only(&[Musl], case("dlopen/initial-exec-is-refused", "main-a", "a=registered refused:{in}/libb.so a=registered threads:aa")),
    only(&[Musl, GlibcOff], case("hidden-owner/first", "main-abr", "hidden a=taken b=taken a~b r=none threads:ab a=taken")),
    only(&[Musl, GlibcOff], case("hidden-owner/on-one-thread", "main-abr", "a={live} beside:a beside:b r=live threads:ab")),
    case("storm/20000-detached", "storm", "20000 use"),
    case("storm/asked-again-in-the-last-destructor", "storm", "2000 again"),
    case("storm/asked-first-in-the-last-destructor", "storm", "2000 late"),
    only(&[GlibcOff, GlibcOn], case("storm/rseq-refused-late", "storm", "2000 refused")),
    case("storm/static", "storm-static", "2000 use"),
    only(&[GlibcOn], case("broken/unversioned-symbols-hide-the-libc", "main-nx", "r=none")),
    dies(&[Musl], case("broken/keeps-in-place-of-release", "storm-keeps", "20000 use")),
    dies(&[Musl], case("broken/registers-in-the-last-destructor", "storm-registers-late", "20000 late")),
    dies(&[Musl], case("broken/forgets-that-it-released", "storm-forgets", "20000 again")),
    case("allocator/asks", "allocates", "{live} 0"),
    case("allocator/asks-with-32-keys", "allocates", "{live} 32"),
    case("allocator/asks-where-setting-a-value-allocates", "allocates-sets", "{live} 32"),
    case("keys/exhausted", "main", "keys global:{in}/liba{kind}.so a={keyless} threads:aa"),
    only(&[GlibcOff, GlibcOn], case("namespace/program-keeps-its-value", "main", "value namespace:{in}/liba.so a={live} value threads:aa value")),
    only(&[GlibcOff, GlibcOn], case("namespace/beside-an-owner", "main-a", "a={live} value namespace:{in}/libb.so b={late} a={live} value")),
    only(&[GlibcOff, GlibcOn], case("plugins/static-tls-is-exhausted", "main", "too-many:{in}/plugin-area")),
    only(&[GlibcOff, GlibcOn], tuned(":glibc.rtld.optional_static_tls=8192", case("plugins/static-tls-by-tunable", "main", "plugins:{in}/plugin-area"))),
    only(&[GlibcOff], case("plugins/without-area", "main", "plugins:{in}/plugin-no-area all=without")),
    only(&[MuslOn, GlibcOn], case("plugins/without-area-under-the-libc", "main", "plugins:{in}/plugin-no-area all=libc")),
    case("table/grown-under-an-old-program", "grown", ""),
    dies(&Libc::ALL, case("broken/table-as-data", "grown-as-data", "")),
    case("needed/bound-to-its-own-functions", "main-functions", "a={live} b={live} a~b threads:ab"),
    only(&[Musl, GlibcOff], case("limit/bound-to-itself", "main-symbolic", "a=registered b=taken a!b")),
    // Before the form's constructor, a reader without a version finds the form's 0 instead of this musl's value.
    only(&[Musl, GlibcOff, GlibcOn], case("order/librseq-first", "order-librseq-first", "")),
    case("order/librseq-last", "order-librseq-last", ""),
    aborts(&[Musl, GlibcOff], case("broken/does-not-look-for-librseq", "order-unseen", "")),
    only(&[MuslOn, GlibcOn], case("limit/static-librseq-looks-for-no-libc", "order-static", "refused")),
    case("storm/asked-in-a-signal-handler", "storm", "5000 ticks"),
    // MuslOn is left out: with no key at all, musl itself crashes.
    only(&[Musl, GlibcOff, GlibcOn], case("storm/neighbour-deletes-key-0", "storm", "5000 zero")),
    case("limit/sysconf-counts-the-affinity", "main-a", "a={live} count:a"),
    dies(&[Musl, GlibcOff], case("limit/area-write-protected", "memory", "protected")),
    dies(&[Musl, GlibcOff], case("limit/area-moved", "memory", "moved")),
    // Cannot be fixed here: musl unmaps memory that the kernel cannot be asked to release.
    dies(&[Musl], case("limit/rseq-refused-late", "storm", "20000 refused")),
    dies(&[GlibcOff], case("broken/deletable", "main", "global:{in}/liba-deletable.so outlive:a")),
];

/// Under qemu-user no registration succeeds, and everything works.
pub const WITHOUT: Case = case(
    "",
    "main-abr",
    "r=none a=without b=without a~b owner:b:a r=none threads:ab",
);
