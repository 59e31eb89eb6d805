//! The smallest initramfs: `/init`, its console, and any further files.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};
use flate2::{Compression, write::GzEncoder};

/// Writes a gzip'd newc archive with `init` as `/init`, `/dev/console`, and `more`: programs and libraries in folders
/// such as `lib`. A folder is packed with its content, links as links. A device node is only a record of the format, so
/// this needs no privilege.
pub fn write(init: &Path, more: &[(&str, PathBuf)], archive: &Path) -> Result<()> {
    let mut pack = Pack {
        out: GzEncoder::new(File::create(archive)?, Compression::fast()),
        inode: 0,
        folders: Vec::new(),
    };
    pack.folder("dev")?;
    let console = pack.node("dev/console", 0o600, ModeFileType::Char);
    let console = console.rdev_major(5).rdev_minor(1);
    console.write(&mut pack.out, 0).finish()?;
    pack.file("init", init)?;
    for (name, path) in more {
        if path.is_dir() {
            pack.tree(name, path)?;
        } else {
            pack.file(name, path)?;
        }
    }
    trailer(&mut pack.out)?;
    pack.out.finish()?.flush()?;
    Ok(())
}

struct Pack {
    out: GzEncoder<File>,
    inode: u32,
    folders: Vec<String>,
}

impl Pack {
    fn node(&mut self, name: &str, permissions: u32, kind: ModeFileType) -> Builder {
        self.inode += 1;
        Builder::new(name)
            .ino(self.inode)
            .mode(permissions)
            .nlink(1)
            .set_mode_file_type(kind)
    }

    /// A folder, after its parent: the kernel creates none by itself.
    fn folder(&mut self, name: &str) -> Result<()> {
        if self.folders.iter().any(|made| made == name) {
            return Ok(());
        }
        self.parent_of(name)?;
        self.folders.push(name.to_owned());
        let node = self.node(name, 0o755, ModeFileType::Directory);
        node.write(&mut self.out, 0).finish()?;
        Ok(())
    }

    fn parent_of(&mut self, name: &str) -> Result<()> {
        match name.rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => Ok(()),
        }
    }

    fn with_content(&mut self, name: &str, kind: ModeFileType, content: &[u8]) -> Result<()> {
        self.parent_of(name)?;
        let node = self.node(name, 0o755, kind);
        let mut record = node.write(&mut self.out, u32::try_from(content.len())?);
        record.write_all(content)?;
        record.finish()?;
        Ok(())
    }

    fn file(&mut self, name: &str, path: &Path) -> Result<()> {
        self.with_content(name, ModeFileType::Regular, &std::fs::read(path)?)
    }

    fn tree(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.folder(name)?;
        let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder)?.collect();
        let mut entries = entries?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (file_name, path) = (entry.file_name(), entry.path());
            let below = file_name.to_str().context("a name that is text")?;
            let below = format!("{name}/{below}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&below, &path)?;
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path)?;
                let target = target.as_os_str().as_bytes();
                self.with_content(&below, ModeFileType::Symlink, target)?;
            } else {
                self.file(&below, &path)?;
            }
        }
        Ok(())
    }
}
