//! What one step can be.

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
    /// vfork, all that a child may try, and back.
    Vfork,
    /// `mem::forget` of a loan, which is safe code.
    LoseLoan,
    RunAtExit,
    Keep,
    KeepMasked,
    Release,
    ReleaseMasked,
    /// Lets go of the `Thread` and asks for it again.
    CurrentThread,
    Scope,
    EndScope,
    DropScope,
    /// The task ends, the joiner waits for that and makes the area a new one.
    Reclaim,
    /// The area of a released thread becomes a new one before the task ends.
    Recycle,
    /// fork(2): the world goes on in the child, where the other thread is not.
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
