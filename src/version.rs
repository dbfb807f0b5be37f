//! Protocol versions, and how two sides agree on one.

use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

/// A protocol version, agreed by ALPN. Versions that share an ALPN identifier are told apart by the SETUP
/// exchange.
///
/// Within a dialect a later version compares greater. All versions of moq-transport compare greater than
/// those of moq-lite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// moq-lite 01: negotiated by SETUP, announcements without hops.
    Lite01,
    /// moq-lite 02: as 01, but SUBSCRIBE_OK is empty.
    Lite02,
    /// moq-lite 03: no SETUP, hops as a count.
    Lite03,
    /// moq-lite 04: hop ids, GOAWAY.
    Lite04,
    /// moq-lite 05: SETUP, TRACK, frame timestamps, datagrams.
    Lite05,
    /// moq-lite 06: announce ids, route cost, frame bounds.
    Lite06,
    /// moq-lite 07 as implemented by `moq-net` 0.3.18: another encoding of integers, stream counts. The
    /// draft still changes under the same ALPN identifier. This version therefore works only with peers of
    /// that release, and is offered only on request.
    Lite07Wip,
    /// moq-transport draft 14: negotiated by SETUP, parameters are fields of the messages.
    Moqt14,
    /// moq-transport draft 15: one answer for all requests.
    Moqt15,
    /// moq-transport draft 16: requests share one control stream, except those for announcements.
    Moqt16,
    /// moq-transport draft 17: a stream for each request, another encoding of integers.
    Moqt17,
    /// moq-transport draft 18: SUBSCRIBE_TRACKS, redirects, mandatory track properties.
    Moqt18,
    /// moq-transport draft 19: requests go on after FIN, range filters.
    Moqt19,
    /// moq-transport draft 20: FETCH by filter, fill.
    Moqt20,
    /// moq-transport draft 21: the same messages as in 20.
    Moqt21,
    /// moq-transport draft 22: location filters without a length.
    Moqt22,
}

/// The ALPN identifier of 01 and 02, and of peers that offer none.
const MOQL: &str = "moql";
/// The ALPN identifier of moq-transport up to 14.
const MOQ_00: &str = "moq-00";

impl Version {
    /// The versions that are offered by default, in order of preference. Drafts in progress are not among
    /// them.
    pub const ALL: [Self; 15] = [
        Self::Lite06,
        Self::Lite05,
        Self::Lite04,
        Self::Lite03,
        Self::Lite02,
        Self::Lite01,
        Self::Moqt22,
        Self::Moqt21,
        Self::Moqt20,
        Self::Moqt19,
        Self::Moqt18,
        Self::Moqt17,
        Self::Moqt16,
        Self::Moqt15,
        Self::Moqt14,
    ];

    /// The drafts in progress, which are offered only on request.
    pub const WIP: [Self; 1] = [Self::Lite07Wip];

