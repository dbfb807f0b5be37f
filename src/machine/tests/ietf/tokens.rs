//! Authorization tokens (*Authorization Token Compression*).

use super::fetch::fetch_message;
use super::names::publish_namespace;
use super::subscriptions::publish;
use super::*;
use crate::AuthToken;
use TokenReference::{Alias, Delete, Register, Value};

fn auth(value: &'static str) -> AuthToken {
    AuthToken::new(7, value)
}

fn long(len: usize) -> AuthToken {
    AuthToken::new(0, vec![1; len])
}

/// The peer subscribes with these tokens. Returns the tokens that the application sees.
fn asked(talk: &mut Talk, tokens: Vec<TokenReference>) -> Vec<AuthToken> {
    talk.request(|id| subscribe_message_with(id, Parameters { tokens, ..Parameters::default() }));
    let events = talk.lone.events();
    match &events[..] {
        [Event::SubscribeRequested { tokens, .. }] => tokens.clone(),
        other => panic!("{other:?}"),
    }
}

/// D22-8-9-MUST-276, -277, -283 and -285.
#[test]
fn tokens_come_with_their_request() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        assert_eq!(asked(&mut talk, vec![]), []);
        assert_eq!(asked(&mut talk, vec![Register(1, auth("a"))]), [auth("a")]);
        assert_eq!(
            asked(&mut talk, vec![Alias(1), Value(auth("b"))]),
            [auth("a"), auth("b")],
            "{version}"
        );
        assert_eq!(asked(&mut talk, vec![Delete(1)]), []);
        assert_eq!(asked(&mut talk, vec![Register(1, auth("b"))]), [auth("b")]);
        assert_eq!(asked(&mut talk, vec![Alias(1)]), [auth("b")]);
    }
}

/// Each kind of request brings its own tokens, also one that waits, and none has those of another.
#[test]
fn every_request_has_its_tokens() {
    let shown = |events: Vec<Event>| match one(events) {
        Event::AnnounceRequested { tokens, .. }
        | Event::TracksRequested { tokens, .. }
        | Event::SubscribeRequested { tokens, .. }
        | Event::TrackRequested { tokens, .. }
        | Event::FetchRequested { tokens, .. }
        | Event::RangeRequested { tokens, .. }
        | Event::TrackOffered { tokens, .. }
        | Event::BroadcastOffered { tokens, .. } => tokens,
        other => panic!("{other:?}"),
    };
    for version in EVERY {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.lone.events();
        talk.lone.end.accepts_broadcasts = false;
        let several = FetchEnd { group: 9, object: None };
        let single = FetchEnd { group: 7, object: None };
        let fetch = |id, end| fetch_message(version, id, Location::new(7, 0), end);
        let kinds: [&dyn Fn(u64) -> Message; 7] = [
            &subscribe_message,
            &|id| match subscribe_message(id) {
                Message::Subscribe(it) => Message::TrackStatus(it),
                other => other,
            },
            &|id| fetch(id, single),
            &|id| fetch(id, several),
            &|id| publish(id, 77),
            &|id| publish_namespace(id, "room"),
            &|id| {
                let prefix = path("room");
                let wanted = SubscribeNamespace { id, prefix, ..SubscribeNamespace::default() };
                match version {
                    Moqt14 | Moqt15 | Moqt16 | Moqt17 => Message::SubscribeNamespace(wanted),
                    _ => Message::SubscribeTracks(wanted),
                }
            },
        ];
        for (n, kind) in kinds.into_iter().enumerate() {
            let token = AuthToken::new(7, vec![n as u8]);
            talk.request(|id| {
                let mut message = kind(id);
                let (_, parameters) = message.request_mut().expect("a request");
                parameters.tokens = vec![Value(token.clone())];
                message
            });
            assert_eq!(shown(talk.lone.events()), [token], "{version} {n}");
        }
    }
    for version in EVERY.into_iter().filter(|it| *it < Moqt20) {
        for early in [false, true] {
            let mut talk = Talk::quiet(Side::Server, version);
            let filter = Some(Filter::NextObject);
            let parameters = Parameters { filter, ..Parameters::default() };
            talk.request(|id| subscribe_message_with(id, parameters));
            let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else {
                panic!()
            };
            let join = |talk: &mut Talk| {
                let target = FetchTarget::Relative { joins: 0, groups_back: 0 };
                let tokens = vec![Value(auth("join"))];
                let parameters = Parameters { tokens, ..Parameters::default() };
                talk.request(|id| Message::Fetch(Fetch { id, target, parameters }));
            };
            if early {
                join(&mut talk);
                assert_eq!(talk.lone.events(), [], "{version}: it waits");
            }
            let (info, largest) = (TrackInfo::default(), Some(FramePosition::new(7, 2)));
            talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
            if !early {
                join(&mut talk);
            }
            assert_eq!(shown(talk.lone.events()), [auth("join")], "{version}");
        }
    }
}

