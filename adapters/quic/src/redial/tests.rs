use super::*;

const MS: Duration = Duration::from_millis(1);

/// A clock that only a test moves.
#[expect(clippy::disallowed_methods, reason = "the beginning of a clock that the test moves")]
fn begin() -> Instant {
    Instant::now()
}

fn urls<const N: usize>() -> [Url; N] {
    std::array::from_fn(|n| format!("moqt://{n}.example").parse().unwrap())
}

fn redial<const N: usize>() -> Redial {
    let [first, more @ ..] = &urls::<N>()[..] else { unreachable!() };
    more.iter().cloned().fold(Redial::new(first.clone()), Redial::or).seed(7)
}

/// The next URL, which must be due now.
fn dial(redial: &mut Redial, now: Instant) -> Url {
    match redial.poll(now) {
        Some(Redialing::Dial(url)) => url,
        other => panic!("{other:?}"),
    }
}

/// Makes an attempt that fails as soon as it may, and returns the pause after it.
fn fail(redial: &mut Redial, now: &mut Instant) -> Duration {
    dial(redial, *now);
    let pause = redial.failed(*now);
    *now += pause;
    if !pause.is_zero() {
        assert_eq!(redial.poll_timeout(), Some(*now));
        assert_eq!(redial.poll(*now - pause / 2), None, "not before");
    }
    pause
}

#[test]
fn urls_are_tried_in_turn_and_then_there_is_a_pause() {
    let (mut redial, mut now) = (redial::<3>(), begin());
    for round in 0..4 {
        for (n, url) in urls::<3>().into_iter().enumerate() {
            assert_eq!(*redial.url(), url);
            let pause = fail(&mut redial, &mut now);
            assert_eq!(pause.is_zero(), n < 2, "{round} {n}");
        }
    }
    // The one that answers stays the first, and the others follow it.
    dial(&mut redial, now);
    redial.failed(now);
    assert_eq!(dial(&mut redial, now), urls::<3>()[1]);
    redial.connected(now);
    assert_eq!(redial.poll(now + FOREVER), None);
    redial.lost(now + Duration::from_secs(60));
    let mut now = now + Duration::from_secs(61);
    for n in [1, 2, 0] {
        assert_eq!(*redial.url(), urls::<3>()[n]);
        fail(&mut redial, &mut now);
    }
}

#[test]
fn pauses_double_up_to_the_longest_and_half_of_each_is_random() {
    let (mut redial, mut now) = (redial::<1>().pauses(100 * MS, 1_000 * MS), begin());
    let mut pauses = Vec::new();
    for full in [100, 200, 400, 800, 1_000, 1_000, 1_000].map(|full| full * MS) {
        let pause = fail(&mut redial, &mut now);
        assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        pauses.push(pause);
    }
    assert!(pauses[4..].windows(2).all(|two| two[0] != two[1]), "{pauses:?}");
    // However many there are.
    for _ in 0..10_000 {
        let pause = fail(&mut redial, &mut now);
        assert!(pause >= 500 * MS && pause <= 1_000 * MS);
    }
}

#[test]
fn the_seed_decides_about_the_random_part() {
    let pauses = |redial: Redial| {
        let (mut redial, mut now) = (redial, begin());
        [(); 20].map(|()| fail(&mut redial, &mut now))
    };
    assert_eq!(pauses(redial::<1>()), pauses(redial::<1>()));
    assert_ne!(pauses(redial::<1>()), pauses(redial::<1>().seed(8)));
    // Clients that lose the same server do not come back at the same time.
    let [url] = urls();
    assert_ne!(pauses(Redial::new(url.clone())), pauses(Redial::new(url)));
}

/// For example a server that closes each session with UNAUTHORIZED.
#[test]
fn a_server_that_ends_sessions_early_is_asked_ever_less_often() {
    let (mut redial, mut now) = (redial::<1>().pauses(100 * MS, 60_000 * MS), begin());
    let mut last = Duration::ZERO;
    for n in 0..8 {
        dial(&mut redial, now);
        redial.connected(now);
        now += 5 * MS;
        let pause = redial.lost(now);
        assert!(pause >= last && pause >= 50 * MS * (1 << n), "{n}: {pause:?}");
        (now, last) = (now + pause, pause);
    }
    // A session that lasts is forgiven the past.
    dial(&mut redial, now);
    redial.connected(now);
    now += Duration::from_secs(10);
    let pause = redial.lost(now);
    assert!(pause <= 100 * MS, "{pause:?}");
    now += pause;
    assert!(fail(&mut redial, &mut now) <= 100 * MS);
}

#[test]
fn an_attempt_that_nobody_answers_is_given_up() {
    let (mut redial, now) = (redial::<2>().attempt_timeout(300 * MS), begin());
    dial(&mut redial, now);
    assert_eq!(redial.poll_timeout(), Some(now + 300 * MS));
    assert_eq!(redial.poll(now + 299 * MS), None);
    assert_eq!(redial.poll(now + 300 * MS), Some(Redialing::GiveUp));
    assert_eq!(redial.failed(now + 300 * MS), Duration::ZERO);
    assert_eq!(dial(&mut redial, now + 300 * MS), urls::<2>()[1]);
}

