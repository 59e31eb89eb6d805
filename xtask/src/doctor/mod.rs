//! `cargo xtask doctor`: rseq on this machine, the registration of each kind of program, and the remedies.

mod answers;
mod owner;
mod threads;

use std::ffi::{CStr, c_void};
use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use nix::libc;
use serde::Serialize;
use serde_json::json;

use answers::{AT_RSEQ_ALIGN, AT_RSEQ_FEATURE_SIZE, Answer, Answers, Signs, auxv};

/// The type of the first argument of ptrace(2).
#[cfg(target_env = "gnu")]
type Request = libc::c_uint;
#[cfg(not(target_env = "gnu"))]
type Request = libc::c_int;

/// `cargo xtask doctor`
#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON document and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Show each thread of a running process instead: whether rseq is registered, by the libc or by others, where and
    /// how. Stops each thread for a moment.
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
    /// Ask the kernel from this process, in which no libc has registered.
    #[arg(long, hide = true)]
    ask: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.ask {
        println!("{}", serde_json::to_string(&Answers::ask())?);
    } else if let Some(pid) = args.pid {
        threads::show(pid, args.json)?;
    } else {
        let machine = Machine::look()?;
        match args.json {
            true => println!("{}", serde_json::to_string_pretty(&machine.document())?),
            false => machine.print(),
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Program {
    program: &'static str,
    gets: String,
    remedy: String,
}

struct Machine {
    release: String,
    feature_size: Option<u32>,
    align: Option<u32>,
    config_rseq: Option<bool>,
    answers: Answers,
    glibc: Option<String>,
    rseq_size: Option<u32>,
    tunables: Option<String>,
    seccomp: String,
    filters: String,
    possible: String,
    allowed: String,
}

impl Machine {
    fn look() -> Result<Self> {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let status = read("/proc/self/status");
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
        };
        let release = read("/proc/sys/kernel/osrelease");
        Ok(Self {
            config_rseq: configuration(&release),
            release,
            feature_size: auxv(AT_RSEQ_FEATURE_SIZE),
            align: auxv(AT_RSEQ_ALIGN),
            answers: Answers::of_a_child()?,
            glibc: glibc_version(),
            rseq_size: rseq_size(),
            tunables: std::env::var("GLIBC_TUNABLES").ok(),
            seccomp: field("Seccomp:"),
            filters: field("Seccomp_filters:"),
            possible: read("/sys/devices/system/cpu/possible"),
            allowed: field("Cpus_allowed_list:"),
        })
    }

    fn programs(&self) -> [Program; 3] {
        let signs = Signs {
            legacy: self.answers.legacy,
            kernel_has_rseq: self.feature_size.is_some() || self.config_rseq == Some(true),
            filters: self.seccomp != "0",
        };
        let program = |program, (gets, remedy): (String, String)| Program {
            program,
            gets,
            remedy,
        };
        let or_refused = |gets: String, remedy: &str| {
            signs.refusal().unwrap_or_else(|| (gets, remedy.to_owned()))
        };
        let glibc = match (&self.glibc, self.rseq_size) {
            (None, _) => ("no glibc here".to_owned(), "-".to_owned()),
            (Some(_), Some(size @ 1..)) => (
                format!("registered by glibc, __rseq_size {size}"),
                "glibc owns: nothing to do".to_owned(),
            ),
            (Some(_), Some(0)) => or_refused(
                "nothing: glibc.pthread.rseq=0".to_owned(),
                "take it out of GLIBC_TUNABLES, or register with rseq-rt",
            ),
            (Some(version), _) => or_refused(
                format!("nothing: glibc {version} is before 2.35"),
                "register with rseq-rt (docs/embedding.md)",
            ),
        };
        // A longer registration that does not fit, or is refused, falls back to 32.
        let fits =
            self.align.is_some_and(|align| align <= 64) && self.answers.whole == Answer::Done;
        let length = self
            .feature_size
            .filter(|&size| size <= 64 && fits)
            .unwrap_or(32);
        [
            program("glibc program", glibc),
            program(
                "musl program, static",
                or_refused(
                    "nothing: musl registers no thread".to_owned(),
                    "embed the hooks: cargo xtask musl, or docs/embedding.md",
                ),
            ),
            program(
                "runtime without libc, on rseq-rt",
                or_refused(format!("registered, length {length}"), "nothing to do"),
            ),
        ]
    }

    fn document(&self) -> serde_json::Value {
        json!({
            "kernel": {
                "release": self.release,
                "arch": std::env::consts::ARCH,
                "feature_size": self.feature_size,
                "align": self.align,
                "config_rseq": self.config_rseq,
                "answers": self.answers,
            },
            "libc": {
                "glibc": self.glibc,
                "rseq_size": self.rseq_size,
                "tunables": self.tunables,
            },
            "sandbox": {
                "seccomp": self.seccomp,
                "filters": self.filters,
                "rseq_number": libc::SYS_rseq,
            },
            "cpus": { "possible": self.possible, "allowed": self.allowed },
            "programs": self.programs(),
        })
    }

    fn print(&self) {
        let number = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
        let mut facts = table(&["machine", ""]);
        let mut fact = |name: &str, value: String| {
            facts.add_row([name, &value]);
        };
        fact(
            "kernel",
            format!("{} {}", self.release, std::env::consts::ARCH),
        );
        fact("auxv: feature size, align", {
            format!("{}, {}", number(self.feature_size), number(self.align))
        });
        fact(
            "CONFIG_RSEQ",
            match self.config_rseq {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None => "no configuration to be read".to_owned(),
            },
        );
        fact("rseq(2), length 32", self.answers.legacy.text());
        fact("rseq(2), feature size above 32", self.answers.whole.text());
        fact("time-slice extension", self.answers.slice.text());
        fact("membarrier(2), rseq fence", self.answers.fence.text());
        fact("glibc, __rseq_size", {
            let version = self.glibc.as_deref().unwrap_or("-");
            format!("{version}, {}", number(self.rseq_size))
        });
        fact(
            "GLIBC_TUNABLES",
            self.tunables.clone().unwrap_or("-".to_owned()),
        );
        fact(
            "seccomp mode, filters",
            format!("{}, {}", self.seccomp, self.filters),
        );
        fact(
            "CPUs: possible, allowed",
            format!("{}; {}", self.possible, self.allowed),
        );
        println!("{facts}");
        let mut programs = table(&["program", "rseq", "remedy"]);
        programs.add_rows(
            self.programs()
                .map(|one| [one.program.to_owned(), one.gets, one.remedy]),
        );
        println!("{programs}");
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// CONFIG_RSEQ, where the kernel's configuration is readable.
fn configuration(release: &str) -> Option<bool> {
    let packed = std::fs::read("/proc/config.gz")
        .ok()
        .and_then(|bytes| std::io::read_to_string(flate2::read::GzDecoder::new(&*bytes)).ok());
    let plain = || std::fs::read_to_string(format!("/boot/config-{release}")).ok();
    let text = packed.or_else(plain)?;
    Some(text.lines().any(|line| line == "CONFIG_RSEQ=y"))
}

/// The address of a symbol in this process.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym(3): a name that ends in 0.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn glibc_version() -> Option<String> {
    let version = symbol(c"gnu_get_libc_version")?;
    // SAFETY: glibc's function of that name has this type and returns a string that stays.
    let text = unsafe {
        let version: extern "C" fn() -> *const libc::c_char = std::mem::transmute(version);
        CStr::from_ptr(version())
    };
    Some(text.to_string_lossy().into_owned())
}

fn rseq_size() -> Option<u32> {
    // SAFETY: glibc's variable of that name is an unsigned int.
    symbol(c"__rseq_size").map(|size| unsafe { size.cast::<u32>().read_volatile() })
}
