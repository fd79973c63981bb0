// SPDX-License-Identifier: GPL-2.0

//! What goes to device-mapper and comes from it, as bytes.

use std::{fmt, io, str::FromStr};

/// Bytes of `struct dm_ioctl`.
pub const HEADER: usize = 312;

/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;

/// Bytes of a name, and of a uuid, with the zero at its end.
const NAME_LEN: usize = 128;
const UUID_LEN: usize = 129;

/// Number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dev {
    /// Of the driver.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
}

impl Dev {
    /// As the kernel's interfaces write it.
    pub fn from_kernel(dev: u64) -> Self {
        Self {
            major: ((dev >> 8) & 0xfff) as u32,
            minor: ((dev & 0xff) | ((dev >> 12) & 0xf_ff00)) as u32,
        }
    }

    /// As `stat` tells it.
    pub fn from_stat(dev: u64) -> Self {
        Self {
            major: rustix::fs::major(dev),
            minor: rustix::fs::minor(dev),
        }
    }
}

impl fmt::Display for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Dev {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

/// One target of a table, or its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Sectors.
    pub len: u64,
    /// Its name, such as `multisnapshot`.
    pub kind: String,
    /// The rest of the line.
    pub args: String,
}

/// These targets, one behind the other, as a table.
pub fn pack_table(targets: &[Target]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut start = 0u64;
    for target in targets {
        body.extend(target.pack(start));
        start = start.saturating_add(target.len);
    }
    body
}

impl Target {
    /// As a part of a table that begins at this sector.
    fn pack(&self, start: u64) -> Vec<u8> {
        let mut body = vec![0; SPEC];
        put(&mut body, 0, &start.to_ne_bytes());
        put(&mut body, 8, &self.len.to_ne_bytes());
        put(
            &mut body,
            24,
            &self.kind.as_bytes()[..self.kind.len().min(15)],
        );
        body.extend(self.args.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(8), 0);
        let next = u32::try_from(body.len()).unwrap_or(u32::MAX);
        put(&mut body, 20, &next.to_ne_bytes());
        body
    }

    /// The first one of a table or status.
    fn unpack(body: &[u8]) -> Option<Self> {
        Some(Self {
            len: word(body, 8)?,
            kind: text(body.get(24..SPEC)?),
            args: text(body.get(SPEC..)?),
        })
    }
}

/// A call.
#[derive(Default)]
pub struct Call<'a> {
    /// Which one.
    pub number: u8,
    /// Of the mapped device.
    pub name: &'a str,
    /// Of the mapped device, where it is to be made.
    pub uuid: &'a str,
    /// `DM_*_FLAG`.
    pub flags: u32,
    /// For udev: flags in the upper half, see [`super::node`].
    pub cookie: u32,
    /// Number of targets in the body.
    pub targets: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl Call<'_> {
    /// The buffer for it, with room for `room` bytes behind the header.
    pub fn pack(&self, room: usize) -> io::Result<Vec<u8>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidInput);
        if self.name.len() >= NAME_LEN || self.uuid.len() >= UUID_LEN {
            return Err(bad());
        }
        let len = HEADER
            .checked_add(room.max(self.body.len()))
            .ok_or_else(bad)?;
        let mut data = vec![0; len];
        put(&mut data, 0, &4u32.to_ne_bytes());
        put(
            &mut data,
            12,
            &u32::try_from(len).map_err(|_| bad())?.to_ne_bytes(),
        );
        put(&mut data, 16, &(HEADER as u32).to_ne_bytes());
        put(&mut data, 20, &self.targets.to_ne_bytes());
        put(&mut data, 28, &self.flags.to_ne_bytes());
        put(&mut data, 32, &self.cookie.to_ne_bytes());
        put(&mut data, 48, self.name.as_bytes());
        put(&mut data, 48 + NAME_LEN, self.uuid.as_bytes());
        put(&mut data, HEADER, self.body);
        Ok(data)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `DM_*_FLAG`.
    pub flags: u32,
    /// How often the device is open.
    pub open: u32,
    /// Its number.
    pub dev: Dev,
    /// Its uuid.
    pub uuid: String,
    /// Targets in the body.
    targets: u32,
    /// What follows the header.
    body: Vec<u8>,
}

impl Reply {
    /// Reads the buffer of a call that has ended well.
    pub fn unpack(data: &[u8]) -> Self {
        let start = half(data, 16).map_or(HEADER, |start| start as usize);
        Self {
            flags: half(data, 28).unwrap_or(0),
            open: half(data, 24).unwrap_or(0),
            dev: Dev::from_kernel(word(data, 40).unwrap_or(0)),
            uuid: text(
                data.get(48 + NAME_LEN..48 + NAME_LEN + UUID_LEN)
                    .unwrap_or(&[]),
            ),
            targets: half(data, 20).unwrap_or(0),
            body: data.get(start..).unwrap_or(&[]).to_vec(),
        }
    }

    /// The answer to a message.
    pub fn text(&self) -> String {
        text(&self.body)
    }

    /// The first target of a table or of its status.
    pub fn target(&self) -> Option<Target> {
        Target::unpack(&self.body)
    }