/// A session that has lasted, and then receives GOAWAY.
fn leaving(redial: &mut Redial, now: &mut Instant, goaway: &Goaway) -> Redirect {
    dial(redial, *now);
    redial.connected(*now);
    *now += Duration::from_secs(60);
    let (redirect, pause) = redial.going_away(*now, goaway);
    assert!(pause <= 250 * MS, "the old session still runs, but it is about to end: {pause:?}");
    *now += pause;
    redirect
}

#[test]
fn a_redirect_is_followed_only_if_the_application_allows_it() {
    let to = |uri: &str| Goaway::default().uri(uri);
    let allowed = |url: &Url| url.host().ends_with(".example");
    for (follows, goaway, expected, url) in [
        (true, to("moqt://new.example/x"), Redirect::Followed, "moqt://new.example/x"),
        (false, to("moqt://new.example/x"), Redirect::Refused, "moqt://0.example"),
        (true, to("moqt://evil.test"), Redirect::Refused, "moqt://0.example"),
        (true, to("gopher://new.example"), Redirect::Invalid, "moqt://0.example"),
        (true, to("moqt://\u{0}\u{1f980}:99999/"), Redirect::Invalid, "moqt://0.example"),
        (false, to(&"x".repeat(8_192)), Redirect::Invalid, "moqt://0.example"),
        (true, to(""), Redirect::Same, "moqt://0.example"),
        (false, Goaway::default(), Redirect::Same, "moqt://0.example"),
    ] {
        let (mut redial, mut now) = (redial::<2>(), begin());
        if follows {
            redial = redial.follow(allowed);
        }
        assert_eq!(leaving(&mut redial, &mut now, &goaway), expected, "{goaway:?}");
        assert_eq!(dial(&mut redial, now), url.parse().unwrap(), "{goaway:?}");
    }
}

#[test]
fn the_url_of_a_redirect_is_used_until_it_fails() {
    let new: Url = "moqt://new.example".parse().unwrap();
    let goaway = Goaway::default().uri(new.to_string());
    let (mut redial, mut now) = (redial::<2>().follow(|_| true), begin());
    leaving(&mut redial, &mut now, &goaway);
    // That one leaves as well, and names none: it is dialed again.
    assert_eq!(leaving(&mut redial, &mut now, &Goaway::default()), Redirect::Same);
    assert_eq!(dial(&mut redial, now), new);
    // The first URL is the next, without a pause.
    assert_eq!(redial.failed(now), Duration::ZERO);
    assert_eq!(dial(&mut redial, now), urls::<2>()[0]);
    redial.connected(now);
    // The end of its session is the other end.
    now += Duration::from_secs(60);
    redial.going_away(now, &goaway);
    now += Duration::from_secs(1);
    assert_eq!(dial(&mut redial, now), new);
    redial.connected(now);
    now += Duration::from_secs(60);
    now += redial.lost(now);
    assert_eq!(dial(&mut redial, now), urls::<2>()[0]);
}

#[test]
fn servers_that_send_a_client_to_each_other_do_not_keep_it_busy() {
    let (mut redial, mut now) = (redial::<1>().follow(|_| true), begin());
    let began = now;
    for n in 0..1_000 {
        dial(&mut redial, now);
        redial.connected(now);
        let other = Goaway::default().uri(format!("moqt://{}.example", n % 2));
        let (redirect, pause) = redial.going_away(now, &other);
        assert_eq!(redirect, Redirect::Followed);
        redial.left(now);
        now += pause;
    }
    assert!(now - began > 900 * Duration::from_secs(15));
}

/// The times that mean "never" do not overflow.
#[test]
fn readers_are_released_when_they_have_waited_long_enough() {
    let (mut redial, now) = (redial::<1>().hold(700 * MS), begin());
    dial(&mut redial, now);
    redial.connected(now);
    assert_eq!(redial.poll_timeout(), None);
    let lost = now + Duration::from_secs(60);
    let first = redial.lost(lost);
    assert!(first < 700 * MS);
    // Attempts that fail, and sessions that end early, do not make the wait longer.
    dial(&mut redial, lost + first);
    redial.connected(lost + first);
    assert_eq!(redial.poll_timeout(), Some(lost + 700 * MS));
    redial.lost(lost + 600 * MS);
    assert_eq!(redial.hold_until, Some(lost + 700 * MS));
    redial.poll(lost + 700 * MS);
    assert_eq!(redial.hold_until, None);

    let never = Duration::MAX;
    let redial = super::Redial::new(urls::<1>()[0].clone()).pauses(never, never).hold(never);
    let mut redial = redial.attempt_timeout(never).lasting(never);
    for _ in 0..3 {
        redial.poll(now);
        redial.connected(now);
        redial.lost(now);
        redial.state = State::Waiting(None);
    }
}
