//! The cost of encoding and decoding one message or frame head, and its allocations.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use smoq::bytes::BytesMut;
use smoq::coding::lite::{
    Announce, Bases, FrameHead, GroupHeader, Subscribe, SubscribeResponse, frame_message,
};
use smoq::{Cost, Hop, Hops, Path, Subscription, Version};

fn subscribe() -> Subscribe {
    Subscribe {
        id: 300,
        broadcast: Path::new("room/alice"),
        track: "video".into(),
        want: Subscription::default().priority(9).max_age(Duration::from_millis(500)),
        frame_start: 0,
        frame_end: None,
    }
}

fn announce() -> Announce {
    Announce::Active {
        suffix: Path::new("room/alice"),
        hops: Hops::from_iter([Hop::new(7), Hop::new(0x1234)]),
        cost: Cost { warm: 1, cold: 2 },
        bases: Bases::default(),
    }
}

/// The bytes of one message.
fn encoded(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    encode(&mut out);
    out
}

fn codec(c: &mut Criterion) {
    for version in [Version::Lite03, Version::Lite06] {
        let mut bench = c.benchmark_group(version.to_string());
        let mut measure = |name: &str, work: &mut dyn FnMut()| {
            let allocated = allocation_counter::measure(|| (0..1_000).for_each(|_| work()));
            let each = allocated.count_total as f64 / 1_000.0;
            println!("{version} {name}: {each} allocations");
            bench.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut *work));
        };

        let mut out = BytesMut::with_capacity(1 << 10);
        let message = subscribe();
        measure("encode SUBSCRIBE", &mut || {
            out.clear();
            message.encode(&mut out, version).unwrap();
            black_box(&out);
        });
        let bytes = encoded(|out| message.encode(out, version).unwrap());
        measure("decode SUBSCRIBE", &mut || {
            let framed = frame_message(&bytes, version, false, 1 << 16).unwrap().unwrap();
            black_box(Subscribe::decode_body(&bytes[framed.head..], version, 32).unwrap());
        });
        let bytes = encoded(|out| announce().encode(out, version).unwrap());
        let typed = version >= Version::Lite06;
        measure("decode announcement", &mut || {
            let framed = frame_message(&bytes, version, typed, 1 << 16).unwrap().unwrap();
            let body = &bytes[framed.head..];
            black_box(Announce::decode_body(framed.kind, body, version, 32).unwrap());
        });
        if version >= Version::Lite05 {
            let bytes =
                encoded(|out| SubscribeResponse::Start { group: 42 }.encode(out, version).unwrap());
            measure("decode START", &mut || {
                let framed = frame_message(&bytes, version, true, 1 << 16).unwrap().unwrap();
                let body = &bytes[framed.head..];
                black_box(SubscribeResponse::decode_body(framed.kind, body, version).unwrap());
            });
        }
        let header = GroupHeader { subscribe: 300, sequence: 70_000, first_frame: 0 };
        let bytes = encoded(|out| header.encode(out, version).unwrap());
        measure("decode GROUP", &mut || {
            let framed = frame_message(&bytes, version, false, 1 << 16).unwrap().unwrap();
            black_box(GroupHeader::decode_body(&bytes[framed.head..], version).unwrap());
        });
        let head = FrameHead { delta: if typed { 3_000 } else { 0 }, size: 1_200 };
        measure("encode frame head", &mut || {
            black_box(black_box(head).encode(version).unwrap());
        });
        let bytes = head.encode(version).unwrap();
        measure("decode frame head", &mut || {
            black_box(FrameHead::read(black_box(&bytes), version).unwrap());
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(200))
        .sample_size(20)
        .configure_from_args();
    codec(&mut criterion);
    criterion.final_summary();
}
