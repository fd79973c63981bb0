// SPDX-License-Identifier: GPL-2.0

//! The three disks, and the process that serves them.

use crate::{
    director::Director,
    nbd::{self, Begun, Export, Exports},
    note::{self, VALUES_AT},
    tape::{Disk, Event, Tape, DISKS},
    Options,
};
use anyhow::{Context, Result};
use std::{
    os::unix::net::UnixListener,
    sync::{
        mpsc::{self, Sender},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    thread,
    time::Duration,
};

/// The disks, and the tape of what happens to them.
pub struct Disks {
    /// What reads of them give.
    pub content: [Vec<u8>; 2],
    /// What happens.
    pub tape: Tape,
    /// Whether writes and flushes take their time, as on a real disk.
    pub slow: bool,
    request: u64,
    rng: fastrand::Rng,
}

impl Disks {
    /// Empty disks of these numbers of bytes.
    pub fn new(bytes: [usize; 2], seed: u64) -> Self {
        let content = bytes.map(|bytes| vec![0; bytes]);
        Disks {
            tape: Tape::new(content.clone()),
            content,
            slow: false,
            request: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Lets the disks hold this, all of it durable, and begins a new tape.
    pub fn insert(&mut self, content: [Vec<u8>; 2]) {
        self.tape = Tape::new(content.clone());
        self.content = content;
    }

    /// A request, which ends in its own time so that others overtake it.
    fn begin(&mut self, longest: u64) -> Begun {
        self.request += 1;
        let takes = match self.slow {
            true if self.rng.u32(..10) == 0 => self.rng.u64(..longest),
            true => self.rng.u64(..longest / 10),
            false => 0,
        };
        Begun {
            request: self.request,
            takes: Duration::from_micros(takes),
        }
    }
}

/// All that the threads share.
pub struct State {
    /// The disks.
    pub disks: Disks,
    /// Who decides what is done with them.
    pub director: Director,
}

/// The guest can do no more: whether all was well.
type Verdict = bool;

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    done: Sender<Verdict>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk of the origin or of the store.
struct Recorded {
    shared: Shared,
    disk: Disk,
    bytes: usize,
}

impl Export for Recorded {
    fn size(&self) -> u64 {
        self.bytes as u64
    }

    fn read(&self, at: usize, bytes: usize) -> Vec<u8> {
        self.shared.lock().disks.content[self.disk as usize][at..at + bytes].to_vec()
    }

    fn write(&self, at: usize, data: Vec<u8>, fua: bool) -> Begun {
        let disks = &mut self.shared.lock().disks;
        let begun = disks.begin(3000);
        disks.content[self.disk as usize][at..at + data.len()].copy_from_slice(&data);
        disks.tape.events.push(Event::Write {
            disk: self.disk,
            request: begun.request,
            at,
            data,
            fua,
        });
        begun
    }

    fn flush(&self) -> Begun {
        let disks = &mut self.shared.lock().disks;
        let begun = disks.begin(6000);
        disks.tape.events.push(Event::Flush {
            disk: self.disk,
            request: begun.request,
        });
        begun
    }

    fn end(&self, request: u64) {
        let disks = &mut self.shared.lock().disks;
        disks.tape.events.push(Event::End { request });
    }
}

/// The disk for notes.
struct Notes(Shared);

impl Export for Notes {
    fn size(&self) -> u64 {
        note::DISK_BYTES as u64
    }

    fn read(&self, at: usize, bytes: usize) -> Vec<u8> {
        let mut data = match at {
            0 => note::encode(&self.0.lock().director.task),
            _ => Vec::new(),
        };
        data.resize(bytes, 0);
        data
    }

    fn write(&self, at: usize, data: Vec<u8>, _fua: bool) -> Begun {
        let State { disks, director } = &mut *self.0.lock();
        if at >= VALUES_AT {
            director.values((at - VALUES_AT) / 8, &data);
        } else {
            let good = note::decode(&data).and_then(|note| director.note(disks, note));
            if let Err(e) = good {
                director.trouble(format!("a note was not understood: {e:#}"));
            }
        }
        Begun {
            request: 0,
            takes: Duration::ZERO,
        }
    }

    fn flush(&self) -> Begun {
        Begun {
            request: 0,
            takes: Duration::ZERO,
        }
    }

    fn end(&self, _request: u64) {}
}

/// Serves a guest until it has done all; answers whether all cuts were right.
pub fn run(options: Options) -> Result<bool> {
    let listener = UnixListener::bind(&options.socket)
        .with_context(|| format!("cannot listen at {}", options.socket.display()))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let bytes = [options.origin << 20, options.store << 20];
    println!("# seed {seed}");
    let (done, verdict) = mpsc::channel();
    let shared = Shared {
        state: Arc::new(Mutex::new(State {
            disks: Disks::new(bytes, seed),
            director: Director::new(options, seed),
        })),
        done,
    };
    let mut exports = Exports::new();
    for (disk, name) in DISKS.into_iter().zip(["origin", "store"]) {
        let bytes = bytes[disk as usize];
        let shared = shared.clone();
        let export = Recorded {
            shared,
            disk,
            bytes,
        };
        exports.insert(name.into(), Arc::new(export));
    }
    exports.insert("notes".into(), Arc::new(Notes(shared.clone())));
    let exports = Arc::new(exports);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let exports = exports.clone();
            let shared = shared.clone();
            thread::spawn(move || {
                let result = nbd::serve(stream, &exports);
                // While it boots, a guest may die and be started again.
                let director = &mut shared.lock().director;
                if director.is_started() && director.verdict().is_none() {
                    let why = result.err().map_or(String::new(), |e| format!(": {e:#}"));
                    director.gone(&format!("the guest went away{why}"));
                }
                if let Some(verdict) = director.verdict() {
                    let _ = shared.done.send(verdict);
                }
            });
        }
    });
    Ok(verdict.recv()?)
}
