// SPDX-License-Identifier: GPL-2.0

//! A second process that resumes devices if the first one cannot any more.

use super::memory::Locked;
use crate::{
    dm::{node, sys::Interrupts, Control},
    failure::{Code, Failure},
};
use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// What the process is told.
#[derive(clap::Args)]
pub struct Args {
    /// Names of mapped devices, which are snapshots.
    #[arg(required = true)]
    device: Vec<String>,
    /// Seconds after which they are resumed in any case, each second anew.
    #[arg(long)]
    after: u64,
}

/// The process itself: it says that it is ready, and resumes the devices when its input ends
/// without the word that nothing is to be done. When the time is over it does not wait for that, but
/// goes on all the same: a file system that is being frozen cannot be resumed yet.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    // Without it the process would need a device to be read that may be suspended.
    let names = args.device.join(", ");
    let _locked = Locked::begin(&names);
    // What ends a whole group of processes, as systemd does, must not end this one first.
    let _signals = Interrupts::begin();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        // A signal does not end this: it is read on.
        let _ = done.send(io::stdin().read_exact(&mut [0]).is_ok());
    });
    crate::out::text("ready\n")?;
    let mut patience = Duration::from_secs(args.after);
    loop {
        let word = ended.recv_timeout(patience);
        if word == Ok(true) {
            return Ok(Code::Good);
        }
        for name in &args.device {
            let _ = control.resume(name, 0, node::NO_LINKS);
        }
        // The input ends after the last call of the first process has.
        if word != Err(RecvTimeoutError::Timeout) {
            break;
        }
        patience = Duration::from_secs(1);
    }
    let what = "was resumed, since the command that had suspended it did not";
    Err(Failure::new(
        Path::new(&names),
        what,
        "make the snapshot again",
    ))
}

/// The process, seen from the first one.
pub struct Guard(Option<Child>);

impl Guard {
    /// Starts it for these devices; none needs none.
    pub fn begin(devices: &[&str], after: Duration) -> io::Result<Self> {
        if devices.is_empty() {
            return Ok(Self(None));
        }
        let mut child = Command::new(std::env::current_exe()?)
            .arg("thaw")
            .arg(format!("--after={}", after.as_secs().max(1)))
            .arg("--")
            .args(devices)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A key that ends the first process must not end this one.
            .process_group(0)
            .spawn()?;
        let mut ready = [0];
        match child.stdout.as_mut().map(|out| out.read(&mut ready)) {
            Some(Ok(1)) => Ok(Self(Some(child))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Nothing is left to be done.
    pub fn end(mut self) {
        if let Some(mut child) = self.0.take() {
            if let Some(mut input) = child.stdin.take() {
                let _ = input.write_all(b".");
            }
            let _ = child.wait();
        }
    }
}
