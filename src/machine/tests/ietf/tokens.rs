//! Authorization tokens (*Authorization Token Compression*).

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
        [
            Event::RequestTokens { request, tokens },
            Event::SubscribeRequested { request: of, .. },
        ] => {
            assert_eq!(request, of);
            tokens.clone()
        }
        [Event::SubscribeRequested { .. }] => vec![],
        other => panic!("{other:?}"),
    }
}

/// D22-8-9-MUST-276, -277, -283 and -285.
#[test]
fn tokens_come_before_their_request() {
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

/// D22-8-9-MUST-279 to -281 and -289.
#[test]
fn a_token_that_breaks_a_rule_closes_the_session() {
    let faults = [
        (vec![Alias(5)], 0x17),
        (vec![Delete(5)], 0x17),
        (vec![Register(1, auth("a")), Delete(1), Alias(1)], 0x17),
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

/// D22-8-9-MUST-282: MALFORMED_AUTH_TOKEN. The tokens that the message registers count all the same.
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
        talk.request(|id| subscribe_message_with(id, parameters));
        talk.closed_with(0x17);

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
