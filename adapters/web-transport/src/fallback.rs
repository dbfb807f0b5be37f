use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::timer::Timer;

/// How long an attempt is alone before its fallback begins: 200 ms.
pub const HEAD_START: Duration = Duration::from_millis(200);

/// Both attempts failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable<P, F> {
    /// Why the first attempt failed.
    pub preferred: P,
    /// Why the fallback failed.
    pub fallback: F,
}

impl<P: fmt::Display, F: fmt::Display> fmt::Display for Unreachable<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.preferred, self.fallback)
    }
}

impl<P: fmt::Debug + fmt::Display, F: fmt::Debug + fmt::Display> std::error::Error
    for Unreachable<P, F>
{
}

/// The output of the first of two attempts that succeeds; the other one is dropped. For networks that drop UDP: QUIC
/// is `preferred`, and a WebSocket the `fallback`.
///
/// `fallback` begins [`HEAD_START`] after `preferred`, or as soon as that fails.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use smoq_web_transport::dial_with_fallback;
///
/// let quic = std::future::pending::<Result<_, &str>>();
/// let web_socket = async { Ok::<_, &str>("by TCP") };
/// assert_eq!(dial_with_fallback(quic, web_socket, &tokio::time::sleep).await, Ok("by TCP"));
/// # });
/// ```
///
/// # Errors
///
/// Both failed.
pub async fn dial_with_fallback<O, P, F>(
    preferred: impl Future<Output = Result<O, P>>,
    fallback: impl Future<Output = Result<O, F>>,
    timer: &impl Timer,
) -> Result<O, Unreachable<P, F>> {
    let (mut preferred, mut fallback) = (pin!(preferred), pin!(fallback));
    let mut head_start = pin!(timer.sleep(HEAD_START));
    let (mut preferred_error, mut fallback_error) = (None, None);
    let mut is_alone = true;
    let won = poll_fn(|cx| {
        if preferred_error.is_none() {
            match preferred.as_mut().poll(cx) {
                Poll::Ready(Ok(output)) => return Poll::Ready(Some(output)),
                Poll::Ready(Err(error)) => preferred_error = Some(error),
                Poll::Pending => {}
            }
        }
        if is_alone && preferred_error.is_none() && head_start.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        is_alone = false;
        if fallback_error.is_none() {
            match fallback.as_mut().poll(cx) {
                Poll::Ready(Ok(output)) => return Poll::Ready(Some(output)),
                Poll::Ready(Err(error)) => fallback_error = Some(error),
                Poll::Pending => {}
            }
        }
        let is_lost = preferred_error.is_some() && fallback_error.is_some();
        if is_lost { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    match (won, preferred_error, fallback_error) {
        (Some(output), ..) => Ok(output),
        (None, Some(preferred), Some(fallback)) => Err(Unreachable { preferred, fallback }),
        _ => unreachable!("only two errors are a loss"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::task::{Context, Waker};

    use super::*;
    use crate::future::Shared;

    type Attempt = Rc<Cell<Option<Result<u8, &'static str>>>>;

    /// An attempt that ends when the test says so, and whether it has begun.
    async fn attempt(result: Attempt, begun: Rc<Cell<bool>>) -> Result<u8, &'static str> {
        begun.set(true);
        poll_fn(|_| result.get().map_or(Poll::Pending, Poll::Ready)).await
    }

    #[test]
    fn the_fallback_begins_after_the_head_start_or_a_failure() {
        for (is_late, first, second, expected) in [
            (false, Some(Ok(1)), None, Some(Ok(1))),
            (true, Some(Ok(1)), None, Some(Ok(1))),
            (true, None, Some(Ok(2)), Some(Ok(2))),
            (false, None, Some(Ok(2)), None),
            (false, Some(Err("blocked")), Some(Ok(2)), Some(Ok(2))),
            (true, None, Some(Err("refused")), None),
            (
                false,
                Some(Err("blocked")),
                Some(Err("refused")),
                Some(Err(Unreachable { preferred: "blocked", fallback: "refused" })),
            ),
        ] {
            let [quic, tcp] = [(); 2].map(|()| Attempt::default());
            let [quic_begun, tcp_begun] = [(); 2].map(|()| Rc::new(Cell::new(false)));
            let passed = Shared::new(false);
            let timer = {
                let passed = passed.clone();
                move |duration| {
                    assert_eq!(duration, HEAD_START);
                    let passed = passed.clone();
                    async move {
                        poll_fn(|_| if *passed.lock() { Poll::Ready(()) } else { Poll::Pending })
                            .await;
                    }
                }
            };
            let mut race = pin!(dial_with_fallback(
                attempt(quic.clone(), quic_begun.clone()),
                attempt(tcp.clone(), tcp_begun.clone()),
                &timer,
            ));
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(race.as_mut().poll(cx).is_pending());
            assert!(quic_begun.get() && !tcp_begun.get());
            *passed.lock() = is_late;
            if is_late {
                assert!(race.as_mut().poll(cx).is_pending() && tcp_begun.get());
            }
            quic.set(first);
            tcp.set(second);
            let polled = race.as_mut().poll(cx);
            assert_eq!(polled, expected.map_or(Poll::Pending, Poll::Ready));
        }
        let error = Unreachable { preferred: "blocked", fallback: "refused" };
        assert_eq!(error.to_string(), "blocked; refused");
    }
}