    /// Every version: [`ALL`](Self::ALL), then [`WIP`](Self::WIP).
    pub fn known() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::WIP)
    }

    /// The ALPN identifier. 01 and 02 share one and are told apart by the SETUP exchange. That of
    /// moq-transport 14 belongs to all drafts before it as well, and the SETUP exchange confirms the draft.
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Lite01 | Self::Lite02 => MOQL,
            Self::Moqt14 => MOQ_00,
            version => version.name(),
        }
    }

    /// The version's name. It is the ALPN identifier, except for moq-lite 01 and 02 and moq-transport 14.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lite01 => "moq-lite-01",
            Self::Lite02 => "moq-lite-02",
            Self::Lite03 => "moq-lite-03",
            Self::Lite04 => "moq-lite-04",
            Self::Lite05 => "moq-lite-05",
            Self::Lite06 => "moq-lite-06",
            Self::Lite07Wip => "moq-lite-07-wip",
            Self::Moqt14 => "moqt-14",
            Self::Moqt15 => "moqt-15",
            Self::Moqt16 => "moqt-16",
            Self::Moqt17 => "moqt-17",
            Self::Moqt18 => "moqt-18",
            Self::Moqt19 => "moqt-19",
            Self::Moqt20 => "moqt-20",
            Self::Moqt21 => "moqt-21",
            Self::Moqt22 => "moqt-22",
        }
    }

    /// Whether an announced path covers everything below it (moq-lite 06, *Announce*; moq-transport, *Track
    /// Namespaces*) instead of a single broadcast.
    #[cfg(feature = "std")]
    pub(crate) const fn announces_prefixes(self) -> bool {
        matches!(self, Self::Lite06 | Self::Lite07Wip) || !self.is_lite()
    }

    /// Whether the first answer to an announce request says how many announcements follow at once (moq-lite
    /// 05+, ANNOUNCE_OK).
    #[cfg(feature = "std")]
    pub(crate) const fn counts_announcements(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip)
    }

    /// Whether it is a version of moq-lite rather than of moq-transport.
    #[cfg(feature = "std")]
    pub(crate) const fn is_lite(self) -> bool {
        (self as u8) < Self::Moqt14 as u8
    }

    /// Whether announcements carry hops (moq-lite 03+).
    #[cfg(feature = "std")]
    pub(crate) const fn announces_hops(self) -> bool {
        !matches!(self, Self::Lite01 | Self::Lite02) && self.is_lite()
    }

    /// Whether this side may change a running subscription. moq-lite 03 and 04 have SUBSCRIBE_UPDATE, but
    /// `moq-lite` 0.16 ends the subscription that it updates. moq-transport has REQUEST_UPDATE, but
    /// deployed peers do not answer it, or end the subscription.
    #[cfg(feature = "std")]
    pub(crate) const fn updates_subscriptions(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip)
    }

    /// Whether a relay announces a change of route as an end directly followed by a beginning, with hops
    /// that show whether it may be the same content.
    #[cfg(feature = "std")]
    pub(crate) const fn ends_to_reroute(self) -> bool {
        matches!(self, Self::Lite04)
    }

    /// Whether groups can be requested by number (FETCH).
    #[cfg(feature = "std")]
    pub(crate) const fn fetches(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip) || !self.is_lite()
    }

    /// Whether FETCH can request part of a group.
    #[cfg(feature = "std")]
    pub(crate) const fn fetches_parts(self) -> bool {
        matches!(self, Self::Lite06 | Self::Lite07Wip)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text does not name a version of this crate. The message lists those that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVersion;

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown version; the known versions are ")?;
        for (at, version) in Version::known().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{version}")?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownVersion {}

/// Prefixes of version names in drafts and other implementations, and the corresponding prefix here.
const SPELLINGS: [(&str, &str); 6] = [
    ("draft-lcurley-moq-lite-", "moq-lite-"),
    ("moq-lite-draft-", "moq-lite-"),
    ("draft-ietf-moq-transport-", "moqt-"),
    ("moq-transport-draft-", "moqt-"),
    ("moq-transport-", "moqt-"),
    ("moqt-draft-", "moqt-"),
];

/// Parses the name of a version, in upper or lower case. Besides [`Version::name`], the spellings of the
/// drafts and of other implementations are accepted: `moq-transport-18`, `moq-transport-draft-18`,
/// `draft-ietf-moq-transport-18`, `moqt-draft-18`, `moq-lite-draft-06` and `draft-lcurley-moq-lite-06`.
impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let text = text.to_ascii_lowercase();
        let respelled = SPELLINGS.iter().find_map(|(theirs, ours)| {
            let number = text.strip_prefix(theirs)?;
            Self::known().find(|version| version.name().strip_prefix(ours) == Some(number))
        });
        let named = || Self::known().find(|version| version.name() == text);
        respelled.or_else(named).ok_or(UnknownVersion)
    }
}

/// The versions that an endpoint offers, in order of preference. Default: [`Version::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions(SmallVec<[Version; 4]>);

