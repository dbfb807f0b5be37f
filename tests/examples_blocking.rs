//! The examples that need no peer run to their end.

#[path = "examples/run.rs"]
#[allow(dead_code, reason = "these tests use only some of it")]
mod run;

use std::io::{Read, Write};
use std::net::TcpStream;

use run::{Running, example};

#[test]
fn the_game_loop_runs() {
    let printed = Running::start(example("game_loop").arg("2")).rest();
    assert!(printed.contains("player 31 saw"), "{printed}");
    assert!(printed.contains("idle: server"), "{printed}");
}

#[test]
fn the_custom_executor_runs() {
    let printed = Running::start(example("custom_executor").arg("7")).rest();
    let ticks: Vec<_> = printed.lines().collect();
    let expected: Vec<_> = (0..7).map(|n| format!("tick {n}")).collect();
    assert_eq!(ticks, expected);
}

#[test]
fn the_game_loop_serves_its_page() {
    let mut game = Running::start(example("game_loop").args(["--browser", "127.0.0.1:0"]));
    let line = game.line();
    let address = line.trim_start_matches("open http://").trim_end_matches('/').to_owned();
    let get = |request: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    assert!(get("GET / HTTP/1.1\r\n\r\n").contains("<canvas"));
    let session = get("GET /session.json?x HTTP/1.1\r\n\r\n");
    assert!(session.contains("fingerprint") && session.contains("webSocket"), "{session}");
    assert!(get("GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(get("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(get("no request\r\n\r\n").starts_with("HTTP/1.1 400"));
    game.signal("TERM");
    assert!(game.end().status.success());
}
