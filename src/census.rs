//! A census of memory: one count of every entry that a session, a track or an origin holds.
//!
//! Each structure lists all of its fields ([`census!`]) and how each of them is counted. A field that is
//! missing from the list does not compile, so no new collection is left out. Tests compare the census of a
//! used session with that of an unused one: the difference is a leak.

/// Implements `Counted` for a structure by listing all of its fields.
///
/// `counts`: fields with entries of their own. `within`: fields whose structures are counted recursively.
/// `plain`: fields without entries. With `each`, every instance of the structure counts as one entry
/// itself.
macro_rules! census {
    (each $type:ident $(<$of:ty>)? { $($rest:tt)* }) => {
        $crate::census::census!(@impl [1] $type [$(<$of>)?] { $($rest)* });
    };
    ($type:ident $(<$of:ty>)? { $($rest:tt)* }) => {
        $crate::census::census!(@impl [0] $type [$(<$of>)?] { $($rest)* });
    };
    (@impl [$each:literal] $type:ident [$($of:tt)*] {
        $(counts: $($counted:ident),+;)?
        $(within: $($within:ident),+;)?
        $(plain: $($plain:ident),+;)?
    }) => {
        #[cfg(any(test, feature = "sim"))]
        impl $crate::census::Counted for $type $($of)* {
            #[allow(unused_variables, reason = "some have no entries")]
            fn count(&self, name: &'static str, census: &mut $crate::census::Census) {
                let Self { $($($counted,)+)? $($($within,)+)? $($($plain: _,)+)? } = self;
                census.add(name, $each);
                $($(
                    let count = $crate::census::Entries::entries($counted);
                    census.add(concat!(module_path!(), "::", stringify!($type), ".", stringify!($counted)), count);
                )+)?
                $($(
                    let name = concat!(module_path!(), "::", stringify!($type), ".", stringify!($within));
                    $crate::census::Counted::count($within, name, census);
                )+)?
            }
        }
    };
}
pub(crate) use census;

#[cfg(any(test, feature = "sim"))]
pub use counting::Census;
#[cfg(any(test, feature = "sim"))]
pub(crate) use counting::{Counted, Entries};

#[cfg(any(test, feature = "sim"))]
mod counting {
    use alloc::boxed::Box;
    use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
    use alloc::vec::Vec;
    use core::fmt;

    use bytes::BytesMut;
    use smallvec::{Array, SmallVec};

    use crate::slab::{SideTable, Slab};

    /// The number of entries by structure and field. Fields without entries are left out.
    #[derive(Clone, Default, PartialEq, Eq)]
    pub struct Census(BTreeMap<&'static str, usize>);

    impl Census {
        /// The census of `counted`.
        pub(crate) fn of(counted: &impl Counted) -> Self {
            let mut census = Self::default();
            counted.count("", &mut census);
            census
        }

        pub(crate) fn add(&mut self, name: &'static str, count: usize) {
            if count > 0 {
                *self.0.entry(name).or_default() += count;
            }
        }

        /// The number of all entries.
        #[cfg(test)]
        pub(crate) fn total(&self) -> usize {
            self.0.values().sum()
        }

        /// Whether there are no entries at all.
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// The fields whose counts differ from those of `unused`, with both counts: this one's and the
        /// other's.
        pub fn beyond(&self, unused: &Self) -> Vec<(&'static str, usize, usize)> {
            let count = |census: &Self, name| census.0.get(name).copied().unwrap_or(0);
            let names: BTreeSet<_> = self.0.keys().chain(unused.0.keys()).copied().collect();
            let both = names.into_iter().map(|name| (name, count(self, name), count(unused, name)));
            both.filter(|(_, here, there)| here != there).collect()
        }
    }

    impl fmt::Debug for Census {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let short = |name: &&'static str| name.strip_prefix("smoq::").unwrap_or(name);
            f.debug_map().entries(self.0.iter().map(|(name, count)| (short(name), count))).finish()
        }
    }

    /// A structure, or a list of structures.
    pub(crate) trait Counted {
        /// Adds the entries of this value to `census`. `name` is the name of the field that holds it.
        fn count(&self, name: &'static str, census: &mut Census);
    }

    /// A collection of values.
    pub(crate) trait Entries {
        fn entries(&self) -> usize;
    }

    macro_rules! lists {
        ($($(#[$cfg:meta])* [$($param:tt)*] $list:ty, $it:ident => $len:expr;)*) => {$(
            $(#[$cfg])*
            impl<$($param)*> Entries for $list {
                fn entries(&self) -> usize {
                    let $it = self;
                    $len
                }
            }
        )*};
    }

    lists! {
        [T] Vec<T>, it => it.len();
        [T] VecDeque<T>, it => it.len();
        [A: Array] SmallVec<A>, it => it.len();
        [T] BTreeSet<T>, it => it.len();
        [K, V] BTreeMap<K, V>, it => it.len();
        [T] Slab<T>, it => it.len();
        [T] Option<T>, it => usize::from(it.is_some());
        [T: Entries, const N: usize] [T; N], it => it.iter().map(Entries::entries).sum();
        [] BytesMut, it => it.len();
        [] bool, it => usize::from(*it);
        [] usize, it => *it;
        [] u32, it => *it as usize;
    }

    macro_rules! nested {
        ($([$($param:tt)*] $list:ty, $it:ident => $iter:expr;)*) => {$(
            impl<$($param)*> Counted for $list {
                fn count(&self, name: &'static str, census: &mut Census) {
                    let $it = self;
                    $iter.for_each(|it| it.count(name, census));
                }
            }
        )*};
    }

    nested! {
        [T: Counted] Vec<T>, it => it.iter();
        [T: Counted] VecDeque<T>, it => it.iter();
        [A: Array<Item: Counted>] SmallVec<A>, it => it.iter();
        [K, V: Counted] BTreeMap<K, V>, it => it.values();
        [T: Counted] Slab<T>, it => it.iter();
        [T: Counted] SideTable<T>, it => it.iter();
        [T: Counted, const N: usize] [T; N], it => it.iter();
        [T: Counted] Option<T>, it => it.iter();
        [T: Counted + ?Sized] Box<T>, it => core::iter::once(&**it);
        [T: Counted + ?Sized] &T, it => core::iter::once(*it);
    }

    #[cfg(feature = "std")]
    mod shared {
        use std::sync::{Arc, PoisonError};
        use std::vec;

        use super::{Census, Counted, Entries};
        use crate::model::sync::Mutex;
        use crate::model::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

        impl Entries for AtomicUsize {
            fn entries(&self) -> usize {
                self.load(Ordering::Relaxed)
            }
        }

        impl Entries for AtomicU32 {
            fn entries(&self) -> usize {
                self.load(Ordering::Relaxed) as usize
            }
        }

        impl<T: Entries> Entries for Mutex<T> {
            fn entries(&self) -> usize {
                self.lock().unwrap_or_else(PoisonError::into_inner).entries()
            }
        }

        impl<T> Entries for vec::IntoIter<T> {
            fn entries(&self) -> usize {
                self.len()
            }
        }

        impl<T: Counted> Counted for Arc<T> {
            fn count(&self, name: &'static str, census: &mut Census) {
                (**self).count(name, census);
            }
        }

        impl<T: Counted> Counted for Mutex<T> {
            fn count(&self, name: &'static str, census: &mut Census) {
                self.lock().unwrap_or_else(PoisonError::into_inner).count(name, census);
            }
        }
    }
}
