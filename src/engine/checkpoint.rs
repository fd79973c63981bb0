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
use crate::store::CheckpointWrite;
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
    job: Mutex<Option<CheckpointWrite>>,
    /// Locked by the thread only.
    #[pin]
    device: Mutex<Device>,
    inbox: Arc<Inbox>,
}

struct Device {
    writer: BufioWriter,
    raw: IoClient<()>,
    page: PageBuf,
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
        this.kick.bind(this.clone());
        Ok(this)
    }

    /// Starts writing; the inbox is told the end.
    pub(super) fn write(&self, write: CheckpointWrite) {
        *self.job.lock() = Some(write);
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
        device
            .page
            .first_mut()
            .ok_or(EIO)?
            .copy_from_slice(&write.block[..]);
        let run = Run {
            sector: write.nr * BLOCK_SECTORS,
            first: 0,
            blocks: 1,
        };
        device.raw.write_sync(&device.page, run, Flags::FUA)
    }
}

impl Runs for CheckpointWriter {
    fn run(&self) {
        let _noio = NoIo::enter();
        let job = self.job.lock().take();
        if let Some(write) = job {
            let result = self.write_all(&write);
            self.inbox.checkpoint(write, result);
        }
    }
}
