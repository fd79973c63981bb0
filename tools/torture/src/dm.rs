// SPDX-License-Identifier: GPL-2.0

//! Device-mapper's ioctls: what dmsetup does, without a process for each call.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    sync::OnceLock,
};

const HEADER: usize = 312;
const TARGET: usize = 40;
const BUFFER: usize = 16384;

const DEV_CREATE: u64 = 3;
const DEV_REMOVE: u64 = 4;
const DEV_SUSPEND: u64 = 6;
const TABLE_LOAD: u64 = 9;
const TABLE_CLEAR: u64 = 10;
const TABLE_STATUS: u64 = 12;
const TARGET_MSG: u64 = 14;

const SUSPEND: u32 = 1 << 1;
/// Suspends without freezing a file system.
pub const SKIP_LOCKFS: u32 = 1 << 10;
/// Suspends without waiting for what is queued.
pub const NOFLUSH: u32 = 1 << 11;

/// What a call left behind.
struct Answer {
    dev: u64,
    body: Vec<u8>,
}

fn control() -> io::Result<&'static File> {
    static CONTROL: OnceLock<File> = OnceLock::new();
    if CONTROL.get().is_none() {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")?;
        let _ = CONTROL.set(file);
    }
    CONTROL
        .get()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

fn call(number: u64, name: &str, flags: u32, targets: u32, body: &[u8]) -> io::Result<Answer> {
    let mut data = vec![0u8; BUFFER];
    let mut put = |at: usize, value: u32| data[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, 4);
    put(12, BUFFER as u32);
    put(16, HEADER as u32);
    put(20, targets);
    put(28, flags);
    data[48..48 + name.len()].copy_from_slice(name.as_bytes());
    data[HEADER..HEADER + body.len()].copy_from_slice(body);
    let request = (3 << 30) | ((HEADER as u64) << 16) | (0xfd << 8) | number;
    let control = control()?;
    // SAFETY: The buffer is as long as it says, and stays until the call returns.
    let rc = unsafe { libc::ioctl(control.as_raw_fd(), request as _, data.as_mut_ptr()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&data[at..at + len]);
        u64::from_ne_bytes(bytes)
    };
    Ok(Answer {
        dev: number(40, 8),
        body: data[(number(16, 4) as usize).min(BUFFER)..].to_vec(),
    })
}

fn text(body: &[u8]) -> String {
    let end = body.iter().position(|&c| c == 0).unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

fn table(sectors: u64, target: &str, arguments: &str) -> Vec<u8> {
    let mut line = vec![0; TARGET];
    line[8..16].copy_from_slice(&sectors.to_ne_bytes());
    line[24..24 + target.len()].copy_from_slice(target.as_bytes());
    line.extend(arguments.as_bytes());
    line.push(0);
    line.resize(line.len().next_multiple_of(8), 0);
    let len = line.len() as u32;
    line[20..24].copy_from_slice(&len.to_ne_bytes());
    line
}

/// Makes a device, and says where its node is.
pub fn create(name: &str, sectors: u64, target: &str, arguments: &str) -> io::Result<String> {
    let dev = call(DEV_CREATE, name, 0, 0, &[])?.dev;
    let made = load(name, sectors, target, arguments).and_then(|()| resume(name));
    if let Err(e) = made {
        let _ = remove(name);
        return Err(e);
    }
    let minor = (dev & 0xff) | ((dev >> 12) & 0xf_ff00);
    Ok(format!("/dev/dm-{minor}"))
}

/// Loads a table that the next resume makes live.
pub fn load(name: &str, sectors: u64, target: &str, arguments: &str) -> io::Result<()> {
    call(TABLE_LOAD, name, 0, 1, &table(sectors, target, arguments))?;
    Ok(())
}

/// Drops a table that was loaded and is not live.
pub fn clear(name: &str) -> io::Result<()> {
    call(TABLE_CLEAR, name, 0, 0, &[])?;
    Ok(())
}

/// Removes a device.
pub fn remove(name: &str) -> io::Result<()> {
    call(DEV_REMOVE, name, 0, 0, &[])?;
    Ok(())
}

/// Suspends a device.
pub fn suspend(name: &str, flags: u32) -> io::Result<()> {
    call(DEV_SUSPEND, name, SUSPEND | flags, 0, &[])?;
    Ok(())
}

/// Resumes a device.
pub fn resume(name: &str) -> io::Result<()> {
    call(DEV_SUSPEND, name, 0, 0, &[])?;
    Ok(())
}

/// Sends a message, and returns what it answers.
pub fn message(name: &str, words: &str) -> io::Result<String> {
    let mut body = vec![0; 8];
    body.extend(words.as_bytes());
    body.push(0);
    Ok(text(&call(TARGET_MSG, name, 0, 0, &body)?.body))
}

/// The words of the status line, from the mode on.
pub fn status(name: &str) -> io::Result<Vec<String>> {
    let body = call(TABLE_STATUS, name, 0, 0, &[])?.body;
    let line = text(body.get(TARGET..).unwrap_or(&[]));
    Ok(line.split_whitespace().map(str::to_owned).collect())
}
