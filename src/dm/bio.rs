// SPDX-License-Identifier: GPL-2.0

//! Bios as owned values.
//!
//! A bio that dm gives to a target's map function is a [`MapBio`]; what the target does with it
//! there is what dm is told. [`MapBio::defer`] turns it into a [`Bio`], which can wait in a
//! [`BioList`] and is sent or ended later. A bio that was sent down comes back once more as an
//! [`EndedBio`]. None of them can be lost or ended twice: dropping one ends it with an error.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::{
    device::{
        BlockDev,
        Devices, //
    },
    ffi,
    print, //
};
use core::{
    cell::Cell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        null_mut,
        NonNull, //
    }, //
};
use kernel::{
    ffi::c_int,
    prelude::*, //
};

pub(crate) use super::bio_list::BioList;

/// What a target keeps with each bio; it has its default value when the bio comes to map.
pub(crate) trait BioData: Copy + Default + Send + Sync + 'static {}

impl<D: Copy + Default + Send + Sync + 'static> BioData for D {}

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Reads [`Bio::sectors`] sectors.
    Read,
    /// Writes [`Bio::sectors`] sectors, perhaps with FUA; never with a flush before it, as dm
    /// sends that first on its own.
    Write,
    /// Flushes; carries no data.
    Flush,
    /// Discards.
    Discard,
    /// Writes zeroes.
    WriteZeroes,
    /// Anything else.
    Other,
}

/// How a bio ended (`blk_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    /// Success.
    pub(crate) const OK: Status = Status(ffi::STS_OK);
    /// I/O error.
    pub(crate) const IOERR: Status = Status(ffi::STS_IOERR);
    /// A bio that must not wait would have to.
    pub(crate) const AGAIN: Status = Status(ffi::STS_AGAIN);
    /// Operation not supported.
    pub(crate) const NOTSUPP: Status = Status(ffi::STS_NOTSUPP);

    /// Whether it stands for success.
    pub(crate) fn is_ok(self) -> bool {
        self.0 == ffi::STS_OK
    }

    pub(super) fn from_raw(raw: u8) -> Self {
        Status(raw)
    }

    pub(super) fn raw(self) -> u8 {
        self.0
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        // SAFETY: A table look-up; any value is accepted.
        Status(unsafe { ffi::errno_to_blk_status(error.to_errno()) })
    }
}

/// Where a bio stands between map and its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// With the target, not sent yet.
    Mapped,
    /// Sent to a device.
    Sent,
    /// Ended by the device, and then kept by the target.
    Kept,
    /// Ended by the target: dm's pass through `end_io` is of no interest to it.
    Ended,
}

/// The per-bio data.
///
/// It lies before the bio, in memory that dm allocates with each bio and never initialises.
#[repr(C)]
pub(super) struct PerBio<D> {
    head: ffi::BioHead,
    phase: Phase,
    data: D,
}

impl<D: BioData> PerBio<D> {
    /// What `per_io_data_size` must be, and what is passed to `dm_per_bio_data()`.
    pub(super) const SIZE: usize = {
        // dm puts the data right before a struct that is aligned to 8 bytes.
        assert!(align_of::<Self>() == 8);
        assert!(size_of::<Self>() <= 4096);
        size_of::<Self>()
    };
}

/// A bio that the target owns.
///
/// Dropping it ends it with an I/O error.
///
/// # Invariants
///
/// - `bio` is a clone that dm gave to a target with `per_io_data_size == PerBio::<D>::SIZE`, and
///   that nobody else will send, end or free; `per` is its per-bio data, initialised.
/// - `per.head.private` points to the `Devices` of the target, which outlives the bio: dm calls
///   no destructor of a target before all of its bios have ended.
#[must_use = "dropping a bio ends it with an I/O error"]
pub(crate) struct Bio<D: BioData> {
    bio: NonNull<ffi::Bio>,
    per: NonNull<PerBio<D>>,
    _data: PhantomData<D>,
}

// SAFETY: A bio is not tied to a thread, and `D` is `Send`.
unsafe impl<D: BioData> Send for Bio<D> {}

