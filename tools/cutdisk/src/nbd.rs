// SPDX-License-Identifier: GPL-2.0

//! The part of the NBD protocol that QEMU needs to use a disk of ours.

use anyhow::{bail, Context, Result};
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::{mpsc, Arc},
    thread,
    time::{Duration, Instant},
};

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
/// There are flags, FLUSH, FUA, TRIM and WRITE_ZEROES.
const EXPORT_FLAGS: u16 = 1 | 4 | 8 | 32 | 64;
const FUA: u16 = 1;
const INVALID: u32 = 22;
const MOST_BYTES: u32 = 32 << 20;

mod option {
    pub const ABORT: u32 = 2;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
}

mod reply {
    pub const ACK: u32 = 1;
    pub const INFO: u32 = 3;
    pub const UNSUPPORTED: u32 = (1 << 31) | 1;
    pub const UNKNOWN: u32 = (1 << 31) | 6;
}

mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISCONNECT: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const WRITE_ZEROES: u16 = 6;
}

/// What has begun, and when it is to end.
pub struct Begun {
    /// Number of the request.
    pub request: u64,
    /// How long it takes.
    pub takes: Duration,
}

/// A disk that can be attached.
pub trait Export: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Reads a part that is within the disk.
    fn read(&self, at: usize, bytes: usize) -> Vec<u8>;
    /// A write, within the disk, has arrived.
    fn write(&self, at: usize, data: Vec<u8>, fua: bool) -> Begun;
    /// A flush has arrived.
    fn flush(&self) -> Begun;
    /// The end of a write or flush is about to be told.
    fn end(&self, request: u64);
}

/// The disks by their names.
pub type Exports = HashMap<String, Arc<dyn Export>>;

/// Serves one client until it goes.
pub fn serve(stream: UnixStream, exports: &Exports) -> Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let mut output = stream;
    let Some(export) = negotiate(&mut input, &mut output, exports)? else {
        return Ok(());
    };
    let (replies, due) = mpsc::channel();
    let teller = {
        let export = export.clone();
        thread::spawn(move || tell(&due, &*export, &mut output))
    };
    let result = transmit(&mut input, &*export, &replies);
    drop(replies);
    let _ = teller.join();
    result
}