/// D22-8-9-MUST-279, -280 and -289.
#[test]
fn a_token_that_breaks_a_rule_closes_the_session() {
    let faults = [
        (vec![Register(1, auth("a")), Register(1, auth("b"))], 0x14),
        (vec![Register(1, long(4_081))], 0x13),
        (vec![Register(1, long(4_064)), Register(2, long(1))], 0x13),
    ];
    for version in EVERY {
        for (tokens, code) in faults.clone() {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.request(|id| {
                subscribe_message_with(id, Parameters { tokens, ..Parameters::default() })
            });
            talk.closed_with(code);
        }
        // A deleted token makes room for another one.
        let mut talk = Talk::quiet(Side::Server, version);
        assert_eq!(asked(&mut talk, vec![Register(1, long(4_080))]), [long(4_080)]);
        let next = vec![Delete(1), Register(2, long(4_080))];
        assert_eq!(asked(&mut talk, next), [long(4_080)], "{version}");
    }
    // A token of an unknown kind.
    let mut talk = Talk::quiet(Side::Server, Moqt18);
    talk.lone.open(Dir::Bi, "03 0011 00 01 0464656d6f 05766964656f 01 03 01 04");
    talk.closed_with(0x6);
}

/// UNKNOWN_AUTH_TOKEN_ALIAS. 14 has no code for it.
fn unknown_alias(version: Version) -> u64 {
    if version == Moqt14 { 0x0 } else { UNKNOWN_AUTH_TOKEN_ALIAS }
}

/// D22-8-9-MUST-281: it is refused, and the session goes on. Its registrations and deletions count.
#[test]
fn a_message_with_an_unknown_alias_is_refused() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        for tokens in [
            vec![Alias(5), Register(2, auth("b"))],
            vec![Delete(5)],
            vec![Register(1, auth("a")), Delete(1), Alias(1)],
        ] {
            let id = talk.next;
            let parameters = Parameters { tokens, ..Parameters::default() };
            let stream = talk.request(|id| subscribe_message_with(id, parameters));
            let refusal = talk.written_one(stream).unified();
            assert_eq!(refusal, talk.error(id, unknown_alias(version)));
            assert_eq!(talk.lone.events(), [], "{version}");
        }
        assert_eq!(asked(&mut talk, vec![Alias(2)]), [auth("b")]);
    }
}

/// D22-8-9-MUST-281 for an update: the subscription ends with UPDATE_FAILED.
#[test]
fn an_update_with_an_unknown_alias_ends_its_request() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(subscribe_message);
        let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        let info = TrackInfo::default();
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
        talk.written(stream);
        let parameters = Parameters { tokens: vec![Alias(5)], ..Parameters::default() };
        let update = RequestUpdate { id: talk.next, existing: talk.id(0), parameters };
        talk.send(stream, &Message::RequestUpdate(update));
        let failed = talk.error(2, UNKNOWN_AUTH_TOKEN_ALIAS);
        assert_eq!(talk.written(stream), [failed, talk.done(0, UPDATE_FAILED, 0)], "{version}");
        assert!(!talk.lone.end.is_closed());
    }
}

