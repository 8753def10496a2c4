//! Files on the host: whole-or-nothing writing, bounded reading, and bytes aligned for a student image.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// Alignment in bytes of what [`read_aligned`] returns; the sections of a student image are aligned to it.
pub const IMAGE_ALIGNMENT: usize = 16;

/// Largest file that [`read_aligned`] takes: 256 MiB, far above any part's flash.
pub const MAX_ALIGNED_BYTES: u64 = 256 << 20;

/// Writes `path` whole or not at all: `write` fills a temporary file in the same folder, which is synced and renamed
/// over `path`. When anything fails the temporary file is removed and a file that was at `path` before is untouched.
///
/// A symbolic link is followed. What exists and is not a regular file (a pipe, `/dev/stdout`) is written directly,
/// as renaming over it would replace the device.
///
/// # Errors
/// When the folder is missing, `path` is a folder, `write` fails, or the file system refuses.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = resolve(path)?;
    if fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
        let file = OpenOptions::new().write(true).open(&target).with_context(|| cannot_write(path))?;
        return fill(file, path, write).map(drop);
    }
    let (temporary, file) = create_beside(&target).with_context(|| cannot_write(path))?;
    let file = fill(file, path, write)?;
    file.sync_all().with_context(|| cannot_write(path))?;
    drop(file);
    temporary.rename_to(&target).with_context(|| cannot_write(path))
}

/// Says before the work what [`write_atomic`] would say after it: whether `path` can name an output file.
///
/// # Errors
/// When the folder is missing, or `path` is a folder or names no file.
pub fn check_output(path: &Path) -> Result<()> {
    resolve(path).map(drop)
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// When there is no such file, it is a folder, it is larger than `max`, or reading fails.
pub fn read_file(path: &Path, max: u64) -> Result<Vec<u8>> {
    let (file, len) = open_file(path)?;
    if len > max {
        bail!("{}: has {len} bytes, more than the {max} that are accepted here; name another file", path.display());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len)?);
    // The length is asked again by reading one byte further: the file may grow meanwhile, and a pipe reports 0.
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > max {
        bail!("{}: has more than the {max} bytes that are accepted here; name another file", path.display());
    }
    Ok(bytes)
}

/// Reads a whole file, for instance a student image, into memory aligned to [`IMAGE_ALIGNMENT`].
///
/// # Errors
/// As [`read_file`], with [`MAX_ALIGNED_BYTES`].
pub fn read_aligned(path: &Path) -> Result<AlignedBytes> {
    Ok(AlignedBytes::from(read_file(path, MAX_ALIGNED_BYTES)?.as_slice()))
}

/// Opens a regular file or pipe for reading and returns it with its length in bytes (0 for a pipe).
///
/// # Errors
/// When there is no such file, it is a folder, or it may not be read.
pub fn open_file(path: &Path) -> Result<(File, u64)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => bail!("{}: no such file; check the name", path.display()),
        Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
    };
    let metadata = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_dir() {
        bail!("{}: is a folder where a file is wanted; name a file in it", path.display());
    }
    Ok((file, metadata.len()))
}

/// Bytes whose first byte lies at an address divisible by [`IMAGE_ALIGNMENT`].
pub struct AlignedBytes {
    /// Holds the bytes at `start..start + len`. Never resized, as that could move it.
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.copy_from_slice(bytes);
        aligned
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl AlignedBytes {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let storage = vec![0; len + IMAGE_ALIGNMENT - 1];
        let start = storage.as_ptr().addr().wrapping_neg() % IMAGE_ALIGNMENT;
        Self { storage, start, len }
    }
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        // Not derived: a copied allocation may need another start.
        Self::from(&**self)
    }
}

