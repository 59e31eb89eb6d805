//! What may be wrong, as a number that a child can leave in shared memory.

macro_rules! faults {
    ($($name:ident $text:literal;)*) => {
        /// What was wrong, if anything.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Fault {
            $(#[doc = $text] $name,)*
        }

        impl Fault {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            /// In words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Of a number.
            pub fn of(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|&fault| fault as u32 == number)
            }
        }
    };
}

faults! {
    None "nothing";
    NotHere "the state before does not allow this hook";
    Unfinished "it did not come to its end";
    Prepare "the state before could not be made";
    Refused "the hook answered an error that its state does not explain";
    Registered "the state says registered, and the kernel does not know the area";
    Denied "the state says not registered, and the kernel knows the area";
    Released "released, and the kernel knows the area";
    Lost "kept, and the kernel does not know the registered area";
    Taken "the kernel knows no area, or ours, where another one is registered";
    Cpu "the CPU read is another than the kernel's";
    Node "the node cannot be read";
    Mask "the signal mask is not what the hook promises";
    Stray "memory beside the area has changed";
    Written "the kernel wrote to an area after its release";
    Callbacks "not every callback that was accepted was called, or one was called twice";
    Ensured "ensure_registered: an illegal change of state, or another answer than the state";
    Loan "a loan: the state is not Lent, or not the one from before after its end";
    LoanRegistered "a loan: something registered during it";
    Child "a fork child: its state is not what the kernel knows of it";
    ChildCpu "a fork child: a CPU that cannot be";
    ChildDied "a fork child did not come to its end";
    Vforked "a vfork child: it is registered, or reads what cannot be";
    Executed "a vfork child: the new image found something registered";
}