    /// All targets of a table or of its status. Here each says where the next one is, seen from
    /// the start of all.
    pub fn targets(&self) -> Vec<Target> {
        let mut found = Vec::new();
        let mut at = 0;
        for _ in 0..self.targets {
            let Some(entry) = self.body.get(at..) else {
                break;
            };
            found.extend(Target::unpack(entry));
            match half(entry, 20) {
                Some(next) if next as usize > at => at = next as usize,
                _ => break,
            }
        }
        found
    }

    /// The names and numbers of a list of devices.
    pub fn names(&self) -> Vec<(String, Dev)> {
        let mut names = Vec::new();
        let mut at = 0usize;
        while let Some(entry) = self.body.get(at..) {
            let (Some(dev), Some(next)) = (word(entry, 0), half(entry, 8)) else {
                break;
            };
            // An empty list is one entry of zeroes.
            if dev != 0 {
                names.push((text(entry.get(12..).unwrap_or(&[])), Dev::from_kernel(dev)));
            }
            match at.checked_add(next as usize) {
                Some(to) if next != 0 => at = to,
                _ => break,
            }
        }
        names
    }
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = data.get_mut(at..at.saturating_add(bytes.len())) {
        to.copy_from_slice(bytes);
    }
}

fn half(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn word(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out() {
        let call = Call {
            name: "home",
            uuid: "MSNAP-0",
            flags: 2,
            cookie: 3 << 16,
            targets: 1,
            body: b"body",
            ..Call::default()
        };
        let data = call.pack(16).unwrap();
        assert_eq!(data.len(), HEADER + 16);
        assert_eq!(half(&data, 12), Some(328));
        assert_eq!(half(&data, 28), Some(2));
        assert_eq!(half(&data, 32), Some(3 << 16));
        let reply = Reply::unpack(&data);
        assert_eq!(reply.uuid, "MSNAP-0");
        assert_eq!(reply.text(), "body");
        let long = "x".repeat(128);
        let long = Call {
            name: &long,
            ..Call::default()
        };
        assert!(long.pack(0).is_err());
    }

    #[test]
    fn targets_come_back() {
        let target = Target {
            len: 8192,
            kind: "multisnap-snap".into(),
            args: "8:1 3".into(),
        };
        let body = target.pack(0);
        assert_eq!(body.len() % 8, 0);
        assert_eq!(half(&body, 20), Some(body.len() as u32));
        assert_eq!(Target::unpack(&body), Some(target));
        assert_eq!(Target::unpack(&body[..30]), None);
    }

    #[test]
    fn tables_of_several_targets_come_back() {
        let target = |len, args: &str| Target {
            len,
            kind: "linear".into(),
            args: args.into(),
        };
        let table = [target(8, "8:1 0"), target(16, "8:2 2048"), target(4, "x")];
        let body = pack_table(&table);
        let second = half(&body, 20).unwrap() as usize;
        assert_eq!(word(&body, second), Some(8));
        let third = second + half(&body, second + 20).unwrap() as usize;
        assert_eq!(word(&body, third), Some(24));
        // What comes from the kernel counts from the start.
        let mut from_kernel = body.clone();
        put(&mut from_kernel, second + 20, &(third as u32).to_ne_bytes());
        let reply = |body: &[u8]| Reply {
            flags: 0,
            open: 0,
            dev: Dev::from_kernel(0),
            uuid: String::new(),
            targets: 3,
            body: body.to_vec(),
        };
        assert_eq!(reply(&from_kernel).targets(), table);
        assert_eq!(reply(&from_kernel[..second]).targets().len(), 1);
        put(&mut from_kernel, second + 20, &0u32.to_ne_bytes());
        assert_eq!(reply(&from_kernel).targets().len(), 2);
    }

    #[test]
    fn names_are_read_whatever_comes() {
        let mut body = vec![0; 24];
        put(&mut body, 0, &0xfd01u64.to_ne_bytes());
        put(&mut body, 8, &24u32.to_ne_bytes());
        put(&mut body, 12, b"one");
        body.extend([0; 24]);
        put(&mut body, 24, &0xfd02u64.to_ne_bytes());
        put(&mut body, 36, b"two");
        let reply = |body: &[u8]| Reply {
            flags: 0,
            open: 0,
            dev: Dev::from_kernel(0),
            uuid: String::new(),
            targets: 0,
            body: body.to_vec(),
        };
        let minor = |minor| Dev { major: 253, minor };
        let both = vec![("one".to_string(), minor(1)), ("two".to_string(), minor(2))];
        assert_eq!(reply(&body).names(), both);
        assert_eq!(reply(&body[..30]).names().len(), 1);
        assert_eq!(reply(&[0; 16]).names(), Vec::new());
        put(&mut body, 8, &u32::MAX.to_ne_bytes());
        assert_eq!(reply(&body).names().len(), 1);
    }

    #[test]
    fn numbers_of_devices() {
        let dev = Dev::from_kernel(0xfd01);
        assert_eq!(dev.to_string(), "253:1");
        assert_eq!("253:1".parse(), Ok(dev));
        assert_eq!(Dev::from_kernel(0x10_fd_00).minor, 0x100);
        assert!("253".parse::<Dev>().is_err());
        assert!("a:b".parse::<Dev>().is_err());
    }
}
