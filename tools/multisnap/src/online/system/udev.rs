// SPDX-License-Identifier: GPL-2.0

//! Tells udev whether the device of an event is an origin or a store that is started with the
//! machine, as properties for its rules.

use crate::{
    dm::node,
    failure::{Code, Failure},
    online::config::{self, Config},
    out,
};
use std::{env, path::Path};

/// Prints properties; none for a device of somebody else.
///
/// ```text
/// MULTISNAP_UNIT    what starts it
/// MULTISNAP_ROLE    "origin" if its content is to be hidden
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
        text == name || links.contains(&&*text) || dev.is_some() && node::dev_at(path) == dev
    };
    let configs = config::names()
        .into_iter()
        .filter_map(|name| config::read(&name).ok());
    let Some((config, role)) = configs.into_iter().find_map(|config| role(config, is)) else {
        return Ok(Code::Good);
    };
    let mut text = format!("MULTISNAP_UNIT={}\n", unit(&config.name));
    // While somebody uses it as it is, its links stay: what they mean must not vanish under him.
    let mounted = dev.is_some_and(|dev| !node::mounts(dev).is_empty());
    if role == Role::Origin && !mounted {
        text += "MULTISNAP_ROLE=origin\n";
    }
    out::text(&text)?;
    Ok(Code::Good)
}

#[derive(PartialEq)]
enum Role {
    Origin,
    Store,
}

fn role(config: Config, is: impl Fn(&Path) -> bool) -> Option<(Config, Role)> {
    if is(&config.origin) {
        return Some((config, Role::Origin));
    }
    is(&config.store).then_some((config, Role::Store))
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
    fn names_of_units() {
        assert_eq!(unit("home"), "multisnap@home.service");
        assert_eq!(unit("a.b_c:d"), "multisnap@a.b_c:d.service");
        assert_eq!(unit("ms-home"), "multisnap@ms\\x2dhome.service");
        assert_eq!(unit(".a=b"), "multisnap@\\x2ea\\x3db.service");
    }
}
