// SPDX-License-Identifier: GPL-2.0

//! A command that the worker is at, and the thread that waits for it.

use crate::store::SnapId;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Completion,
        Mutex, //
    },
};

/// What both hold.
#[pin_data]
struct Waiter {
    #[pin]
    done: Completion,
    /// Set by the worker, taken by who waits.
    #[pin]
    result: Mutex<Option<Result<Option<SnapId>>>>,
}

/// The memory for one command, where none may be asked for when it is given.
pub(super) struct Spare(Arc<Waiter>);

impl Spare {
    /// `ENOMEM`, and no other error.
    pub(super) fn new() -> Result<Self> {
        let waiter = Arc::pin_init(
            pin_init!(Waiter {
                done <- Completion::new(),
                result <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(waiter))
    }

    /// The command that is given in this memory; there is only one.
    pub(super) fn command(&self) -> Command {
        Command(self.0.clone())
    }
}

/// A command under way.
#[derive(Clone)]
pub(super) struct Command(Arc<Waiter>);

impl Command {
    /// Waits until it is durable, or has failed.
    pub(super) fn wait(self) -> Result<Option<SnapId>> {
        self.0.done.wait_for_completion();
        let result = self.0.result.lock().take();
        result.unwrap_or(Err(EIO))
    }

    /// Whether [`wait`](Self::wait) would not.
    pub(super) fn has_ended(&self) -> bool {
        self.0.result.lock().is_some()
    }

    /// It has ended so: whoever waits goes on.
    pub(super) fn end(&self, result: Result<Option<SnapId>>) {
        *self.0.result.lock() = Some(result);
        self.0.done.complete_all();
    }
}
