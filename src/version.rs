//! Which protocol a connection speaks, and how that is agreed.

use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

/// A protocol version, agreed by ALPN, and by set-up where several share one.
///
/// The order is by age within a dialect: a later one is greater. All of moq-transport come behind all of
/// moq-lite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// moq-lite 01: agreed by set-up, announcements without hops.
    Lite01,
    /// moq-lite 02: as 01, but SUBSCRIBE_OK is empty.
    Lite02,
    /// moq-lite 03: no set-up, hops as a count.
    Lite03,
    /// moq-lite 04: hop ids, GOAWAY.
    Lite04,
    /// moq-lite 05: SETUP, TRACK, frame timestamps, datagrams.
    Lite05,
    /// moq-lite 06: announce ids, route cost, frame bounds.
    Lite06,
    /// moq-lite 07 as `moq-net` 0.3.18 has it: another form of integers, stream counts. It still changes
    /// under its one ALPN, so it is spoken only with peers of that time, and only if it is asked for.
    Lite07Wip,
    /// moq-transport draft 16: requests share one control stream.
    Moqt16,
    /// moq-transport draft 18: a stream for each request.
    Moqt18,
}

/// The ALPN of 01 and 02, and of who offers none.
const MOQL: &str = "moql";

impl Version {
    /// Every version that is spoken unasked, the most wanted first: all but those in progress.
    pub const ALL: [Self; 8] = [
        Self::Lite06,
        Self::Lite05,
        Self::Lite04,
        Self::Lite03,
        Self::Lite02,
        Self::Lite01,
        Self::Moqt18,
        Self::Moqt16,
    ];

    /// Those in progress, which are spoken only if they are asked for.
    pub const WIP: [Self; 1] = [Self::Lite07Wip];

    /// Every version that can be asked for: [`ALL`](Self::ALL), then [`WIP`](Self::WIP).
    pub fn known() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::WIP)
    }

    /// The ALPN identifier. 01 and 02 share one, and are told apart by set-up.
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Lite01 | Self::Lite02 => MOQL,
            version => version.name(),
        }
    }

    /// The version's name: its ALPN identifier, where it has one to itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lite01 => "moq-lite-01",
            Self::Lite02 => "moq-lite-02",
            Self::Lite03 => "moq-lite-03",
            Self::Lite04 => "moq-lite-04",
            Self::Lite05 => "moq-lite-05",
            Self::Lite06 => "moq-lite-06",
            Self::Lite07Wip => "moq-lite-07-wip",
            Self::Moqt16 => "moqt-16",
            Self::Moqt18 => "moqt-18",
        }
    }

    /// Whether what is announced leads to everything below it as well (moq-lite 06, *Announce*;
    /// moq-transport, *Track Namespaces*), and not to one broadcast.
    #[cfg(feature = "std")]
    pub(crate) const fn announces_prefixes(self) -> bool {
        matches!(self, Self::Lite06 | Self::Lite07Wip | Self::Moqt16 | Self::Moqt18)
    }

    /// Whether a peer is told at first how many broadcasts it will be told of (moq-lite 05+, ANNOUNCE_OK).
    #[cfg(feature = "std")]
    pub(crate) const fn counts_announcements(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip)
    }

    /// Whether it is of moq-lite, and not of moq-transport.
    #[cfg(feature = "std")]
    pub(crate) const fn is_lite(self) -> bool {
        !matches!(self, Self::Moqt16 | Self::Moqt18)
    }

    /// Whether announcements say who they came through (moq-lite 03+).
    #[cfg(feature = "std")]
    pub(crate) const fn announces_hops(self) -> bool {
        !matches!(self, Self::Lite01 | Self::Lite02 | Self::Moqt16 | Self::Moqt18)
    }

    /// Whether a running subscription can be changed at the peer. moq-lite 03 and 04 have
    /// SUBSCRIBE_UPDATE, but `moq-lite` 0.16 takes it for a fault; moq-transport has REQUEST_UPDATE, but
    /// deployed peers do not answer it, or end the subscription.
    #[cfg(feature = "std")]
    pub(crate) const fn updates_subscriptions(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip)
    }

    /// Whether relays say with an end and a beginning in one breath that they have the same by another route,
    /// and hops say whether that may be so.
    #[cfg(feature = "std")]
    pub(crate) const fn ends_to_reroute(self) -> bool {
        matches!(self, Self::Lite04)
    }

    /// Whether groups can be asked for by number (FETCH); elsewhere it is refused.
    #[cfg(feature = "std")]
    pub(crate) const fn fetches(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06 | Self::Lite07Wip)
    }

    /// Whether FETCH can ask for a part of a group.
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

/// The text names no version that is spoken here; the message lists those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVersion;

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown version, known are ")?;
        for (at, version) in Version::known().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{version}")?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownVersion {}

/// How drafts and other implementations begin the names of the versions of a family, and how we do.
const SPELLINGS: [(&str, &str); 6] = [
    ("draft-lcurley-moq-lite-", "moq-lite-"),
    ("moq-lite-draft-", "moq-lite-"),
    ("draft-ietf-moq-transport-", "moqt-"),
    ("moq-transport-draft-", "moqt-"),
    ("moq-transport-", "moqt-"),
    ("moqt-draft-", "moqt-"),
];

/// The name of a version, in upper or lower case. Besides [`Version::name`] the spellings of the drafts and
/// of other implementations are known: `moq-transport-18`, `moq-transport-draft-18`,
/// `draft-ietf-moq-transport-18`, `moqt-draft-18`, and `moq-lite-draft-06`, `draft-lcurley-moq-lite-06`.
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

/// Versions that an endpoint is willing to speak, the most wanted first. Default: [`Version::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions(SmallVec<[Version; 4]>);

impl Versions {
    /// The identifiers to offer in TLS, in order.
    pub fn alpns(&self) -> impl Iterator<Item = &'static str> + '_ {
        let alpns = self.0.iter().map(|version| version.alpn()).enumerate();
        let is_new = |at: usize, alpn| self.0[..at].iter().all(|before| before.alpn() != alpn);
        alpns.filter(move |&(at, alpn)| is_new(at, alpn)).map(|(_, alpn)| alpn)
    }

    /// What TLS agreed on with this identifier, or with none, which is as `moql`. `None` if nothing of
    /// it is among these.
    pub fn agreed(&self, alpn: Option<&[u8]>) -> Option<Agreed> {
        let alpn = alpn.unwrap_or(MOQL.as_bytes());
        let mut list = self.iter().filter(|version| version.alpn().as_bytes() == alpn);
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

/// What an ALPN identifier agreed on: a version, or several that share it, of which set-up takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed(SmallVec<[Version; 2]>);

impl Agreed {
    /// The most wanted of them: what is spoken, unless set-up takes another one.
    pub fn version(&self) -> Version {
        self.0[0]
    }

    /// All of them, the most wanted first.
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
    fn names_are_read_as_we_and_others_spell_them() {
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
    fn other_names_are_answered_with_those_that_are_known() {
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
            "moqt-17",
            "moq-transport-",
            "moq-transport-06",
            "moq-transport-moqt-18",
            "draft-ietf-moq-transport-draft-18",
        ] {
            assert_eq!(name.parse::<Version>(), Err(UnknownVersion), "{name}");
        }
        let told = UnknownVersion.to_string();
        assert!(Version::known().all(|version| told.contains(version.name())), "{told}");
    }
}
