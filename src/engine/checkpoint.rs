// SPDX-License-Identifier: GPL-2.0

//! Writes checkpoints beside the worker, so that commits go on meanwhile.

use super::{
    inbox::Inbox,
    meta::BLOCK_SECTORS, //
};
use crate::dm::{
    bufio::BufioWriter,
    device::BlockDev,
    io::{Flags, IoClient, PageBuf, Run},
    noio::NoIo,
    queue::{Kick, Run as Runs, WorkQueue}, //
};
use crate::store::{blocks::Block, format::PROBE_NR, CheckpointWrite};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};

/// The thread that writes checkpoints.
#[pin_data]
pub(super) struct CheckpointWriter {
    kick: Kick,
    /// Locked by the worker to hand a checkpoint over, and by the thread to take it; not held
    /// during I/O.
    #[pin]
    job: Mutex<Option<Job>>,
    /// Locked by the thread only.
    #[pin]
    device: Mutex<Device>,
    inbox: Arc<Inbox>,
}

/// What is to be written.
enum Job {
    /// Dirty metadata, then the checkpoint.
    Checkpoint(CheckpointWrite),
    /// The checkpoint block alone.
    LastWord(CheckpointWrite),
    /// A block of zeroes that is zero.
    Probe,
}

/// What the probe's block holds.
static NOTHING: Block = [0; core::mem::size_of::<Block>()];

struct Device {
    writer: BufioWriter,
    raw: IoClient<()>,
    page: PageBuf,
}

impl Device {
    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        self.page.first_mut().ok_or(EIO)?.copy_from_slice(block);
        let run = Run {
            sector: nr * BLOCK_SECTORS,
            first: 0,
            blocks: 1,
        };
        self.raw.write_sync(&self.page, run, Flags::FUA)
    }
}

impl CheckpointWriter {
    pub(super) fn new(
        store: &BlockDev,
        writer: BufioWriter,
        inbox: Arc<Inbox>,
    ) -> Result<Arc<Self>> {
        let queue = WorkQueue::new(c"msnap_checkpoint")?;
        let kick = Kick::new(&queue)?;
        let device = Device {
            writer,
            raw: IoClient::new(store.clone(), Arc::new((), GFP_KERNEL)?)?,
            page: PageBuf::new(1)?,
        };
        let this = Arc::pin_init(
            pin_init!(Self {
                kick,
                job <- new_mutex!(None),
                device <- new_mutex!(device),
                inbox,
            }),
            GFP_KERNEL,
        )?;
        Ok(this)
    }

    /// Starts the thread. It is to be ended with [`stop`](Self::stop).
    pub(super) fn start(self: &Arc<Self>) {
        self.kick.bind(self.clone());
    }

    /// Starts writing; the inbox is told the end.
    pub(super) fn write(&self, write: CheckpointWrite) {
        self.begin(Job::Checkpoint(write));
    }

    /// Starts writing a checkpoint without its metadata; the inbox is told the end.
    pub(super) fn write_last_word(&self, write: CheckpointWrite) {
        self.begin(Job::LastWord(write));
    }

    /// Starts a write that changes nothing; the inbox is told whether it went well.
    pub(super) fn probe(&self) {
        self.begin(Job::Probe);
    }

    fn begin(&self, job: Job) {
        *self.job.lock() = Some(job);
        self.kick.kick();
    }

    /// Ends the thread. No checkpoint is under way.
    pub(super) fn stop(&self) {
        self.kick.stop();
    }

    /// Dirty metadata, then a flush, then the checkpoint: nothing is referred to before it is
    /// durable.
    fn write_all(&self, write: &CheckpointWrite) -> Result {
        let mut device = self.device.lock();
        device.writer.write_dirty()?;
        device.write_raw(write.nr, &write.block)
    }
}

impl Runs for CheckpointWriter {
    fn run(&self) {
        let _noio = NoIo::enter();
        let job = self.job.lock().take();
        match job {
            Some(Job::Checkpoint(write)) => {
                let result = self.write_all(&write);
                self.inbox.checkpoint(write, result);
            }
            Some(Job::LastWord(write)) => {
                let result = self.device.lock().write_raw(write.nr, &write.block);
                self.inbox.checkpoint(write, result);
            }
            Some(Job::Probe) => {
                let result = self.device.lock().write_raw(PROBE_NR, &NOTHING);
                self.inbox.probed(result);
            }
            None => (),
        }
    }
}
