//! The rseq sections in somebody else's link: kept with `linker/rseq-sections.ld`, lost without.

use std::path::Path;
use std::time::Duration;

use object::elf::{PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{LittleEndian, Object as _, ObjectSection as _};

use super::link::cell;
use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::process::{self, command};

/// The family.
pub struct Sections;

const NAME: &str = "sections";

/// A program that nothing in refers to: a descriptor, an array of them, an abort handler.
const SOURCE: &str = r#"
    .section .text._start,"ax",%progbits
    .globl _start
_start: .long 0
    .section __rseq_cs,"aw",%progbits
    .balign 32
1:  .long 0, 0
    .quad _start, 4, 2f
    .section __rseq_cs_ptr_array,"aw",%progbits
    .quad 1b
    .section __rseq_exit_point_array,"aw",%progbits
    .quad _start, 2f
    .section __rseq_failure,"ax",%progbits
2:  .long 0
    .section .data,"awR",%progbits
    .quad _start
    .section .note.GNU-stack,"",%progbits
"#;

const KEPT: [(&str, u64); 4] = [
    ("__rseq_cs", 32),
    ("__rseq_cs_ptr_array", 8),
    ("__rseq_exit_point_array", 16),
    ("__rseq_failure", 4),
];

/// The other linker, called directly: a cross compiler's driver does not find it.
const LLD: &[&str] = &["-pie", "--no-dynamic-linker", "--gc-sections"];

/// A link: its name, the driver's arguments, whether the script is given.
const LINKS: [(&str, &[&str], bool); 5] = [
    ("static", &["-static", "-no-pie"], true),
    ("pie", &["-static-pie"], true),
    ("shared", &["-shared"], true),
    ("pie-lld", LLD, true),
    ("lost-without-the-script", &["-static", "-no-pie"], false),
];

impl Family for Sections {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let listed = self.list(lab, selection);
        let wanted = |arch: &Arch| listed.iter().any(|(at, _)| *at == cell(*arch));
        let mut needs: Vec<Need> = Arch::ALL
            .into_iter()
            .filter(wanted)
            .map(|arch| {
                Need::new(
                    driver(arch),
                    &[package(arch)],
                    format!("linking for {arch}"),
                )
            })
            .collect();
        if listed.iter().any(|(_, test)| test.ends_with("-lld")) {
            needs.push(Need::new(
                "ld.lld",
                &["lld"],
                "the linker scripts under lld",
            ));
        }
        needs
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let arches = Arch::ALL
            .into_iter()
            .filter(|&arch| selection.wants_arch(arch) && selection.wants_kernel_free());
        arches
            .flat_map(|arch| LINKS.map(|(link, ..)| (cell(arch), link.to_owned())))
            .filter(|(_, link)| selection.wants(NAME, link))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let links: Vec<_> = LINKS
                .into_iter()
                .filter(|(link, ..)| listed.contains(&(cell(arch), (*link).to_owned())))
                .collect();
            if !links.is_empty() {
                jobs.push(Job::alone(format!("rseq sections for {arch}"), move || {
                    let judged = links.iter().map(|&(link, arguments, script)| {
                        let verdict = judge(lab, arch, arguments, script);
                        Outcome::new(&cell(arch), NAME, link, verdict)
                    });
                    judged.collect()
                }));
            }
        }
        jobs
    }
}

fn driver(arch: Arch) -> String {
    if Arch::host() == Some(arch) {
        "cc".to_owned()
    } else {
        arch.cross_linker().to_string()
    }
}

fn package(arch: Arch) -> String {
    if Arch::host() == Some(arch) {
        "gcc".to_owned()
    } else {
        arch.cross_linker_package().to_string()
    }
}

fn judge(lab: &Lab, arch: Arch, arguments: &[&str], script: bool) -> Verdict {
    for (tool, wanted) in [(driver(arch).as_str(), true), ("ld.lld", arguments == LLD)] {
        if wanted && which::which(tool).is_err() {
            return Verdict::Missing(format!("no {tool} here"));
        }
    }
    link(lab, arch, arguments, script).unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")))
}

fn link(lab: &Lab, arch: Arch, arguments: &[&str], script: bool) -> anyhow::Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let (source, file) = (
        folder.path().join("program.s"),
        folder.path().join("program"),
    );
    std::fs::write(&source, SOURCE)?;
    let object = folder.path().join("program.o");
    let mut assemble = command(driver(arch));
    assemble
        .args(["-fPIC", "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object);
    let assembled = process::run(&mut assemble, Duration::from_secs(60))?;
    anyhow::ensure!(assembled.ok(), "does not assemble: {}", assembled.tail(4));
    let lld = arguments == LLD;
    let mut link = if lld {
        command("ld.lld")
    } else {
        let mut cc = command(driver(arch));
        cc.args(["-nostdlib", "-nostartfiles", "-Wl,--gc-sections"]);
        cc
    };
    link.args(arguments).arg(&object).arg("-o").arg(&file);
    if script {
        let script = lab.root.join("linker/rseq-sections.ld");
        let option = if lld { "-T" } else { "-Wl,-T," };
        link.arg(format!("{option}{}", script.display()));
    }
    let linked = process::run(&mut link, Duration::from_secs(60))?;
    if !linked.ok() {
        return Ok(Verdict::Failed(format!(
            "does not link: {}",
            linked.tail(4)
        )));
    }
    inspect(&file, script)
}

fn inspect(file: &Path, script: bool) -> anyhow::Result<Verdict> {
    let bytes = std::fs::read(file)?;
    let elf = ElfFile64::<LittleEndian>::parse(&*bytes)?;
    let mut wrong = Vec::new();
    for (name, size) in KEPT {
        match elf.section_by_name(name) {
            None if script => wrong.push(format!("{name} is gone")),
            // The negative half: a link in which nothing is lost would show that the script is needless.
            Some(_) if !script => wrong.push(format!("{name} is there without the script")),
            Some(section) if section.size() != size => {
                wrong.push(format!("{name} has {} bytes", section.size()));
            }
            Some(section)
                if !is_loaded(&elf, section.address(), size, name == "__rseq_failure") =>
            {
                wrong.push(format!("{name} is in no loaded segment of its kind"));
            }
            _ => {}
        }
    }
    Ok(if wrong.is_empty() {
        Verdict::Passed(String::new())
    } else {
        Verdict::Failed(wrong.join(", "))
    })
}

/// In a loaded segment, and in an executable one if and only if it is code.
fn is_loaded(elf: &ElfFile64<'_, LittleEndian>, start: u64, size: u64, code: bool) -> bool {
    let endian = elf.endian();
    elf.elf_program_headers().iter().any(|segment| {
        let (from, length) = (segment.p_vaddr(endian), segment.p_filesz(endian));
        segment.p_type(endian) == PT_LOAD
            && from <= start
            && start + size <= from + length
            && (segment.p_flags(endian).0 & PF_X.0 != 0) == code
    })
}
