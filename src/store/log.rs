// SPDX-License-Identifier: GPL-2.0

//! The log: the batch of records that is being collected, and the ring it goes to.
//!
//! Blocks are numbered from the format on, and block `seq` stands at `seq` modulo the length of
//! the ring. A commit is one batch and one write; it never runs over the ring's end, so that one
//! write is one piece. What the newest durable checkpoint does not contain is never overwritten.
//!
//! After a failed write nobody knows what the device holds: the batch is *in doubt*. Nothing is
//! written then until a checkpoint, which contains all of it, has made the question moot.

use super::{
    blocks::{Block, Blocks},
    format::{self, Expect, Kind, LogInfo, LogSlot, RecordKind, LOG_COMMIT_MAX, LOG_SLOTS_MAX},
    open::Layout,
};
use kernel::prelude::*;

/// Blocks of the ring that only records which must not wait may use.
const RESERVE: u64 = 2;

/// Bytes of a slot.
const SLOT: usize = core::mem::size_of::<LogSlot>();

/// A batch on its way to the log.
///
/// The engine writes the first `count` blocks of `buf` to the device at block `nr`, with a flush
/// before and FUA, and gives all of it back to [`sealed`](super::ExceptionStore::sealed).
pub(crate) struct LogWrite {
    /// The blocks; may have more than are to be written.
    pub(crate) buf: KVec<Block>,
    /// How many of them to write.
    pub(crate) count: usize,
    /// Block number on the device for the first.
    pub(crate) nr: u64,
    /// Sequence number of the first.
    pub(crate) seq: u64,
}

/// One record: its kind and its words. See [`RecordKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    pub(super) words: [u64; 12],
}

impl Record {
    /// A record of one slot.
    pub(super) fn new(kind: RecordKind, words: [u64; 4]) -> Self {
        let mut record = Self {
            kind,
            words: [0; 12],
        };
        record.words[..4].copy_from_slice(&words);
        record
    }
}

/// Where a log begins or ends: a block's number, and the checksum of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) seq: u64,
    pub(super) sum: u32,
}

/// The log of a running store.
pub(super) struct Log {
    uuid: [u8; 16],
    start: u64,
    len: u64,
    /// Epoch of the newest durable checkpoint.
    epoch: u64,
    /// Blocks from here on are not contained in that checkpoint.
    tail: u64,
    /// Where the batch will go.
    next: LogPosition,
    /// The batch: blocks in use, and slots in use of the last.
    batch: KVec<Block>,
    blocks: usize,
    slots: usize,
    /// The other buffer; `None` while it is out.
    spare: Option<KVec<Block>>,
    /// Where the checkpoint that is out lets replay begin, and its epoch.
    frozen: Option<(LogPosition, u64)>,
    /// End of the write that failed.
    doubt: Option<u64>,
    /// Number of the batch that is collected; all before `durable` are durable.
    number: u64,
    durable: u64,
    /// The first batch that the checkpoint which is out does not contain.
    frozen_number: u64,
    /// The batch is contained in the checkpoint that is out.
    absorbed: bool,
}

impl Log {
    /// The log as a checkpoint of `epoch` left it.
    pub(super) fn new(layout: &Layout, epoch: u64, next: LogPosition) -> Result<Self> {
        Ok(Self {
            uuid: layout.uuid,
            start: layout.log_start,
            len: layout.log_len,
            epoch,
            tail: next.seq,
            next,
            batch: KVec::zeroed(LOG_COMMIT_MAX, GFP_KERNEL)?,
            blocks: 0,
            slots: 0,
            spare: Some(KVec::zeroed(LOG_COMMIT_MAX, GFP_KERNEL)?),
            frozen: None,
            doubt: None,
            number: 0,
            durable: 0,
            frozen_number: 0,
            absorbed: false,
        })
    }

    /// Where the block with this sequence number stands in the ring.
    fn place(&self, seq: u64) -> u64 {
        seq.checked_rem(self.len).unwrap_or(0)
    }

