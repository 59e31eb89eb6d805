//! The demo: a minimal init that registers every thread and tears it down with proof.
#![no_std]
#![no_main]

use guests::{demo, entry};

entry!(demo::run);
