//! [`Stream`]s of what consumers read, with the feature `stream`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::model::Result;
use crate::{Announce, Frame, GroupConsumer, OriginConsumer, TrackConsumer};

/// A stream over a consumer. It ends after the first error.
macro_rules! stream {
    ($(#[$doc:meta])* $name:ident of $consumer:ident by $into:ident, $poll:ident -> $item:ty, $end:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[must_use = "streams do nothing unless they are polled"]
        pub struct $name(Option<$consumer>);

        impl $consumer {
            $(#[$doc])*
            pub fn $into(self) -> $name {
                $name(Some(self))
            }
        }

        impl Stream for $name {
            type Item = $item;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<$item>> {
                let Some(consumer) = &mut self.0 else { return Poll::Ready(None) };
                let Poll::Ready(next) = consumer.$poll(cx) else { return Poll::Pending };
                let (item, is_over) = $end(next);
                if is_over {
                    self.0 = None;
                }
                Poll::Ready(item)
            }
        }
    };
}

fn fallible<T>(next: Result<Option<T>>) -> (Option<Result<T>>, bool) {
    let item = next.transpose();
    let is_over = !matches!(item, Some(Ok(_)));
    (item, is_over)
}

stream! {
    /// The groups of a track by number, as [`TrackConsumer::next_group`] returns them. The stream ends after the
    /// last group, or after one error.
    Groups of TrackConsumer by into_groups, poll_next_group -> Result<GroupConsumer>, fallible
}

stream! {
    /// The frames of a group, as [`GroupConsumer::read_frame`] returns them. The stream ends after the last frame,
    /// or after one error.
    Frames of GroupConsumer by into_frames, poll_read_frame -> Result<Frame>, fallible
}

stream! {
    /// The announcements of an origin, as [`OriginConsumer::announced`] returns them. The stream ends with the
    /// origin.
    Announcements of OriginConsumer by into_announcements, poll_announced -> Announce,
    |next: Option<Announce>| {
        let is_over = next.is_none();
        (next, is_over)
    }
}
