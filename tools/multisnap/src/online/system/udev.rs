// SPDX-License-Identifier: GPL-2.0

//! Tells udev whether the device of an event is an origin or a store that is started with the
//! machine, as properties for its rules.

use crate::{
    dm::{node, wire::Dev, Control},
    failure::{Code, Failure},
    online::{
        config::{self, Config, Wanted},
        line,
    },
    out,
};
use std::{env, path::Path};

/// Prints properties; none for a device of somebody else.
///
/// ```text
/// MULTISNAP_UNIT    what starts it
/// MULTISNAP_ROLE    "origin" if its content is to be hidden
///                   "held" if nobody may use it before it is put under
///                   "ready" if it is to be put under, and that is done, or it is in use already
/// MULTISNAP_LINK    where LVM would have the snapshot of a logical volume
/// ```
pub fn run() -> Result<Code, Failure> {
    if super::is_off() {
        return Ok(Code::Good);
    }
    let word = |key: &str| env::var(key).unwrap_or_default();
    let (name, links) = (word("DEVNAME"), word("DEVLINKS"));
    let links: Vec<&str> = links.split_ascii_whitespace().collect();
    let dev = format!("{}:{}", word("MAJOR"), word("MINOR")).parse().ok();
    let is = |path: &Path| {
        let text = path.to_string_lossy();
        !text.is_empty()
            && (text == name
                || links.contains(&&*text)
                || dev.is_some() && node::dev_at(path) == dev)
    };
    let configs: Vec<Config> = config::names()
        .into_iter()
        .filter_map(|name| config::outline(&name))
        .collect();
    let mapped = word("DM_NAME");
    if let Some(link) = configs.iter().find_map(|config| link(config, &mapped)) {
        // Another device can have the name of one that is wanted.
        if word("DM_UUID").starts_with("MSNAP-") {
            return out::text(&format!("MULTISNAP_LINK={link}\n")).map(|()| Code::Good);
        }
    }
    let mut roles = configs.iter().map(|config| (config, role(config, is)));
    let Some((config, Some(role))) = roles.find(|(_, role)| role.is_some()) else {
        return Ok(Code::Good);
    };
    let mut text = format!("MULTISNAP_UNIT={}\n", unit(&config.name));
    // While somebody uses it as it is, its links stay: what they mean must not vanish under him.
    let mounted = || dev.is_some_and(|dev| !node::mounts(dev).is_empty());
    let role = match role {
        Role::Origin if config.how.under && (is_under(&config.name) || dev.is_some_and(in_use)) => {
            Some("ready")
        }
        Role::Origin if config.how.under => Some("held"),
        Role::Origin if !mounted() => Some("origin"),
        _ => None,
    };
    if let Some(role) = role {
        text += &format!("MULTISNAP_ROLE={role}\n");
    }
    out::text(&text)?;
    Ok(Code::Good)
}

enum Role {
    Origin,
    Store,
}

fn role(config: &Config, is: impl Fn(&Path) -> bool) -> Option<Role> {
    if is(&config.origin) {
        return Some(Role::Origin);
    }
    is(&config.store).then_some(Role::Store)
}

/// Whether the device's own table is that of an origin.
fn is_under(name: &str) -> bool {
    let table = Control::open()
        .ok()
        .and_then(|control| control.table(name).ok()?);
    table.is_some_and(|target| target.kind == line::ORIGIN)
}

/// Whether somebody uses a device who stays. Who has it open may only look at it.
fn in_use(dev: Dev) -> bool {
    !node::mounts(dev).is_empty() || !node::holders(dev).is_empty() || node::is_swap(dev)
}

/// Where LVM would have the device of a snapshot that a file wants, if its origin is a logical volume
/// that was put under, and its name one that could be LVM's in the same group.
fn link(config: &Config, mapped: &str) -> Option<String> {
    let wanted = |wanted: &Wanted| wanted.device.as_deref() == Some(mapped);
    if !config.how.under || !config.snapshots.iter().any(wanted) {
        return None;
    }
    let (group, _) = parts(&config.name)?;
    let (of, name) = parts(mapped)?;
    (of == group).then(|| format!("{group}/{name}"))
}

/// Group and volume in the name of a logical volume's device; one hyphen is between them, and those
/// of their own are doubled.
fn parts(mapped: &str) -> Option<(String, String)> {
    let single = |at: &usize| {
        let (before, after) = (&mapped[..*at], &mapped[at + 1..]);
        let run = before.len() - before.trim_end_matches('-').len();
        run % 2 == 0 && !after.starts_with('-')
    };
    let hyphens: Vec<usize> = mapped
        .match_indices('-')
        .map(|(at, _)| at)
        .filter(single)
        .collect();
    let [at] = hyphens[..] else {
        return None;
    };
    let name = |text: &str| (!["", ".", ".."].contains(&text)).then(|| text.replace("--", "-"));
    Some((name(&mapped[..at])?, name(&mapped[at + 1..])?))
}

/// The unit that starts an origin: a name of a unit has few letters, and the others come as \xNN.
fn unit(name: &str) -> String {
    let mut text = String::from("multisnap@");
    for (i, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b":_".contains(&byte) || byte == b'.' && i > 0;
        if plain {
            text.push(byte.into());
        } else {
            text += &format!("\\x{byte:02x}");
        }
    }
    text + ".service"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_logical_volumes_have_links() {
        let split = |mapped| parts(mapped).map(|(group, name)| format!("{group}/{name}"));
        for (mapped, path) in [
            ("vg-home", Some("vg/home")),
            ("my--vg-be--fore", Some("my-vg/be-fore")),
            ("vg-a----b", Some("vg/a--b")),
            ("vg--home", None),
            ("vg-home-1", None),
            ("home", None),
            ("-home", None),
            ("vg-", None),
            ("vg-..", None),
        ] {
            assert_eq!(split(mapped).as_deref(), path, "{mapped}");
        }
        let mut config = Config {
            name: "vg-home".into(),
            origin: "/dev/mapper/vg-home".into(),
            store: "/dev/mapper/vg-store".into(),
            how: Default::default(),
            snapshots: Vec::new(),
        };
        for device in ["vg-before", "other-before", "before"] {
            config.snapshots.push(Wanted {
                word: device.into(),
                read_only: false,
                device: Some(device.into()),
            });
        }
        assert_eq!(link(&config, "vg-before"), None);
        config.how.under = true;
        assert_eq!(link(&config, "vg-before").as_deref(), Some("vg/before"));
        for other in ["other-before", "before", "vg-after"] {
            assert_eq!(link(&config, other), None, "{other}");
        }
    }

    #[test]
    fn names_of_units() {
        assert_eq!(unit("home"), "multisnap@home.service");
        assert_eq!(unit("a.b_c:d"), "multisnap@a.b_c:d.service");
        assert_eq!(unit("ms-home"), "multisnap@ms\\x2dhome.service");
        assert_eq!(unit(".a=b"), "multisnap@\\x2ea\\x3db.service");
    }
}
