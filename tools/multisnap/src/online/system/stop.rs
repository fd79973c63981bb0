// SPDX-License-Identifier: GPL-2.0

//! Stops an origin when the machine ends, as soon as nobody uses it.

use crate::{
    dm::{node, Control},
    failure::{Code, Failure},
    online::{hidden, stop, volume::Devices},
    out,
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// What `system stop` is told.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the origin.
    name: String,
    /// Wait so long until nobody uses it.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Stops an origin and its snapshots. One that the system itself runs from is left to
/// `system shutdown`; one that is not started is no failure.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let end = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let control = Control::open()?;
        let devices = Devices::find(&control)?;
        let Some(volume) = devices.volumes.iter().find(|it| it.name == args.name) else {
            // LVM may have removed its device alone.
            hidden::clear(&control, &devices, &args.name)?;
            return Ok(Code::Good);
        };
        let active = devices.of(volume).map(|active| (&active.name, active.dev));
        let all: Vec<_> = active.chain([(&volume.name, volume.dev)]).collect();
        if let Some((name, _)) = all.iter().find(|(_, dev)| node::carries_system(*dev)) {
            out::text(&format!(
                "{name} is in use by the system itself, and stays until its end\n"
            ))?;
            return Ok(Code::Good);
        }
        let busy = |name: &str| control.info(name).is_ok_and(|info| info.open > 0);
        if !all.iter().any(|(name, _)| busy(name)) || Instant::now() >= end {
            return match stop::stop(&args.name, false) {
                // Somebody else has been quicker.
                Err(_) if control.info(&args.name).is_err() => Ok(Code::Good),
                result => result.map(|()| Code::Good),
            };
        }
        sleep(Duration::from_millis(200));
    }
}