fn get<const N: usize>(input: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn get_u16(input: &mut impl Read) -> Result<u16> {
    Ok(u16::from_be_bytes(get(input)?))
}

fn get_u32(input: &mut impl Read) -> Result<u32> {
    Ok(u32::from_be_bytes(get(input)?))
}

fn get_u64(input: &mut impl Read) -> Result<u64> {
    Ok(u64::from_be_bytes(get(input)?))
}

/// Lets the client choose a disk; `None` if it only looked.
fn negotiate(
    input: &mut impl Read,
    output: &mut impl Write,
    exports: &Exports,
) -> Result<Option<Arc<dyn Export>>> {
    output.write_all(&MAGIC.to_be_bytes())?;
    output.write_all(&OPTION_MAGIC.to_be_bytes())?;
    output.write_all(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes())?;
    get_u32(input)?;
    loop {
        if get_u64(input)? != OPTION_MAGIC {
            bail!("the client sent no option");
        }
        let option = get_u32(input)?;
        let len = get_u32(input)?;
        if len > 1 << 16 {
            bail!("the client sent an option of {len} bytes");
        }
        let mut data = vec![0; len as usize];
        input.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| -> Result<()> {
            output.write_all(&REPLY_MAGIC.to_be_bytes())?;
            output.write_all(&option.to_be_bytes())?;
            output.write_all(&kind.to_be_bytes())?;
            output.write_all(&(data.len() as u32).to_be_bytes())?;
            Ok(output.write_all(data)?)
        };
        match option {
            option::ABORT => {
                reply(reply::ACK, &[])?;
                return Ok(None);
            }
            option::INFO | option::GO => {
                let mut data = &data[..];
                let len = get_u32(&mut data)? as usize;
                let name = data.get(..len).context("a name longer than its option")?;
                let Some(export) = exports.get(&*String::from_utf8_lossy(name)) else {
                    reply(reply::UNKNOWN, &[])?;
                    continue;
                };
                let mut size = vec![0, 0];
                size.extend(export.size().to_be_bytes());
                size.extend(EXPORT_FLAGS.to_be_bytes());
                reply(reply::INFO, &size)?;
                // Sizes of requests: least, best, most.
                let mut blocks = vec![0, 3];
                for bytes in [512, 4096, MOST_BYTES] {
                    blocks.extend(bytes.to_be_bytes());
                }
                reply(reply::INFO, &blocks)?;
                reply(reply::ACK, &[])?;
                if option == option::GO {
                    return Ok(Some(export.clone()));
                }
            }
            _ => reply(reply::UNSUPPORTED, &[])?,
        }
    }
}

/// The answer to a request.
struct Answer {
    cookie: u64,
    error: u32,
    data: Vec<u8>,
    /// What ends with it.
    ends: Option<u64>,
    due: Instant,
}

/// Takes requests.
fn transmit(
    input: &mut impl Read,
    export: &dyn Export,
    answers: &mpsc::Sender<Answer>,
) -> Result<()> {
    loop {
        if get_u32(input)? != REQUEST_MAGIC {
            bail!("the client sent no request");
        }
        let flags = get_u16(input)?;
        let command = get_u16(input)?;
        let cookie = get_u64(input)?;
        let at = get_u64(input)?;
        let len = get_u32(input)?;
        let mut data = Vec::new();
        if command == command::WRITE {
            if len > MOST_BYTES {
                bail!("a write of {len} bytes");
            }
            data.resize(len as usize, 0);
            input.read_exact(&mut data)?;
        }
        let mut answer = Answer {
            cookie,
            error: 0,
            data: Vec::new(),
            ends: None,
            due: Instant::now(),
        };
        let end = at.checked_add(len.into());
        let inside = end.is_some_and(|end| end <= export.size()) && len <= MOST_BYTES;
        let at = at as usize;
        let begun = match command {
            command::DISCONNECT => return Ok(()),
            command::FLUSH => Some(export.flush()),
            _ if !inside => {
                answer.error = INVALID;
                None
            }
            command::READ => {
                answer.data = export.read(at, len as usize);
                None
            }
            command::WRITE => Some(export.write(at, data, flags & FUA != 0)),
            // A disk that reads as zeroes where something was discarded.
            command::WRITE_ZEROES | command::TRIM => {
                Some(export.write(at, vec![0; len as usize], flags & FUA != 0))
            }
            _ => {
                answer.error = INVALID;
                None
            }
        };
        if let Some(begun) = begun {
            answer.ends = Some(begun.request);
            answer.due += begun.takes;
        }
        answers.send(answer).ok().context("the client has gone")?;
    }
}

/// Tells the client the ends of its requests, each when it is due.
fn tell(due: &mpsc::Receiver<Answer>, export: &dyn Export, output: &mut impl Write) -> Result<()> {
    let mut waiting = BTreeMap::<(Instant, u64), Answer>::new();
    let mut number = 0u64;
    loop {
        let next = waiting.first_key_value().map(|((due, _), _)| *due);
        let answer = match next {
            None => due.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(next) => due.recv_timeout(next.saturating_duration_since(Instant::now())),
        };
        match answer {
            Ok(answer) => {
                number += 1;
                waiting.insert((answer.due, number), answer);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => (),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Some(first) = waiting.first_entry() {
            if first.key().0 > Instant::now() {
                break;
            }
            let answer = first.remove();
            if let Some(request) = answer.ends {
                export.end(request);
            }
            let mut bytes = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
            bytes.extend(answer.error.to_be_bytes());
            bytes.extend(answer.cookie.to_be_bytes());
            bytes.extend(answer.data);
            output.write_all(&bytes)?;
        }
    }
}
