//! The smallest initramfs: `/init`, the console it writes to, and what else it asks for.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use cpio::newc::{Builder, ModeFileType, trailer};
use flate2::{Compression, write::GzEncoder};

/// Writes a gzip'd newc archive with `init` as `/init`, `/dev/console`, and `more`: programs and libraries in
/// folders such as `lib`.
///
/// A device node is only a record of the format, so this needs no privilege.
pub fn write(init: &Path, more: &[(&str, PathBuf)], archive: &Path) -> Result<()> {
    let mut out = GzEncoder::new(std::fs::File::create(archive)?, Compression::fast());
    let node = |name: &str, inode, kind, permissions| {
        Builder::new(name)
            .ino(inode)
            .mode(permissions)
            .nlink(1)
            .set_mode_file_type(kind)
    };
    node("dev", 1, ModeFileType::Directory, 0o755)
        .write(&mut out, 0)
        .finish()?;
    node("dev/console", 2, ModeFileType::Char, 0o600)
        .rdev_major(5)
        .rdev_minor(1)
        .write(&mut out, 0)
        .finish()?;
    let mut inode = 3;
    let mut folders = Vec::new();
    for (name, path) in [("init", init)]
        .into_iter()
        .chain(more.iter().map(|(name, path)| (*name, path.as_path())))
    {
        if let Some((folder, _)) = name.rsplit_once('/')
            && !folders.contains(&folder)
        {
            folders.push(folder);
            node(folder, inode, ModeFileType::Directory, 0o755)
                .write(&mut out, 0)
                .finish()?;
            inode += 1;
        }
        let content = std::fs::read(path)?;
        let mut file = node(name, inode, ModeFileType::Regular, 0o755)
            .write(&mut out, u32::try_from(content.len())?);
        file.write_all(&content)?;
        file.finish()?;
        inode += 1;
    }
    trailer(&mut out)?;
    out.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn console_is_a_device_and_init_is_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let (init, archive) = (dir.path().join("program"), dir.path().join("archive"));
        std::fs::write(&init, b"\x7fELF program").unwrap();
        let more = [("lib/libc.so", init.clone())];
        write(&init, &more, &archive).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&archive).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();

        let mut found = Vec::new();
        let mut rest: Box<dyn Read> = Box::new(std::io::Cursor::new(bytes));
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            found.push((
                entry.name().to_owned(),
                entry.mode(),
                entry.rdev_major(),
                entry.rdev_minor(),
                content.len(),
            ));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            found,
            [
                ("dev".into(), 0o040_755, 0, 0, 0),
                ("dev/console".into(), 0o020_600, 5, 1, 0),
                ("init".into(), 0o100_755, 0, 0, 12),
                ("lib".into(), 0o040_755, 0, 0, 0),
                ("lib/libc.so".into(), 0o100_755, 0, 0, 12)
            ]
        );
    }
}