    /// Blocks in the ring.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Blocks that no durable checkpoint contains, the batch included.
    pub(super) fn used(&self) -> u64 {
        self.next.seq - self.tail + self.blocks as u64
    }

    /// Number of the batch that is being collected.
    pub(super) fn batch(&self) -> u64 {
        self.number
    }

    /// All batches before this one are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether a checkpoint can start. `EBUSY` if a record waits that could still be logged, or
    /// a checkpoint is out.
    pub(super) fn check_freeze(&self) -> Result {
        if self.frozen.is_some() || !(self.is_empty() || self.in_doubt()) {
            Err(EBUSY)
        } else {
            Ok(())
        }
    }

    /// Epoch that log blocks carry now.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Most blocks the batch may grow to.
    fn limit(&self, urgent: bool) -> usize {
        if self.doubt.is_some() {
            return 0;
        }
        let to_end = self.len - self.place(self.next.seq);
        let mut free = self.len - (self.next.seq - self.tail);
        if !urgent {
            free = free.saturating_sub(RESERVE);
        }
        // Both are far below the range of usize, as the first is at most 8.
        (LOG_COMMIT_MAX as u64).min(to_end).min(free) as usize
    }

    /// Whether `n` more slots fit, whatever the records they belong to.
    pub(super) fn has_room(&self, n: usize, urgent: bool) -> bool {
        // A record of several slots may leave some unused at the end of its block.
        let n = n.saturating_add(self.blocks.max(1) * 2);
        let limit = self.limit(urgent);
        if self.blocks > limit {
            return false;
        }
        let in_last = if self.blocks == 0 {
            0
        } else {
            LOG_SLOTS_MAX - self.slots
        };
        n <= in_last + (limit - self.blocks) * (LOG_SLOTS_MAX - 2)
    }

