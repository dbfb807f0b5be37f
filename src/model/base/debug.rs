//! `Debug` for handles, which show a few of their values.

/// Implements `Debug` for a handle, given the values to show.
macro_rules! impl_debug {
    ($type:ident, $it:ident => $($name:ident: $value:expr),+) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $it = self;
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($name), $value))+
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use impl_debug;