// SAFETY: A shared `Bio` only gives out copies of plain numbers and `&D`, and `D` is `Sync`.
unsafe impl<D: BioData> Sync for Bio<D> {}

impl<D: BioData> Bio<D> {
    fn per(&self) -> &PerBio<D> {
        // SAFETY: By the type invariant the data is initialised and ours alone while the bio is.
        unsafe { self.per.as_ref() }
    }

    fn per_mut(&mut self) -> &mut PerBio<D> {
        // SAFETY: As in `per()`.
        unsafe { self.per.as_mut() }
    }

    fn flag(&self, flag: u8) -> bool {
        self.per().head.flags & flag != 0
    }

    /// What it asks for.
    pub(crate) fn op(&self) -> Op {
        match self.per().head.op {
            ffi::OP_READ => Op::Read,
            ffi::OP_WRITE => Op::Write,
            ffi::OP_FLUSH => Op::Flush,
            ffi::OP_DISCARD => Op::Discard,
            ffi::OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => Op::Other,
        }
    }

    /// Whether its data must be durable when it ends.
    pub(crate) fn is_fua(&self) -> bool {
        self.flag(ffi::BIO_FUA)
    }

    /// Whether it must not wait: instead of queueing it, end it with [`Status::AGAIN`].
    pub(crate) fn is_nowait(&self) -> bool {
        self.flag(ffi::BIO_NOWAIT)
    }

    /// Its first sector, from the start of the target. Stays what it was at map.
    pub(crate) fn sector(&self) -> u64 {
        self.per().head.sector
    }

    /// Its length in sectors, as accepted. Stays what it was at map; 0 for a flush.
    pub(crate) fn sectors(&self) -> u32 {
        self.per().head.sectors
    }

    /// The target's own data.
    pub(crate) fn data(&self) -> &D {
        &self.per().data
    }

    /// The target's own data.
    pub(crate) fn data_mut(&mut self) -> &mut D {
        &mut self.per_mut().data
    }

    /// Ends it. May be called in any context; better with no spinlock held.
    pub(crate) fn end(self, status: Status) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used again.
        unsafe { this.finish(status) };
    }

    /// Fills the pages of a read with zeroes and ends it well.
    pub(crate) fn end_zeroed(self) {
        if self.op() != Op::Read {
            return self.end(Status::IOERR);
        }
        // SAFETY: The bio is ours and its pages are there to be filled. If a device has ended it,
        // its iterator has reached the end.
        unsafe {
            if self.per().phase == Phase::Kept {
                ffi::ms_bio_rearm(self.bio.as_ptr(), &raw const (*self.per.as_ptr()).head);
            }
            ffi::ms_bio_zero(self.bio.as_ptr());
        }
        self.end(Status::OK);
    }

    /// Ends the bio.
    ///
    /// # Safety
    ///
    /// `self` must not be used or dropped afterwards.
    unsafe fn finish(&mut self, status: Status) {
        self.per_mut().phase = Phase::Ended;
        // SAFETY: The bio was ours; from here on it belongs to dm, whose `clone_endio()` calls
        // our `end_io` (which sees the phase and lets it pass) and frees it. The caller promises
        // that we do not touch it again.
        unsafe { ffi::ms_bio_end(self.bio.as_ptr(), status.raw()) };
    }

    /// Points it to its new place. `false` if the target does not hold that device.
    fn aim(&mut self, dev: &BlockDev, sector: u64) -> bool {
        let bdev = dev.as_raw();
        // SAFETY: By the type invariant this points to the `Devices` of a living target, which
        // nobody changes after its constructor.
        let devices = unsafe { &*self.per().head.private.cast::<Devices>() };
        if !devices.contains(bdev) {
            if print::allowed() {
                pr_err!("bio for {}, which its target does not hold\n", dev.dev());
            }
            return false;
        }
        let bio = self.bio.as_ptr();
        let per = self.per.as_ptr();
        // SAFETY: Bio and per-bio data are ours. `bdev` stays open until the target is destroyed,
        // hence until after the bio has ended.
        unsafe {
            if (*per).phase == Phase::Kept {
                ffi::ms_bio_rearm(bio, &raw const (*per).head);
            }
            ffi::ms_bio_aim(bio, &raw mut (*per).head, bdev, sector);
            (*per).phase = Phase::Sent;
        }
        true
    }

    /// Sends it to `sector` of `dev`; it comes back to the target's `end_io`. A flush goes to the
    /// device as a whole.
    ///
    /// The target must have got `dev` in its constructor; otherwise the bio comes back. Process
    /// context, no locks held. For bios that were deferred in map or kept in `end_io`; in map
    /// itself [`MapBio::remap`] is the way.
    pub(crate) fn submit(mut self, dev: &BlockDev, sector: u64) -> Result<(), Self> {
        if !self.aim(dev, sector) {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: The bio was ours and is complete; from here on it is the block layer's, and
        // returns through `end_io`. `this` is not dropped.
        unsafe { ffi::dm_submit_bio_remap(this.bio.as_ptr(), null_mut()) };
        Ok(())
    }

    /// Gives up ownership.
    pub(super) fn into_raw(self) -> *mut ffi::Bio {
        ManuallyDrop::new(self).bio.as_ptr()
    }

    /// Takes ownership back.
    ///
    /// # Safety
    ///
    /// `bio` must come from [`into_raw`](Self::into_raw) of a `Bio` with the same `D`, once.
    pub(super) unsafe fn from_raw(bio: *mut ffi::Bio) -> Self {
        // SAFETY: The bio has per-bio data of this size by the invariant it had before.
        let per = unsafe { ffi::dm_per_bio_data(bio, PerBio::<D>::SIZE) };
        // SAFETY: Neither is null: they come from valid objects. INVARIANT: As before.
        unsafe {
            Self {
                bio: NonNull::new_unchecked(bio),
                per: NonNull::new_unchecked(per.cast()),
                _data: PhantomData,
            }
        }
    }
}

