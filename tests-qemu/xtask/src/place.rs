//! Where a guest can run: the rows of the promise "three CPUs, real kernels".

use crate::arch::Arch;
use crate::install::Need;
use crate::kernel::Line;
use crate::outcome::Cell;

/// What stands under the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// This machine's own kernel.
    Native,
    /// qemu-user: another CPU, and no rseq(2).
    User,
    /// A real kernel, with the guest as PID 1.
    Kernel(Line),
}

/// A CPU and what stands under the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The CPU.
    pub arch: Arch,
    /// The rest.
    pub machine: Machine,
}

impl Place {
    /// All places of the test matrix on this machine.
    pub fn all() -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        places.extend(Arch::host().map(|arch| Place {
            arch,
            machine: Machine::Native,
        }));
        places.extend(Arch::ALL.map(|arch| Place {
            arch,
            machine: Machine::User,
        }));
        for line in Line::ALL {
            // Debian has no 6.1 for riscv64.
            let arches = Arch::ALL
                .into_iter()
                .filter(|&arch| arch != Arch::Riscv64 || line != Line::V6_1);
            places.extend(arches.map(|arch| Place {
                arch,
                machine: Machine::Kernel(line.clone()),
            }));
        }
        places
    }

    /// Whether the tests are incomplete without it.
    pub fn required(&self) -> bool {
        !(self.arch == Arch::Riscv64 && self.machine == Machine::Kernel(Line::V6_12))
    }

    /// Whether the guest boots here as PID 1.
    pub fn boots(&self) -> bool {
        matches!(self.machine, Machine::Kernel(_))
    }

    /// The column, with the kernel's version once it is known.
    pub fn cell(&self, version: Option<&str>) -> Cell {
        let (rank, name) = match &self.machine {
            Machine::Native => (1, "native"),
            Machine::User => (2, "user"),
            Machine::Kernel(line) => {
                let rank = Line::ALL
                    .iter()
                    .position(|other| other == line)
                    .unwrap_or(Line::ALL.len());
                (3 + rank, version.unwrap_or(line.name()))
            }
        };
        let arch = Arch::ALL
            .iter()
            .position(|&other| other == self.arch)
            .unwrap_or_default();
        Cell {
            order: 10 * rank + arch,
            label: format!("{}/{name}", self.arch),
        }
    }

    /// Whether one of the `--kernel` words means this place; none given means all.
    pub fn is_meant_by(&self, words: &[String]) -> bool {
        words.is_empty()
            || words.iter().any(|word| match &self.machine {
                Machine::Native => word == "native",
                Machine::User => word == "user",
                Machine::Kernel(line) => line.is_meant_by(word),
            })
    }

    /// The programs that run a guest here.
    pub fn needs(&self) -> Vec<Need> {
        let arch = self.arch;
        match self.machine {
            Machine::Native => vec![],
            Machine::User => {
                let why = format!("running {arch} guests in user mode");
                vec![Need::new(user_emulator(arch), &["qemu-user"], why)]
            }
            Machine::Kernel(_) => {
                let why = format!("booting {arch} kernels");
                let mut needs = vec![Need::new(
                    system_emulator(arch),
                    arch.system_emulator_packages(),
                    &why,
                )];
                if arch == Arch::Riscv64 {
                    needs.push(Need::new(
                        "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
                        &["opensbi"],
                        why,
                    ));
                }
                needs
            }
        }
    }

    /// What the demo must be told here: qemu-user has no rseq(2), and the demo
    /// takes a thread without it for a failure unless it was told to expect that.
    pub fn demo_arguments(&self) -> Vec<String> {
        let user = self.machine == Machine::User;
        user.then(|| "--expect-unavailable".to_owned())
            .into_iter()
            .collect()
    }

    /// The scale the suite is told to run at.
    pub fn scale(&self) -> &'static str {
        match self.machine {
            Machine::Native => "native",
            Machine::User => "user",
            Machine::Kernel(_) => "emulated",
        }
    }
}

/// qemu's program for one process of another CPU.
pub fn user_emulator(arch: Arch) -> String {
    format!("qemu-{arch}")
}

/// qemu's program for a whole machine.
pub fn system_emulator(arch: Arch) -> String {
    format!("qemu-system-{arch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_every_kernel_and_cpu() {
        let places = Place::all();
        assert_eq!(places.iter().filter(|place| place.boots()).count(), 8);
        assert_eq!(places.iter().filter(|place| !place.required()).count(), 1);
        let meant = |word: &str| {
            places
                .iter()
                .filter(|place| place.is_meant_by(&[word.to_owned()]))
                .count()
        };
        assert_eq!(
            (meant("7.2"), meant("6.12"), meant("6.1"), meant("user")),
            (3, 3, 2, 3)
        );
    }

    #[test]
    fn a_column_says_what_is_known() {
        let place = Place {
            arch: Arch::Riscv64,
            machine: Machine::Kernel(Line::Newest),
        };
        assert_eq!(place.cell(None).label, "riscv64/newest");
        assert_eq!(place.cell(Some("7.2")).label, "riscv64/7.2");
        let native = Place {
            arch: Arch::X86_64,
            machine: Machine::Native,
        };
        assert!(native.cell(None) < place.cell(None));
    }
}