/// *Authorization Token*: of several prefixes the longest one counts. No request has a token of another path.
#[test]
fn requests_have_the_tokens_of_their_paths() {
    for version in EVERY {
        let interests = vec![path("demo"), path("other")];
        let config = Config { interests, ..config(Side::Client, version) };
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::prepared(config, setup, |lone| {
            for (prefix, tokens) in [
                ("", vec![auth("all")]),
                ("demo", vec![auth("demo"), auth("more")]),
                ("demo/x", vec![auth("x")]),
                ("demo/x", vec![]),
            ] {
                lone.apply(Command::SetTokens { prefix: path(prefix), tokens });
            }
        });
        let request = talk.lone.events().into_iter().find_map(|event| match event {
            Event::AnnounceRequested { request, .. } => Some(request),
            _ => None,
        });
        let announced = |suffix| {
            let (hops, cost) = (Hops::new(), Cost { warm: 0, cold: 0 });
            Announcement::Active { suffix: path(suffix), hops, cost }
        };
        talk.lone.end.source.announce(token(9), announced("demo/mine"));
        let (request, reader) = (request.expect("it is asked for"), token(9));
        talk.lone.apply(Command::AcceptAnnounce { request, reader, active: 1 });
        for (slot, name) in [(1, "demo"), (2, "demo/x"), (3, "elsewhere")] {
            let (broadcast, track, want) = (path(name), "video".into(), Subscription::default());
            let subscription = token(slot);
            talk.lone.apply(Command::Subscribe { subscription, broadcast, track, want });
        }
        talk.lone.apply(Command::Fetch {
            fetch: token(4),
            broadcast: path("demo"),
            track: "video".into(),
            priority: 1,
            sequence: 7,
            first_frame: 0,
            last_frame: None,
        });
        let mut shown = std::collections::BTreeMap::new();
        for stream in talk.lone.sent.keys().copied().collect::<Vec<_>>() {
            for mut message in talk.written(stream) {
                let Some((_, parameters)) = message.request_mut() else { continue };
                let tokens = std::mem::take(&mut parameters.tokens);
                let name = match &message {
                    Message::Subscribe(it) => format!("s {}", it.namespace),
                    Message::SubscribeNamespace(it) => format!("n {}", it.prefix),
                    Message::PublishNamespace(it) => format!("p {}", it.namespace),
                    Message::Fetch(_) => "f".into(),
                    other => panic!("{other:?}"),
                };
                shown.insert(name, tokens);
            }
        }
        let demo = || vec![Value(auth("demo")), Value(auth("more"))];
        let all = || vec![Value(auth("all"))];
        let expected = [
            ("s demo", demo()),
            ("s demo/x", vec![]),
            ("s elsewhere", all()),
            ("n demo", demo()),
            ("n other", all()),
            ("p demo/mine", demo()),
            ("f", demo()),
        ];
        let expected = expected.map(|(name, tokens)| (name.to_owned(), tokens));
        assert_eq!(shown, expected.into_iter().collect(), "{version}");
    }
}

/// D22-8-9-MUST-282: MALFORMED_AUTH_TOKEN. The registrations of the message count all the same.
#[test]
fn a_message_with_a_token_twice_is_refused() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let tokens = vec![Register(3, auth("a")), Value(auth("a"))];
        let parameters = Parameters { tokens, ..Parameters::default() };
        let stream = talk.request(|id| subscribe_message_with(id, parameters));
        assert_eq!(talk.written_one(stream), talk.error(0, 0x4));
        assert_eq!(talk.lone.events(), []);
        assert_eq!(asked(&mut talk, vec![Alias(3)]), [auth("a")], "{version}");
    }
}

/// D22-9-1-4-MUST-317, -MUST-NOT-318, -MUST-319.
#[test]
fn tokens_of_a_set_up_are_for_the_decision() {
    for version in EVERY {
        let deciding = Config { requires_accept: true, ..config(Side::Server, version) };
        let with =
            |tokens| Setup { max_request_id: 1_000, solicit: true, tokens, ..Setup::default() };
        let setup = with(vec![Register(1, auth("a")), Value(auth("b")), Register(2, long(5_000))]);
        let mut talk = Talk::with(deciding.clone(), setup);
        let tokens = vec![auth("a"), auth("b"), long(5_000)];
        let peer = crate::Peer { tokens, ..crate::Peer::default() };
        assert_eq!(talk.lone.events(), [Event::SetUp { peer }], "{version}");
        talk.lone.apply(Command::Accept { hop: crate::Hop::UNKNOWN, interests: vec![] });
        assert_eq!(asked(&mut talk, vec![Alias(1)]), [auth("a")]);
        // One past the limit was used, and not kept.
        let parameters = Parameters { tokens: vec![Alias(2)], ..Parameters::default() };
        let id = talk.next;
        let stream = talk.request(|id| subscribe_message_with(id, parameters));
        let refusal = talk.written(stream).pop().map(Message::unified);
        assert_eq!(refusal, Some(talk.error(id, unknown_alias(version))));

        for early in [Alias(1), Delete(1)] {
            let talk = Talk::with(deciding.clone(), with(vec![early]));
            assert!(talk.lone.end.is_closed(), "{version}");
        }
    }
}

#[test]
fn a_client_shows_its_tokens_in_its_set_up() {
    for version in EVERY {
        let tokens = vec![auth("a"), auth("b")];
        let mut lone = Lone::new(Config { tokens, ..config(Side::Client, version) });
        let dir = if version < Moqt17 { Dir::Bi } else { Dir::Uni };
        let sent = lone.sent(lone.own(dir, 0));
        let (Message::Setup(setup) | Message::ClientSetup(setup)) =
            one(messages(version, &hex(&sent)))
        else {
            panic!("{sent}")
        };
        assert_eq!(setup.tokens, [Value(auth("a")), Value(auth("b"))], "{version}");
        assert_eq!(setup.max_token_cache, 4_096);
    }
}
