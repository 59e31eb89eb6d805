//! Who is loaded in which order, and what each of them then finds.

/// A libc, and whether it registers rseq itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// Registers nothing.
    Musl,
    /// The musl that `cargo xtask musl` makes.
    MuslOn,
    /// glibc with its registration off.
    GlibcOff,
    /// glibc as it comes.
    GlibcOn,
}

use Libc::{GlibcOff, GlibcOn, Musl, MuslOn};

impl Libc {
    /// All of them.
    pub const ALL: [Self; 4] = [Musl, MuslOn, GlibcOff, GlibcOn];

    /// The first part of its tests' names.
    pub fn name(self) -> &'static str {
        match self {
            Musl => "musl",
            MuslOn => "musl-on",
            GlibcOff => "glibc-off",
            GlibcOn => "glibc-on",
        }
    }

    /// Whether it is a musl.
    pub fn is_musl(self) -> bool {
        matches!(self, Musl | MuslOn)
    }

    /// Whether it registers rseq itself.
    pub fn owns(self) -> bool {
        matches!(self, MuslOn | GlibcOn)
    }

    /// The tunable that makes it so; musl does not look at it.
    pub fn tunable(self) -> String {
        format!("glibc.pthread.rseq={}", u8::from(self == GlibcOn))
    }

    /// A step, spelled out.
    fn spell(self, step: &str, folder: &str) -> String {
        let [live, late, kind, before, alone] = match self {
            Musl => ["registered", "taken", "-dynamic", "none", "live"],
            // Without versions, a reader that starts before the library reads the 0 of its variables.
            MuslOn => ["libc", "libc", "-dynamic", "early", "live"],
            GlibcOff => ["registered", "taken", "", "none", "none"],
            GlibcOn => ["libc", "libc", "", "early", "early"],
        };
        let words = [
            ("{live}", live),
            ("{late}", late),
            ("{kind}", kind),
            ("{before}", before),
            ("{alone}", alone),
            ("{in}", folder),
        ];
        words
            .iter()
            .fold(step.to_owned(), |step, (word, by)| step.replace(word, by))
    }
}

/// A program, what it is told, and where.
pub struct Case {
    /// The test's name, after the libc's.
    pub test: &'static str,
    /// The program.
    pub program: &'static str,
    steps: &'static str,
    /// Under which libcs.
    pub libcs: &'static [Libc],
    /// Whether it has to die: by SIGSEGV.
    pub dies: bool,
}

impl Case {
    /// The arguments under `libc`.
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
        dies: false,
    }
}

const fn only(libcs: &'static [Libc], case: Case) -> Case {
    Case { libcs, ..case }
}

const fn dies(libcs: &'static [Libc], case: Case) -> Case {
    Case {
        libcs,
        dies: true,
        ..case
    }
}

/// `{live}` is the state of a thread in the owner's eyes, `{late}` that of one which another owner has already, `{kind}` the
/// form that this libc loads late, `{before}` and `{alone}` what a reader sees before anybody registered, and one that
/// knows the libc alone. The steps themselves are told in `tests-qemu/shared/main.c`.
#[rustfmt::skip]
pub const CASES: [Case; 38] = [
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
    case("early/before-the-owner", "main-needs-early", "r=live b={live} a={live} a~b owner:b:a threads:ab once:ab"),
    case("no-error-is-left", "main-abr", "quiet a={live} quiet"),
    case("forked-while-it-prepares", "forks", "{live}"),
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
    // Not ours to mend: musl unmaps what the kernel may not be told to leave alone.
    dies(&[Musl], case("limit/rseq-refused-late", "storm", "20000 refused")),
    dies(&[GlibcOff], case("broken/deletable", "main", "global:{in}/liba-deletable.so outlive:a")),
];

/// Under qemu-user nobody can register, and everything works.
pub const WITHOUT: Case = case(
    "",
    "main-abr",
    "r=none a=without b=without a~b owner:b:a r=none threads:ab",
);
