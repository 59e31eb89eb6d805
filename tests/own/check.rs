//! The exhaustive abort check, for user-defined sections: copy this file, and write the section as a function with a
//! [`Stops::here`] between any two lines that load or store.
//!
//! A try is aborted at every stop. By then nothing that others rely on may have changed; and whatever happens next, and
//! on whichever CPU the section restarts, the result is as if the aborted try had never run.

use std::fmt::Debug;

/// The reason why a try ended before its commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Aborted,
    /// An early exit of the section.
    Differs,
}

/// The stop at which one try is aborted.
pub struct Stops {
    left: Option<usize>,
}

impl Stops {
    /// The try is not aborted.
    pub const fn none() -> Self {
        Self { left: None }
    }

    pub fn here(&mut self) -> Result<(), End> {
        match &mut self.left {
            Some(0) => Err(End::Aborted),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// An action of other threads on a CPU.
pub type Action<'a, M> = &'a dyn Fn(&mut M, usize);

/// A section and its environment. `M` is all memory: the slots of every CPU, and the caller's. `V` is the part that
/// others may rely on at any moment. `A` is the result of a committed section, including everything that its caller
/// finds.
pub struct Check<'a, M, V, A> {
    pub cpus: usize,
    /// One try on that CPU.
    pub section: &'a dyn Fn(&mut M, usize, &mut Stops) -> Result<A, End>,
    pub view: &'a dyn Fn(&M) -> V,
    /// Possible actions where a section was aborted: whole sections of other threads.
    pub actions: &'a [Action<'a, M>],
}

impl<M: Clone, V: PartialEq + Debug, A: PartialEq + Debug> Check<'_, M, V, A> {
    /// Tries up to `aborts` aborts in a row, each at every stop, followed by nothing or by every action. Returns the
    /// number of runs, or the first one in which an aborted try left a trace.
    pub fn run(&self, start: &M, aborts: usize) -> Result<usize, String> {
        self.from(start, start, aborts, "")
    }

    /// Starts from `memory`; `clean` has the same history without the aborted tries.
    fn from(&self, memory: &M, clean: &M, aborts: usize, path: &str) -> Result<usize, String> {
        let mut runs = 0;
        for cpu in 0..self.cpus {
            let (mut whole, mut expected) = (memory.clone(), clean.clone());
            let answer = (self.section)(&mut whole, cpu, &mut Stops::none());
            let right = (self.section)(&mut expected, cpu, &mut Stops::none());
            let what = format!("{path}whole on CPU {cpu}");
            self.same(&whole, &expected, &what)?;
            if answer != right {
                return Err(format!("{what}: {answer:?}, and not {right:?}"));
            }
            runs += 1;
            for stop in (0..).take_while(|_| aborts > 0) {
                let mut aborted = memory.clone();
                let mut stops = Stops { left: Some(stop) };
                let end = (self.section)(&mut aborted, cpu, &mut stops);
                if end != Err(End::Aborted) {
                    break;
                }
                let path = format!("{path}aborted at stop {stop} on CPU {cpu}, ");
                self.same(&aborted, memory, &path)?;
                runs += self.from(&aborted, clean, aborts - 1, &path)?;
                for (nth, action) in self.actions.iter().enumerate() {
                    let (mut after, mut clean) = (aborted.clone(), clean.clone());
                    action(&mut after, cpu);
                    action(&mut clean, cpu);
                    let path = format!("{path}action {nth}, ");
                    self.same(&after, &clean, &path)?;
                    runs += self.from(&after, &clean, aborts - 1, &path)?;
                }
            }
        }
        Ok(runs)
    }

    fn same(&self, one: &M, other: &M, what: &str) -> Result<(), String> {
        let (one, other) = ((self.view)(one), (self.view)(other));
        match one == other {
            true => Ok(()),
            false => Err(format!("{what}: {one:?}, and not {other:?}")),
        }
    }
}
