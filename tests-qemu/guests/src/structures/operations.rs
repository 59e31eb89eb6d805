//! The methods of [`Local`](rseq_rt::structures::Local), for the test's own kinds of it.

/// All but `index`. The type has a `run(self, slots, op, of, shipped)`: the operation as one that can stop, what its
/// result means, and the operation as it is shipped, by the type's `current`.
macro_rules! operations {
    ($index:ty) => {
        operations! { @each $index;
            add(word: usize, value: usize) -> () = Op::Add(word, value), drop;
            compare_two_and_store(
                word: (usize, usize), second: (usize, usize), new: usize
            ) -> () = Op::CompareTwoAndStore(word.0, word.1, second.0, second.1, new), drop;
            compare_store_and_store(
                word: (usize, usize), second: (usize, usize), new: usize
            ) -> () = Op::CompareStoreAndStore(word.0, word.1, second.0, second.1, new), drop;
            compare_link_and_store(
                word: (usize, usize), link: *const AtomicUsize, new: usize
            ) -> () = Op::CompareLinkAndStore(word.0, word.1, link.cast_mut().cast(), new), drop;
            pop(word: usize, empty: usize, link: usize) -> usize
                = Op::Pop(word, core::ptr::without_provenance_mut(empty), link as isize),
                <*mut u8>::addr;
            compare_copy_and_store(
                word: (usize, usize), offset: usize, source: &[u8], new: usize
            ) -> () = Op::CompareCopyAndStore(
                word.0, word.1, offset, source.as_ptr(), source.len(), new
            ), drop;
        }
    };
    (@each $index:ty; $(
        $name:ident($($operand:ident: $type:ty),*) -> $result:ty = $op:expr, $of:expr;
    )*) => {$(
        unsafe fn $name<T: Sync>(
            self,
            slots: Slots<'_, $index, T>,
            $($operand: $type,)*
        ) -> Result<$result, Miss> {
            // SAFETY: the caller's.
            let shipped = || unsafe { Local::$name(self.current, slots, $($operand),*) };
            // SAFETY: the caller's.
            unsafe { self.run(slots, $op, $of, shipped) }
        }
    )*};
}
pub(super) use operations;