/// A file that is removed when dropped, unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn rename_to(self, target: &Path) -> std::io::Result<()> {
        fs::rename(&self.0, target)?;
        // The name lives in the folder, so a power cut could still undo the rename. Not every system can sync a folder.
        if let Ok(folder) = File::open(folder_of(target)) {
            let _ = folder.sync_all();
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}; name another place", path.display())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Follows links and refuses what can never become a file.
fn resolve(path: &Path) -> Result<PathBuf> {
    let target = if path.is_symlink() { fs::canonicalize(path).unwrap_or_else(|_| path.into()) } else { path.into() };
    if target.is_dir() {
        bail!("cannot write {}: it is a folder; name a file", path.display());
    }
    if target.file_name().is_none() {
        bail!("cannot write to `{}`: it names no file; give a file name", path.display());
    }
    let folder = folder_of(&target);
    if folder.exists() && !folder.is_dir() {
        bail!("cannot write {}: {} is a file; name a folder", path.display(), folder.display());
    }
    if !folder.is_dir() {
        bail!("cannot write {}: there is no folder {}; create it first", path.display(), folder.display());
    }
    Ok(target)
}

fn create_beside(target: &Path) -> std::io::Result<(Temporary, File)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}-{number}.tmp", std::process::id()));
        let path = folder_of(target).join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((Temporary(path), file)),
            // Left by a killed process that had our number: take the next one.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

fn fill(file: File, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<File> {
    let mut buffered = BufWriter::with_capacity(1 << 16, file);
    write(&mut buffered).with_context(|| cannot_write(path))?;
    buffered.into_inner().map_err(|e| e.into_error()).with_context(|| cannot_write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An own empty folder, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fewstep-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn written_file_replaces_the_old_one_and_leaves_nothing_else() {
        let folder = Folder::new("replace");
        let path = folder.0.join("a.bin");
        for content in [&b"first"[..], b"second, longer"] {
            write_atomic(&path, |w| Ok(w.write_all(content)?)).unwrap();
            assert_eq!(read_file(&path, 100).unwrap(), content);
        }
        assert_eq!(folder.names(), ["a.bin"]);
    }

    #[test]
    fn failed_write_leaves_the_old_file() {
        let folder = Folder::new("fail");
        let path = folder.0.join("a.bin");
        fs::write(&path, b"old").unwrap();
        let result = write_atomic(&path, |w| {
            w.write_all(&[7; 100_000])?;
            bail!("power cut")
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("power cut"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.names(), ["a.bin"]);
    }

    #[test]
    fn panicking_writer_leaves_no_temporary_file() {
        let folder = Folder::new("panic");
        let path = folder.0.join("a.bin");
        let caught = std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("on purpose")));
        assert!(caught.is_err());
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn unwritable_places_are_named() {
        let folder = Folder::new("places");
        let message = |path: &Path| format!("{:#}", write_atomic(path, |_| Ok(())).unwrap_err());
        assert!(message(&folder.0).contains("is a folder"));
        assert!(message(&folder.0.join("no/such/a.bin")).contains("create it first"));
        assert!(message(Path::new("")).contains("names no file"));
    }

    #[cfg(unix)]
    #[test]
    fn link_is_followed_and_device_is_kept() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = Folder::new("link");
        fs::write(folder.0.join("real"), b"old").unwrap();
        symlink(folder.0.join("real"), folder.0.join("link")).unwrap();
        write_atomic(&folder.0.join("link"), |w| Ok(w.write_all(b"new")?)).unwrap();
        assert!(folder.0.join("link").is_symlink());
        assert_eq!(fs::read(folder.0.join("real")).unwrap(), b"new");

        write_atomic(Path::new("/dev/null"), |w| Ok(w.write_all(b"gone")?)).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn reading_is_bounded() {
        let folder = Folder::new("bounded");
        let path = folder.0.join("a.bin");
        fs::write(&path, [1, 2, 3]).unwrap();
        assert_eq!(read_file(&path, 3).unwrap(), [1, 2, 3]);
        assert!(read_file(&path, 2).unwrap_err().to_string().contains("3 bytes, more than the 2"));
        assert!(read_file(&folder.0, 2).unwrap_err().to_string().contains("is a folder"));
        assert!(read_file(&folder.0.join("b"), 2).unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn aligned_bytes_are_aligned_also_when_cloned() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let aligned = AlignedBytes::from(bytes.as_slice());
            for a in [&aligned, &aligned.clone()] {
                assert_eq!(a.as_ptr().addr() % IMAGE_ALIGNMENT, 0);
                assert_eq!(&**a, bytes);
            }
        }
    }
}
