//! The places of the installed files, and the pkg-config and CMake files that name them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{Plan, VERSION};

/// The places of the installed files.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The location of `prefix` while the files are made.
    root: PathBuf,
    /// Its final location; if unknown, it is derived from that of the pkg-config or CMake file.
    prefix: Option<PathBuf>,
    /// Relative to the prefix.
    libdir: PathBuf,
}

impl Layout {
    /// A folder that may be moved.
    pub fn folder(root: &Path) -> Layout {
        Layout {
            root: root.to_owned(),
            prefix: None,
            libdir: "lib".into(),
        }
    }

    /// A prefix, inside of `destdir` for a package in the making.
    pub fn installed(prefix: &Path, libdir: &Path, destdir: Option<&Path>) -> Result<Layout> {
        ensure!(
            prefix.is_absolute(),
            "--prefix {}: not an absolute path",
            prefix.display()
        );
        ensure!(
            libdir.is_relative(),
            "--libdir {}: not a path in the prefix",
            libdir.display()
        );
        Ok(Layout {
            root: destdir
                .unwrap_or(Path::new("/"))
                .join(prefix.strip_prefix("/")?),
            prefix: Some(prefix.to_owned()),
            libdir: libdir.to_owned(),
        })
    }

    pub fn lib(&self) -> PathBuf {
        self.root.join(&self.libdir)
    }

    pub fn include(&self) -> PathBuf {
        self.root.join("include")
    }

    pub fn share(&self) -> PathBuf {
        self.root.join("share/rseq_rt")
    }

    pub fn man(&self) -> PathBuf {
        self.root.join("share/man/man3")
    }

    /// The prefix in a file `depth` folders below the libdir, where `here` names the file's own folder.
    fn prefix(&self, here: &str, depth: usize) -> String {
        match &self.prefix {
            Some(prefix) => prefix.display().to_string(),
            None => here.to_owned() + &"/..".repeat(depth + self.libdir.components().count()),
        }
    }

    /// Writes the pkg-config and CMake files of that archive.
    pub fn describe(&self, plan: Plan) -> Result<()> {
        let library = plan.library();
        let pkgconfig = self.lib().join("pkgconfig");
        let cmake = self.lib().join("cmake").join(library);
        std::fs::create_dir_all(&pkgconfig)?;
        std::fs::create_dir_all(&cmake)?;
        let mut files = vec![
            (
                pkgconfig.join(format!("{library}.pc")),
                self.pkg_config(plan),
            ),
            (
                cmake.join(format!("{library}Config.cmake")),
                self.cmake(plan),
            ),
            (
                cmake.join(format!("{library}ConfigVersion.cmake")),
                cmake_version(),
            ),
        ];
        if !plan.trio {
            files.push((
                pkgconfig.join("rseq_rt_library.pc"),
                self.library_pkg_config(),
            ));
        }
        for (file, text) in files {
            std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// The declarations of the trio are for the libc that defines it.
    fn pkg_config(&self, plan: Plan) -> String {
        let name = plan.library();
        let define = if plan.trio { " -DRSEQ_RT_TRIO" } else { "" };
        format!(
            "prefix={prefix}\n\
             libdir=${{prefix}}/{libdir}\n\
             includedir=${{prefix}}/include\n\
             \n\
             Name: {name}\n\
             Description: Thread create and exit hooks for restartable sequences\n\
             Version: {VERSION}\n\
             Cflags: -I${{includedir}}{define}\n\
             Libs: -L${{libdir}} -l{name}\n",
            prefix = self.prefix("${pcfiledir}", 1),
            libdir = self.libdir.display(),
        )
    }

    /// For a shared library: compiles the form's source in, is never unloaded, has versioned symbols. That source, not
    /// the archive, calls the libc: dlvsym(3), which glibc before 2.34 has in libdl, and pthread_key_create(3).
    fn library_pkg_config(&self) -> String {
        format!(
            "prefix={prefix}\n\
             datadir=${{prefix}}/share/rseq_rt\n\
             source=${{datadir}}/rseq_rt_library.c\n\
             \n\
             Name: rseq_rt_library\n\
             Description: Restartable sequences for a shared library, beside other libraries\n\
             Version: {VERSION}\n\
             Requires: rseq_rt\n\
             Libs: -Wl,-z,nodelete -Wl,--version-script=${{datadir}}/rseq_rt_library.map -ldl -pthread\n",
            prefix = self.prefix("${pcfiledir}", 1),
        )
    }

    fn cmake(&self, plan: Plan) -> String {
        let name = plan.library();
        let define = if plan.trio { "RSEQ_RT_TRIO" } else { "" };
        format!(
            "# Thread create and exit hooks for restartable sequences: the target {name}::{name}\n\
             set(_{name}_prefix \"{prefix}\")\n\
             set(_{name}_archive \"${{_{name}_prefix}}/{libdir}/lib{name}.a\")\n\
             if(NOT EXISTS \"${{_{name}_archive}}\")\n  \
               set({name}_FOUND FALSE)\n  \
               set({name}_NOT_FOUND_MESSAGE \"${{_{name}_archive}} is to be made first: share/rseq_rt/{name}-*.s says how\")\n\
             elseif(NOT TARGET {name}::{name})\n  \
               add_library({name}::{name} STATIC IMPORTED)\n  \
               set_target_properties({name}::{name} PROPERTIES\n    \
                 IMPORTED_LOCATION \"${{_{name}_archive}}\"\n    \
                 INTERFACE_INCLUDE_DIRECTORIES \"${{_{name}_prefix}}/include\"\n    \
                 INTERFACE_COMPILE_DEFINITIONS \"{define}\")\n\
             endif()\n",
            prefix = self.prefix("${CMAKE_CURRENT_LIST_DIR}", 2),
            libdir = self.libdir.display(),
        )
    }
}

/// Compatible in Cargo's sense: the first non-zero number is the same.
fn cmake_version() -> String {
    let (same, _) = VERSION.rsplit_once('.').unwrap_or((VERSION, ""));
    format!(
        "set(PACKAGE_VERSION {VERSION})\n\
         if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL {VERSION} AND NOT PACKAGE_FIND_VERSION VERSION_LESS {same})\n  \
           set(PACKAGE_VERSION_COMPATIBLE TRUE)\n\
         endif()\n\
         if(PACKAGE_FIND_VERSION VERSION_EQUAL {VERSION})\n  \
           set(PACKAGE_VERSION_EXACT TRUE)\n\
         endif()\n"
    )
}
