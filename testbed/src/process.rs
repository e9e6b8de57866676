//! Child processes as guards: none outlives the value that stands for it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// How many lines of a process' output a failure message shows.
const TAIL_LINES: usize = 40;

/// A running child process: killed and reaped on drop, and by the kernel should this process die first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
    /// Where its part of the log begins: an earlier process of the name may have written, too.
    log_from: usize,
}

/// Memory of a process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In memory now.
    pub resident_bytes: u64,
    /// Most that ever was.
    pub peak_bytes: u64,
}

/// What to start.
#[derive(Debug)]
pub struct Launch {
    name: String,
    command: Command,
    log: PathBuf,
}

impl Launch {
    /// `program`, whose output goes to the end of `FOLDER/NAME.log`.
    pub fn new(name: &str, program: impl AsRef<OsStr>, folder: &Path) -> Self {
        Self::behind(&[], name, program, folder)
    }

    /// As [`Launch::new`], behind the words of another command that becomes it.
    pub fn behind(prefix: &[OsString], name: &str, program: impl AsRef<OsStr>, folder: &Path) -> Self {
        // The kernel kills it should this process go without dropping its guards.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(prefix).arg(program);
        // A Ctrl-C at the terminal is for this process alone, which then stops its children in order.
        command.process_group(0).stdin(Stdio::null());
        Self { name: name.to_owned(), command, log: folder.join(format!("{name}.log")) }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.command.args(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started at all.
    pub fn start(mut self) -> Process {
        let log = File::options().create(true).append(true).open(&self.log).and_then(|file| {
            self.command.stdout(file.try_clone()?);
            self.command.stderr(file);
            Ok(())
        });
        if let Err(e) = log {
            panic!("{}: {e}", self.log.display());
        }
        let log_from = fs::metadata(&self.log).map_or(0, |log| usize::try_from(log.len()).unwrap_or(0));
        let child = spawn(self.command).unwrap_or_else(|e| panic!("{} can't be started: {e}", self.name));
        Process { name: self.name, child, ended: None, log: self.log, log_from }
    }
}

/// Starts a command from a thread that lives as long as this process: the kernel's "kill it when the parent
/// dies" is bound to the thread that started it.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static ORDERS: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, queue) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // The one who asked waits for the answer.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = channel();
    ORDERS.lock().expect("never poisoned").send((command, answer)).expect("the thread never ends");
    answered.recv().expect("the thread answers each order")
}

impl Process {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much memory it has now and had at most; nothing once it has ended.
    pub fn memory(&self) -> Memory {
        memory(self.id())
    }

    /// Sets the peak of its memory to what it has now.
    ///
    /// # Panics
    /// If the kernel doesn't let us.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.id());
        fs::write(&path, "5").unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended.is_none()
    }

    /// `kill -9`: ends at once, and is reaped. Nothing happens if it has ended.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Asks it to stop and waits at most `within`.
    ///
    /// # Errors
    /// If it still runs then (and goes on doing so).
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus, String> {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        wait_for(within, &format!("{} to stop", self.name), || {
            self.is_running();
            self.ended
        })
        .map_err(|e| format!("{e}\n{}", self.tail()))
    }

    /// Sends a signal to it, not to its children.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It was not reaped, so its id is still its own.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// All that was written so far under its name.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What it alone has written so far, and its children.
    pub fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_from..).unwrap_or_default()).into_owned()
    }

    /// The end of what it has written, for messages.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("---- {} wrote:\n{}\n----", self.name, lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// How much memory a process has now and had at most; nothing once it has ended.
pub fn memory(process: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0) * 1024
    };
    Memory { resident_bytes: bytes("VmRSS"), peak_bytes: bytes("VmHWM") }
}

/// How many seconds of CPU a process has used; zero once it has ended.
pub fn cpu_s(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold anything, the 12th and 13th field.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok());
    f64::from(ticks.sum::<u32>()) / rustix::param::clock_ticks_per_second() as f64
}

/// Ends what a killed parent left behind: the processes named `program` that have `folder` on their command
/// line. The folder is one that the caller made, so they are the caller's.
pub fn kill_orphans(program: &str, folder: &Path) {
    for pid in find(program, folder) {
        let _ = kill_process(pid, Signal::KILL);
        let _ = wait_for(Duration::from_secs(5), "an orphan to end", || {
            (!find(program, folder).contains(&pid)).then_some(())
        });
    }
}

/// The processes named `program` that have `folder` on their command line.
pub fn find(program: &str, folder: &Path) -> Vec<Pid> {
    let folder = folder.as_os_str().as_encoded_bytes();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|&b| b == 0).next().unwrap_or_default();
            Path::new(OsStr::new(&*String::from_utf8_lossy(first))).file_name() == Some(OsStr::new(program))
                && line.windows(folder.len()).any(|part| part == folder)
        })
        .filter_map(Pid::from_raw)
        .collect()
}