impl<D: BioData> Drop for Bio<D> {
    fn drop(&mut self) {
        // SAFETY: It is being dropped.
        unsafe { self.finish(Status::IOERR) };
    }
}

/// A bio in the target's map function.
///
/// Dropping it ends it with an I/O error.
#[must_use = "dropping a bio ends it with an I/O error"]
pub(crate) struct MapBio<'a, D: BioData> {
    bio: ManuallyDrop<Bio<D>>,
    outcome: &'a Cell<c_int>,
}

impl<'a, D: BioData> MapBio<'a, D> {
    /// Takes a bio from dm.
    ///
    /// # Safety
    ///
    /// - `bio` is what dm passed to the map function of `ti`, and the caller gives it away; `ti`
    ///   was set up with `PerBio::<D>::SIZE` bytes of per-bio data and a pointer to its
    ///   `Devices`.
    /// - What is in `outcome` afterwards is what the map function returns.
    pub(super) unsafe fn new(
        ti: *mut ffi::TargetInstance,
        bio: *mut ffi::Bio,
        outcome: &'a Cell<c_int>,
    ) -> Self {
        outcome.set(ffi::MAP_SUBMITTED);
        // SAFETY: By the function's contract. It initialises the head.
        let head = unsafe { ffi::ms_bio_begin(ti, bio, PerBio::<D>::SIZE) };
        let per = head.cast::<PerBio<D>>();
        // SAFETY: dm reserved room for a whole `PerBio` there, and nobody else uses it.
        unsafe {
            (&raw mut (*per).phase).write(Phase::Mapped);
            (&raw mut (*per).data).write(D::default());
        }
        // SAFETY: Neither is null. INVARIANT: The bio is ours now, its data initialised.
        let bio = unsafe {
            Bio {
                bio: NonNull::new_unchecked(bio),
                per: NonNull::new_unchecked(per),
                _data: PhantomData,
            }
        };
        Self {
            bio: ManuallyDrop::new(bio),
            outcome,
        }
    }

    /// The target's own data.
    pub(crate) fn data_mut(&mut self) -> &mut D {
        self.bio.data_mut()
    }