impl Versions {
    /// The ALPN identifiers to offer in TLS, in order.
    pub fn alpns(&self) -> impl Iterator<Item = &'static str> + '_ {
        let alpns = self.0.iter().map(|version| version.alpn()).enumerate();
        let is_new = |at: usize, alpn| self.0[..at].iter().all(|before| before.alpn() != alpn);
        alpns.filter(move |&(at, alpn)| is_new(at, alpn)).map(|(_, alpn)| alpn)
    }

    /// The versions that an ALPN identifier stands for. Without one, as on WebTransport with peers that know none, it is
    /// any version whose set-up names it: moq-lite 01 and 02 and, after them, moq-transport 14. `None` if none of them is in
    /// this list.
    pub fn agreed(&self, alpn: Option<&[u8]>) -> Option<Agreed> {
        let of = |alpn| self.iter().filter(move |version| version.alpn().as_bytes() == alpn);
        let unnamed = alpn.is_none().then(|| of(MOQ_00.as_bytes()));
        let mut list = of(alpn.unwrap_or(MOQL.as_bytes())).chain(unnamed.into_iter().flatten());
        let mut agreed = Agreed::from(list.next()?);
        agreed.0.extend(list);
        Some(agreed)
    }

    /// The versions, in order.
    pub fn iter(&self) -> impl Iterator<Item = Version> + '_ {
        self.0.iter().copied()
    }

    /// Whether `version` is one of them.
    pub fn contains(&self, version: Version) -> bool {
        self.0.contains(&version)
    }
}

/// The versions that an ALPN identifier stands for: one, or several that share it and are told apart by the
/// SETUP exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed(SmallVec<[Version; 2]>);

impl Agreed {
    /// The preferred one, which is spoken unless the SETUP exchange selects another.
    pub fn version(&self) -> Version {
        self.0[0]
    }

    /// Whether the set-up agrees on the dialect as well.
    pub(crate) fn is_mixed(&self) -> bool {
        self.0.contains(&Version::Moqt14) && self.0.len() > 1
    }

    /// All of them, in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = Version> + '_ {
        self.0.iter().copied()
    }
}

impl From<Version> for Agreed {
    fn from(version: Version) -> Self {
        Self(SmallVec::from_iter([version]))
    }
}

impl Default for Versions {
    fn default() -> Self {
        Version::ALL.into_iter().collect()
    }
}

impl From<Version> for Versions {
    fn from(version: Version) -> Self {
        Self::from_iter([version])
    }
}

impl<const N: usize> From<[Version; N]> for Versions {
    fn from(versions: [Version; N]) -> Self {
        Self::from_iter(versions)
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        let mut list = SmallVec::new();
        for version in versions {
            if !list.contains(&version) {
                list.push(version);
            }
        }
        Self(list)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_parse_in_our_spelling_and_in_those_of_others() {
        for version in Version::known() {
            assert_eq!(version.name().parse(), Ok(version));
            assert_eq!(version.name().to_uppercase().parse(), Ok(version));
        }
        for (name, version) in [
            ("moq-transport-18", Version::Moqt18),
            ("moq-transport-draft-18", Version::Moqt18),
            ("draft-ietf-moq-transport-18", Version::Moqt18),
            ("moqt-draft-18", Version::Moqt18),
            ("MOQ-Transport-16", Version::Moqt16),
            ("moq-lite-draft-05", Version::Lite05),
            ("draft-lcurley-moq-lite-06", Version::Lite06),
            ("draft-lcurley-moq-lite-07-wip", Version::Lite07Wip),
        ] {
            assert_eq!(name.parse(), Ok(version), "{name}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_known_versions() {
        for name in [
            "",
            "18",
            "moql",
            "moq-lite",
            "moq-lite-",
            "moq-lite-6",
            "moq-lite-07",
            "moq-lite-99",
            "moq-lite-06 ",
            "moqt-13",
            "moq-transport-",
            "moq-transport-06",
            "moq-transport-moqt-18",
            "draft-ietf-moq-transport-draft-18",
        ] {
            assert_eq!(name.parse::<Version>(), Err(UnknownVersion), "{name}");
        }
        let message = UnknownVersion.to_string();
        assert!(Version::known().all(|version| message.contains(version.name())), "{message}");
    }
}
