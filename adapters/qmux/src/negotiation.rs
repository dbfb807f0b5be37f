use smoq::{Agreed, Versions};

/// The formats of QMux that this crate speaks, by preference. They do not differ in what it sends and accepts.
const FORMATS: [&str; 2] = ["qmux-02", "qmux-01"];

/// The subprotocols of a client for `versions`, the preferred one first: the value of its `Sec-WebSocket-Protocol`.
/// [`negotiate`] has the version of the one that the server has chosen.
pub fn offer(versions: &Versions) -> String {
    let names = versions.alpns().flat_map(|alpn| FORMATS.map(|format| format!("{format}.{alpn}")));
    names.collect::<Vec<_>>().join(", ")
}

/// Chooses the subprotocol of a WebSocket, and the version that it stands for, by the order of `versions`. `offered` is
/// the value of `Sec-WebSocket-Protocol`, a list.
///
/// A client names format and version together, as in `qmux-02.moq-lite-05`. One that names only a format, or
/// `webtransport`, gets `None`: the latter has no flow control.
pub fn negotiate(offered: &str, versions: &Versions) -> Option<(String, Agreed)> {
    versions.alpns().find_map(|alpn| {
        let mut names = FORMATS.iter().map(|format| format!("{format}.{alpn}"));
        let chosen = names.find(|name| offered.split(',').any(|it| it.trim() == name))?;
        Some((chosen, versions.agreed(Some(alpn.as_bytes()))?))
    })
}

#[cfg(test)]
mod tests {
    use smoq::Version;

    use super::*;

    #[test]
    fn the_order_of_the_server_decides_and_every_client_is_answered() {
        let versions: Versions =
            [Version::Lite05, Version::Lite04, Version::Moqt18].into_iter().collect();
        for (offered, chosen) in [
            (
                "qmux-01.moq-lite-04, qmux-02.moq-lite-05, qmux-01.moq-lite-05",
                "qmux-02.moq-lite-05",
            ),
            ("qmux-00.moq-lite-05,qmux-01.moqt-18,webtransport", "qmux-01.moqt-18"),
            (" qmux-01.moq-lite-04 ", "qmux-01.moq-lite-04"),
        ] {
            let (name, agreed) = negotiate(offered, &versions).unwrap();
            assert_eq!(name, chosen);
            assert_eq!(agreed.version().alpn(), chosen.split_once('.').unwrap().1);
        }
        for offered in
            ["", ",", "qmux-02", "qmux-01", "webtransport", "qmux-02.moq-lite-03", "moq-lite-05"]
        {
            assert!(negotiate(offered, &versions).is_none(), "{offered}");
        }
    }

    #[test]
    fn the_choice_of_an_offer_is_a_version_of_the_client() {
        let versions: Versions = [Version::Lite05, Version::Moqt18].into_iter().collect();
        let offered = offer(&versions);
        assert_eq!(
            offered,
            "qmux-02.moq-lite-05, qmux-01.moq-lite-05, qmux-02.moqt-18, qmux-01.moqt-18"
        );
        for (chosen, version) in offered.split(", ").zip(versions.iter().flat_map(|it| [it; 2])) {
            let (name, agreed) = negotiate(chosen, &versions).unwrap();
            assert_eq!((&*name, agreed.version()), (chosen, version));
        }
    }

    #[test]
    fn versions_that_share_a_name_agree_later() {
        let versions = Versions::default();
        let (_, agreed) = negotiate("qmux-02.moql", &versions).unwrap();
        assert_eq!(Some(agreed), versions.agreed(Some(b"moql")));
    }
}