    /// Takes the first `sectors` sectors only; dm sends the rest as another bio.
    ///
    /// `EINVAL`, with nothing changed, if the bio cannot be cut so.
    pub(crate) fn accept_partial(&mut self, sectors: u32) -> Result {
        let bio = self.bio.bio.as_ptr();
        // SAFETY: We are inside the map function (a `MapBio` lives no longer), and bio and data
        // are ours. The shim looks at all else that dm would trip over.
        if unsafe { ffi::ms_bio_accept_partial(bio, self.bio.per.as_ptr().cast(), sectors) } {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Sends it to `sector` of `dev`; it comes back to the target's `end_io`.
    ///
    /// The target must have got `dev` in its constructor; otherwise the bio ends with an I/O
    /// error.
    pub(crate) fn remap(self, dev: &BlockDev, sector: u64) {
        // What comes back is dropped.
        let _ = self.try_remap(dev, sector);
    }

    /// The same, but a bio that cannot be sent comes back.
    pub(crate) fn try_remap(mut self, dev: &BlockDev, sector: u64) -> Result<(), Self> {
        if !self.bio.aim(dev, sector) {
            return Err(self);
        }
        self.outcome.set(ffi::MAP_REMAPPED);
        // The bio is dm's again: it submits it when map returns.
        core::mem::forget(self);
        Ok(())
    }

    /// Takes it for later.
    pub(crate) fn defer(self) -> Bio<D> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used again nor dropped.
        unsafe { ManuallyDrop::take(&mut this.bio) }
    }

    /// Ends it.
    pub(crate) fn end(self, status: Status) {
        self.defer().end(status);
    }
}

impl<D: BioData> Deref for MapBio<'_, D> {
    type Target = Bio<D>;

    fn deref(&self) -> &Bio<D> {
        &self.bio
    }
}

impl<D: BioData> Drop for MapBio<'_, D> {
    fn drop(&mut self) {
        // SAFETY: It is dropped here only; whoever takes the bio out forgets `self`.
        unsafe { ManuallyDrop::drop(&mut self.bio) };
    }
}

/// A bio that a device has ended, in the target's `end_io`.
///
/// Unless it is kept, it goes back to dm when `end_io` returns.
pub(crate) struct EndedBio<'a, D: BioData> {
    bio: ManuallyDrop<Bio<D>>,
    outcome: &'a Cell<c_int>,
}

impl<'a, D: BioData> EndedBio<'a, D> {
    /// Borrows a bio from dm; `None` if the target itself has ended it.
    ///
    /// # Safety
    ///
    /// - `bio` is what dm passed to the `end_io` function of a target that got it through
    ///   [`MapBio::new`] with the same `D`.
    /// - What is in `outcome` afterwards is what `end_io` returns.
    pub(super) unsafe fn new(bio: *mut ffi::Bio, outcome: &'a Cell<c_int>) -> Option<Self> {
        outcome.set(ffi::END_DONE);
        // SAFETY: By the function's contract. The value is not dropped unless the bio is kept,
        // which takes it from dm.
        let bio = ManuallyDrop::new(unsafe { Bio::from_raw(bio) });
        (bio.per().phase != Phase::Ended).then_some(Self { bio, outcome })
    }

    /// The target's own data.
    pub(crate) fn data_mut(&mut self) -> &mut D {
        self.bio.data_mut()
    }

    /// Takes it from dm. It is to be ended later with [`Bio::end`], or sent once more with
    /// [`Bio::submit`].
    pub(crate) fn keep(mut self) -> Bio<D> {
        self.outcome.set(ffi::END_INCOMPLETE);
        self.bio.per_mut().phase = Phase::Kept;
        // SAFETY: `self` has no destructor, and its field is not used again.
        unsafe { ManuallyDrop::take(&mut self.bio) }
    }
}

impl<D: BioData> Deref for EndedBio<'_, D> {
    type Target = Bio<D>;

    fn deref(&self) -> &Bio<D> {
        &self.bio
    }
}
