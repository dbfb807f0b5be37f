use smoq::stream::Code;

use super::*;
use crate::{FLUSH_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE};

fn close_code(host: &Host) -> Option<u64> {
    host.sent.iter().find_map(|frame| match frame {
        Frame::Close { code } => Some(code.as_u64()),
        _ => None,
    })
}

/// A clean close overtakes nothing: it waits for the answer to a ping, for a second at most.
#[test]
fn a_clean_close_waits_until_the_peer_has_read_everything() {
    for answers in [true, false] {
        let mut host = Host::with(AMPLE);
        host.receive(&stream(STREAM, 0, &subscribe(0, "video")));
        host.video.write_frame(0_u64, "last").unwrap();
        host.turns();
        host.session.close(Error::SessionClosed);
        host.turns();
        assert!(matches!(host.sent.last(), Some(Frame::Ping { sequence: 0 })));
        assert_eq!((close_code(&host), host.qmux.closed()), (None, None));
        let begun = host.now;
        if answers {
            host.receive(&encode(&[frame::PING + 1, 0]));
        } else {
            assert_eq!(host.qmux.poll_timeout(), Some(begun + FLUSH_TIMEOUT));
            host.advance(FLUSH_TIMEOUT);
        }
        assert_eq!(close_code(&host), Some(0));
        assert!(host.qmux.closed().unwrap().is_clean());
        assert!(host.streams().iter().any(|(_, bytes, _)| bytes.ends_with(b"last")));
    }
}

#[test]
fn an_error_closes_at_once_with_its_code() {
    let mut host = Host::with(AMPLE);
    host.session.close(Error::Unauthorized);
    host.turns();
    assert_eq!(close_code(&host), Some(Error::Unauthorized.session_code().as_u64()));
    assert!(host.is_closed_with(Error::Unauthorized));
}

#[test]
fn the_code_of_the_peers_close_arrives() {
    for code in [0, 2, 3, 0x10, 64, 64 + 9, 1 << 61] {
        let mut host = Host::with(AMPLE);
        host.receive(&[&encode(&[frame::APPLICATION_CLOSE, code, 3])[..], b"bye"].concat());
        assert!(host.is_closed_with(Error::from_session_code(Code::new(code))), "{code}");
        assert!(close_code(&host).is_none());
    }
    let mut host = Host::with(AMPLE);
    host.receive(&encode(&[frame::CONNECTION_CLOSE, 7, 0, 0]));
    assert!(host.is_closed_with(Error::Disconnected));
}

#[test]
fn a_lost_socket_ends_the_session() {
    let mut host = Host::with(AMPLE);
    host.qmux.lost(Error::Disconnected);
    host.turns();
    assert!(host.is_closed_with(Error::Disconnected));
    assert_eq!(host.qmux.poll_timeout(), None);
}

/// A silent peer is sent one ping, and is lost if it does not answer.
#[test]
fn a_silent_peer_is_asked_and_given_up() {
    let mut host = Host::with(AMPLE);
    let pings =
        |host: &Host| host.sent.iter().filter(|it| matches!(it, Frame::Ping { .. })).count();
    for n in 1..=5 {
        let asked = host.now + KEEP_ALIVE;
        assert_eq!(host.qmux.poll_timeout(), Some(asked));
        host.advance(KEEP_ALIVE);
        assert_eq!(pings(&host), n);
        host.advance(Duration::from_secs(5));
        host.receive(&encode(&[frame::PING + 1, n as u64 - 1]));
        assert_eq!(pings(&host), n);
    }
    let heard = host.now;
    host.advance(KEEP_ALIVE);
    assert_eq!(host.qmux.poll_timeout(), Some(heard + IDLE_TIMEOUT));
    host.advance(IDLE_TIMEOUT - KEEP_ALIVE);
    assert_eq!(pings(&host), 6);
    assert!(host.is_closed_with(Error::Timeout));
}

/// The process slept for an hour. A peer that answers when it is asked is not lost.
#[test]
fn a_stall_of_this_side_is_not_one_of_the_peer() {
    for answers in [true, false] {
        let mut host = Host::with(AMPLE);
        host.advance(Duration::from_secs(3_600));
        assert!(matches!(host.sent.last(), Some(Frame::Ping { sequence: 0 })));
        assert_eq!(host.qmux.poll_timeout(), Some(host.now + (IDLE_TIMEOUT - KEEP_ALIVE)));
        if answers {
            host.receive(&encode(&[frame::PING + 1, 0]));
        }
        host.advance(IDLE_TIMEOUT - KEEP_ALIVE);
        assert_eq!(host.is_closed_with(Error::Timeout), !answers);
    }
}

#[test]
fn both_sides_end_when_one_closes() {
    for error in [Error::SessionClosed, Error::App(9)] {
        let mut pair = Pair::new(&Client::new(), &Server::new(), Version::Lite05);
        pair.settle();
        pair.sessions[0].close(error.clone());
        pair.settle();
        let reason = Some(CloseReason::from(error));
        assert_eq!([pair.ends[0].closed(), pair.ends[1].closed()], [reason.clone(), reason]);
    }
    // Idle sessions keep each other alive.
    let mut pair = Pair::new(&Client::new(), &Server::new(), Version::Lite04);
    for _ in 0..100 {
        pair.advance(KEEP_ALIVE);
    }
    assert!(pair.ends.iter().all(|end| end.closed().is_none()));
}
