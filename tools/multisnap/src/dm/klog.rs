// SPDX-License-Identifier: GPL-2.0

//! What the module says in the kernel log about what is being done.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// The kernel log from now on; nothing if it cannot be read.
pub struct Log(Option<File>);

impl Log {
    /// Begins to listen.
    pub fn listen() -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self(file.ok())
    }

    /// The last thing that the module has said since then about the device `name`.
    pub fn said(&mut self, name: &str) -> Option<String> {
        let file = self.0.as_mut()?;
        let mut record = vec![0; 8192];
        let mut last = None;
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(len) => {
                    let text = String::from_utf8_lossy(record.get(..len).unwrap_or(&[]));
                    last = ours(&text, name).or(last);
                }
                // Records were lost meanwhile; it goes on with the oldest.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        last
    }
}

/// What a record of `/dev/kmsg` says, if it is of the module and about this device.
fn ours(record: &str, name: &str) -> Option<String> {
    let text = record.split_once(';')?.1.lines().next()?;
    let said = text.strip_prefix("dm_multisnapshot: ")?;
    let about = said.strip_prefix(name)?.strip_prefix(" (")?;
    Some(about.split_once("): ")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::ours;

    #[test]
    fn records_are_read() {
        let record =
            "3,1,2,-;dm_multisnapshot: home (253:0): store 8:2 is damaged\n DEVICE=b253:0\n";
        assert_eq!(
            ours(record, "home").as_deref(),
            Some("store 8:2 is damaged")
        );
        assert_eq!(ours(record, "hom"), None);
        assert_eq!(ours("6,1,2,-;usb 1-1: new device", "home"), None);
        assert_eq!(ours("garbage", "home"), None);
    }
}
