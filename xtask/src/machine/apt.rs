//! A private apt folder: kernels of other suites and other CPUs, from this machine's mirror, without touching its
//! configuration.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::context::Context;
use crate::process::{self, Finished, command, lock, output};

/// Suites whose presence identifies Debian's own apt sources.
const SUITES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "testing",
    "unstable",
    "oldstable",
    "oldoldstable",
];

/// The suites searched for kernels, and the architectures that each has.
const WANTED: [(&str, &[&str]); 9] = [
    ("forky", &["amd64", "arm64", "riscv64"]),
    ("trixie", &["amd64", "arm64", "riscv64"]),
    ("trixie-security", &["amd64", "arm64", "riscv64"]),
    ("sid", &["amd64", "arm64", "riscv64"]),
    ("bookworm-backports", &["amd64", "arm64"]),
    ("bookworm", &["amd64", "arm64"]),
    ("bookworm-security", &["amd64", "arm64"]),
    ("trixie-backports", &["amd64", "arm64"]),
    ("experimental", &["amd64", "arm64"]),
];

/// The folder, with its lists fetched.
pub struct Apt {
    folder: PathBuf,
    updates_left: u32,
}

/// A package in one suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub package: String,
    pub version: String,
    pub suite: String,
}

impl Apt {
    /// Makes the folder and fetches the lists of kernels.
    pub fn open(folder: &Path, cx: &Context) -> Result<Apt> {
        Self::open_with(folder, sources, cx)
    }

    /// The same, with the source packages of one suite.
    pub fn open_sources(folder: &Path, suite: &str, cx: &Context) -> Result<Apt> {
        let of_suite = |targets: &str| {
            let all = sources(targets)?;
            let line = all
                .lines()
                .find(|line| line.ends_with(&format!(" {suite} main")))?;
            Some(format!("deb-src{}\n", line.strip_prefix("deb")?))
        };
        Self::open_with(folder, of_suite, cx)
    }

    fn open_with(
        folder: &Path,
        sources: impl Fn(&str) -> Option<String>,
        cx: &Context,
    ) -> Result<Apt> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            which::which(program).with_context(|| format!("this machine has no {program}"))?;
        }
        for sub in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(sub))?;
        }
        let mut targets = command("apt-get");
        targets.args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ]);
        let targets = process::run(&mut targets, 60)?;
        let sources =
            sources(&targets.output).context("this machine's apt names no Debian mirror")?;
        std::fs::write(folder.join("sources.list"), sources)?;

        let mut apt = Apt {
            folder: folder.to_owned(),
            updates_left: 3,
        };
        apt.update(cx)?;
        Ok(apt)
    }

    /// Fetches the lists; `false` after too many attempts. A suite whose index fails (a mirror in mid-sync) is left
    /// out, so retry only if the wanted package is missing.
    pub fn update(&mut self, cx: &Context) -> Result<bool> {
        let Some(left) = self.updates_left.checked_sub(1) else {
            return Ok(false);
        };
        self.updates_left = left;
        let _step = cx.step("fetching package lists (apt-get update in a private folder)");
        let updated = self.run("apt-get", &["-qq", "update"], 300)?;
        for line in updated
            .output
            .lines()
            .filter(|line| line.contains("Failed to fetch"))
        {
            cx.say(format!("a mirror in mid-sync? {line}"));
        }
        Ok(true)
    }

    /// Runs `program` on this folder only.
    fn run(&self, program: &str, arguments: &[&str], seconds: u64) -> Result<Finished> {
        let mut command = self.command(program);
        process::run(command.args(arguments), seconds)
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = command(program);
        for arch in Arch::ALL {
            command.arg(format!("-oAPT::Architectures::={}", arch.debian()));
        }
        command
            .arg(format!("-oDir::State::Lists={folder}/lists"))
            .arg(format!("-oDir::Cache={folder}/cache"))
            .arg(format!("-oDir::Etc::SourceList={folder}/sources.list"))
            .arg("-oDir::Etc::SourceParts=/dev/null")
            // A container's apt keeps no cache of its lists, so that each query would parse all of them.
            .arg("-oDir::Cache::pkgcache=pkgcache.bin")
            .arg("-oDir::Cache::srcpkgcache=srcpkgcache.bin")
            // The unprivileged user of apt's sandbox may not reach this folder.
            .arg("-oAPT::Sandbox::User=root")
            .current_dir(self.folder.join("cache/archives"))
            .env("LC_ALL", "C");
        command
    }

    /// The versions of `packages` in the suites, in the order of `packages`.
    pub fn candidates(&self, packages: &[&str]) -> Result<Vec<Candidate>> {
        let arguments: Vec<&str> = ["madison"].iter().chain(packages).copied().collect();
        let listed = self.run("apt-cache", &arguments, 300)?;
        Ok(candidates(&listed.output))
    }

    /// The names of packages that begin with `prefix`, in any version and for any CPU.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.run("apt-cache", &["pkgnames", prefix], 300)?;
        Ok(listed.output.lines().map(str::to_owned).collect())
    }

    /// The dependencies of `package` in that version.
    pub fn depends(&self, package: &str, version: &str) -> Result<Vec<String>> {
        let wanted = format!("{package}={version}");
        let shown = self.run("apt-cache", &["show", &wanted], 300)?;
        Ok(depends(&shown.output))
    }

    /// Downloads by `apt-get ARGUMENTS` in `folder`, up to three times: a mirror may be in mid-sync.
    fn download(&self, arguments: &[&str], folder: &Path) -> Result<Finished> {
        let mut attempt = 0;
        loop {
            let mut get = self.command("apt-get");
            get.arg("-qq").args(arguments).current_dir(folder);
            let ended = process::run(&mut get, 900)?;
            attempt += 1;
            // An unknown package does not appear by waiting.
            if ended.ok() || attempt == 3 || ended.output.contains("Unable to locate") {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_secs(10 * attempt));
        }
    }

    /// Downloads a source package and unpacks it below `into`, with the distribution's patches applied. If the mirror
    /// lacks some of its files, the original source only.
    fn source(&self, package: &str, into: &Path) -> Result<()> {
        let fetched = self.download(&["source", package], into)?;
        if fetched.ok() {
            return Ok(());
        }
        let original = self.download(&["source", "--tar-only", package], into)?;
        let files = std::fs::read_dir(into)?.filter_map(Result::ok);
        let mut archives = files.map(|entry| entry.path());
        let is_original = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
        let archive = archives.find(is_original).filter(|_| original.ok());
        let Some(archive) = archive else {
            fetched.check(&format!("the source of {package} did not download"))?;
            return Ok(());
        };
        let mut unpack = command("tar");
        unpack.arg("-xf").arg(&archive).arg("-C").arg(into);
        output(&mut unpack, &format!("{package} does not unpack"), 300).map(drop)
    }

    /// Downloads `package` (with its architecture) and unpacks it into `into`.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        let fetched = self.download(&["download", package], folder.path())?;
        fetched.check(&format!("{package} did not download"))?;
        let mut files = std::fs::read_dir(folder.path())?.filter_map(Result::ok);
        let file = files
            .next()
            .with_context(|| format!("{package} is no file"))?;
        let mut extract = command("dpkg-deb");
        extract.arg("-x").arg(file.path()).arg(into);
        output(&mut extract, &format!("{package} does not unpack"), 300)?;
        Ok(())
    }
}

