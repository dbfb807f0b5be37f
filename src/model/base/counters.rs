//! Structs of counters: plain values for applications, and the atomics that counters and gauges are kept in.

use crate::model::base::sync::atomic::{AtomicU64, Ordering};

/// Declares a public struct of counters, and the struct of atomics in which they and the gauges are kept.
macro_rules! counters {
    (
        $(#[$doc:meta])* $name:ident,
        $(#[$cells_doc:meta])* $cells:ident {
            $($(#[$field_doc:meta])* $field:ident,)*
        }
        gauges: $($gauge:ident),*;
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        $(#[$cells_doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $cells {
            $(pub(crate) $field: crate::model::base::sync::atomic::AtomicU64,)*
            $(pub(crate) $gauge: crate::model::base::sync::atomic::AtomicU64,)*
        }

        impl $name {
            /// Adds the values of `other`, field by field.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }

        impl $cells {
            pub(crate) fn load(&self) -> $name {
                $name { $($field: self.$field.load(crate::model::base::sync::atomic::Ordering::Relaxed),)* }
            }
        }
    };
}
pub(crate) use counters;

/// Adds one to a count.
pub(crate) fn count(cell: &AtomicU64) {
    add(cell, 1);
}

pub(crate) fn add(cell: &AtomicU64, n: u64) {
    cell.fetch_add(n, Ordering::Relaxed);
}

/// Sets a gauge.
pub(crate) fn set(cell: &AtomicU64, n: u64) {
    cell.store(n, Ordering::Relaxed);
}
