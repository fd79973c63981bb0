// SPDX-License-Identifier: GPL-2.0

//! What needs unsafe code: one ioctl, signals that interrupt it, and local time.
//!
//! The crate `devicemapper` is not used: it makes its bindings with libclang when it is built,
//! which is much to ask of those who build this, for a dozen numbers.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Calls device-mapper with a buffer that begins with its own length, see [`super::wire`].
pub fn call(control: &File, number: u8, buffer: &mut [u8]) -> io::Result<()> {
    let said = buffer.get(12..16).and_then(|len| len.try_into().ok());
    if said.map(u32::from_ne_bytes) != u32::try_from(buffer.len()).ok() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let request =
        (3 << 30) | ((super::wire::HEADER as u32) << 16) | (0xfd << 8) | u32::from(number);
    // SAFETY: The kernel reads and writes as many bytes as the buffer says it has, which was
    // compared above. It is ours alone until the call returns.
    let rc = unsafe { libc::ioctl(control.as_raw_fd(), request as _, buffer.as_mut_ptr()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether a signal has asked to stop.
static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

extern "C" fn wake(_: libc::c_int) {}

/// While it lives, signals that would end the process interrupt a call instead; so does a timer.
pub struct Interrupts {
    old: Vec<(libc::c_int, libc::sigaction)>,
}

impl Interrupts {
    /// Takes the signals over, without a timer.
    pub fn begin() -> Self {
        let mut old = Vec::new();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGALRM] {
            let handler = if signal == libc::SIGALRM { wake } else { stop };
            // SAFETY: All zeroes are a valid sigaction: no flags (so calls are not begun again)
            // and no signal blocked. The handlers do no more than store a word.
            let was = unsafe {
                let mut new: libc::sigaction = std::mem::zeroed();
                let mut was: libc::sigaction = std::mem::zeroed();
                new.sa_sigaction = handler as *const () as libc::sighandler_t;
                (libc::sigaction(signal, &new, &mut was) == 0).then_some(was)
            };
            let Some(was) = was else { continue };
            if was.sa_sigaction == libc::SIG_IGN && signal != libc::SIGALRM {
                // nohup, say: it is not to come.
                // SAFETY: It is what the kernel gave for this signal.
                unsafe { libc::sigaction(signal, &was, std::ptr::null_mut()) };
                continue;
            }
            old.push((signal, was));
        }
        Self { old }
    }

    /// From `after` on, calls are interrupted, each second anew; zero: not any more.
    pub fn timer(&self, after: Duration) {
        let time = |of: Duration| libc::timeval {
            tv_sec: of.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: of.subsec_micros().into(),
        };
        let timer = libc::itimerval {
            it_interval: time(Duration::from_secs(1)),
            it_value: time(after),
        };
        // SAFETY: It reads the structure, and writes nothing.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    }

    /// Whether somebody wants the process to end.
    pub fn stopped(&self) -> bool {
        STOPPED.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.timer(Duration::ZERO);
        for (signal, was) in &self.old {
            // SAFETY: It is what the kernel gave for this signal.
            unsafe { libc::sigaction(*signal, was, std::ptr::null_mut()) };
        }
    }
}

/// Seconds that local time is ahead of UTC at `time`, in seconds since 1970.
pub fn local_offset(time: u64) -> i64 {
    let Ok(time) = libc::time_t::try_from(time) else {
        return 0;
    };
    // SAFETY: Both are ours; all zeroes are a valid `tm`. The process changes no environment
    // variable, which is what localtime_r would have to be guarded against.
    unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&time, &mut parts).is_null() {
            return 0;
        }
        parts.tm_gmtoff
    }
}