/// Debian's releases that have what is built from source here, the oldest first.
pub const RELEASES: [&str; 4] = ["bookworm", "trixie", "forky", "sid"];

/// A source package, unpacked in the store; fetched, if missing, from the first of `suites` that has it. `mark` is a
/// file that marks the root of its source.
pub fn source_package(
    cx: &Context,
    package: &str,
    mark: &str,
    suites: &[&str],
    folder: &str,
) -> Result<PathBuf> {
    // One at a time: a second caller finds the result of the first, and apt has one folder.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE);
    let store = cx.store().join(folder);
    let unpacked = || {
        let folders = std::fs::read_dir(&store).ok()?.filter_map(Result::ok);
        folders
            .map(|entry| entry.path())
            .find(|path| path.join(mark).exists())
    };
    if let Some(found) = unpacked() {
        return Ok(found);
    }
    if !cx.install {
        bail!(
            "the source of {package} is not in target/xtask, and --no-install forbids to fetch it"
        );
    }
    let new = store.with_extension("new");
    let fetch = |suite: &&str| -> Result<()> {
        let apt = Apt::open_sources(&cx.store().join("apt-source"), suite, cx)?;
        let what = format!("fetching the source of {package} ({suite})");
        let _step = cx.step(what);
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new)?;
        apt.source(package, &new)
    };
    let mut last = None;
    for suite in suites {
        match fetch(suite) {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(&store);
                std::fs::rename(&new, &store)?;
                return unpacked().with_context(|| format!("the source package has no {mark}"));
            }
            Err(why) => {
                cx.say(format!("the source of {package}: {suite}: {why:#}"));
                last = Some(why);
            }
        }
    }
    Err(last.context("no suite")?)
}

/// Lines for our sources.list, from this machine's `URI RELEASE` lines.
fn sources(targets: &str) -> Option<String> {
    let of_debian = |is_security: bool| {
        targets.lines().find_map(|line| {
            let (uri, release) = line.trim().split_once(' ')?;
            let (suite, rest) = release.split_once(['-', '/']).unwrap_or((release, ""));
            let is_it = SUITES.contains(&suite) && rest.starts_with("security") == is_security;
            is_it.then_some(uri)
        })
    };
    let (mirror, security) = (of_debian(false)?, of_debian(true));
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = match Path::new(keyring).exists() {
        true => format!("signed-by={keyring} "),
        false => String::new(),
    };
    let line = |(suite, arches): (&str, &[&str])| {
        let uri = match suite.ends_with("-security") {
            true => security?,
            false => mirror,
        };
        let arches = arches.join(",");
        Some(format!("deb [{signed}arch={arches}] {uri} {suite} main\n"))
    };
    Some(WANTED.into_iter().filter_map(line).collect())
}

/// Parses `apt-cache madison`: `package | version | uri suite/component arch Packages`.
fn candidates(madison: &str) -> Vec<Candidate> {
    let candidate = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (package, version) = (fields.next()?, fields.next()?);
        let mut source = fields.next()?.split_whitespace();
        Some(Candidate {
            package: package.to_owned(),
            version: version.to_owned(),
            suite: source
                .find_map(|word| word.strip_suffix("/main"))?
                .to_owned(),
        })
    };
    madison.lines().filter_map(candidate).collect()
}

/// The names in the `Depends:` lines of `apt-cache show`.
fn depends(shown: &str) -> Vec<String> {
    let lines = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends:"));
    lines
        .flat_map(|line| line.split([',', '|']))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
