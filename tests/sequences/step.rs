//! The kinds of steps.

/// One call of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Init,
    Thread(usize, Act),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Create,
    CreateMasked,
    Ensure,
    /// CPU, node and concurrency id.
    Read,
    /// A critical section that ends normally leaves its descriptor behind in the area.
    Section,
    /// vfork, everything that a child may try, and back.
    Vfork,
    /// `mem::forget` of a loan, which is safe code.
    LoseLoan,
    RunAtExit,
    Keep,
    KeepMasked,
    Release,
    ReleaseMasked,
    /// Drops the `Thread` and requests it again.
    CurrentThread,
    Scope,
    EndScope,
    DropScope,
    /// The task ends, and the joiner waits for that and renews the area.
    Reclaim,
    /// The area of a released thread is renewed before the task ends.
    Recycle,
    /// fork(2): the walk continues in the child, where the other thread does not exist.
    Fork,
    Migrate,
}

pub const ACTS: [Act; 20] = [
    Act::Create,
    Act::CreateMasked,
    Act::Ensure,
    Act::Read,
    Act::Section,
    Act::Vfork,
    Act::LoseLoan,
    Act::RunAtExit,
    Act::Keep,
    Act::KeepMasked,
    Act::Release,
    Act::ReleaseMasked,
    Act::CurrentThread,
    Act::Scope,
    Act::EndScope,
    Act::DropScope,
    Act::Reclaim,
    Act::Recycle,
    Act::Fork,
    Act::Migrate,
];

pub fn all() -> impl Iterator<Item = Step> {
    let acts = (0..2).flat_map(|thread| ACTS.map(|act| Step::Thread(thread, act)));
    std::iter::once(Step::Init).chain(acts)
}
