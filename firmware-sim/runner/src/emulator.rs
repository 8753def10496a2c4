//! QEMU: one boot, under a time limit.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fewstep_board::Board;

use crate::error::Error;
use crate::process::{self, Ended};

/// Most bytes that a run may write; an ordinary one writes some thousand.
pub const OUTPUT_BYTES: usize = 1 << 20;

/// Where the emulator's clock counts instructions, each takes two to this power nanoseconds.
pub const CLOCK_SHIFT: u32 = 2;

/// Bytes to place in memory before the CPU starts.
pub struct Load<'a> {
    /// Where.
    pub address: u32,
    /// What.
    pub bytes: &'a [u8],
}

/// A boot.
pub struct Boot<'a> {
    /// The machine.
    pub board: &'a Board,
    /// The firmware: an ELF file, or raw bytes for the start of the flash.
    pub kernel: &'a [u8],
    /// Further contents of the flash.
    pub loads: &'a [Load<'a>],
    /// The instruction counter.
    pub counter: Option<&'a Path>,
    /// Time limit.
    pub limit: Duration,
    /// Becomes true when the caller is to stop.
    pub stop: Option<&'a AtomicBool>,
    /// The file that keeps the machine's memory with the board's second flash. The emulator's clock then counts
    /// instructions.
    pub memory: Option<&'a Path>,
}

/// How a boot ended.
pub struct Booted {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Exit code or signal, for people.
    pub ending: String,
    /// The time limit was reached.
    pub timed_out: bool,
    /// More than [`OUTPUT_BYTES`] were written.
    pub flooded: bool,
    /// What QEMU wrote to standard error.
    pub stderr: String,
    /// What the instruction counter wrote.
    pub counts: Option<String>,
}

/// Boots; `on_bytes` sees what the UART sends.
///
/// # Errors
/// The emulator is missing, or files for it cannot be written.
pub fn boot(boot: &Boot<'_>, mut on_bytes: impl FnMut(&[u8])) -> Result<Booted, Error> {
    let program = &boot.board.emulator.program;
    let path = process::find(program).ok_or_else(|| Error::NoEmulator { program: program.clone() })?;
    let scratch = Scratch::new()?;
    let kernel = scratch.write("firmware", boot.kernel)?;

    let mut command = process::tied(path);
    let mut machine = boot.board.emulator.machine.clone();
    if let (Some(file), Some(storage)) = (boot.memory, &boot.board.storage) {
        let size = storage.memory_size;
        let backend = option("memory-backend-file,id=flash,share=on,mem-path=", file, &format!(",size={size}"));
        command.arg("-object").arg(backend).args(["-m", &format!("{}M", size >> 20)]);
        command.args(["-icount", &format!("shift={CLOCK_SHIFT}")]);
        machine += ",memory-backend=flash";
    }
    command.args(["-machine", &machine]).args(&boot.board.emulator.options);
    command.args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-user-config"]);
    command.args(["-chardev", "stdio,id=uart", "-serial", "chardev:uart"]);
    command.args(["-semihosting-config", "enable=on,target=native"]);
    command.arg("-kernel").arg(kernel);
    for (index, load) in boot.loads.iter().enumerate() {
        let file = scratch.write(&format!("load{index}"), load.bytes)?;
        command.arg("-device").arg(option("loader,file=", &file, &format!(",addr={:#x},force-raw=on", load.address)));
    }
    let counts = scratch.dir.join("counts");
    if let Some(counter) = boot.counter {
        let mut plugin = option("", counter, "");
        plugin.push(option(",out=", &counts, ""));
        command.arg("-plugin").arg(plugin);
    }

    let mut written = 0;
    let ended = process::run_until(command, boot.limit, boot.stop, |bytes| {
        written += bytes.len();
        if written > OUTPUT_BYTES {
            return ControlFlow::Break(());
        }
        on_bytes(bytes);
        ControlFlow::Continue(())
    })
    .map_err(Error::io(program.clone()))?;
    let Ended { status, timed_out, stopped, interrupted, stderr } = ended;
    if interrupted {
        return Err(Error::Interrupted);
    }
    let counts = boot.counter.and_then(|_| std::fs::read_to_string(counts).ok());
    Ok(Booted { code: status.code(), ending: status.to_string(), timed_out, flooded: stopped, stderr, counts })
}

/// A QEMU option with a file in it: commas in the name are doubled.
fn option(before: &str, file: &Path, after: &str) -> OsString {
    // The names are ours and the temporary folder's; one that is not UTF-8 has no commas to double.
    let name = match file.to_str() {
        Some(name) => name.replace(',', ",,").into(),
        None => file.as_os_str().to_owned(),
    };
    let mut option = OsString::from(before);
    option.push(name);
    option.push(after);
    option
}

/// A folder that goes with its owner.
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("fewstep-{}-{number}", std::process::id()));
            match std::fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { dir }),
                // Left by a process of the same number that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(dir.display().to_string())(error)),
            }
        }
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.file(name);
        std::fs::write(&path, bytes).map_err(Error::io(path.display().to_string()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody is hurt by what stays in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_file_names_are_doubled() {
        let made = option("loader,file=", Path::new("/tmp/a,b"), ",addr=0x10");
        assert_eq!(made, "loader,file=/tmp/a,,b,addr=0x10");
    }

    #[test]
    fn scratch_folders_are_distinct_and_go() {
        let (a, b) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        assert_ne!(a.dir, b.dir);
        let file = a.write("x", b"x").unwrap();
        drop(a);
        assert!(!file.exists() && b.dir.is_dir());
    }
}
