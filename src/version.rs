//! Which protocol a connection speaks, and how that is agreed.

use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

/// A protocol version, agreed by ALPN.
///
/// The order is by age within a dialect: a later one is greater. All of moq-transport come behind all of
/// moq-lite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// moq-lite 03: no set-up, hops as a count.
    Lite03,
    /// moq-lite 04: hop ids, GOAWAY.
    Lite04,
    /// moq-lite 05: SETUP, TRACK, frame timestamps, datagrams.
    Lite05,
    /// moq-lite 06: announce ids, route cost, frame bounds.
    Lite06,
    /// moq-transport draft 16: requests share one control stream.
    Moqt16,
    /// moq-transport draft 18: a stream for each request.
    Moqt18,
}

impl Version {
    /// Every version, the most wanted first.
    pub const ALL: [Self; 6] =
        [Self::Lite06, Self::Lite05, Self::Lite04, Self::Lite03, Self::Moqt18, Self::Moqt16];

    /// The ALPN identifier, which is also the version's name.
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Lite03 => "moq-lite-03",
            Self::Lite04 => "moq-lite-04",
            Self::Lite05 => "moq-lite-05",
            Self::Lite06 => "moq-lite-06",
            Self::Moqt16 => "moqt-16",
            Self::Moqt18 => "moqt-18",
        }
    }

    /// Whether a running subscription can be changed at the peer. moq-lite 03 and 04 have
    /// SUBSCRIBE_UPDATE, but `moq-lite` 0.16 takes it for a fault; moq-transport has REQUEST_UPDATE, but
    /// deployed peers do not answer it, or end the subscription.
    pub(crate) const fn updates_subscriptions(self) -> bool {
        matches!(self, Self::Lite05 | Self::Lite06)
    }

    /// The version that an ALPN identifier names, if it is one of ours.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.alpn().as_bytes() == alpn)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alpn())
    }
}

/// The text is not the name of a version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version that is spoken here")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(name: &str) -> Result<Self, UnknownVersion> {
        Self::from_alpn(name.as_bytes()).ok_or(UnknownVersion)
    }
}

/// Versions that an endpoint is willing to speak, the most wanted first. Default: all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions(SmallVec<[Version; 4]>);

impl Versions {
    /// The identifiers to offer in TLS, in order.
    pub fn alpns(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|version| version.alpn())
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
