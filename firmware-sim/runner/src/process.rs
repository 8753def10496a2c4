//! Child processes that end: by themselves, at a limit, or with their caller.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Most that is kept of a child's standard error.
const STDERR_BYTES: usize = 64 << 10;

/// How a child ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    /// It was killed at the time limit.
    pub timed_out: bool,
    /// It was killed because the caller had enough of its output.
    pub stopped: bool,
    /// It was killed because the caller was asked to stop.
    pub interrupted: bool,
    /// The end of what it wrote to standard error.
    pub stderr: String,
}

/// Kills and reaps on every way out.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the child is already gone, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Piece {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

fn pump(mut from: impl Read + Send + 'static, to: SyncSender<Piece>, piece: fn(Vec<u8>) -> Piece) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        // A read error on a pipe is its end; a closed channel means that nobody listens any more.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.send(piece(buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
}

/// How often a caller that may be asked to stop looks whether it was.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs `command` without input; `on_output` sees its standard output in pieces and may break off.
pub(crate) fn run(
    command: Command,
    limit: Duration,
    on_output: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<Ended> {
    run_until(command, limit, None, on_output)
}

/// As [`run`], and ends when `stop` becomes true.
pub(crate) fn run_until(
    mut command: Command,
    limit: Duration,
    stop: Option<&AtomicBool>,
    mut on_output: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let asked_to_stop = || stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guard = Guard(command.spawn()?);
    let (sender, pieces) = sync_channel(64);
    if let Some(stdout) = guard.0.stdout.take() {
        pump(stdout, sender.clone(), Piece::Out);
    }
    if let Some(stderr) = guard.0.stderr.take() {
        pump(stderr, sender.clone(), Piece::Err);
    }
    drop(sender);

    let mut stderr = Vec::new();
    let (mut timed_out, mut stopped) = (false, false);
    loop {
        if asked_to_stop() {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match pieces.recv_timeout(if stop.is_some() { left.min(GLANCE) } else { left }) {
            Ok(Piece::Out(bytes)) => {
                if on_output(&bytes).is_break() {
                    stopped = true;
                    break;
                }
            }
            Ok(Piece::Err(bytes)) => {
                stderr.extend(bytes);
                let surplus = stderr.len().saturating_sub(STDERR_BYTES);
                stderr.drain(..surplus);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Both pipes are closed, so the child is about to end; if it lingers, the limit still holds.
    let mut interrupted = false;
    let status = loop {
        interrupted |= asked_to_stop();
        if timed_out || stopped || interrupted {
            let _ = guard.0.kill();
            break guard.0.wait()?;
        }
        if let Some(status) = guard.0.try_wait()? {
            break status;
        }
        timed_out = Instant::now() >= deadline;
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Ended { status, timed_out, stopped, interrupted, stderr: String::from_utf8_lossy(&stderr).trim().to_string() })
}

/// Finds a program on the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    all(program).into_iter().next()
}

/// Every program of that name on the PATH.
pub(crate) fn all(program: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).filter(|file| is_program(file)).collect()
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// A command that ends with this process, also when this process is killed: on Linux through util-linux's `setpriv`,
/// which asks the kernel for it and then becomes the program.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    if cfg!(target_os = "linux")
        && let Some(setpriv) = find("setpriv")
    {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = tied("sh");
        command.args(["-c", script]);
        command
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_and_exit_code_come_back() {
        let mut out = Vec::new();
        let ended = run(shell("echo one; echo two >&2; exit 7"), LONG, |bytes| {
            out.extend_from_slice(bytes);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((out.as_slice(), ended.stderr.as_str(), ended.status.code()), (&b"one\n"[..], "two", Some(7)));
        assert!(!ended.timed_out && !ended.stopped);
    }

    #[test]
    fn a_hanging_child_is_killed_at_the_limit() {
        // With its output open, and with it closed.
        for script in ["exec sleep 600", "exec sleep 600 >/dev/null 2>&1"] {
            let start = Instant::now();
            let ended = run(shell(script), Duration::from_millis(200), |_| ControlFlow::Continue(())).unwrap();
            assert!(ended.timed_out && ended.status.code().is_none(), "{script}");
            assert!(start.elapsed() < LONG);
        }
    }

    #[test]
    fn a_child_ends_when_its_caller_is_asked_to_stop() {
        // With its output open, closed, and busy.
        for script in ["exec sleep 600", "exec sleep 600 >/dev/null 2>&1", "exec yes"] {
            let (start, stop) = (Instant::now(), AtomicBool::new(false));
            let ended = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(200));
                    stop.store(true, Ordering::Relaxed);
                });
                run_until(shell(script), LONG, Some(&stop), |_| ControlFlow::Continue(())).unwrap()
            });
            assert!(ended.interrupted && !ended.timed_out && ended.status.code().is_none(), "{script}");
            assert!(start.elapsed() < LONG);
        }
    }

    #[test]
    fn endless_output_is_stopped_by_the_caller() {
        let mut seen = 0;
        let ended = run(shell("exec cat /dev/zero"), LONG, |bytes| {
            seen += bytes.len();
            if seen > 100_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert!(ended.stopped && !ended.timed_out && seen < 200_000);
    }

    #[test]
    fn long_standard_error_keeps_its_end() {
        let ended = run(shell("yes | head -n 100000 >&2; echo last >&2"), LONG, |_| ControlFlow::Continue(())).unwrap();
        assert!(ended.stderr.len() <= STDERR_BYTES && ended.stderr.ends_with("last"));
    }

    #[test]
    fn a_missing_program_is_not_found() {
        assert_eq!(find("no-such-program-as-this"), None);
        assert!(find("sh").is_some());
    }
}