    /// Whether no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Whether a write failed and no checkpoint has succeeded since.
    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether half of the ring is used, or a write failed.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.doubt.is_some() || self.used() >= self.len / 2
    }

    /// `EAGAIN` unless [`has_room`](Self::has_room).
    pub(super) fn check_room(&self, slots: usize, urgent: bool) -> Result {
        if self.has_room(slots, urgent) {
            Ok(())
        } else {
            Err(EAGAIN)
        }
    }

    /// Appends `record` to the batch. `EAGAIN` if there is no room; [`has_room`](Self::has_room)
    /// was asked whether there is.
    pub(super) fn append(&mut self, record: &Record) -> Result {
        let n = record.kind.slots();
        if self.blocks == 0 || self.slots + n > LOG_SLOTS_MAX {
            if self.blocks >= self.limit(true) {
                return Err(EAGAIN);
            }
            let block = self.batch.get_mut(self.blocks).ok_or(EAGAIN)?;
            block.fill(0);
            self.blocks += 1;
            self.slots = 0;
        }
        let block = self.batch.get_mut(self.blocks - 1).ok_or(EAGAIN)?;
        let begin = format::LOG_SLOTS + self.slots * SLOT;
        let slots = block[begin..].chunks_exact_mut(SLOT);
        for (i, (to, words)) in slots.zip(record.words.chunks_exact(4)).take(n).enumerate() {
            let mut slot = LogSlot {
                // Only the first slot has a kind, so that nothing reads from the middle.
                kind: if i == 0 { record.kind as u16 } else { 0 }.into(),
                slots: ((n - i) as u16).into(),
                reserved: 0.into(),
                words: [0.into(); 4],
            };
            for (to, word) in slot.words.iter_mut().zip(words) {
                *to = (*word).into();
            }
            slot.write_to(to).map_err(|_| EINVAL)?;
        }
        self.slots += n;
        let count = self.slots as u32;
        format::info_mut::<LogInfo>(block)?.count = count.into();
        Ok(())
    }

    /// Closes the batch. See [`ExceptionStore::seal`](super::ExceptionStore::seal).
    pub(super) fn seal<B: Blocks>(&mut self, blocks: &B) -> Result<Option<LogWrite>> {
        if self.blocks == 0 {
            return Ok(None);
        }
        if self.doubt.is_some() {
            return Err(EAGAIN);
        }
        let first = self.next;
        let count = self.blocks;
        let mut buf = match self.spare.take() {
            Some(spare) => core::mem::replace(&mut self.batch, spare),
            None => return Err(EBUSY),
        };
        let nr = self.start + self.place(first.seq);
        let mut at = first;
        for (i, block) in buf.iter_mut().take(count).enumerate() {
            let nr = nr + i as u64;
            format::set_header(block, Kind::Log, &self.uuid, nr, self.epoch);
            let info = format::info_mut::<LogInfo>(block)?;
            info.seq = at.seq.into();
            info.first = first.seq.into();
            info.blocks = (count as u32).into();
            info.previous = at.sum.into();
            format::seal(block, |seed, data| blocks.crc32c(seed, data));
            at = LogPosition {
                seq: at.seq + 1,
                sum: format::header(block).sum.get(),
            };
        }
        self.next = at;
        self.number += 1;
        self.blocks = 0;
        self.slots = 0;
        Ok(Some(LogWrite {
            buf,
            count,
            nr,
            seq: first.seq,
        }))
    }

    /// A batch's write has ended.
    pub(super) fn sealed(&mut self, write: LogWrite, result: Result) {
        match result {
            Ok(()) => self.durable = self.number,
            Err(_) => self.doubt = Some(write.seq + write.count as u64),
        }
        self.spare = Some(write.buf);
    }

    /// A checkpoint of `epoch` starts: where its replay will begin. `EBUSY` if a record waits
    /// that could still be logged.
    pub(super) fn freeze(&mut self, epoch: u64) -> Result<LogPosition> {
        self.check_freeze()?;
        self.frozen = Some((self.next, epoch));
        self.absorbed = !self.is_empty();
        self.frozen_number = self.number + u64::from(self.absorbed);
        Ok(self.next)
    }

    /// The checkpoint that is out has ended.
    pub(super) fn thaw(&mut self, durable: bool) {
        let absorbed = core::mem::take(&mut self.absorbed);
        let Some((begin, epoch)) = self.frozen.take() else {
            return;
        };
        if !durable {
            return;
        }
        self.tail = begin.seq;
        self.epoch = epoch;
        if self.doubt.is_some_and(|end| end <= begin.seq) {
            self.doubt = None;
        }
        if absorbed {
            self.number += 1;
            self.blocks = 0;
            self.slots = 0;
        }
        self.durable = self.durable.max(self.frozen_number);
    }

    // --- recovery ----------------------------------------------------------------------------

    /// Reads the next whole commit, if there is one, and steps behind it. The caller gives the
    /// buffer back with [`put_commit`](Self::put_commit). `epochs` are the two that its blocks
    /// may have.
    pub(super) fn take_commit<B: Blocks>(
        &mut self,
        blocks: &mut B,
        epochs: &mut [u64; 2],
    ) -> Result<Option<Commit>> {
        let first = self.next.seq;
        let mut at = self.next;
        let mut left = 1;
        let mut count = 0;
        while left > 0 {
            let nr = self.start + self.place(at.seq);
            let block = self.batch.get_mut(count).ok_or(EILSEQ)?;
            blocks.read_raw(nr, block)?;
            let Some(info) = self.check_block(blocks, count, nr)? else {
                return Ok(None);
            };
            let epoch = format::header(&self.batch[count]).epoch.get();
            let in_commit = info.blocks.get() as usize;
            let good = info.seq.get() == at.seq
                && info.first.get() == first
                && info.previous.get() == at.sum
                && epochs.contains(&epoch)
                && (1..=LOG_COMMIT_MAX).contains(&in_commit)
                && (count == 0 || left + count == in_commit);
            if !good {
                return Ok(None);
            }
            // The later epoch, once seen, is the only one.
            if epoch == epochs[1] {
                epochs[0] = epoch;
            }
            if count == 0 {
                left = in_commit;
            }
            count += 1;
            left -= 1;
            at = LogPosition {
                seq: at.seq + 1,
                sum: format::header(&self.batch[count - 1]).sum.get(),
            };
            if at.seq - self.tail > self.len {
                return Ok(None);
            }
        }
        self.next = at;
        Ok(Some(Commit {
            buf: core::mem::take(&mut self.batch),
            count,
        }))
    }

    /// Gives back the buffer of [`take_commit`](Self::take_commit).
    pub(super) fn put_commit(&mut self, commit: Commit) {
        self.batch = commit.buf;
    }

    /// The info of block `i` of the buffer, which was read from `nr`, if that is a log block of
    /// this store.
    fn check_block<B: Blocks>(&self, blocks: &B, i: usize, nr: u64) -> Result<Option<LogInfo>> {
        let block = self.batch.get(i).ok_or(EILSEQ)?;
        let expect = Expect {
            kind: Kind::Log,
            uuid: self.uuid,
            nr,
            max_epoch: u64::MAX,
        };
        if format::check_header(block, &expect).is_err()
            || !format::check_sum(block, |seed, data| blocks.crc32c(seed, data))
        {
            return Ok(None);
        }
        Ok(Some(*format::info::<LogInfo>(block)?))
    }

    /// Looks through the whole ring for blocks that can only be there if the log went on behind
    /// the place where replay came to its end, or behind the checkpoint that replay began with.
    /// `EILSEQ` if there are any: then something that was acknowledged cannot be read.
    pub(super) fn check_end<B: Blocks>(&mut self, blocks: &mut B, epoch: u64) -> Result {
        for i in 0..self.len {
            let nr = self.start + i;
            blocks.read_raw(nr, self.batch.get_mut(0).ok_or(EILSEQ)?)?;
            let Some(info) = self.check_block(blocks, 0, nr)? else {
                continue;
            };
            // A commit is only written when the one before it has ended: the blocks of the first
            // commit that is not whole may be there, but none of a later one.
            let later = info.first.get() > self.next.seq;
            if later || format::header(&self.batch[0]).epoch.get() > epoch {
                return Err(EILSEQ);
            }
        }
        Ok(())
    }

    /// Block number of the place where replay has come to.
    pub(super) fn position(&self) -> u64 {
        self.start + self.place(self.next.seq)
    }
}

