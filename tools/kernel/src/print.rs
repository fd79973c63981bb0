// SPDX-License-Identifier: GPL-2.0

//! Messages, to standard error.

/// Prints at one level.
#[doc(hidden)]
#[macro_export]
macro_rules! print_level {
    ($level:literal, $($arg:tt)*) => {
        ::std::eprint!("{}: {}", $level, ::core::format_args!($($arg)*))
    };
}

/// Prints a message of level emerg.
#[macro_export]
macro_rules! pr_emerg {
    ($($arg:tt)*) => { $crate::print_level!("emerg", $($arg)*) };
}

/// Prints a message of level alert.
#[macro_export]
macro_rules! pr_alert {
    ($($arg:tt)*) => { $crate::print_level!("alert", $($arg)*) };
}

/// Prints a message of level crit.
#[macro_export]
macro_rules! pr_crit {
    ($($arg:tt)*) => { $crate::print_level!("crit", $($arg)*) };
}

/// Prints a message of level error.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => { $crate::print_level!("error", $($arg)*) };
}

/// Prints a message of level warning.
#[macro_export]
macro_rules! pr_warn {
    ($($arg:tt)*) => { $crate::print_level!("warning", $($arg)*) };
}

/// Prints a message of level notice.
#[macro_export]
macro_rules! pr_notice {
    ($($arg:tt)*) => { $crate::print_level!("notice", $($arg)*) };
}

/// Prints a message of level info.
#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => { $crate::print_level!("info", $($arg)*) };
}

/// Checks the arguments of a debug message and prints nothing.
#[macro_export]
macro_rules! pr_debug {
    ($($arg:tt)*) => {
        if false {
            $crate::print_level!("debug", $($arg)*)
        }
    };
}
