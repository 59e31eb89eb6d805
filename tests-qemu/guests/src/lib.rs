//! The runtime of the freestanding guests.
#![no_std]