/// The blocks of a commit that is being replayed.
pub(super) struct Commit {
    buf: KVec<Block>,
    count: usize,
}

impl Commit {
    /// Calls `f` for each record. `EILSEQ` for one that is none.
    pub(super) fn each(&self, mut f: impl FnMut(&Record) -> Result) -> Result {
        for block in self.buf.iter().take(self.count) {
            let count = format::info::<LogInfo>(block)?.count.get() as usize;
            if count > LOG_SLOTS_MAX {
                return Err(EILSEQ);
            }
            let mut slots = block[format::LOG_SLOTS..].chunks_exact(SLOT).take(count);
            while let Some(bytes) = slots.next() {
                let slot = LogSlot::ref_from_bytes(bytes).map_err(|_| EILSEQ)?;
                let kind = RecordKind::from_disk(slot.kind.get()).ok_or(EILSEQ)?;
                if usize::from(slot.slots.get()) != kind.slots() {
                    return Err(EILSEQ);
                }
                let mut record = Record::new(kind, slot.words.map(|word| word.get()));
                for words in record.words.chunks_exact_mut(4).take(kind.slots()).skip(1) {
                    let bytes = slots.next().ok_or(EILSEQ)?;
                    let slot = LogSlot::ref_from_bytes(bytes).map_err(|_| EILSEQ)?;
                    for (to, word) in words.iter_mut().zip(&slot.words) {
                        *to = word.get();
                    }
                }
                f(&record)?;
            }
        }
        Ok(())
    }
}
