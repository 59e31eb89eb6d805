//! An ELF file of one of the three CPUs.

use anyhow::Result;
use object::LittleEndian;
use object::read::elf::ElfFile64;

pub type Elf<'data> = ElfFile64<'data, LittleEndian>;

pub fn parse(bytes: &[u8]) -> Result<Elf<'_>> {
    Ok(Elf::parse(bytes)?)
}
